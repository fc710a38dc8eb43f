"""A scale run in words: what grows with the servers, when a write is seen elsewhere, and where each strategy stops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lab.report.results import get
from lab.report.tellings import Table
from lab.report.words import NONE, interval, listed, number, percent, sentence, size

if TYPE_CHECKING:
    from lab.report.results import Results, Run

QUESTION = "From one web server to eight: what grows, and where does each strategy stop?"

WORDS = {
    "copy": "A session that a server or a store holds. Copies per session: ids found by scanning every server and "
    "store, divided by the sessions there are.",
    "bytes per session": "By how much the holders grow for each further session, all copies together: memory of the "
    "server processes, Redis's keys, or the table with its indexes.",
    "write": "A request that begins, saves or ends a session.",
    "message": "A request from one server to another, or its reply.",
    "CPU per request": "CPU time of all processes of a kind, divided by the requests served. All web servers together.",
    "peer": "Another web server of the same cluster: N servers have N - 1 peers each.",
    "stale read": "A shopper has been told that something is in the cart, looks at it through another server, and it "
    "is not there yet.",
    "t-visibility": "The chance of a stale read against the time between the answer to the write and the read "
    "(Bailis and others, 2012).",
    "async, sync": "All-to-all answers the shopper at once and tells the other servers then (async), or when all of "
    "them have the write (sync).",
    "emulated": "The servers run on one machine; a relay between them holds every piece of bytes back for the stated "
    "time, each way.",
    "modelled": "Not measured: worked out from what was measured here. Utilisation is rate times demand; whatever is "
    "used to its limit first stops a strategy. Drawn dashed.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value.",
}
"""The glossary of the page."""

COPYING = "all-to-all"

NAMED = {
    "web CPU": "the web servers' CPU",
    "web memory": "the web servers' memory",
    "web network": "the network between the web servers",
    "redis CPU": "Redis's core",
    "redis memory": "Redis's memory",
    "redis network": "Redis's network",
    "database CPU": "the database's CPU",
    "database network": "the database's network",
    "database log": "the database's log on disk",
}
"""Resources of the model."""

_SHOWN_SERVERS = (10, 100, 1000)

GROWS = 0.05
"""A limit that grows by less than this share from 500 to 1,000 servers has been reached."""


def points_of(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Return what was found under each strategy, fewest servers first."""
    found = run.get("scale", "points") or {}
    return {name: sorted(found[name].values(), key=lambda point: point["servers"]) for name in found}


def sizes_of(run: Run) -> list[int]:
    """Return the numbers of servers of a run."""
    return [int(each) for each in run.get("run", "sizes") or []]


def link_name(arm: dict[str, Any]) -> str:
    """Name an arm in which stale reads were counted."""
    far = f"{arm['delay_ms']:g} ms apart, emulated" if arm["emulated"] else "on one machine"
    return f"{far}, sync" if arm["replication"] == "sync" else far


def stops(name: str, curve: list[dict[str, Any]]) -> str:
    """Say what stops a strategy with most servers, or that more servers still help."""
    last = curve[-1]
    resource = NAMED.get(str(last["by"]), str(last["by"]))
    if name == COPYING and last["by"] == "web CPU":
        resource = "CPU: every server applies every write"
    half = next((point for point in curve if 2 * point["servers"] >= last["servers"]), last)
    if last["sessions"] > half["sessions"] * (1 + GROWS):
        return f"{resource}; more servers still help"
    return resource


def rounded(value: float | None) -> str:
    """Write a large count as one does when it is a model's: two digits, in words."""
    if value is None or not math.isfinite(value) or value <= 0:
        return NONE
    power = math.floor(math.log10(value)) - 1
    value = round(value / 10**power) * 10**power
    for scale, word in ((1e9, "billion"), (1e6, "million")):
        if value >= scale:
            return f"{value / scale:.3g} {word}"
    return f"{value:,.0f}"


def called(name: str, shards: int | None) -> str:
    """Name a curve of the model."""
    return f"Redis Cluster of {shards}" if name.startswith("redis x") else name


# --- the headline ----------------------------------------------------------------------------------------------------


def headline(run: Run) -> str:
    """Say what grows with the servers, how long others do not see a write, and what stops whom."""
    parts = [*_growth(run), *_stale(run), *_limits(run.results)]
    if not parts:
        return "This run saw too little to say what grows with the number of servers."
    return " ".join(sentence(part) + "." for part in parts)


