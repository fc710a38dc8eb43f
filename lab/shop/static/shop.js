// The beacon: tells the shop, when a page is left, what it was and how many seconds it was in view.
(() => {
  const { page, product } = document.body.dataset;
  if (!page) return;

  let seconds = 0;
  let shownAt = document.hidden ? null : performance.now();

  const pause = () => {
    if (shownAt !== null) seconds += (performance.now() - shownAt) / 1000;
    shownAt = null;
  };
  const resume = () => {
    if (shownAt === null) shownAt = performance.now();
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : resume()));
  addEventListener("pageshow", resume);
  addEventListener("pagehide", () => {
    pause();
    const visit = { page, product: product ? Number(product) : null, seconds: Math.min(seconds, 86400) };
    seconds = 0;
    navigator.sendBeacon("/api/visit", new Blob([JSON.stringify(visit)], { type: "application/json" }));
  });
})();
