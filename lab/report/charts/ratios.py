"""How many times slower than `sticky`: the headline, as a forest plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw, load_subtitle
from lab.report.results import BASELINE, Run
from lab.report.words import NONE, TIMES, interval, listed, number, sentence
from lab.statistics import BAND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {"p50": "Median (half of the requests are faster)", "p95": "95th percentile (1 in 20 is slower)"}
_AGAIN = f"{BASELINE} again"
_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4, 5, 7, 10, 20)


def draw(run: Run, figure: Figure) -> Caption:
    """Draw the ratios of median and 95th percentile with their intervals, and same against same below."""
    ratios = {name: run.get("strategies", name, "latency_ratio") for name in run.compared if name != BASELINE}
    ratios = {name: ratio for name, ratio in ratios.items() if ratio and ratio.get("p50")}
    if not ratios:
        raise NothingToDraw(f"No strategy was compared with {BASELINE}.")
    same = run.get("validity", "same_against_same") or {}
    everything = {**ratios, **({_AGAIN: same} if same.get("p50") else {})}
    panels = figure.subplots(1, 2, sharey=True)
    span = _span(everything)
    for axes, (percentile, name) in zip(panels, _PANELS.items(), strict=True):
        _panel(axes, percentile, name, everything, span)
    panels[1].tick_params(axis="y", length=0)
    panels[1].spines["left"].set_visible(False)
    style.rows(panels[0], list(everything), [BASELINE if name == _AGAIN else name for name in everything])
    return Caption(
        title(ratios),
        f"Where a dot's line lies wholly right of the grey band, the strategy is slower than {BASELINE}; wholly left, "
        "faster; inside, a shopper would notice nothing. A line across an edge of the band is too wide to tell.",
        load_subtitle(run),
        note(everything),
        ("strategy", "median ÷ sticky", "verdict", "95th percentile ÷ sticky", "verdict"),
        tuple(_row(name, ratio) for name, ratio in everything.items()),
    )


def title(ratios: dict[str, Any]) -> str:
    """Say which strategies' median differs from the baseline's, largest difference first."""
    verdicts: dict[str, list[str]] = {}
    times = {name: ratio["p50"]["estimate"] for name, ratio in ratios.items()}
    for name in sorted(times, key=lambda name: -abs(times[name] - 1)):
        verdicts.setdefault(ratios[name]["p50"].get("verdict", "cannot tell"), []).append(name)
    parts = []
    if differ := [*verdicts.get("slower", []), *verdicts.get("faster", [])]:
        first = f"{times[differ[0]]:.2f} times as long under {differ[0]}"
        rest = [f"{times[name]:.2f} times under {name}" for name in differ[1:]]
        parts.append(f"A median request takes {listed([first, *rest])} as under {BASELINE}")
    if same := verdicts.get("about the same"):
        parts.append(f"{listed(same)} about as long{'' if parts else f' as {BASELINE}'}")
    if close := verdicts.get("cannot tell"):
        parts.append(f"{listed(close)}: too close to call{'' if parts else f', compared with {BASELINE}'}")
    return sentence("; ".join(parts))


def note(ratios: dict[str, Any]) -> str:
    """Say what the marks are, and that there are no intervals where there are none."""
    band = f"Grey band: ± {100 * BAND:.0f} %, too little to notice."
    if any(ratio["p50"].get("low") is not None for ratio in ratios.values()):
        return (
            "Dots: ratio to sticky, paired by block. Lines: 95 % intervals from resampled blocks. "
            f"{band} '{_AGAIN}' compares sticky with itself: its distance from 1 is what noise alone does."
        )
    return f"Dots: ratio to sticky, paired by block; too few blocks for intervals, so no verdict. {band}"


def _row(name: str, ratio: dict[str, Any]) -> tuple[str, ...]:
    p50, p95 = ratio.get("p50"), ratio.get("p95")
    return (
        name,
        interval(p50),
        (p50 or {}).get("verdict", NONE),
        interval(p95),
        (p95 or {}).get("verdict", NONE),
    )


def _span(ratios: dict[str, Any]) -> tuple[float, float]:
    ends = [
        value
        for ratio in ratios.values()
        for percentile in _PANELS
        for value in ((ratio.get(percentile) or {}).get(key) for key in ("estimate", "low", "high"))
        if value
    ]
    return min(0.88, *ends) / 1.04, max(1.14, *ends) * 1.04


def _panel(axes: Axes, percentile: str, name: str, ratios: dict[str, Any], span: tuple[float, float]) -> None:
    axes.set_title(name, color=style.SOFT)
    axes.axvspan(1 - BAND, 1 + BAND, color=style.GRID, lw=0)
    axes.axvline(1, color=style.SOFT, lw=1)
    for row, (arm, ratio) in enumerate(ratios.items()):
        if found := ratio.get(percentile):
            _mark(axes, row, BASELINE if arm == _AGAIN else arm, found, hollow=arm == _AGAIN)
    axes.set_xscale("log")
    axes.set_xlim(*span)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*span)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{TIMES}"))
    axes.set_xlabel(f"times {BASELINE} (log scale)")
    axes.grid(axis="x")


def _ticks(low: float, high: float) -> list[float]:
    """Return few enough round ratios that their labels keep apart on a log axis."""
    least = (high / low) ** (1 / 7)
    chosen = [1.0]
    for tick in (tick for tick in _TICKS if 1 < tick <= high):
        if tick / chosen[-1] >= least:
            chosen.append(tick)
    below = 1.0
    for tick in (tick for tick in reversed(_TICKS) if low <= tick < 1):
        if below / tick >= least:
            chosen.append(tick)
            below = tick
    return chosen


def _mark(axes: Axes, row: int, arm: str, ratio: dict[str, Any], *, hollow: bool) -> None:
    look = style.look(arm)
    if ratio.get("low") is not None:
        axes.plot([ratio["low"], ratio["high"]], [row, row], color=look.colour, lw=3, solid_capstyle="round")
    face = "white" if hollow else look.colour
    axes.plot(ratio["estimate"], row, look.marker, ms=10, mfc=face, mec=look.colour, mew=2)
    bounds = "" if ratio.get("low") is None else f"  [{number(ratio['low'])}, {number(ratio['high'])}]"
    axes.annotate(
        f"{number(ratio['estimate'])}{TIMES}{bounds}",
        (ratio["estimate"], row),
        (0, 13),
        textcoords="offset points",
        ha="center",
        size=9.5,
        color=style.INK,
        annotation_clip=False,
        path_effects=style.HALO,
    )