def _growth(run: Run) -> list[str]:
    points, sizes = points_of(run), sizes_of(run)
    if not sizes or COPYING not in points:
        return []
    last = points[COPYING][-1]
    copies, per_write = last["copies"], get(last, "per_write", "bytes", "estimate")
    if copies is None:
        return []
    traffic = "" if per_write is None else f", and each write costs {size(per_write)} between servers"
    flat = [name for name, own in points.items() if name != COPYING and own[-1]["copies"] == 1]
    others = f"; {listed(flat)} {'keep' if len(flat) > 1 else 'keeps'} one" if flat else ""
    held = "one copy" if copies == 1 else f"{copies:.3g} copies"
    return [f"with {sizes[-1]} servers {COPYING} holds {held} of a session{traffic}{others}"]


def _stale(run: Run) -> list[str]:
    arms = [arm for arm in run.get("scale", "visibility") or [] if arm["replication"] == "async" and arm["points"]]
    if not arms:
        return []
    far = max(arms, key=lambda arm: arm["delay_ms"])
    first = far["points"][0]
    fresh = far["fresh_ms"]
    until = "and some still after the longest gap" if fresh is None else f"at most 5 % after {fresh:.0f} ms"
    stale = percent(first["rate"]["estimate"])
    where = link_name(far)
    return [f"right after a write, {stale} of the looks through another server are stale (servers {where}), {until}"]


def _limits(results: Results) -> list[str]:
    most, curves = get(results, "scale", "model", "most_rps"), get(results, "scale", "model", "curves") or {}
    if not curves.get(COPYING):
        return []
    if most is None:
        return [f"modelled: this run saw no CPU time per further server that would stop {COPYING}"]
    return [
        f"modelled: {COPYING} never serves more than about {rounded(most['estimate'])} requests/s, however many servers"
    ]


# --- the tables ------------------------------------------------------------------------------------------------------


def tables(run: Run) -> list[Table]:
    """Return what was measured by strategy and servers, stale reads, the check of the lines, and the model."""
    every = [_measured(run), _visibility(run), _checked(run), _modelled(run)]
    return [table for table in every if table.rows]


def _measured(run: Run) -> Table:
    rows = [_row(name, point) for name, own in points_of(run).items() for point in own]
    return Table(
        title="What grows with the number of servers",
        columns=(
            "strategy",
            "servers",
            "copies",
            "session",
            "web ms",
            "store ms",
            "bytes/write",
            "msg/write",
            "never read",
        ),
        rows=tuple(rows),
        note="Session: bytes that one occupies, all copies together. Web, store: CPU time per request of all web "
        "servers, and of Redis with PostgreSQL (catalogue's queries included). Bytes, messages: between servers. Never "
        "read: changes delivered to other servers that nobody read there before the load ended. Storage without copies "
        "is measured at the ends only; intervals stand in the charts.",
        wide_only=frozenset({7}),
    )


def _row(name: str, point: dict[str, Any]) -> tuple[str, ...]:
    cpu = point["cpu_ms"]
    store = [cpu[part]["estimate"] for part in ("redis", "postgresql") if cpu.get(part)]
    per_write = point["per_write"] or {}
    return (
        name,
        str(point["servers"]),
        number(point["copies"]),
        NONE if point["physical_bytes"] is None else size(point["physical_bytes"]["estimate"]),
        number(get(cpu, "servers", "estimate")),
        number(sum(store)) if store else NONE,
        number(get(per_write, "bytes", "estimate"), 0),
        number(get(per_write, "messages", "estimate"), 1),
        percent(get(point, "unread", "rate", "estimate")),
    )


def _visibility(run: Run) -> Table:
    rows = []
    for arm in run.get("scale", "visibility") or []:
        if arm["points"]:
            first = arm["points"][0]
            rows.append(
                (
                    link_name(arm),
                    number(arm["write_ms"], 1),
                    f"{first['stale']} of {first['trials']}",
                    _share(first["rate"]),
                    number(arm["half_ms"], 1),
                    number(arm["fresh_ms"], 1),
                )
            )
    return Table(
        title="When a write is seen through another server (all-to-all)",
        columns=(
            "servers",
            "write ms",
            "stale at once",
            "share",
            "50 % after ms",
            "5 % after ms",
        ),
        rows=tuple(rows),
        note="Write: the shopper's wait, median. At once: read sent as soon as the write was answered. Then: after how "
        "long at most half, or 5 %, are stale, by a straight line between the gaps that were tried; a dash: not within "
        "the longest. Wilson intervals.",
        wide_only=frozenset({2}),
    )


