"""From what `cache` measured to `results.json` and `samples.npz`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import samples, statistics
from lab.measuring import knee
from lab.measuring.columns import columns_of, is_failed
from lab.measuring.facts import judged, outline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lab.experiments.cache.measured import Measured
    from lab.measuring.timed import Slice
    from loadtests.recorder import Operation

ARMS = ("without cache", "with cache")

COMPONENTS = ("servers", "store", "balancer")

FETCHED = frozenset({"miss", "bypass"})
"""How the cache served what the origin had to answer."""

BUCKET_SECONDS = 0.25
"""Width of the columns of a timeline."""

STRETCH_SECONDS = 0.15
"""Length of the stretches over which the interval of a share is resampled."""

QUIET_SECONDS = 0.3
"""Queries for a hot entry that are further apart belong to another of its deaths."""


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples into the run's folder, and return the results."""
    chosen = measured.settings
    columns = _columns(measured)
    samples.save(columns, folder)
    loads = {kind: _kind(kind, measured, columns) for kind in measured.timed}
    results = outline(
        "cache", folder, chosen, measured, servers=chosen.servers, rate_rps=chosen.rate, blocks=chosen.lengths.blocks
    )
    results |= {
        "validity": _validity(measured),
        "cache": {
            "engine": measured.cache,
            "loads": loads,
            "break_even": break_even(
                [(load["origin_ms"], load["added_ms"]) for kind, load in loads.items() if kind != "shop"]
            ),
            "hits": [_hits(one) for one in measured.hits],
            "reuse": reuse(measured.hits),
            "updates": [_updates(one) for one in measured.updates],
            "stability": stability(measured.updates),
            "capacity": _capacity(measured),
            "stampede": {arm: stampede(operations) for arm, operations in measured.stampede.items()},
            "outage": _outage(measured),
            "left_out": measured.left_out,
        },
    }
    return judged(results)


def _columns(measured: Measured) -> samples.Samples:
    rows = []
    for kind, timed in measured.timed.items():
        for piece in timed.slices:
            for operation in piece.operations:
                operation.arm = _row(kind, piece.arm)
                rows.append((piece.position, operation))
    return columns_of(rows)


def _row(kind: str, arm: str) -> str:
    return f"{kind}, {arm}"


def _builtin(interval: statistics.Interval | None) -> Any:
    return None if interval is None else msgspec.to_builtins(interval)


def _validity(measured: Measured) -> dict[str, Any]:
    warnings = [f"{kind}: {text}" for kind, timed in measured.timed.items() for text in timed.warnings]
    late = [late for timed in measured.timed.values() for piece in timed.slices for late in piece.lateness_ms]
    lateness = {f"p{p}": float(np.quantile(late, p / 100)) for p in (50, 99)} if late else {}
    return {
        "ok": not warnings,
        "warnings": warnings + [f"{part} was left out: {why}" for part, why in measured.left_out.items()],
        "blocks_redone": sum(timed.redone for timed in measured.timed.values()),
        "generator_lateness_ms": lateness,
    }


# --- latency, CPU time, and what the origin feels --------------------------------------------------------------------


