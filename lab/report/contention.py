"""A contention run in words: a headline and its tables, for the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.results import get
from lab.report.tellings import Table
from lab.report.words import NONE, interval, listed, number, percent, sentence, size
from lab.statistics import BAND, CROWDED, Interval, needed_for, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.report.results import Run

Point = dict[str, Any]

PAGES = needed_for(0.95)
"""Catalogue pages that an arm needs at a load, so that they carry a 95th percentile."""

QUESTION = "Are pages that touch no session slowed down when the sessions lie in the same database?"

WORDS = {
    "catalogue page": "A product, a search, a page of the list. It asks PostgreSQL, the shop's own database, and never "
    "looks at the session: if it gets slower, something else is in its way.",
    "offered load": "Requests a second that the plan sends, however slow the answers. Both arms get the same plan.",
    "95th percentile": "One request in twenty takes longer. Under contention this end grows first.",
    "ratio": "95th percentile of the catalogue's pages with the sessions in the database, divided by the same with "
    "them in Redis; pairs of slices measured right after each other, in alternating order.",
    "total CPU": "Share of all processors' time in use, whoever uses it. From 80 % on everything waits for a "
    "processor, and every strategy looks slow: such loads are drawn hollow and are not judged.",
    "too few pages": f"A 95th percentile leaves one value in twenty beyond it. Fewer than {PAGES} catalogue pages on "
    "an arm leave fewer than 30 there, and chance decides: such loads are drawn faded and are not judged.",
    "the report": "A heavy analytic query, sales by month and category over all orders of the past, asked again and "
    "again on one connection. It uses one processor at most.",
    "log (WAL)": "What PostgreSQL writes down before a change counts. A commit waits until its part is on the disk, "
    "unless it was told not to.",
    "dead row": "PostgreSQL keeps the old version of a row that was changed, until it is cleaned up: by whoever comes "
    "by the page next (HOT), or by autovacuum, which stays on here.",
    "equal promise": "Two stores that lose the same when the machine crashes: nothing, about a second, or everything. "
    "Comparing unlike promises would charge one store for a safety that the other does not give.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value.",
}
"""The glossary of the page."""

PROMISES = {
    "on": "PostgreSQL commit on ÷ Redis fsync always",
    "off": "PostgreSQL commit off ÷ Redis fsync every second",
    "unlogged": "PostgreSQL unlogged table ÷ Redis without a file",
}


def points(run: Run, *, report: bool | None = None) -> list[Point]:
    """Return what was measured at each load that has a ratio, in rising order; with, without the report, or both."""
    every = run.get("contention", "points") or []
    return [one for one in every if one.get("ratio") and report in {None, one["report"]}]


def pairs(run: Run) -> list[Point]:
    """Return the pairs of equal promise that have a ratio."""
    return [one for one in run.get("contention", "pairs") or [] if one.get("ratio")]


def load_of(point: Point) -> str:
    """Name a load: `250/s`, with the report or without."""
    return f"{point['load_rps']:,}/s{' with the report' if point['report'] else ''}"


def short_load_of(point: Point) -> str:
    """Name a load in a table: `250/s, report`."""
    return f"{point['load_rps']:,}/s{', report' if point['report'] else ''}"


def word(ratio: dict[str, Any] | None) -> str:
    """Put a ratio into the lab's words: slower, about the same, cannot tell."""
    if not ratio:
        return NONE
    return verdict(Interval(ratio["estimate"], ratio.get("low"), ratio.get("high")))


def is_crowded(point: Point) -> bool:
    """Return whether so much of the CPU time was in use at a load that everything waited."""
    return point["cpu_share"] is None or point["cpu_share"] >= CROWDED


def has_few(point: Point) -> bool:
    """Return whether a load is not judged for want of catalogue pages alone."""
    return not point["judged"] and not is_crowded(point)


def pages_of(every: Sequence[Point]) -> str:
    """Say how many catalogue pages the arm with fewer had, at that of these loads where it had most."""
    most = max(
        min(get(one, "arms", arm, "catalogue", "requests") or 0 for arm in ("database", "redis")) for one in every
    )
    return f"{most:,} of the {PAGES} needed on each arm"


def headline(run: Run) -> str:
    """Say what became of the catalogue's pages, and what the database had to do more."""
    every = points(run)
    roomy = [one for one in every if not is_crowded(one)]
    parts = [_slowed(every), *_left_out(every), *_work(roomy), *_promises(pairs(run))]
    return " ".join(sentence(part) + "." for part in parts)


def _slowed(every: list[Point]) -> str:
    judged, few = [one for one in every if one["judged"]], [one for one in every if has_few(one)]
    if not judged and few:
        return (
            f"too few catalogue pages to say whether the sessions slow them: at no load more than {pages_of(few)}, for "
            "one page in twenty to be more than chance"
        )
    if not judged:
        return "no load left the machine below 80 % of its CPU time, so nothing can be said about the catalogue's pages"
    worst = max(judged, key=lambda one: float(one["ratio"]["estimate"]))
    found = {kind: [load_of(one) for one in judged if word(one["ratio"]) == kind] for kind in _KINDS}
    told = [f"{_KINDS[kind]} at {listed(loads)}" for kind, loads in found.items() if loads]
    most = f"the largest ratio is {interval(worst['ratio'])} at {load_of(worst)}"
    return f"with the sessions in the database, 1 catalogue page in 20 is {listed(told)}; {most}"


_KINDS = {
    "slower": "slower than with Redis",
    "faster": "faster",
    "about the same": "about as slow",
    "cannot tell": "too close to call",
}


