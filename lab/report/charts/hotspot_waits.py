"""How long shoppers of the busiest server wait, and how busy it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.charts.hotspot_marks import subtitle, told_by
from lab.report.results import get
from lab.report.words import interval, listed, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run


def draw_waits(run: Run, figure: Figure) -> Caption:
    """Draw the 95th percentile of the wait at the hot server against that at the others, and how busy each was."""
    told = told_by(run)
    found = {name: story for name, story in told.items() if _p95(story, "hot") and _p95(story, "rest")}
    if not found:
        raise NothingToDraw("Too few requests for a 95th percentile.")
    waits, busy = figure.subplots(1, 2, sharey=True, width_ratios=(1.7, 1))
    for row, (name, story) in enumerate(found.items()):
        for offset, part, words in ((-0.17, "hot", "busiest"), (0.2, "rest", "others")):
            _wait(waits, row + offset, name, _p95(story, part), words, hollow=part == "rest")
            _busy(busy, row + offset, name, story["cpu"][f"{part}_busy"], hollow=part == "rest")
    waits.set_xlim(0, 1.32 * max(_end(_p95(story, part)) for story in found.values() for part in ("hot", "rest")))
    busy.set_xlim(0, 130 * max(0.05, *(story["cpu"]["hot_busy"] for story in found.values())))
    waits.set_xlabel("95th percentile of the wait (ms)")
    busy.set_xlabel("CPU time used (% of one core)")
    rough = any(_p95(story, part).get("faded") for story in found.values() for part in ("hot", "rest"))
    style.rows(waits, list(found), list(found))
    busy.tick_params(axis="y", length=0)
    busy.spines["left"].set_visible(False)
    for axes in (waits, busy):
        axes.grid(axis="x")
    return Caption(
        waits_title({name: get(story, "latency", "ratio", "p95") for name, story in found.items()}),
        "A busier server makes its shoppers wait only when it comes near the limit of its core: see the table of the "
        "load at which it would be full.",
        subtitle(run),
        "Filled: at each population's busiest server. Hollow: at all others. Lines: 95 % intervals over resampled "
        "populations. Where nobody is bound, busiest is a matter of one request more."
        f"{' Fewer than 600 requests stand behind a dot, so it is rough.' if rough else ''}",
        ("strategy", "busiest (ms)", "others (ms)", "ratio, paired by population", "CPU busiest", "CPU others"),
        tuple(
            (
                name,
                interval(_p95(story, "hot"), 1),
                interval(_p95(story, "rest"), 1),
                interval(get(story, "latency", "ratio", "p95")),
                percent(story["cpu"]["hot_busy"]),
                percent(story["cpu"]["rest_busy"]),
            )
            for name, story in found.items()
        ),
    )


def _p95(story: dict[str, Any], part: str) -> dict[str, Any]:
    return get(story, "latency", part, "p95") or {}


def _end(found: dict[str, Any]) -> float:
    return float(found.get("high") or found["estimate"])


def _wait(axes: Axes, row: float, name: str, found: dict[str, Any], words: str, *, hollow: bool) -> None:
    look = style.look(name)
    if found.get("low") is not None:
        axes.plot([found["low"], found["high"]], [row, row], color=look.colour, lw=2.5, solid_capstyle="round")
    face = "white" if hollow else look.colour
    axes.plot(found["estimate"], row, look.marker, ms=9, mfc=face, mec=look.colour, mew=1.8)
    axes.annotate(
        f"{words} {number(found['estimate'], 1 if found['estimate'] < 100 else 0, ' ms')}",  # noqa: PLR2004 - three digits do
        (_end(found), row),
        (9, -3.5),
        textcoords="offset points",
        size=9,
        color=style.INK,
        path_effects=style.HALO,
    )


def _busy(axes: Axes, row: float, name: str, share: float, *, hollow: bool) -> None:
    look = style.look(name)
    colour = style.shade(look.colour, 0.35 if hollow else 0.9)
    axes.barh(row, 100 * share, 0.3, color=colour)
    axes.annotate(percent(share), (100 * share, row), (5, -3.5), textcoords="offset points", size=9, color=style.INK)


def waits_title(ratios: Mapping[str, dict[str, Any] | None]) -> str:
    """Say where shoppers of the busiest server waited longer, and where no difference could be told."""
    longer = {name: one for name, one in ratios.items() if one and one.get("low") is not None and one["low"] > 1}
    rest = [name for name in ratios if name not in longer]
    if not longer:
        return "At this load nobody can be seen to wait longer because the server is the busiest"
    said = [f"{one['estimate']:.2f} times as long under {name}" for name, one in longer.items()]
    end = f"; not seen under {listed(rest)}" if rest else ""
    return f"One request in twenty waits {listed(said)} at the busiest server{end}"
