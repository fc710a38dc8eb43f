"""What grows with the servers: copies, what servers tell each other, CPU time; and the charts of a scale run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts import scale_limits, scale_stale
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.results import get
from lab.report.scale import (
    COPYING,
    points_of,
    sizes_of,
)
from lab.report.words import interval, listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

Points = dict[str, list[dict[str, Any]]]

_FLAT = 1.1
"""Less than this many times as much is about the same."""

_LABEL_GAP = 0.075
"""Labels at the right edge keep this share of the axis apart."""

_LOWEST_LABEL = 0.03
"""And the lowest is so far above the axis."""


def _subtitle(run: Run) -> str:
    facts = run.get("run") or {}
    return (
        f"{facts.get('rate_rps')} requests/s offered to each strategy in turn, {facts.get('blocks')} blocks at each "
        "number of servers"
    )


def _by_servers(axes: Axes, sizes: Sequence[int], label: str) -> None:
    axes.set_xticks(list(sizes), [str(each) for each in sizes])
    axes.set_xlim(0, sizes[-1] * 1.04)
    axes.set_xlabel("servers")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")


def _plot(axes: Axes, name: str, points: Sequence[tuple[int, dict[str, Any]]], scale: float = 1.0) -> None:
    """Draw a strategy's line with its intervals."""
    look = style.look(name)
    x, y = [at for at, _ in points], [value["estimate"] * scale for _, value in points]
    axes.plot(x, y, color=look.colour, marker=look.marker, ms=7, lw=2, clip_on=False, zorder=3)
    for at, value in points:
        if value.get("low") is not None and value.get("high") is not None:
            ends = [value["low"] * scale, value["high"] * scale]
            axes.plot([at, at], ends, color=look.colour, lw=5, alpha=0.35, solid_capstyle="butt", zorder=2)


def _name_lines(axes: Axes, ends: Mapping[str, float], at: float) -> None:
    """Write the strategies' names beside the ends of their lines, apart from each other."""
    low, high = axes.get_ylim()
    placed = style.spread([(value - low) / (high - low) for value in ends.values()], _LABEL_GAP)
    lifted = max(0.0, _LOWEST_LABEL - min(placed))
    for name, place in zip(ends, [place + lifted for place in placed], strict=True):
        axes.annotate(
            name,
            (at, low + place * (high - low)),
            (9, 0),
            textcoords="offset points",
            va="center",
            size=10,
            weight="bold",
            color=style.look(name).ink,
            annotation_clip=False,
        )


def _known(own: Sequence[dict[str, Any]], *keys: str) -> list[tuple[int, dict[str, Any]]]:
    found = [(int(point["servers"]), get(point, *keys)) for point in own]
    return [(at, value) for at, value in found if value]


# --- copies ----------------------------------------------------------------------------------------------------------


def draw_copies(run: Run, figure: Figure) -> Caption:
    """Draw copies and bytes per session against the number of servers."""
    points, sizes = points_of(run), sizes_of(run)
    copies = {
        name: [(int(point["servers"]), {"estimate": point["copies"]}) for point in own if point["copies"] is not None]
        for name, own in points.items()
    }
    copies = {name: own for name, own in copies.items() if own}
    if not copies:
        raise NothingToDraw("Copies were not counted.")
    occupied = {name: _known(own, "physical_bytes") for name, own in points.items()}
    left, right = figure.subplots(1, 2)
    for axes, found, scale in ((left, copies, 1.0), (right, occupied, 1e-3)):
        for name, own in found.items():
            if own:
                _plot(axes, name, own, scale)
    _by_servers(left, sizes, "copies of a session")
    _by_servers(right, sizes, "bytes for a session, all copies (kB)")
    _name_lines(left, {name: own[-1][1]["estimate"] for name, own in copies.items()}, sizes[-1])
    ends = {name: own[-1][1]["estimate"] / 1000 for name, own in occupied.items() if own}
    _name_lines(right, ends, sizes[-1])
    return Caption(
        copies_title(points),
        "A flat line keeps one copy, wherever the shoppers go; a rising one pays for every further server in memory.",
        "Left: ids found by scanning every server and store. Right: by how much the holders grow for each session",
        "Bars: 95 % intervals of the slope over a ladder of session counts; memory of a process grows in steps, so "
        "that few sessions on many servers are measured roughly. Strategies without copies are measured at both ends.",
        ("strategy", "servers", "sessions", "copies", "bytes per session"),
        tuple(
            (
                name,
                str(point["servers"]),
                number(point["sessions"], 0),
                number(point["copies"]),
                interval(point["physical_bytes"], 0),
            )
            for name, own in points.items()
            for point in own
            if point["copies"] is not None
        ),
    )


