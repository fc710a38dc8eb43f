"""A run of `redis-speed` in words: a headline and four tables, for the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.results import get
from lab.report.tellings import Table
from lab.report.words import NONE, interval, listed, number, percent, sentence

if TYPE_CHECKING:
    from lab.report.results import Results, Run

QUESTION = "How quick is Redis: one session at a time, at full tilt, and with a network in between?"

WORDS = {
    "session read, session write": "What a web server does for one request: it loads the whole session, and it saves "
    "the fields that the request changed. Write all: it saves every field, as many frameworks do.",
    "mean": "The sum of all times, divided by how many there were. A few slow calls move it; half of all calls are "
    "usually quicker. Medians and the percentiles that enough calls were timed for stand in results.json.",
    "in turn": "One connection, one operation, the answer, the next. It measures how long one request waits, not how "
    "much Redis could do for many at once.",
    "pipelined": "Many commands are sent together and their answers are read together, so that one network round trip "
    "and one system call serve many. An application must have many commands to send for that.",
    "per second of one core": "Operations divided by the CPU time that the Redis process used for them: what one core "
    "does when it does nothing else. The rate by the clock is lower where Redis had to wait for the client.",
    "log (append-only file)": "Where Redis writes every change before it answers, so that it survives its own death. "
    "It is on in this lab, as sessions need it; reads do not touch it.",
    "native types": "A hash (names and values), a list, a set: Redis itself changes a part of them. The other way is "
    "one value that holds everything as JSON, and that only the application can read.",
    "lost change": "Redis had answered that a change was done, and in the end the session does not show it: another "
    "writer, who had read the session before, wrote it back as a whole.",
    "round trip": "The way of a question to the other machine and of the answer back, without what is done there.",
    "emulated": "Made by this lab on one machine: a relay that passes every piece of bytes on later. No real network.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value. It "
    "stands in brackets, and comes from resampled blocks.",
}
"""The glossary of the page."""

STORES = {"sticky": "own memory", "database": "PostgreSQL", "redis": "Redis"}
"""Strategies to what holds their sessions."""

OPERATIONS = {"read": "read", "write": "write one field", "write all": "write all"}

LIMIT_MS = 1.0
MILLION = 1_000_000


def size_of(size: int) -> str:
    """Write a session's size as the textbook does: 100 B, 1 KB (1024 B)."""
    return f"{size // 1024} KB" if size >= 1024 else f"{size} B"  # noqa: PLR2004 - a kilobyte


def cells(results: Results, part: str) -> list[dict[str, Any]]:
    """Return what was measured in a part: `sessions`, `network` or `pipeline`."""
    return get(results, "redis_speed", part, "cells") or []


def mean_of(
    results: Results, store: str, operation: str, size: int, *, part: str = "sessions", away: float | None = None
) -> dict[str, Any] | None:
    """Return the mean time of a session operation in ms with its interval, None where it was not measured."""
    for cell in cells(results, part):
        if (cell["store"], cell["operation"], cell["size"], cell["round_trip_ms"]) == (store, operation, size, away):
            mean: dict[str, Any] | None = cell["mean_ms"]
            return mean
    return None