def _left_out(every: list[Point]) -> list[str]:
    crowded = [load_of(one) for one in every if is_crowded(one)]
    few = [load_of(one) for one in every if has_few(one)]
    parts = [f"not judged, with 80 % of all CPU time in use or more: {listed(crowded)}"] if crowded else []
    if few and any(one["judged"] for one in every):
        parts.append(f"not judged, with fewer than {PAGES} catalogue pages on an arm: {listed(few)}")
    return parts


def _work(roomy: list[Point]) -> list[str]:
    if not roomy:
        return []
    last = [one for one in roomy if not one["report"]][-1:] or roomy[-1:]
    wal = [get(last[0], "arms", arm, "wal_bytes_per_request") for arm in ("database", "redis")]
    cpu = [get(last[0], "arms", arm, "cpu_ms_per_request", "postgresql") for arm in ("database", "redis")]
    if not all(cpu):
        return []
    more = f"{cpu[0] / cpu[1]:.1f} times as much CPU time per request"
    log = f", and {size(wal[0])} of log instead of {size(wal[1])}" if None not in wal else ""
    return [f"at {load_of(last[0])} the sessions cost PostgreSQL {more}{log}"]


def _promises(found: list[Point]) -> list[str]:
    told = [f"{interval(one['ratio'])} ({one['promise']['promise']})" for one in found]
    return [f"at an equal promise of what a crash may take, the ratio is {listed(told)}"] if told else []


def tables(run: Run) -> list[Table]:
    """Return the ratios, what the database did, the pairs of equal promise, and what a write waits for."""
    found = [_ratios(points(run)), _database(points(run)), _pairs(run), _commits(run)]
    return [table for table in found if table.rows]


def _ratios(every: list[Point]) -> Table:
    return Table(
        title="How long one catalogue page in twenty takes, or longer",
        columns=(
            "offered load", "database / redis", "verdict", "database ms", "redis ms", "total CPU", "judged"
        ),
        rows=tuple(
            (
                short_load_of(one),
                interval(one["ratio"]).replace(" (", " [").replace(")", "]").replace(" to ", ", "),
                word(one["ratio"]),
                *(number(get(one, "arms", arm, "catalogue", "p95_ms", "estimate"), 1) for arm in ("database", "redis")),
                percent(one["cpu_share"]),
                "yes" if one["judged"] else "no",
            )
            for one in every
        ),
        note=f"Ratio: paired by block, 95 % interval where there are enough blocks. Within {100 * BAND:.0f} % either "
        "way is about the same. Not judged from 80 % total CPU on, nor with fewer than "
        f"{PAGES} catalogue pages on an arm.",
        text=frozenset({0, 2, 6}),
        wide_only=frozenset({6}),
    )  # fmt: skip


def _database(every: list[Point]) -> Table:
    return Table(
        title="What PostgreSQL did",
        columns=("offered load", "cores busy", "log kB/s", "HOT", "dead rows", "waiting", "checkpoints"),
        rows=tuple(
            (
                short_load_of(one),
                _both(one, "postgresql_cores", "estimate", digits=2),
                _both(one, "wal_bytes_per_s", digits=0, scale=1000),
                percent(get(one, "engine", "hot_share")),
                number(get(one, "engine", "dead_rows"), 0),
                _both_waits(one),
                number(get(one, "engine", "checkpoints"), 0),
            )
            for one in every
        ),
        note="Two figures: with the sessions in it / in Redis. Waiting: connections that waited for the disk or a "
        "lock, on average, looked at in a stretch that was not timed. HOT: rewritten rows that stayed on their page.",
    )


def _both(point: Point, *keys: str, digits: int, scale: float = 1) -> str:
    found = [get(point, "arms", arm, *keys) for arm in ("database", "redis")]
    return " / ".join(number(None if value is None else value / scale, digits) for value in found)


def waiting(point: Point, arm: str) -> float | None:
    """Return how many connections waited for the disk or for a lock, on average."""
    waits = get(point, "arms", arm, "waits")
    return None if not waits else sum(waits[kind] for kind in ("disk", "row lock", "inner lock"))


def _both_waits(point: Point) -> str:
    return " / ".join(number(waiting(point, arm), 2) for arm in ("database", "redis"))


def _pairs(run: Run) -> Table:
    return Table(
        title="Pairs of equal promise",
        columns=("pair", "a crash of the machine", "catalogue pages", "pages with a session", "verdict"),
        rows=tuple(
            (
                f"{one['promise']['commit']}, {one['promise']['redis']}",
                one["promise"]["promise"],
                interval(one["ratio"]),
                interval(one["session_pages_ratio"]),
                word(one["ratio"]),
            )
            for one in pairs(run)
        ),
        note=f"95th percentile, database / redis, at {number(run.get('contention', 'pair_rps'), 0)} requests/s without "
        "the report. A pair is PostgreSQL's synchronous_commit (or an unlogged table) and Redis's appendfsync (or no "
        "file). The verdict is on the catalogue's pages.",
        text=frozenset({0, 1, 4}),
        wide_only=frozenset({1}),
    )


def _commits(run: Run) -> Table:
    times = run.get("contention", "commit_ms") or {}
    names = {"on": "PostgreSQL, commit on", "off": "PostgreSQL, commit off", "unlogged": "PostgreSQL, unlogged table"}
    names_redis = {"always": "Redis, always", "everysec": "Redis, every second", "none": "Redis, without a file"}
    rows = [(names[key], number(ms, 3)) for key, ms in (times.get("postgresql") or {}).items()]
    rows += [(names_redis[key], number(ms, 3)) for key, ms in (times.get("redis") or {}).items()]
    return Table(
        title="What one write of 1 kB waits for",
        columns=("promise", "median ms"),
        rows=tuple(rows),
        note="One writer alone. The first of each engine less its last is about what this machine's disk takes to keep "
        "a write.",
    )