def _share(rate: dict[str, Any]) -> str:
    return f"{percent(rate['estimate'])} ({percent(rate['low'])} to {percent(rate['high'])})"


def _checked(run: Run) -> Table:
    rows = [
        (
            found["what"],
            f"{_LAWS.get(found.get('law', ''), 'line')} from {listed([str(each) for each in found['fitted_on']])}",
            _in_unit(found.get("predicted_interval") or {"estimate": found["predicted"]}, found["unit"]),
            _in_unit(found["measured"], found["unit"]),
            NONE if found["off"] is None else f"{100 * found['off']:+.0f} %",
            found.get("verdict") or NONE,
        )
        for found in run.get("scale", "checked") or []
    ]
    largest = next((found["at"] for found in run.get("scale", "checked") or []), "")
    return Table(
        title=f"Do the smaller sizes foretell {largest} servers?",
        columns=("all-to-all", "law", "foretold", "measured", "off", "verdict"),
        rows=tuple(rows),
        note="What foretells a size knows nothing of it. Right: within 15 %. Cannot tell: further off, but the "
        "95 % intervals meet. CPU time "
        "beyond sticky's is taken to be so much per peer (N - 1), as one server tells nobody; the rest follow straight "
        f"lines. {cpu_not_foretold(run)}".rstrip(),
        text=frozenset({0, 1, 5}),
        wide_only=frozenset({1, 2}),
    )


_LAWS = {"straight line": "line", "in proportion to N - 1": "per peer"}


def _in_unit(value: dict[str, Any], unit: str) -> str:
    return interval(value, 0 if unit == "B" else 2, f" {unit}".rstrip())


def cpu_not_foretold(run: Run) -> str:
    """Say that the CPU time with most servers was not foretold, and what that means for the model; else nothing."""
    found = next((one for one in run.get("scale", "checked") or [] if one["unit"] == "ms"), None)
    if found is None or found.get("verdict") in {None, "right"} or not found["off"]:
        return ""
    if found["verdict"] == "cannot tell":
        return (
            f"Whether CPU time with {found['at']} servers was foretold is too close to call "
            f"({100 * found['off']:+.0f} %), so where all-to-all stops is rough."
        )
    way = "low" if found["off"] < 0 else "high"
    return (
        f"CPU time with {found['at']} servers was foretold {abs(100 * found['off']):.0f} % too {way}: all servers "
        "share this machine's processors, and what a message costs there changes with their number; so where "
        "all-to-all stops is rough."
    )


def _modelled(run: Run) -> Table:
    model = run.get("scale", "model") or {}
    rows = []
    for name, curve in (model.get("curves") or {}).items():
        if curve:
            most = {point["servers"]: point["sessions"] for point in curve}
            sessions = (rounded(most.get(servers)) for servers in _SHOWN_SERVERS)
            rows.append((called(name, model.get("shards")), *sessions, stops(name, curve)))
    return Table(
        title="Modelled: the most live sessions, and what stops them",
        columns=("strategy", "10 servers", "100 servers", "1,000 servers", "stopped by"),
        rows=tuple(rows),
        note=assumptions(run),
        text=frozenset({0, 4}),
    )


def _whole(value: float) -> str:
    return size(value).replace(".0 ", " ")


def assumptions(run: Run) -> str:
    """Say what the model takes for granted."""
    assumed = run.get("scale", "model", "assumed")
    if not assumed:
        return ""
    return (
        f"Modelled from CPU, bytes and memory measured here. Assumed: a live session sends a request every "
        f"{assumed['think_seconds']:.0f} s; a web server and a Redis are one core each, the database "
        f"{assumed['database_cores']} cores, used to {percent(assumed['busy_most'])} at most; each machine has "
        f"{_whole(assumed['memory_bytes'])} for sessions and 10 Gbit/s each way; the database's disk writes "
        f"{_whole(assumed['log_bytes'])}/s. The balancer and the catalogue's own queries, alike under every strategy, "
        "are left out."
    )
