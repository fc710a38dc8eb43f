"""The claims that a `redis-speed` run judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.claim_rules.judgement import (
    ClaimVerdict,
    Judgement,
    Results,
    absent,
    at,
    interval_of,
    n,
    numbers_of,
    out_of,
    pointed,
    together,
    undecided,
)

if TYPE_CHECKING:
    from lab.statistics import Interval

LIMIT_MS = 1.0
"""A read and a write take less than this on average."""

MILLIONS, NOT_MILLIONS = 1_000_000, 500_000
"""Pipelined operations per second of one core: from here on millions, down to there not."""

PIPELINED = 16
"""Commands of a request from which on it is a pipelined one."""

FEWER_BYTES, AS_MANY_BYTES = 0.5, 0.9
"""Bytes that a change sends, native types ÷ one value: down to here it holds, above there it does not."""


def redis_under_1ms(results: Results) -> Judgement:
    """Judge whether a session read and a session write, each on average, take at most a millisecond.

    The mean of each must lie on one side of the limit with its whole interval; one that is slower refutes the claim.
    """
    settled = at(results, "redis_speed", "sessions", "settled_size")
    means = {name: mean_ms(results, "redis", name, settled) for name in ("read", "write")}
    read, write = means["read"], means["write"]
    if read is None or write is None:
        return absent("session operations in Redis")
    verdict = together(_under(read), _under(write))
    evidence = (
        f"At {settled:,} B one session read took {_ms(read)} on average and one session write {_ms(write)}"
        f"{_beside(results, settled)}."
    )
    parts = [
        (_under(mean), f"{name}{pointed(mean)}: up to {LIMIT_MS:.0f} ms holds, from there on does not")
        for name, mean in (("the read", read), ("the write", write))
    ]
    numbers = {**numbers_of("read_ms", read), **numbers_of("write_ms", write)}
    return Judgement(verdict, evidence, numbers, undecided(*parts))


def redis_millions(results: Results) -> Judgement:
    """Judge whether pipelined GET or SET reach a million operations per second of one server core.

    What decides is operations per second of CPU time of the Redis process, which the client cannot slow down. Where
    that cannot be seen, because Redis is not the lab's own, it is the rate by the clock.
    """
    cells = [
        cell for cell in at(results, "redis_speed", "pipeline", "cells") or [] if cell["command"] in {"GET", "SET"}
    ]
    pipelined = [cell for cell in cells if cell["depth"] >= PIPELINED and deciding(cell)[0] is not None]
    if not pipelined:
        return absent("pipelined operations")
    best = max(pipelined, key=_estimate)
    rate, unit = deciding(best)
    assert rate is not None  # noqa: S101 - filtered above
    clock = interval_of(best["per_second"])
    verdict: ClaimVerdict = "cannot tell"
    if rate.low is not None and rate.high is not None:
        verdict = "holds" if rate.low >= MILLIONS else "does not hold" if rate.high <= NOT_MILLIONS else "cannot tell"
    evidence = (
        f"{best['command']}, {best['depth']} to a request: {_rate(rate)} operations per second {unit}"
        f"{_by_the_clock(best, clock)}{_other(pipelined, best)}{_single(cells)}."
    )
    takes = f"the rate{pointed(rate)}: from {n(MILLIONS)} on holds, up to {n(NOT_MILLIONS)} does not"
    numbers = {**numbers_of("per_core_second", rate), "depth": best["depth"]}
    return Judgement(verdict, evidence, numbers, undecided((verdict, takes)))


def redis_native_types(results: Results) -> Judgement:
    """Judge whether changes to a hash, a list and a set send half the bytes of one value or less, and lose nothing."""
    ways = at(results, "redis_speed", "types", "ways") or {}
    value, native = ways.get("one value"), ways.get("native types")
    if value is None or native is None:
        return absent("native types")
    ratio = native["sent_bytes"] / value["sent_bytes"]
    verdict: ClaimVerdict = "cannot tell"
    if native["lost"] or ratio > AS_MANY_BYTES:
        verdict = "does not hold"
    elif ratio <= FEWER_BYTES and value["lost"] and native["confirmed"]:
        verdict = "holds"
    evidence = (
        f"A change sent {n(native['sent_bytes'])} B with native types and {n(value['sent_bytes'])} B with one value "
        f"({ratio:.2f} times); {at(results, 'redis_speed', 'types', 'writers')} writers at once lost "
        f"{out_of(native['lost'], native['confirmed'])} confirmed changes with native types, "
        f"{out_of(value['lost'], value['confirmed'])} with one value."
    )
    lost: dict[str, float | None] = {"native_lost": native["lost"], "value_lost": value["lost"]}
    bytes_open = f"the bytes: up to {FEWER_BYTES} times holds, more than {AS_MANY_BYTES} does not"
    losses_open = "the changes at once: native types must have some, and one value must lose some"
    seen = value["lost"] and native["confirmed"]
    left = undecided(
        ("holds" if ratio <= FEWER_BYTES or verdict == "does not hold" else "cannot tell", bytes_open),
        ("holds" if seen or verdict == "does not hold" else "cannot tell", losses_open),
    )
    return Judgement(verdict, evidence, {"bytes_ratio": ratio, **lost}, left)


def mean_ms(
    results: Results, store: str, operation: str, size: int | None, *, part: str = "sessions", away: float | None = None
) -> Interval | None:
    """Return the mean time of a session operation, None where it was not measured."""
    for cell in at(results, "redis_speed", part, "cells") or []:
        if (cell["store"], cell["operation"], cell["size"], cell["round_trip_ms"]) == (store, operation, size, away):
            return interval_of(cell["mean_ms"])
    return None


def deciding(cell: dict[str, Any]) -> tuple[Interval | None, str]:
    """Return the rate that decides, and of what it is."""
    core = interval_of(cell["per_core_second"])
    if core is not None:
        return core, "of CPU time of the Redis process"
    return interval_of(cell["per_second"]), "by the clock (its CPU time cannot be seen from here)"


def _estimate(cell: dict[str, Any]) -> float:
    rate, _ = deciding(cell)
    return rate.estimate if rate else 0.0


def _under(mean: Interval) -> ClaimVerdict:
    if mean.low is None or mean.high is None:
        return "cannot tell"
    return "holds" if mean.high <= LIMIT_MS else "does not hold" if mean.low >= LIMIT_MS else "cannot tell"


def _ms(mean: Interval) -> str:
    if mean.low is None or mean.high is None:
        return f"{mean.estimate:.3f} ms"
    return f"{mean.estimate:.3f} ms ({mean.low:.3f} to {mean.high:.3f})"


def _beside(results: Results, size: int) -> str:
    """Say what the same takes in PostgreSQL, and in Redis through the longest emulated link."""
    database = [mean_ms(results, "database", name, size) for name in ("read", "write")]
    text = ""
    if database[0] is not None and database[1] is not None:
        text += f"; PostgreSQL: {database[0].estimate:.3f} and {database[1].estimate:.3f} ms"
    cells = at(results, "redis_speed", "network", "cells") or []
    distances = [cell["round_trip_ms"] for cell in cells if cell["store"] == "redis" and cell["round_trip_ms"]]
    if distances:
        there = mean_ms(results, "redis", "read", size, part="network", away=max(distances))
        if there is not None:
            text += (
                f"; with an emulated network round trip of {max(distances):g} ms a read took {there.estimate:.2f} ms"
            )
    return text


def _rate(rate: Interval) -> str:
    if rate.low is None or rate.high is None:
        return n(rate.estimate)
    return f"{n(rate.estimate)} ({n(rate.low)} to {n(rate.high)})"


def _by_the_clock(cell: dict[str, Any], clock: Interval | None) -> str:
    if cell["per_core_second"] is None or clock is None:
        return ""
    return f", {n(clock.estimate)} by the clock with Redis busy {100 * cell['busy']:.0f} % of the time"


def _other(pipelined: list[dict[str, Any]], best: dict[str, Any]) -> str:
    others = [cell for cell in pipelined if cell["command"] != best["command"]]
    if not others:
        return ""
    other = max(others, key=_estimate)
    return f"; {other['command']} at most {n(_estimate(other))}"


def _single(cells: list[dict[str, Any]]) -> str:
    rates = {
        cell["command"]: cell["per_second"]["estimate"]
        for cell in cells
        if cell["depth"] == cell["connections"] == 1 and cell["per_second"]
    }
    if not rates:
        return ""
    return "; one at a time " + " and ".join(f"{n(rate)} {name}" for name, rate in rates.items()) + " per second"