def copies_title(points: Points) -> str:
    """Say how many copies each strategy keeps with most servers."""
    last = {name: own[-1] for name, own in points.items() if own and own[-1]["copies"] is not None}
    many = {name: point["copies"] for name, point in last.items() if point["copies"] > _FLAT}
    one = [name for name in last if name not in many]
    servers = max(point["servers"] for point in last.values())
    if not many:
        return f"With {servers} servers nobody keeps more than one copy of a session"
    held = listed([f"{name} keeps {copies:.3g} copies of a session" for name, copies in many.items()])
    rest = f"; {listed(one)} {'keep' if len(one) > 1 else 'keeps'} one" if one else ""
    return sentence(f"with {servers} servers {held}{rest}")


# --- traffic between servers -----------------------------------------------------------------------------------------


def draw_peers(run: Run, figure: Figure) -> Caption:
    """Draw bytes and messages between servers per write, with the line through the smaller sizes."""
    own, sizes = points_of(run).get(COPYING, []), sizes_of(run)
    found = {what: _known(own, "per_write", what) for what in ("bytes", "messages")}
    found = {what: points for what, points in found.items() if points}
    if not found:
        raise NothingToDraw("What servers tell each other was not counted.")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (what, points) in zip(panels, found.items(), strict=True):
        _plot(axes, COPYING, points)
        _foretold(axes, run, what)
        _by_servers(axes, sizes, f"{what} between servers per write")
        for at, value in points:
            axes.annotate(
                number(value["estimate"], 0 if what == "bytes" else 1),
                (at, value["estimate"]),
                (-8, 7),
                textcoords="offset points",
                ha="right",
                size=9.5,
                color=style.look(COPYING).ink,
                path_effects=style.HALO,
            )
    unread = {point["servers"]: get(point, "unread", "rate", "estimate") for point in own}
    return Caption(
        peers_title(own),
        "Twice as many servers, about twice as many bytes for the same write: each is told of it. Grey, dashed: what a "
        "straight line through the smaller sizes foretells.",
        _subtitle(run),
        "Everything that servers send each other, divided by the requests that wrote a session; a message is a request "
        "or its reply. Bars: 95 % intervals over blocks.",
        ("servers", "bytes per write", "messages per write", "changes never read"),
        tuple(
            (
                str(point["servers"]),
                interval(get(point, "per_write", "bytes"), 0),
                interval(get(point, "per_write", "messages"), 1),
                percent(unread[point["servers"]]),
            )
            for point in own
        ),
    )


def _foretold(axes: Axes, run: Run, what: str) -> None:
    """Draw the straight line that was fitted without the largest size."""
    titles = {"bytes": "bytes between servers per write", "messages": "messages between servers per write"}
    checked = [one for one in run.get("scale", "checked") or [] if one["what"] == titles[what]]
    for one in checked:
        x = [one["fitted_on"][0], one["at"]]
        axes.plot(
            x,
            [one["start"] + one["slope"] * (each - 1) for each in x],
            color=style.SOFT,
            ls=style.MODELLED,
            lw=1.5,
            zorder=4,
        )
        axes.text(
            0.03,
            0.95,
            f"modelled: line through {listed([str(each) for each in one['fitted_on']])}",
            transform=axes.transAxes,
            va="top",
            size=9.5,
            color=style.SOFT,
        )


