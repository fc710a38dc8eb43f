"""Who served how much, second by second, while a server is added and one is drained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lab.report import style
from lab.report.charts.chart import Caption
from lab.report.charts.hotspot_marks import Stories, told_by
from lab.report.results import get
from lab.report.words import listed, percent, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run


_MOVED = 0.1
"""A server that keeps less than this part of its share has given its load away."""

_LOW = 60
"""Panels up to so many percent have a tick at 25; higher ones at 50."""

_NEW_NAME = "added server"


def draw_timeline(run: Run, figure: Figure) -> Caption:
    """Draw each server's share of the requests, second by second, around the addition and the draining."""
    told = told_by(run)
    panels = figure.subplots(len(told), 2, squeeze=False, sharex="col", sharey=True, width_ratios=(2.6, 1))
    for row, (name, story) in zip(panels, told.items(), strict=True):
        for axes, event in zip(row, ("added", "drained"), strict=True):
            _lines(axes, name, story, event)
        row[0].set_ylabel(name, color=style.look(name).ink, weight="bold", size=11, rotation=0, ha="right", va="center")
    top = 100 * max(_peak(story) for story in told.values())
    highest = max(45.0, 1.12 * top)
    panels[0][0].set_ylim(0, highest)
    panels[0][0].set_yticks([0, 25] if highest <= _LOW else [0, 50])
    for axes, words in zip(panels[-1], ("the server was added", "draining"), strict=True):
        axes.set_xlabel(f"seconds since {words}")
        axes.xaxis.set_major_locator(MaxNLocator(7 if axes is panels[-1][0] else 4, integer=True, prune="both"))
    panels[0][0].set_title("a server is added", size=10.5, color=style.SOFT)
    panels[0][1].set_title("the busiest is drained", size=10.5, color=style.SOFT)
    for axes in panels[:-1].flat:
        axes.tick_params(labelbottom=False)
    _legend(panels[0][0])
    return Caption(
        timeline_title(told),
        "A server that is bound to its shoppers keeps its line, whatever is added or drained; where nobody is bound, "
        "the lines meet anew at once.",
        f"One population of {run.get('hotspot', 'shoppers')} shoppers; share of its requests (%) that each server "
        "answered, in each second",
        "Thick: the server that was busiest in the population's first turn, and that is drained in the end. Dashed and "
        "dark: the server that was added. Thin: the others. Dotted: when it was asked for; grey: until the balancer "
        "had changed over.",
        ("strategy", "busiest, before the addition", "added server, last seconds", "drained: before", "after"),
        tuple(_timeline_row(name, story) for name, story in told.items()),
    )


def _timeline_row(name: str, story: dict[str, Any]) -> tuple[str, ...]:
    drained = story["drained"]
    before = _means(story, "added", until=0).get(drained["server"])
    later = _means(story, "added", since=story["added"]["seconds"]).get(story["added"]["server"], 0.0)
    return (
        name,
        percent(before),
        percent(later),
        percent(drained["before"]["share"]),
        percent(drained["after"]["share"]),
    )


def _means(story: dict[str, Any], event: str, *, since: float = -1e9, until: float = 1e9) -> dict[str, float]:
    """Return each server's share of the requests in the whole bins between two times."""
    line, width = story["timeline"][event], story["timeline"]["bin_seconds"]
    sums = {
        server: sum(
            count
            for n, count in enumerate(counts)
            if line["from_seconds"] + n * width >= since and line["from_seconds"] + (n + 1) * width <= until
        )
        for server, counts in line["servers"].items()
    }
    total = sum(sums.values())
    return {server: count / total for server, count in sums.items()} if total else {}


def _series(story: dict[str, Any], event: str) -> tuple[Any, dict[str, Any]]:
    """Return the middles of the bins in seconds and each server's share in them, NaN where nobody asked."""
    line, width = story["timeline"][event], story["timeline"]["bin_seconds"]
    counts = {server: np.array(own, dtype=float) for server, own in line["servers"].items()}
    if not counts:
        return np.empty(0), {}
    total = np.sum(list(counts.values()), axis=0)
    at = line["from_seconds"] + (np.arange(len(total)) + 0.5) * width
    enough = total >= total.max() / 4  # the first and the last bin may be cut short
    with np.errstate(invalid="ignore", divide="ignore"):
        return at, {server: np.where(enough, own / total, np.nan) for server, own in counts.items()}


def _peak(story: dict[str, Any]) -> float:
    every = [own for event in ("added", "drained") for own in _series(story, event)[1].values()]
    return max((float(np.nanmax(own)) for own in every if np.isfinite(own).any()), default=0.0)


def _lines(axes: Axes, name: str, story: dict[str, Any], event: str) -> None:
    look, hot, new = style.look(name), story["drained"]["server"], story["added"]["server"]
    at, series = _series(story, event)
    for server, own in series.items():
        if server == hot:
            axes.plot(at, 100 * own, color=look.colour, lw=2.8, zorder=3, solid_capstyle="round")
        elif server == new:
            there = at > 0 if event == "added" else at > -np.inf
            axes.plot(at[there], 100 * own[there], color=style.INK, lw=1.8, ls=(0, (4, 2)), zorder=4)
        else:
            axes.plot(at, 100 * own, color=style.shade(look.colour, 0.5), lw=1.1, zorder=2)
    if event == "added" and new not in series and len(at):
        axes.plot([0, at[-1]], [0, 0], color=style.INK, lw=1.8, ls=(0, (4, 2)), zorder=4, clip_on=False)
    axes.axvspan(0, story[event]["seconds"], color=style.GRID, lw=0, zorder=0)
    axes.axvline(0, color=style.SOFT, lw=1.2, ls=(0, (1, 1.5)))
    axes.grid(axis="y")
    axes.margins(x=0.015)


def _legend(axes: Axes) -> None:
    handles = [
        Line2D([], [], color=style.SOFT, lw=2.8, label="busiest at first"),
        Line2D([], [], color=style.SOFT, lw=1.1, label="others"),
        Line2D([], [], color=style.INK, lw=1.8, ls=(0, (4, 2)), label=_NEW_NAME),
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, frameon=False, fontsize=9, borderpad=0
    )


def timeline_title(told: Stories) -> str:
    """Say under which strategies the load stayed where it was, and under which it moved."""
    moves = {name: _moves(story) for name, story in told.items()}
    stays = [name for name, moved in moves.items() if moved is False]
    moved = [name for name, moved in moves.items() if moved]
    parts = []
    if stays:
        parts.append(f"Under {listed(stays)} neither a new server nor a drained one moves the load of those bound")
    if moved:
        both = "both do" if stays else "a new server and a drained one both move the load"
        parts.append(f"under {listed(moved)} {both}, at once")
    if unclear := [name for name, moved in moves.items() if moved is None]:
        parts.append(f"under {listed(unclear)} {'' if parts else 'the load moves '}only in part")
    return sentence("; ".join(parts))


def _moves(story: dict[str, Any]) -> bool | None:
    """Say whether load went to the added server and left the drained one; None where only one of both, or in part."""
    share, fair = get(story, "added", "share", "estimate") or 0.0, story["added"]["fair_share"]
    before, after = story["drained"]["before"]["share"], story["drained"]["after"]["share"]
    if before is None or after is None:
        return None
    if share > fair / 2 and after <= _MOVED * before:
        return True
    return False if share < fair / 4 and after > before / 2 else None