def _kind(kind: str, measured: Measured, columns: samples.Samples) -> dict[str, Any]:
    """Return what one kind of load showed, without the cache and with it."""
    slices = {arm: [one for one in measured.timed[kind].slices if one.arm == arm] for arm in ARMS}
    used = {arm: [measured.used[kind, arm, piece.block] for piece in slices[arm]] for arm in ARMS}
    without, with_cache = ARMS
    medians = {arm: _by_block(columns, kind, arm, 0.5) for arm in ARMS}
    ninety_fifths = {arm: _by_block(columns, kind, arm, 0.95) for arm in ARMS}
    figures: dict[str, Callable[[str], list[float]]] = {
        "queries": lambda arm: [one.queries / len(piece.operations) for one, piece in _both(used, slices, arm)],
        "connections": lambda arm: [one.seconds / piece.wall_seconds for one, piece in _both(used, slices, arm)],
        "cpu": lambda arm: [sum(piece.cpu[name] for name in COMPONENTS) for piece in slices[arm]],  # of the same plan
    }
    queries = sum(one.queries for one in used[without])
    served = [operation.cache for piece in slices[with_cache] for operation in piece.operations]
    latency = {
        arm: {p: _quantile(columns, kind, arm, value) for p, value in statistics.PERCENTILES.items()} for arm in ARMS
    }
    added = [medians[with_cache][block] - medians[without][block] for block in medians[without]]
    return {
        "requests": {arm: sum(len(piece.operations) for piece in slices[arm]) for arm in ARMS},
        "failed": {arm: sum(is_failed(one) for piece in slices[arm] for one in piece.operations) for arm in ARMS},
        "rate_rps": round(len(served) / max(sum(piece.wall_seconds for piece in slices[with_cache]), 1e-9)),
        "latency_ms": latency,
        "ratio": {
            "p50": _builtin(statistics.paired_ratio(medians[with_cache], [medians[without]])),
            "p95": _builtin(statistics.paired_ratio(ninety_fifths[with_cache], [ninety_fifths[without]])),
        },
        "added_ms": _builtin(statistics.mean_of_blocks(added)),
        "origin_ms": 1000 * sum(one.seconds for one in used[without]) / queries if queries else None,
        "hit_ratio": _builtin(_hit_ratio(slices[with_cache])),
        "served": {how: served.count(how) for how in ("hit", "waited", "miss", "bypass")},
        "cpu_ms": {arm: _cpu(slices[arm]) for arm in ARMS},
        **{name: {arm: float(np.mean(of(arm))) for arm in ARMS} for name, of in figures.items() if name != "cpu"},
        **{
            f"{name}_ratio": _builtin(statistics.ratio_of_totals(of(with_cache), of(without)))
            for name, of in figures.items()
        },
    }


def _both(used: dict[str, list[Any]], slices: dict[str, list[Slice]], arm: str) -> Iterable[tuple[Any, Slice]]:
    return [(one, piece) for one, piece in zip(used[arm], slices[arm], strict=True) if piece.operations]


def _by_block(columns: samples.Samples, kind: str, arm: str, p: float) -> dict[int, float]:
    rows = columns.rows(_row(kind, arm))
    return statistics.quantile_by_block(columns.latency_ms[rows], columns.block[rows], p)


def _quantile(columns: samples.Samples, kind: str, arm: str, p: float) -> Any:
    rows = columns.rows(_row(kind, arm))
    if statistics.carries(int(rows.sum()), p) == "none":
        return None
    return _builtin(statistics.pooled_quantile(columns.latency_ms[rows], columns.block[rows], p))


def _hit_ratio(pieces: Sequence[Slice]) -> statistics.Interval | None:
    return statistics.mean_of_blocks(
        [np.mean([one.cache == "hit" for one in piece.operations]) for piece in pieces if piece.operations]
    )


def _cpu(pieces: Sequence[Slice]) -> dict[str, float] | None:
    requests = sum(len(piece.operations) for piece in pieces)
    if not requests:
        return None
    spent = {name: 1000 * sum(piece.cpu[name] for piece in pieces) / requests for name in COMPONENTS}
    return {**spent, "total": sum(spent.values())}


def break_even(points: Sequence[tuple[float | None, dict[str, Any] | None]]) -> dict[str, Any]:
    """Return the cost of an origin query at which a cache neither gains nor loses time.

    Args:
        points: for each kind of load, the cost of an origin query in ms, and what the cache adds to the median in ms.

    Returns:
        `ms`: where the straight line between the neighbouring costs meets 0. If the cache gained at every cost that was
        tried, `below_ms` is the lowest of them; if at none, `above_ms` the highest.
    """
    known = sorted((cost, added["estimate"]) for cost, added in points if cost is not None and added is not None)
    found: dict[str, Any] = {"ms": None, "below_ms": None, "above_ms": None}
    if not known:
        return found
    if known[0][1] <= 0:
        return {**found, "below_ms": known[0][0]}
    for (cheap, loss), (dear, gain) in pairwise(known):
        if loss > 0 >= gain:
            return {**found, "ms": cheap + (dear - cheap) * loss / (loss - gain)}
    return {**found, "above_ms": known[-1][0]}


