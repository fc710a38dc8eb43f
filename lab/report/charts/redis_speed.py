"""How quick Redis is: session operations by size, operations a second, native types, and the network's share."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.redis_speed import (
    LIMIT_MS,
    MILLION,
    OPERATIONS,
    STORES,
    cells,
    mean_of,
    rate_of,
    settled_size,
    size_of,
    thousands,
    way_of_asking,
)
from lab.report.results import get
from lab.report.words import NONE, interval, listed, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

Means = dict[str, dict[str, dict[int, dict[str, Any]]]]
"""Operation to strategy to size to mean time with its interval, in ms."""

_COMMANDS = {
    "GET": (style.WITH, "o", "GET"),
    "SET": ("#E69F00", "s", "SET"),
    "SET, no log": ("#8A6D00", "^", "SET without its log"),
}
_WAYS = {"one value": ("#6B7280", "one value"), "native types": (style.LOOKS["redis"].colour, "native types")}
_KINDS = {"cart": "cart\n(hash)", "recent": "recent\n(list)", "categories": "categories\n(set)"}
_ABOUT_THE_SAME = 1.1


# --- session operations by size --------------------------------------------------------------------------------------


def draw_sessions(run: Run, figure: Figure) -> Caption:
    """Draw a panel per operation: mean time against the session's size, a line per store, and the line of 1 ms."""
    sizes = get(run.results, "redis_speed", "sessions", "sizes") or []
    found: Means = {}
    for operation in OPERATIONS:
        for store in STORES:
            by_size = {size: mean for size in sizes if (mean := mean_of(run.results, store, operation, size))}
            if by_size:
                found.setdefault(operation, {})[store] = by_size
    if not found:
        raise NothingToDraw("No session operation was timed.")
    panels = figure.subplots(1, len(found), sharey=True, sharex=True, squeeze=False)[0]
    low, high = _span(found)
    for axes, (operation, by_store) in zip(panels, found.items(), strict=True):
        axes.set_title(OPERATIONS[operation], color=style.SOFT)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.axhline(LIMIT_MS, color=style.INK, lw=1, zorder=1)
        for store, by_size in by_store.items():
            _line(axes, store, by_size)
        _size_axis(axes, sizes)
        axes.grid(axis="y")
    panels[0].set_ylabel("mean time of one operation (ms, log scale)")
    style.log_ticks(panels[0].yaxis)
    _labels(panels[-1], list(found.values())[-1], high / low)
    fields = get(run.results, "redis_speed", "sessions", "fields")
    blocks = get(run.results, "redis_speed", "sessions", "blocks")
    return Caption(
        sessions_title(found, settled_size(run.results)),
        "Below the line of 1 ms is what the textbook promises. A session in the server's own memory needs no round "
        "trip; one in Redis or PostgreSQL does, and the time of that hardly depends on the size.",
        f"One connection, one operation after the other; {fields} fields a session; {blocks} blocks",
        "Dots: mean time. Upright lines: 95 % intervals from resampled blocks. What the engines promise about the disk "
        "differs, and costs writes time: see durability on the page.",
        ("session", "operation", *(f"{size_of(size)} (ms)" for size in sizes)),
        tuple(
            (f"{store} ({STORES[store]})", OPERATIONS[operation], *(interval(by_size.get(s), 3) for s in sizes))
            for operation, by_store in found.items()
            for store, by_size in by_store.items()
        ),
    )


def sessions_title(found: Means, size: int) -> str:
    """Say what Redis takes for a read and a write at the settled size, on which side of 1 ms, and what PostgreSQL."""
    redis = {verb: _estimate(found, name, "redis", size) for name, verb in (("read", "reads"), ("write", "writes"))}
    known = {verb: value for verb, value in redis.items() if value is not None}
    if not known:
        return "Redis was not timed"
    text = f"Redis {listed([f'{verb} in {number(value, 2)} ms' for verb, value in known.items()])} on average"
    slow = [verb for verb, value in known.items() if value >= LIMIT_MS]
    text += f" at {size_of(size)}, {'not ' if slow else ''}under 1 ms"
    if slow and len(slow) < len(known):
        text += f" for {listed(slow)}"
    other = _estimate(found, "write", "database", size)
    return f"{text}; PostgreSQL writes in {number(other, 2)} ms" if other is not None else text


