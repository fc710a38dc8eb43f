"""A load run in words: a headline and its tables. For the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.tellings import Table
from lab.report.words import NONE, interval, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.report.results import Run

QUESTION = "How does a shop answer more load than one process can send?"

WORDS = {
    "worker": "A process that plays some of the shoppers. Every request of the plan is sent by exactly one.",
    "offered load": "Requests that fall due per second, whether or not earlier ones have been answered.",
    "block": "A stretch of one second for which requests fall due; the next one begins when all have been answered.",
    "failed": "No answer within 5 s, a broken connection, or an error of the server (5xx).",
    "95th percentile": "One request in twenty took longer than this.",
    "late": "How long after its time a request left though its shopper was idle: the worker's own error, which is not "
    "part of any latency. A worker that is often late is asked for more than it can send.",
    "began apart": "How far apart the workers may have begun a block, at the most: the time that the message with the "
    "start was under way is known only to lie within its round trip.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value.",
}
"""The glossary of the page."""

NOT_KEPT_UP = 0.5
"""A shop that works on a block for half as long again has not kept up with its load."""

FIRST = ("all", "view", "add")
"""Operations that stand first in the table."""


def headline(run: Run) -> str:
    """Say how much was sent from where, and how it was answered."""
    told = run.get("load")
    if not told:
        return "This run ended before any load was sent."
    requests, latency = told["requests"], told["latency_ms"]["all"]
    workers = len(told["workers"])
    who = "1 worker" if workers == 1 else f"{workers} workers"
    offered = number(run.get("run", "rate_rps"), 0)
    parts = [
        f"{who} sent {requests['sent']:,} requests to {told['strategy'] or told['target']}, {offered} a second",
        *_kept_up(told),
        f"{requests['failed']:,} failed" if requests["failed"] else "none failed",
        *_waits(latency),
        f"the workers began each block within {number((told['apart_ms'] or {}).get('max'), 1)} ms of each other",
    ]
    return " ".join(sentence(part) + "." for part in (parts if workers > 1 else parts[:-1]))


def _kept_up(told: Mapping[str, Any]) -> list[str]:
    drain = told["drain_seconds"]["p50"]
    last = f"the last answer of a block came {number(drain)} s after its end (median)"
    if drain > NOT_KEPT_UP * told["block_seconds"]:
        return [f"the shop did not keep up: {last}, and {number(told['answered_rps'], 0)} requests/s were answered"]
    return [f"the shop kept up: {last}"]


def _waits(latency: Mapping[str, Any]) -> list[str]:
    shares = {"p50": "half of the answers took over", "p95": "1 in 20 over", "p99": "1 in 100 over"}
    known = {name: latency.get(name) for name in shares}
    texts = [f"{shares[name]} {number(value['estimate'], 1)} ms" for name, value in known.items() if value]
    return [", ".join(texts)] if texts else ["too few requests to speak of percentiles"]


def tables(run: Run) -> list[Table]:
    """Return the tables: what came back, and what each worker did."""
    told = run.get("load")
    return [_answers(told), _workers(told)] if told else []


def _answers(told: Mapping[str, Any]) -> Table:
    counts = told["operations"]
    names = [*(name for name in FIRST if name in counts), *sorted(set(counts) - set(FIRST))]
    return Table(
        title=f"What came back from {told['target']}",
        columns=("operation", "sent", "failed", "median ms", "95th ms", "99th ms"),
        rows=tuple(
            (
                name,
                f"{counts[name]['sent']:,}",
                f"{counts[name]['failed']:,}",
                *(_cell((told["latency_ms"].get(name) or {}).get(p)) for p in ("p50", "p95", "p99")),
            )
            for name in names
        ),
        note="Of all answered requests, whichever worker sent them; in brackets 95 % intervals over blocks. "
        f"{NONE}: too few requests for this percentile; *: barely enough.",
    )


def _cell(value: Mapping[str, Any] | None) -> str:
    digits = 1 if value and value["estimate"] < 10 else 0  # noqa: PLR2004 - two digits do
    return interval(dict(value) if value else None, digits) + ("*" if value and value.get("faded") else "")


def _workers(told: Mapping[str, Any]) -> Table:
    return Table(
        title="What each worker did",
        columns=("worker", "machine", "shoppers", "sent", "failed", "late ms, median / 95th / 99th", "core", "trip ms"),
        rows=tuple((name, *_worker_cells(one)) for name, one in told["workers"].items()),
        note="late: after the plan, though the shopper was idle; the worker's own error. core: share of one that its "
        "process used; near 100 % it can send no more. trip: round trip of the message that says when to begin "
        "(median). Clocks of different machines are never compared; only durations are.",
        text=frozenset({0, 1}),
        wide_only=frozenset({1}),
    )


def _worker_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    late, trip = one["lateness_ms"] or {}, one["round_trip_ms"] or {}
    return (
        one["host"],
        f"{one['shoppers']:,}",
        f"{one['sent']:,}",
        f"{one['failed']:,}",
        " / ".join(number(late.get(p), 1) for p in ("p50", "p95", "p99")),
        percent(one["core_share"]),
        number(trip.get("p50"), 1),
    )
