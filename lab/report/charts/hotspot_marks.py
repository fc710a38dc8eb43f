"""What the charts of hot servers share: every strategy's story, and a mark with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts.chart import NothingToDraw
from lab.report.hotspot import stories
from lab.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lab.report.results import Run

Stories = dict[str, dict[str, Any]]

ON_WHITE: dict[str, Any] = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"}
"""Keeps a label legible across a line."""


def told_by(run: Run) -> Stories:
    """Return every strategy's story.

    Raises:
        NothingToDraw: there is none.
    """
    told = stories(run)
    if not told:
        raise NothingToDraw("No shoppers were counted.")
    return told


def subtitle(run: Run) -> str:
    """Say of how many shoppers, servers and requests a chart is."""
    facts = run.get("hotspot")
    return (
        f"{facts['populations']} populations of {facts['shoppers']} shoppers, {run.get('run', 'servers')} servers, "
        f"{number(facts['rate_rps_each'], 0)} requests/s to each strategy"
    )


def mark(axes: Axes, row: float, name: str, found: dict[str, Any], text: str, *, scale: float = 1.0) -> None:
    """Draw an estimate with its interval, and write it above."""
    look, estimate = style.look(name), scale * found["estimate"]
    if found.get("low") is not None:
        ends = [scale * found["low"], scale * found["high"]]
        axes.plot(ends, [row, row], color=look.colour, lw=3, solid_capstyle="round")
    axes.plot(estimate, row, look.marker, ms=10, color=look.colour)
    axes.annotate(
        text,
        (estimate, row),
        (0, 12),
        textcoords="offset points",
        ha="center",
        size=9.5,
        color=style.INK,
        annotation_clip=False,
        bbox=ON_WHITE,
    )