def _estimate(found: Means, operation: str, store: str, size: int) -> float | None:
    mean = found.get(operation, {}).get(store, {}).get(size)
    return None if mean is None else float(mean["estimate"])


def _span(found: Means) -> tuple[float, float]:
    values = [
        value
        for by_store in found.values()
        for by_size in by_store.values()
        for mean in by_size.values()
        for value in (mean["estimate"], mean.get("low"), mean.get("high"))
        if value
    ]
    return min(*values, LIMIT_MS) / 1.5, max(*values, LIMIT_MS) * 1.6


def _line(axes: Axes, store: str, by_size: Mapping[int, dict[str, Any]]) -> None:
    look = style.look(store)
    means = list(by_size.values())
    axes.plot(
        list(by_size),
        [mean["estimate"] for mean in means],
        color=look.colour,
        ls=look.line,
        lw=2.2,
        marker=look.marker,
        ms=8,
    )
    for size, mean in by_size.items():
        if mean.get("low"):
            axes.plot([size, size], [mean["low"], mean["high"]], color=look.colour, lw=1.4)


def _size_axis(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xlim(min(sizes) / 1.8, max(sizes) * 2)
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size_of(round(value))))
    axes.set_xlabel("size of the session (log scale)")
    axes.tick_params(axis="x", labelsize=9)


def _labels(axes: Axes, by_store: Mapping[str, Mapping[int, dict[str, Any]]], reach: float) -> None:
    """Name the lines at the right edge of the last panel, apart from each other; `reach` is top ÷ bottom."""
    names = [(STORES[store], style.look(store).ink) for store in by_store]
    ends = [log10(list(by_size.values())[-1]["estimate"]) for by_size in by_store.values()]
    places = style.spread([*ends, log10(LIMIT_MS)], 0.055 * log10(reach))
    right = axes.get_xlim()[1]
    for (name, ink), place in zip([*names, ("1 ms", style.INK)], places, strict=True):
        axes.annotate(
            name, (right, 10**place), (4, 0), textcoords="offset points", color=ink,
            size=10.5, weight="bold", va="center", annotation_clip=False, path_effects=style.HALO,
        )  # fmt: skip


# --- operations a second ---------------------------------------------------------------------------------------------


def draw_operations(run: Run, figure: Figure) -> Caption:
    """Draw operations a second by how many commands are sent together, and the line of a million."""
    found = [cell for cell in cells(run.results, "pipeline") if rate_of(cell)]
    if not found:
        raise NothingToDraw("Pipelined operations were not measured.")
    ways = sorted({(cell["connections"] > 1, cell["depth"]) for cell in found})
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.axhline(MILLION, color=style.INK, lw=1, zorder=1)
    axes.text(-0.42, MILLION * 1.06, "1 million a second", size=9.5, va="bottom")
    core = all(cell["per_core_second"] for cell in found)
    for index, (command, (colour, marker, _)) in enumerate(_COMMANDS.items()):
        own = sorted((c for c in found if c["command"] == command), key=lambda c: (c["connections"] > 1, c["depth"]))
        places = [ways.index((cell["connections"] > 1, cell["depth"])) + 0.06 * (index - 1) for cell in own]
        if own:
            _rates(axes, places, own, colour, marker)
    _ways_axis(axes, ways, found[0]["connections"] if len(ways) == 1 else max(c["connections"] for c in found))
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, MILLION * 2) * 1.3)
    of = "per second of one core" if core else "per second"
    axes.set_ylabel(f"operations {of} (log scale)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y")
    _commands_legend(axes, {cell["command"] for cell in found}, core=core)
    value = get(run.results, "redis_speed", "pipeline", "value_bytes")
    return Caption(
        operations_title(found),
        "The millions are for whoever has many commands at hand to send at once. A web server that handles one request "
        "of one shopper has one or two, and waits for each answer: the points at the left.",
        f"Values of {value} B; requests prepared beforehand; "
        f"{get(run.results, 'redis_speed', 'pipeline', 'blocks')} blocks",
        operations_note(core=core),
        ("command", "sent", "1,000s per second of one core", "1,000s per second by the clock", "Redis busy"),
        tuple(
            (
                cell["command"],
                way_of_asking(cell),
                thousands(cell["per_core_second"]),
                thousands(cell["per_second"]),
                percent(cell["busy"]),
            )
            for cell in found
        ),
    )


