"""What load a shop carries without a cache and with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts.cache_marks import COLOURS
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import interval, number, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run


_SAME = 1.1
"""Capacities of a single pass that differ by less are about the same."""


def draw_capacity(run: Run, figure: Figure) -> Caption:
    """Draw the 95th percentile by offered load, a panel without the cache and one with it, and the capacities."""
    found = run.get("cache", "capacity")
    points = [one for one in (found or {}).get("points", []) if one["p95_ms"] is not None]
    if not points:
        raise NothingToDraw("No capacity was searched for.")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, arm in zip(panels, COLOURS, strict=True):
        _searched(axes, arm, [one for one in points if one["arm"] == arm], found)
    loads = [one["load_rps"] for one in points]
    axes = panels[-1]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(loads) / 1.12, max(loads) * 1.12)
    axes.set_xlabel("offered load (reads/s)")
    figure.draw_without_rendering()
    style.log_ticks(axes.xaxis)
    style.log_ticks(axes.yaxis)
    return Caption(
        capacity_title(found),
        "A capacity is where the dots cross the dashed line. Servers, engines and the load generator share this "
        "machine: with machines of their own the figures would be larger, and whoever is busiest might be another.",
        f"{run.get('run', 'servers')} servers; the shop's mix of product pages and searches by Zipf 1",
        f"Each dot is one slice of load. Dashed: the limit, {found['limit_ms']:.0f} ms. Upright line: the load that "
        "was carried below it; shaded, where there are enough passes, the 95 % interval.",
        ("shop", "capacity (reads/s)", "kept", "missed"),
        tuple(
            (arm, interval(one, 0), number(one["kept_rps"], 0), number(one["missed_rps"], 0))
            for arm, one in found["arms"].items()
        ),
    )


def _searched(axes: Axes, arm: str, points: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> None:
    """Draw one shop's slices, its capacity and the limit."""
    colour, one = COLOURS[arm], found["arms"][arm]
    axes.plot([each["load_rps"] for each in points], [each["p95_ms"] for each in points], "o", color=colour, ms=5)
    axes.axvline(one["estimate"], color=colour, lw=1.6, zorder=1)
    if one["low"] is not None:
        axes.axvspan(one["low"], one["high"], color=style.shade(colour, 0.2), lw=0, zorder=0)
    axes.axhline(found["limit_ms"], color=style.INK, lw=1, ls=style.MODELLED)
    axes.grid(axis="y")
    axes.set_ylabel("95th percentile (ms)", size=9.5)
    bound = "" if one["bound"] == "between" else f"{one['bound']} "
    axes.set_title(
        f"{arm}: {bound}{interval(one, 0)} reads/s", size=10.5, weight="bold", color=style.Look(colour, "", "").ink
    )


def capacity_title(found: Mapping[str, Any]) -> str:
    """Say how many times the load the shop carries with the cache, or that it is too close to call."""
    ratio, limit = found.get("ratio"), f"{found['limit_ms']:.0f} ms"
    if not ratio:
        carried = [f"{arm} {_bound(one)} {one['estimate']:,.0f} reads/s" for arm, one in found["arms"].items()]
        return sentence(f"below {limit} the shop carries {', '.join(carried)}")
    low, high = ratio.get("low"), ratio.get("high")
    if low is not None and low < 1 < high:
        told = f"{interval(ratio)} times"
        return f"Whether the shop carries more load below {limit} with the cache is too close to call: {told}"
    once = "" if low is not None else "in a single pass, "
    if once and 1 / _SAME < ratio["estimate"] < _SAME:
        return f"In a single pass the shop carries about the same load below {limit} with the cache and without"
    return sentence(f"{once}with the cache the shop carries {number(ratio['estimate'])} times the load below {limit}")


def _bound(one: Mapping[str, Any]) -> str:
    return "about" if one["bound"] == "between" else str(one["bound"])
