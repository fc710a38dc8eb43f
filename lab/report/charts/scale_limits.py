"""Where each strategy would stop beyond this machine: modelled, and drawn dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import ticker

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.scale import assumptions, called, cpu_not_foretold, rounded, sizes_of, stops
from lab.report.words import NONE, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run


def draw(run: Run, figure: Figure) -> Caption:
    """Draw, modelled, the most live sessions against the number of servers, and what stops each strategy."""
    model = run.get("scale", "model") or {}
    curves = {name: curve for name, curve in (model.get("curves") or {}).items() if curve}
    if not curves:
        raise NothingToDraw("CPU time was not measured, so there is nothing to model from.")
    axes = figure.subplots()
    lows = [curve[0]["sessions"] for curve in curves.values()]
    for name, curve in curves.items():
        look = style.look(name)
        x, y = [point["servers"] for point in curve], [point["sessions"] for point in curve]
        axes.plot(x, y, color=look.colour, ls=style.MODELLED, lw=2.2, zorder=3)
        axes.plot(x[-1], y[-1], look.marker, color=look.colour, ms=7, zorder=4, clip_on=False)
    measured = sizes_of(run)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axvspan(1, measured[-1], color=style.GRID, lw=0, zorder=0)
    axes.set_xlim(1, 1000)
    highest = max(curve[-1]["sessions"] for curve in curves.values())
    axes.set_ylim(min(lows) / 2, max(highest * 2.5, 1e8))
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    ticks = [10.0**power for power in range(3, 11) if min(lows) / 2 <= 10.0**power <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [rounded(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel("web servers (modelled; shaded: as many as were measured)")
    axes.set_ylabel("most live sessions")
    axes.grid()
    _name_limits(axes, curves, model.get("shards"))
    return Caption(
        limits_title(model, curves),
        "Where a line goes flat, more web servers do not help any more: something else is used to its limit.",
        "Modelled by operational laws from what was measured on this machine; no such cluster was run",
        f"{assumptions(run)} {cpu_not_foretold(run)}".rstrip(),
        ("strategy", "10 servers", "100 servers", "1,000 servers", "stopped by"),
        tuple(
            (
                called(name, model.get("shards")),
                *(_at(curve, servers) for servers in (10, 100, 1000)),
                stops(name, curve),
            )
            for name, curve in curves.items()
        ),
    )


def _at(curve: Sequence[dict[str, Any]], servers: int) -> str:
    return next((rounded(point["sessions"]) for point in curve if point["servers"] == servers), NONE)


def _name_limits(axes: Axes, curves: Mapping[str, list[dict[str, Any]]], shards: int | None) -> None:
    """Write beside the end of each curve whose it is, and what stops it."""
    transform = axes.transScale + axes.transLimits
    ends = [transform.transform((1, curve[-1]["sessions"]))[1] for curve in curves.values()]
    places = style.spread(ends, 0.125)
    excess = max(places) - 0.97
    for (name, curve), place in zip(curves.items(), places, strict=True):
        axes.text(
            1.02,
            place - max(excess, 0),
            f"{called(name, shards)}\n",
            transform=axes.transAxes,
            va="center",
            size=10,
            weight="bold",
            color=style.look(name).ink,
            linespacing=1.2,
        )
        axes.text(
            1.02,
            place - max(excess, 0),
            f"\n{_short(name, curve)}",
            transform=axes.transAxes,
            va="center",
            size=8.8,
            color=style.SOFT,
            linespacing=1.2,
        )


def _short(name: str, curve: list[dict[str, Any]]) -> str:
    text = stops(name, curve)
    if text.endswith("help"):
        return "not stopped by 1,000 servers"
    return "by CPU: each applies all writes" if text.startswith("CPU:") else f"by {text}"


def limits_title(model: Mapping[str, Any], curves: Mapping[str, list[dict[str, Any]]]) -> str:
    """Say which strategies stop below a thousand servers, and which go on."""
    stopped = {name: curve for name, curve in curves.items() if not stops(name, curve).endswith("help")}
    going = [called(name, model.get("shards")) for name in curves if name not in stopped]
    ranked = sorted(stopped, key=lambda name: stopped[name][-1]["sessions"])
    if not ranked:
        return "Modelled: no strategy stops below 1,000 servers"
    most = {name: rounded(stopped[name][-1]["sessions"]) for name in ranked}
    first, *others = ranked
    parts = [
        f"{called(first, model.get('shards'))} stops at {most[first]} live sessions",
        *(f"{called(name, model.get('shards'))} at {most[name]}" for name in others),
    ]
    on = f"; {listed(going)} {'go' if len(going) > 1 else 'goes'} on" if going else ""
    return f"Modelled: {', '.join(parts)}{on}"