def rate_of(cell: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rate per second of one core, or by the clock where Redis's CPU time was not to be seen."""
    rate: dict[str, Any] | None = cell["per_core_second"] or cell["per_second"]
    return rate


def way_of_asking(cell: dict[str, Any]) -> str:
    """Say how many commands were sent together; all but the first way use several connections in turn."""
    if cell["depth"] == cell["connections"] == 1:
        return "one at a time"
    return f"{cell['depth']} in a request"


def thousands(rate: dict[str, Any] | None) -> str:
    """Write operations a second in thousands, with the interval."""
    if rate is None:
        return NONE
    scaled = {name: None if value is None else value / 1000 for name, value in rate.items()}
    return interval(scaled, 0 if rate["estimate"] >= 100_000 else 1)  # noqa: PLR2004 - three digits


def best(results: Results, command: str) -> dict[str, Any] | None:
    """Return the quickest way of sending a command, None where none was measured."""
    found = [cell for cell in cells(results, "pipeline") if cell["command"] == command and rate_of(cell)]
    return max(found, key=lambda cell: float((rate_of(cell) or {})["estimate"]), default=None)


def settled_size(results: Results) -> int:
    """Return the size of session that the claim is about, in bytes."""
    return int(get(results, "redis_speed", "sessions", "settled_size") or 1024)


# --- headline --------------------------------------------------------------------------------------------------------


def headline(run: Run) -> str:
    """Say how quick one operation is, how many there are a second, what native types save, and what networks do."""
    parts = [*_one_session(run), *_many(run), *_native(run), *_network(run)]
    if not parts:
        return "This run saw too little to say how quick Redis is."
    return " ".join(sentence(part) + "." for part in parts)


def _one_session(run: Run) -> list[str]:
    size = settled_size(run.results)
    means = {name: mean_of(run.results, "redis", name, size) for name in ("read", "write")}
    read, write = means["read"], means["write"]
    if not read or not write:
        return []
    text = (
        f"Redis read a session of {size_of(size)} in {number(read['estimate'], 3)} ms and wrote to it in "
        f"{number(write['estimate'], 3)} ms on average"
    )
    ratio = get(run.results, "redis_speed", "sessions", "ratios", "database") or {}
    times = [(ratio.get(name) or {}).get(str(size)) for name in ("read", "write")]
    if all(times):
        text += f"; PostgreSQL took {listed([number(one['estimate'], 1) for one in times if one])} times as long"
    return [text]


def _many(run: Run) -> list[str]:
    top = best(run.results, "GET")
    alone = next((c for c in cells(run.results, "pipeline") if c["command"] == "GET" and c["connections"] == 1), None)
    if not top or not alone:
        return []
    rate = rate_of(top) or {}
    of = "of one core" if top["per_core_second"] else "by the clock"
    millions = number(rate["estimate"] / MILLION, 2)
    text = f"asked for {top['depth']} values at a time it answered {millions} million GETs a second {of}"
    return [f"{text}, one at a time {number(alone['per_second']['estimate'], 0)} by the clock"]


def _native(run: Run) -> list[str]:
    ways = get(run.results, "redis_speed", "types", "ways")
    if not ways:
        return []
    value, native = ways["one value"], ways["native types"]
    lost = f"native types lost {number(native['lost'] or None, 0)}, one value {number(value['lost'] or None, 0)}"
    lost = lost.replace(NONE, "none")
    sent = [number(way["sent_bytes"], 0) for way in (native, value)]
    text = f"a change of {size_of(get(run.results, 'redis_speed', 'types', 'bytes'))} sent {sent[0]} B to native types"
    return [f"{text} and {sent[1]} B to one value; of {value['confirmed']:,} concurrent changes each, {lost}"]


def _network(run: Run) -> list[str]:
    far = _furthest(run.results)
    if far is None:
        return []
    direct = mean_of(run.results, "redis", "read", settled_size(run.results), part="network")
    if not direct:
        return []
    share = far / (far + direct["estimate"])
    return [f"behind a network round trip of {far:g} ms (emulated), {percent(share)} of the wait for a read is network"]


def _furthest(results: Results) -> float | None:
    away = [cell["round_trip_ms"] for cell in cells(results, "network") if cell["store"] == "redis"]
    return max((one for one in away if one), default=None)


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(run: Run) -> list[Table]:
    """Return a table for each part that was measured."""
    made = [_sessions_table(run), _pipeline_table(run), _types_table(run), _network_table(run)]
    return [table for table in made if table is not None]


def _sessions_table(run: Run) -> Table | None:
    sizes = get(run.results, "redis_speed", "sessions", "sizes") or []
    settled = settled_size(run.results)
    rows = []
    for store in STORES:
        for operation, words in OPERATIONS.items():
            means = [mean_of(run.results, store, operation, size) for size in sizes]
            if any(means):
                shown = interval(mean_of(run.results, store, operation, settled), 3)
                rows.append((f"{store}: {words}", *(_short(mean, 3) for mean in means), shown))
    if not rows:
        return None
    return Table(
        title="One session operation, in turn: mean time by the session's size",
        columns=("session", *(f"{size_of(size)}, ms" for size in sizes), f"{size_of(settled)}, with its interval"),
        rows=tuple(rows),
        note="Each through the strategy's own store, on one connection; sticky keeps sessions in the server's own "
        "memory, database in PostgreSQL. The engines promise different things about the disk (see durability). In "
        "brackets: 95 % intervals.",
        wide_only=frozenset({len(sizes) + 1}),
    )


def _short(mean: dict[str, Any] | None, digits: int) -> str:
    return number(mean["estimate"], digits) if mean else NONE


def _pipeline_table(run: Run) -> Table | None:
    found = cells(run.results, "pipeline")
    if not found:
        return None
    beside = get(run.results, "redis_speed", "pipeline", "benchmark")
    known = {(one["command"], one["depth"], one["connections"]): one["per_second"] for one in beside or []}
    columns = ["command", "1,000s per second of one core", "1,000s by the clock", "Redis busy"]
    rows = []
    for cell in found:
        name = f"{cell['command']}, {way_of_asking(cell)}"
        row = [name, thousands(cell["per_core_second"]), thousands(cell["per_second"]), percent(cell["busy"])]
        if beside is not None:
            rate = known.get((cell["command"], cell["depth"], cell["connections"]))
            row.append(thousands(None if rate is None else {"estimate": rate}))
        rows.append(tuple(row))
    if beside is not None:
        columns.append("redis-benchmark, 1,000s")
    value = get(run.results, "redis_speed", "pipeline", "value_bytes")
    connections = get(run.results, "redis_speed", "pipeline", "connections")
    note = (
        f"Values of {value} B, requests prepared beforehand; all but the first of each command on {connections} "
        "connections in turn. Redis busy: its CPU time as a share of the time by the clock. No log: without the "
        "append-only file that keeps what was set."
    )
    if any(cell["per_core_second"] is None for cell in found):
        note += " A dash: this Redis is not the lab's own, so its CPU time is not to be seen from here."
    return Table(
        title="Operations a second, one at a time and pipelined",
        columns=tuple(columns),
        rows=tuple(rows),
        note=note,
        wide_only=frozenset({2}),
    )


def _types_table(run: Run) -> Table | None:
    told = get(run.results, "redis_speed", "types")
    if not told:
        return None
    rows = [
        (
            name,
            number(way["sent_bytes"], 0),
            number(way["received_bytes"], 0),
            interval(way["mean_ms"], 3),
            f"{way['lost']:,} of {way['confirmed']:,}",
        )
        for name, way in told["ways"].items()
    ]
    return Table(
        title=f"One change to a session of {size_of(told['bytes'])}: native types against one serialized value",
        columns=("kept as", "sent, B", "received, B", "mean, ms", "concurrent changes lost"),
        rows=tuple(rows),
        note=f"A change puts a product into the cart (hash), a page onto the list, or a category into the set, and "
        f"extends the session. Bytes are counted on the connection. Lost: of confirmed changes by {told['writers']} "
        "writers at once, those that the session does not show in the end.",
        wide_only=frozenset({2}),
    )


def _network_table(run: Run) -> Table | None:
    size = settled_size(run.results)
    found = cells(run.results, "network")
    away = sorted({cell["round_trip_ms"] for cell in found if cell["round_trip_ms"] is not None})
    rows = []
    for store in ("redis", "database"):
        for operation in ("read", "write"):
            means = [
                mean_of(run.results, store, operation, size, part="network", away=distance)
                for distance in (None, *away)
            ]
            if means[0]:
                label = f"{store}: {OPERATIONS[operation]}"
                rows.append((label, *(_short(mean, 3) for mean in means)))
    if not rows:
        return None
    return Table(
        title=f"The same at {size_of(size)}, with a network round trip in between (emulated)",
        columns=("session", "direct", *(f"{distance:g} ms away" for distance in away)),
        rows=tuple(rows),
        note="Mean times in ms. Heads: the emulated round trip. Direct: straight to the engine; 0 ms: through a relay "
        "that delays nothing on purpose, which shows what the emulation costs.",
    )