def peers_title(own: Sequence[dict[str, Any]]) -> str:
    """Say how the bytes per write grow from 2 servers to the most, and how much of it nobody reads."""
    costs = {point["servers"]: get(point, "per_write", "bytes", "estimate") for point in own if point["servers"] > 1}
    costs = {servers: cost for servers, cost in costs.items() if cost}
    unread = get(own[-1], "unread", "rate", "estimate")
    waste = f"; {percent(unread)} of what arrives is never read" if unread is not None else ""
    if len(costs) < 2:  # noqa: PLR2004 - two sizes to compare
        known = [point for point in own if get(point, "per_write", "messages", "estimate") is not None]
        messages = get(known[-1], "per_write", "messages", "estimate")
        return f"A write costs {messages:.3g} messages between {known[-1]['servers']} servers{waste}"
    few, most = min(costs), max(costs)
    times = costs[most] / costs[few]
    return f"A write costs {times:.1f} times as many bytes between {most} servers as between {few}{waste}"


# --- CPU -------------------------------------------------------------------------------------------------------------


def draw_cpu(run: Run, figure: Figure) -> Caption:
    """Draw the CPU time of all web servers per request, and of the engines, against the number of servers."""
    points, sizes = points_of(run), sizes_of(run)
    web = {name: _known(own, "cpu_ms", "servers") for name, own in points.items()}
    web = {name: own for name, own in web.items() if own}
    if not web:
        raise NothingToDraw("CPU time was not measured on this platform.")
    stores = {name: _engines(own) for name, own in points.items()}
    stores = {name: own for name, own in stores.items() if own}
    panels = figure.subplots(1, 2 if stores else 1, squeeze=False)[0]
    titles = ("all web servers", "Redis and PostgreSQL (a scale of its own)")
    for axes, found, title in zip(panels, (web, stores), titles, strict=False):
        for name, own in found.items():
            _plot(axes, name, own)
        _by_servers(axes, sizes, "")
        axes.set_title(title, size=10.5, weight="bold")
    panels[0].set_ylabel("CPU time per request (ms)")
    for axes, found in zip(panels, (web, stores), strict=False):
        highest = max(value.get("high") or value["estimate"] for own in found.values() for _, value in own)
        axes.set_ylim(0, 1.15 * highest)
        _name_lines(axes, {name: own[-1][1]["estimate"] for name, own in found.items()}, sizes[-1])
    fits = run.get("scale", "fits", "added_ms") or {}
    return Caption(
        cpu_title(fits),
        "A rising line means that every further server adds work to each request, for all servers together.",
        _subtitle(run),
        "CPU time divided by requests. Bars: 95 % intervals over blocks. The engines' share has the catalogue's "
        "queries under every strategy. A nearly idle machine needs more CPU time for the same work than a busy one.",
        ("strategy", "servers", "web servers (ms)", "Redis (ms)", "PostgreSQL (ms)", "balancer (ms)"),
        tuple(
            (
                name,
                str(point["servers"]),
                *(interval(point["cpu_ms"].get(part)) for part in ("servers", "redis", "postgresql", "balancer")),
            )
            for name, own in points.items()
            for point in own
        ),
    )


def _engines(own: Sequence[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for point in own:
        parts = [point["cpu_ms"][part]["estimate"] for part in ("redis", "postgresql") if point["cpu_ms"].get(part)]
        if parts:
            found.append((int(point["servers"]), {"estimate": sum(parts)}))
    return found


def cpu_title(fits: Mapping[str, Any]) -> str:
    """Say under which strategies a further server adds more CPU time to a request than under sticky."""
    slopes = {name: (fit or {}).get("slope") or {} for name, fit in fits.items()}
    rising = {name: slope["estimate"] for name, slope in slopes.items() if (slope.get("low") or 0) > 0}
    if not rising:
        return "No further server clearly adds CPU time to a request, beyond what it adds under sticky, in this run"
    most = max(rising, key=lambda name: rising[name])
    rest = {name: slope for name, slope in rising.items() if name != most}
    text = f"every further server adds {rising[most]:.2f} ms of CPU time to a request under {most}"
    others = (
        f", {max(rest.values()):.2f} ms or less under the others" if rest else ", and nothing clear under the others"
    )
    return sentence(f"beyond what it adds under sticky, {text}{others}")


CHARTS: dict[str, Draw] = {
    "copies": draw_copies,
    "between-servers": draw_peers,
    "cpu-by-servers": draw_cpu,
    "stale-reads": scale_stale.draw,
    "where-each-stops": scale_limits.draw,
}