def operations_title(found: Sequence[Mapping[str, Any]]) -> str:
    """Say the most that GET and SET reached, on which side of a million, and what one at a time reaches."""
    tops = {}
    for command in ("GET", "SET"):
        rates = [float((rate_of(dict(cell)) or {})["estimate"]) for cell in found if cell["command"] == command]
        if rates:
            tops[command] = max(rates)
    if not tops:
        return "Neither GET nor SET was measured"
    core = all(cell["per_core_second"] for cell in found)
    parts = [f"{number(rate / MILLION, 2)} million {command}s" for command, rate in tops.items()]
    text = f"Sent many at a time, Redis carries out {listed(parts)} a second{' of one core' if core else ''}"
    alone = [cell for cell in found if cell["depth"] == cell["connections"] == 1 and cell["command"] == "GET"]
    if alone:
        text += f"; one at a time, {number(alone[0]['per_second']['estimate'], 0)} GETs by the clock"
    return text


def operations_note(*, core: bool) -> str:
    """Say what the marks are."""
    if core:
        return (
            "Filled: operations per second of CPU time of the Redis process, which the client cannot slow down. "
            "Hollow: by the clock. Upright lines: 95 % intervals from resampled blocks. Without its log: nothing is "
            "kept on disk."
        )
    return (
        "Hollow: operations per second by the clock; this Redis is not the lab's own, so its CPU time is not to be "
        "seen, and the client and the network are measured with it. Upright lines: 95 % intervals."
    )


def _rates(axes: Axes, places: Sequence[float], own: Sequence[dict[str, Any]], colour: str, marker: str) -> None:
    known = [(place, cell["per_core_second"]) for place, cell in zip(places, own, strict=True)]
    filled = [(place, rate) for place, rate in known if rate]
    axes.plot([p for p, _ in filled], [r["estimate"] for _, r in filled], color=colour, lw=2, marker=marker, ms=8.5)
    hollow = [(place, cell["per_second"]) for place, cell in zip(places, own, strict=True)]
    axes.plot(
        [p for p, _ in hollow], [r["estimate"] for _, r in hollow], ls="" if filled else "-", color=colour,
        marker=marker, ms=8.5, mfc="white", mew=1.6, zorder=1.5,
    )  # fmt: skip
    for place, rate in filled or hollow:
        if rate.get("low"):
            axes.plot([place, place], [rate["low"], rate["high"]], color=colour, lw=1.5)


def _ways_axis(axes: Axes, ways: Sequence[tuple[bool, int]], connections: int) -> None:
    names = [f"{depth}" if many else "one at\na time" for many, depth in ways]
    axes.set_xticks(range(len(ways)), names)
    axes.set_xlim(-0.5, len(ways) - 0.5)
    axes.set_xlabel(f"commands in a request, sent on {connections} connections in turn (left: one connection)")


def _commands_legend(axes: Axes, commands: set[str], *, core: bool) -> None:
    keys = [
        Line2D([], [], color=colour, marker=marker, ms=8, lw=2, mfc=colour if core else "white", label=words)
        for command, (colour, marker, words) in _COMMANDS.items()
        if command in commands
    ]
    axes.legend(handles=keys, loc="lower right", frameon=False, fontsize=10)


# --- native types ----------------------------------------------------------------------------------------------------