# --- popularity, size and updates ------------------------------------------------------------------------------------


def _hits(one: Any) -> dict[str, Any]:
    return {
        "exponent": one.exponent,
        "share": one.share,
        "held": one.held,
        "reads": one.reads,
        "evicted": one.evicted,
        "hit_ratio": _builtin(statistics.mean_of_blocks(one.blocks)),
    }


def _difference(more: Sequence[float], less: Sequence[float]) -> dict[str, Any] | None:
    count = min(len(more), len(less))
    return _builtin(statistics.mean_of_blocks(np.array(more[:count]) - np.array(less[:count])))  # type: ignore[no-any-return]


def reuse(hits: Sequence[Any], share: float = 0.05) -> dict[str, Any] | None:
    """Return how much higher the hit ratio is at Zipf 1 than where all are equally popular, with room for 5 %."""
    at = {one.exponent: one.blocks for one in hits if one.share == share}
    return _difference(at[1.0], at[0.0]) if {0.0, 1.0} <= set(at) else None


def _updates(one: Any) -> dict[str, Any]:
    return {
        "asked": one.asked,
        "done": one.done,
        "delete_on_write": one.delete_on_write,
        "reads": one.reads,
        "stale": {"events": one.stale, "rate": _builtin(statistics.wilson(one.stale, one.reads))},
        "hit_ratio": _builtin(statistics.mean_of_blocks(one.blocks)),
    }


def stability(updates: Sequence[Any], rate: float = 0.1) -> dict[str, Any] | None:
    """Return how much higher the hit ratio is without updates than at 1 update per 10 reads, deleted on write."""
    at = {one.asked: one.blocks for one in updates if one.delete_on_write}
    return _difference(at[0.0], at[rate]) if {0.0, rate} <= set(at) else None


# --- capacity --------------------------------------------------------------------------------------------------------


def _capacity(measured: Measured) -> dict[str, Any] | None:
    found, how = measured.found, measured.settings.lengths.search
    if found is None:
        return None
    ratio = knee.capacity_ratio(found, ARMS[1], ARMS[0])
    return {
        "arms": {arm: msgspec.to_builtins(knee.capacity(found, arm, how)) for arm in ARMS},
        "ratio": _builtin(ratio),
        "limit_ms": how.limit_ms,
        "points": [
            {"arm": one.arm, "load_rps": one.load_rps, "p95_ms": one.latency_ms["p95"], "outcome": one.outcome}
            for one in found.points
        ],
        "cpu_ms": {
            arm: knee.cpu_at(found.points, arm, knee.capacity(found, arm, how).estimate, knee=True) for arm in ARMS
        },
    }


# --- stampede and outage ---------------------------------------------------------------------------------------------


