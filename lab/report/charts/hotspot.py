"""How many times the mean the busiest server served; and the charts of a run on hot servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab.report import style
from lab.report.charts import hotspot_crowds, hotspot_new_server, hotspot_timeline, hotspot_waits
from lab.report.charts.chart import Caption, Draw
from lab.report.charts.hotspot_marks import mark, subtitle, told_by
from lab.report.words import TIMES, interval, number, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from lab.report.results import Run


_EVEN = 1.1
"""A busiest server with less than this many times the mean is nothing to speak of."""


def draw_concentration(run: Run, figure: Figure) -> Caption:
    """Draw how many times the mean the busiest server served, for each population and on average."""
    told = told_by(run)
    found = {name: story["concentration"] for name, story in told.items()}
    axes = figure.subplots()
    rng = np.random.default_rng(1)
    for row, (name, one) in enumerate(found.items()):
        look = style.look(name)
        ratios = np.array(one["by_population"])
        axes.plot(
            ratios,
            row + 0.22 + rng.uniform(-0.09, 0.09, len(ratios)),
            look.marker,
            ms=5,
            mfc=style.shade(look.colour, 0.4),
            mec="none",
        )
        mark(axes, row - 0.08, name, one, _times(one))
    axes.axvline(1, color=style.INK, lw=1, ls=(0, (4, 3)))
    axes.text(1, -0.63, "perfectly even", va="bottom", ha="center", size=9.5, color=style.SOFT)
    axes.set_xlim(0.9, max(1.6, *(max(one["by_population"]) for one in found.values())) * 1.06)
    style.rows(axes, list(found), list(found))
    axes.set_xlabel("requests of the busiest server ÷ mean over all servers")
    axes.grid(axis="x")
    return Caption(
        concentration_title({name: one["estimate"] for name, one in found.items()}, run.get("run", "servers")),
        "Small marks are populations: where shoppers are bound, each has its own luck with its few heavy shoppers.",
        subtitle(run),
        "Large: mean over populations, with the 95 % interval over resampled populations. Small: one population each "
        "(moved up and down only to be told apart).",
        ("strategy", "busiest ÷ mean", "lowest population", "highest population", "requests"),
        tuple(
            (
                name,
                interval(one),
                number(min(one["by_population"])),
                number(max(one["by_population"])),
                f"{one['requests']:,}",
            )
            for name, one in found.items()
        ),
    )


def concentration_title(times: Mapping[str, float], servers: int) -> str:
    """Say under which strategy the busiest server had most to do, or that work was even everywhere."""
    worst = max(times, key=lambda name: times[name])
    if times[worst] < _EVEN:
        return f"Work was even: no server had more than {times[worst]:.2f} times the mean, whatever the strategy"
    others = [value for name, value in times.items() if name != worst]
    rest = f"; elsewhere {max(others):.2f} times at most" if others else ""
    return sentence(f"under {worst} the busiest of {servers} servers had {times[worst]:.2f} times the mean{rest}")


def _times(found: dict[str, Any]) -> str:
    bounds = "" if found.get("low") is None else f" ({number(found['low'])} to {number(found['high'])})"
    return f"{number(found['estimate'])}{TIMES}{bounds}"


CHARTS: dict[str, Draw] = {
    "share-over-time": hotspot_timeline.draw_timeline,
    "busiest-over-mean": draw_concentration,
    "new-server": hotspot_new_server.draw_new_server,
    "hot-server-waits": hotspot_waits.draw_waits,
    "crowd-size": hotspot_crowds.draw_crowds,
}
"""The charts of this experiment by name, in the order of the page."""