def draw_types(run: Run, figure: Figure) -> Caption:
    """Draw bytes sent per change of each kind, and the concurrent changes that were lost."""
    told = get(run.results, "redis_speed", "types")
    if not told:
        raise NothingToDraw("Native types were not measured.")
    ways = told["ways"]
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    most = max(way["sent_bytes"] for way in ways.values())
    for index, (name, (colour, _)) in enumerate(_WAYS.items()):
        for place, kind in enumerate(_KINDS):
            sent = ways[name]["kinds"][kind]["sent_bytes"]
            x = place + 0.4 * (index - 0.5)
            left.bar(x, sent, 0.38, color=colour)
            left.text(x, sent + 0.015 * most, f"{sent:,.0f}", ha="center", va="bottom", size=10)
    left.set_xticks(range(len(_KINDS)), list(_KINDS.values()))
    left.set_ylim(0, most * 1.2)
    left.set_title("bytes sent for one change", color=style.SOFT)
    left.set_ylabel("bytes sent to Redis (B)")
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    left.grid(axis="y")
    left.legend(
        handles=[Line2D([], [], color=colour, lw=8, label=words) for colour, words in _WAYS.values()],
        loc="upper right", ncols=2, frameon=False, fontsize=10,
    )  # fmt: skip
    _lost_panel(right, ways)
    return Caption(
        types_title(ways),
        "A hash, a list and a set take a change as it is. One value must be fetched, unpacked, packed and sent back as "
        "a whole, and whoever writes it back last erases what others did meanwhile.",
        f"Sessions of {size_of(told['bytes'])}; {told['sessions']} of them changed by {told['writers']} writers at "
        f"once, {told['changes_each']} changes a writer",
        "Bytes are counted on the connection, the expiry that a change extends included. Lost: changes that Redis had "
        "confirmed, and that the session does not show when all writers are done.",
        ("kept as", *(f"{kind}: sent (B)" for kind in _KINDS), "received (B)", "mean (ms)", "lost"),
        tuple(
            (
                name,
                *(number(way["kinds"][kind]["sent_bytes"], 0) for kind in _KINDS),
                number(way["received_bytes"], 0),
                interval(way["mean_ms"], 3),
                f"{way['lost']:,} of {way['confirmed']:,}",
            )
            for name, way in ways.items()
        ),
    )


