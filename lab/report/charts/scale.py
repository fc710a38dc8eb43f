"""What grows with the servers, when a write is seen elsewhere, and where each strategy would stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import ticker

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.results import get
from lab.report.scale import COPYING, assumptions, called, link_name, points_of, rounded, sizes_of, stops
from lab.report.words import NONE, interval, listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

Points = dict[str, list[dict[str, Any]]]

_FLAT = 1.1
"""Less than this many times as much is about the same."""

_MODELLED = (0, (5, 2.5))
_LABEL_GAP = 0.075
"""Labels at the right edge keep this share of the axis apart."""


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
    for name, place in zip(ends, placed, strict=True):
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
            ls=_MODELLED,
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
    panels = figure.subplots(1, 2 if stores else 1, sharey=True, squeeze=False)[0]
    titles = ("all web servers", "Redis and PostgreSQL")
    for axes, found, title in zip(panels, (web, stores), titles, strict=False):
        for name, own in found.items():
            _plot(axes, name, own)
        _by_servers(axes, sizes, "")
        axes.set_title(title, size=10.5, weight="bold")
    panels[0].set_ylim(
        0, 1.15 * max(value.get("high") or value["estimate"] for own in web.values() for _, value in own)
    )
    panels[0].set_ylabel("CPU time per request (ms)")
    for axes, found in zip(panels, (web, stores), strict=False):
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
    return sentence(f"{text}{others} (beyond sticky)")


# --- stale reads -----------------------------------------------------------------------------------------------------

_SHADES = (0.45, 0.62, 0.8, 1.0)
_MARKS = ("o", "^", "s", "D", "v")


def draw_visibility(run: Run, figure: Figure) -> Caption:
    """Draw the share of stale reads against the gap between write and read, a curve for each distance."""
    arms = [arm for arm in run.get("scale", "visibility") or [] if arm["points"]]
    if not arms:
        raise NothingToDraw("Stale reads were not looked for.")
    axes = figure.subplots()
    waiting = [arm for arm in arms if arm["replication"] == "sync"]
    for number_, arm in enumerate([arm for arm in arms if arm["replication"] == "async"]):
        colour = style.shade(style.look(COPYING).colour, _SHADES[min(number_, len(_SHADES) - 1)])
        _curve(axes, arm, colour, _MARKS[number_ % len(_MARKS)], "-")
    for arm in waiting:
        _curve(axes, arm, style.GOOD, "X", "none")
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    longest = max(point["waited_ms"] for arm in arms for point in arm["points"])
    axes.set_xlim(-0.06, longest * 1.15)
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= longest * 1.15]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_ylim(-2, 104)
    axes.set_xlabel("time between the answer to the write and the read through another server (ms)")
    axes.set_ylabel("stale reads (%)")
    axes.grid()
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        columnspacing=1.1,
        borderaxespad=0.2,
    )
    return Caption(
        visibility_title(arms),
        "Where a curve is high, a shopper who comes back that quickly through another server does not see the own "
        "write. A link twice as long moves the whole curve to the right.",
        f"All-to-all, {arms[0]['servers']} servers; a write on one of them, then a read on another, past the balancer",
        "Bars: 95 % intervals (Wilson). Distances are one way, emulated by a relay between the servers. Writes come at "
        "random moments, as often as in the shop's load, and one that finds the link busy with another waits for it. "
        "Scale: even up to 1 ms, logarithmic beyond.",
        ("servers", "gap (ms)", "stale", "reads", "share"),
        tuple(
            (link_name(arm), number(point["waited_ms"], 1), str(point["stale"]), str(point["trials"]), _rate(point))
            for arm in arms
            for point in arm["points"]
        ),
    )


def _rate(point: dict[str, Any]) -> str:
    rate = point["rate"]
    return f"{percent(rate['estimate'])} ({percent(rate['low'])} to {percent(rate['high'])})"


def _curve(axes: Axes, arm: dict[str, Any], colour: str, marker: str, line: Any) -> None:
    ordered = sorted(arm["points"], key=lambda point: point["waited_ms"])
    x = [point["waited_ms"] for point in ordered]
    y = [100 * point["rate"]["estimate"] for point in ordered]
    axes.plot(
        x, y, color=colour, ls=line, marker=marker, ms=7, lw=2, zorder=3, label=link_name(arm), clip_on=False
    )  # fmt: skip
    for at, point in zip(x, ordered, strict=True):
        ends = [100 * point["rate"]["low"], 100 * point["rate"]["high"]]
        axes.plot([at, at], ends, color=colour, lw=4, alpha=0.35, solid_capstyle="butt", zorder=2)


def visibility_title(arms: Sequence[dict[str, Any]]) -> str:
    """Say how many reads are stale at once on the shortest and the longest link, and how many under sync."""
    late = sorted((arm for arm in arms if arm["replication"] == "async"), key=lambda arm: arm["delay_ms"])
    parts = []
    if late:
        near = percent(late[0]["points"][0]["rate"]["estimate"])
        parts.append(f"read at once through another server, {near} are stale with servers {link_name(late[0])}")
    if len(late) > 1:
        far = percent(late[-1]["points"][0]["rate"]["estimate"])
        parts[0] += f", {far} with {late[-1]['delay_ms']:g} ms between them (emulated)"
    for arm in arms:
        if arm["replication"] == "sync":
            stale, trials = (sum(point[key] for point in arm["points"]) for key in ("stale", "trials"))
            parts.append(f"under sync {stale} of {trials}")
    return sentence("; ".join(parts))


# --- beyond this machine ---------------------------------------------------------------------------------------------


def draw_limits(run: Run, figure: Figure) -> Caption:
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
        axes.plot(x, y, color=look.colour, ls=_MODELLED, lw=2.2, zorder=3)
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
        assumptions(run),
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
    places = style.spread(ends, 0.105)
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


CHARTS: dict[str, Draw] = {
    "copies": draw_copies,
    "between-servers": draw_peers,
    "cpu-by-servers": draw_cpu,
    "stale-reads": draw_visibility,
    "where-each-stops": draw_limits,
}