def stampede(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return how many requests went to the origin each time the hot entry died.

    Those of the first death, before which the load had begun, count like the others.
    """
    ordered = sorted(operations, key=lambda one: one.t0_ns)
    if not ordered:
        return {"requests": 0, "deaths": [], "origin_queries": 0, "longest_ms": None, "moments": []}
    start = ordered[0].t0_ns
    moments = [((one.t0_ns - start) / 1e9, (one.t1_ns - one.t0_ns) / 1e6, one.cache or "none") for one in ordered]
    fetched = [at for at, _, how in moments if how in FETCHED]
    slow = [took for _, took, how in moments if how != "hit"]
    return {
        "requests": len(ordered),
        "failed": sum(is_failed(one) for one in ordered),
        "origin_queries": len(fetched),
        "deaths": [len(group) for group in _groups(fetched)],
        "longest_ms": max(slow, default=None),
        "moments": [[round(at, 4), round(took, 2), how] for at, took, how in moments],
    }


def _groups(times: Sequence[float]) -> list[list[float]]:
    groups: list[list[float]] = []
    for at in times:
        if groups and at - groups[-1][-1] < QUIET_SECONDS:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def _outage(measured: Measured) -> dict[str, Any] | None:
    outage = measured.outage
    if outage is None:
        return None
    start = min((one.intended_ns for one in outage.operations), default=outage.start_ns)
    marks = {
        "struck_seconds": (outage.struck_ns - start) / 1e9,
        "repaired_seconds": (outage.repaired_ns - start) / 1e9,
        "rate_rps": outage.rate_rps,
    }
    arms = {}
    for arm in ARMS:
        own = [one for one in outage.operations if one.arm == arm]
        arms[arm] = seen(own, start, (outage.struck_ns, outage.dead_ns), outage.repaired_ns)
    return {**marks, "bucket_seconds": BUCKET_SECONDS, "arms": arms}


def seen(operations: Sequence[Operation], start_ns: int, death_ns: tuple[int, int], repaired_ns: int) -> dict[str, Any]:
    """Return what one arm's visitors saw before, during and after the origin's death, which takes a moment itself."""
    struck_ns, dead_ns = death_ns
    before = [one for one in operations if one.intended_ns < struck_ns and one.t1_ns < struck_ns]
    during = [one for one in operations if dead_ns <= one.intended_ns < repaired_ns]
    after = [one for one in operations if one.intended_ns >= repaired_ns]
    failed_after = [one.t1_ns for one in operations if is_failed(one) and one.t1_ns >= repaired_ns]

    def is_answered(one: Operation) -> bool:
        """Whether it was, and did not have to wait until the origin was back."""
        return one.outcome == "ok" and (_how(one) == "cache" or one.t1_ns < repaired_ns)

    answered = _stretches(during, dead_ns, is_answered)
    hits = [column[-len(answered[1]) :] for column in _stretches(before, start_ns, lambda one: one.cache == "hit")]
    return {
        "hit_ratio_before": _builtin(statistics.ratio_of_totals(*hits)),
        "answered_during": {
            "requests": len(during),
            "answered": sum(map(is_answered, during)),
            "rate": _builtin(statistics.ratio_of_totals(*answered)),
        },
        "answered_minus_hits": _builtin(statistics.difference_of_shares(answered, hits)),
        "answered_after": sum(one.outcome == "ok" for one in after) / len(after) if after else None,
        "failed_until_seconds": (max(failed_after) - repaired_ns) / 1e9 if failed_after else 0.0,
        "failed_wait_ms": _median([(one.t1_ns - one.t0_ns) / 1e6 for one in during if is_failed(one)]),
        "timeline": _timeline(operations, start_ns, death_ns[0], repaired_ns),
    }


def _stretches(
    operations: Sequence[Operation], start_ns: int, good: Callable[[Operation], bool]
) -> tuple[list[int], list[int]]:
    """Return how many requests were good and how many there were, a figure for each stretch of time."""
    found: dict[int, list[bool]] = {}
    for one in operations:
        found.setdefault(int((one.intended_ns - start_ns) / 1e9 / STRETCH_SECONDS), []).append(good(one))
    own = [found[stretch] for stretch in sorted(found)]
    return [sum(each) for each in own], [len(each) for each in own]


def _timeline(operations: Sequence[Operation], start_ns: int, struck_ns: int, repaired_ns: int) -> dict[str, list[int]]:
    """Count requests in columns of time: answered from the cache, by the origin, by it once it was back, or not."""
    kinds = ("cache", "origin", "late", "failed")
    if not operations:
        return {kind: [] for kind in kinds}

    def how(one: Operation) -> str:
        due_while_down = struck_ns <= one.intended_ns < repaired_ns
        return "late" if _how(one) == "origin" and due_while_down and one.t1_ns >= repaired_ns else _how(one)

    column = np.array([int((one.intended_ns - start_ns) / 1e9 / BUCKET_SECONDS) for one in operations])
    found = np.array([how(one) for one in operations])
    return {kind: _counts(column[found == kind], int(column.max()) + 1) for kind in kinds}


def _counts(column: NDArray[np.int64], length: int) -> list[int]:
    return [int(count) for count in np.bincount(column, minlength=length)]


def _how(one: Operation) -> str:
    if one.outcome != "ok":
        return "failed"
    return "cache" if one.cache in {"hit", "waited"} else "origin"


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