def types_title(ways: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how the bytes compare, and who lost how many changes."""
    value, native = ways["one value"], ways["native types"]
    times = value["sent_bytes"] / native["sent_bytes"]
    if times > _ABOUT_THE_SAME:
        text = f"Native types send {number(times, 0 if times >= 10 else 1)} times fewer bytes per change"  # noqa: PLR2004
    elif times < 1 / _ABOUT_THE_SAME:
        text = f"Native types send {number(1 / times, 1)} times as many bytes per change"
    else:
        text = "Native types send about as many bytes per change"
    text += f" {'than' if times > _ABOUT_THE_SAME else 'as'} one value"
    shares = {name: way["lost"] / way["confirmed"] if way["confirmed"] else 0.0 for name, way in ways.items()}
    if not any(shares.values()):
        return f"{text}; neither lost a concurrent change"
    lost = f"one value {percent(shares['one value']) if shares['one value'] else 'none'}"
    own = percent(shares["native types"]) if shares["native types"] else "none"
    return f"{text}, and lost {own} of the concurrent changes; {lost}"


def _lost_panel(axes: Axes, ways: Mapping[str, Mapping[str, Any]]) -> None:
    for place, (name, (colour, words)) in enumerate(_WAYS.items()):
        lost, confirmed = ways[name]["lost"], ways[name]["confirmed"]
        share = 100 * lost / confirmed if confirmed else 0.0
        axes.bar(place, share, 0.55, color=colour)
        axes.text(place, share + 2, f"{lost:,} of\n{confirmed:,}", ha="center", va="bottom", size=10.5)
        axes.text(place, -4, words, ha="center", va="top", size=10, color=style.SOFT)
    axes.set_xticks([])
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(0, 118)
    axes.set_yticks(range(0, 101, 20))
    axes.set_title("concurrent changes lost", color=style.SOFT)
    axes.set_ylabel("lost, of those confirmed (%)")
    axes.grid(axis="y")


# --- the network -----------------------------------------------------------------------------------------------------


_SHARES = {
    "engine": "engine and client",
    "network": "emulated round trip",
    "relay": "what the emulation adds",
}
_SHADES = {"engine": 1.0, "network": 0.55, "relay": 0.2}
_HATCHES = {"engine": "", "network": "////", "relay": ""}


def draw_network(run: Run, figure: Figure) -> Caption:
    """Draw what an operation takes, by the emulated round trip in between, and how much of it that round trip is."""
    size = settled_size(run.results)
    found = {store: parts for store in ("redis", "database") if (parts := _parts(run, store, size))}
    found = {store: parts for store, parts in found.items() if len(parts) > 1}
    if not found:
        raise NothingToDraw("No engine could be asked through an emulated network.")
    panels = figure.subplots(1, len(found), sharex=True, squeeze=False)[0]
    longest = max(sum(one.values()) for parts in found.values() for one in parts.values())
    for axes, (store, parts) in zip(panels, found.items(), strict=True):
        _network_panel(axes, store, parts, longest)
    panels[0].set_ylabel("emulated round trip (ms)")
    _network_legend(panels[0])
    blocks = get(run.results, "redis_speed", "network", "blocks")
    return Caption(
        network_title(found),
        "Where the bar is mostly the round trip, a quicker store would help little: a nearer one, or fewer round "
        "trips, would. That is where the engine stops deciding and the network begins.",
        f"Reads of a session of {size_of(size)}, one after the other; {blocks} blocks; the network is emulated",
        "Engine and client: measured without a network. Emulated round trip: the delay that was asked for. The rest of "
        "the measured time is what the relay costs on this machine; shares leave it out. Writes stand in the table.",
        ("session", "operation", "emulated round trip", "measured mean (ms)"),
        tuple(
            (
                f"{cell['store']} ({STORES[cell['store']]})",
                OPERATIONS[cell["operation"]],
                NONE if cell["round_trip_ms"] is None else f"{cell['round_trip_ms']:g} ms",
                interval(cell["mean_ms"], 3),
            )
            for cell in cells(run.results, "network")
        ),
    )


Parts = dict[float | None, dict[str, float]]
"""Emulated round trip in ms (None without a link) to the parts of an operation's mean time, in ms."""


def _parts(run: Run, store: str, size: int) -> Parts:
    direct = mean_of(run.results, store, "read", size, part="network")
    if direct is None:
        return {}
    found: Parts = {None: {"engine": direct["estimate"], "network": 0.0, "relay": 0.0}}
    own = [cell for cell in cells(run.results, "network") if cell["store"] == store and cell["operation"] == "read"]
    for cell in own:
        away = cell["round_trip_ms"]
        if away is not None:
            total = cell["mean_ms"]["estimate"]
            engine = min(direct["estimate"], max(total - away, 0.0))
            found[away] = {"engine": engine, "network": away, "relay": max(total - away - engine, 0.0)}
    return found


def network_title(found: Mapping[str, Parts]) -> str:
    """Say from which round trip on the network takes longer than Redis and its client, and its share at the longest."""
    store, parts = next(iter(found.items()))
    engine = parts[None]["engine"]
    far = max(away for away in parts if away is not None)
    text = f"{STORES[store]} and its client take {number(engine, 2)} ms"
    share = f"{percent(far / (far + engine))} of the wait"
    if far > engine:
        return f"{text}: behind a longer round trip the network decides; at {far:g} ms (emulated) it is {share}"
    return f"{text}: even behind a round trip of {far:g} ms (emulated) the engine decides; the network is {share}"


def _network_panel(axes: Axes, store: str, parts: Parts, longest: float) -> None:
    colour = style.look(store).colour
    names = ["direct" if away is None else f"{away:g}" for away in parts]
    for row, one in enumerate(parts.values()):
        start = 0.0
        for part, value in one.items():
            axes.barh(
                row, value, 0.6, left=start, color=style.shade(colour, _SHADES[part]), ec="white", lw=0.8,
                hatch=_HATCHES[part],
            )  # fmt: skip
            start += value
        axes.text(start + 0.015 * longest, row, number(start, 2), va="center", size=10, weight="bold")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, longest * 1.16)
    axes.set_title(f"{STORES[store]} ({store})", color=style.look(store).ink, weight="bold", pad=30)
    axes.set_xlabel("mean time of one read (ms)")
    axes.grid(axis="x")


def _network_legend(axes: Axes) -> None:
    keys = [
        Patch(fc=style.shade(style.INK, _SHADES[part]), ec="white", hatch=_HATCHES[part], label=label)
        for part, label in _SHARES.items()
    ]
    legend = axes.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, frameon=False, fontsize=9.5,
        columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip
    legend.set_in_layout(False)


CHARTS: dict[str, Draw] = {
    "session-times": draw_sessions,
    "operations-per-second": draw_operations,
    "native-types": draw_types,
    "network": draw_network,
}
