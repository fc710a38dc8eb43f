"""From what `saturation` measured to `results.json` and `samples.npz`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import samples, statistics
from lab.measuring.capacity import COMPONENTS, Point, disturbed, latencies_ms
from lab.measuring.columns import columns_of
from lab.measuring.facts import judged, outline
from lab.measuring.knee import Capacity, bounds_rps, capacity, capacity_ratio, cpu_at, near
from lab.measuring.timed import LATENESS_LIMIT_MS
from lab.report.results import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.experiments.saturation.experiment import Frozen, Measured

CLIENTS = {False: "schedule", True: "closed loop"}
"""Whether a client waits for answers, to its name in `samples.npz`."""

SLOW_MS = 100.0
"""A request that took longer was hit by the freeze: without it, none is far from a few milliseconds."""

_SERVING = ("servers", "store", "balancer")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples into the run's folder, and return the results."""
    chosen, found = measured.settings, measured.found
    columns = columns_of(_rows(measured))
    samples.save(columns, folder)
    results = outline(
        "saturation",
        folder,
        chosen,
        measured,
        servers=chosen.servers,
        shoppers=chosen.lengths.shoppers,
        strategies=list(chosen.strategies),
    )
    reference = reference_rps(found.points, chosen.strategies)
    capacities = {arm: capacity(found, arm, chosen.lengths.search) for arm in chosen.strategies}
    results |= {
        "validity": _validity(measured, capacities),
        "strategies": {arm: _strategy(arm, found.points, columns, reference) for arm in chosen.strategies},
        "saturation": {
            **msgspec.to_builtins(chosen.lengths.search),
            "cpus": os.cpu_count() or 1,
            "reference_rps": reference,
            "arms": {arm: _arm(arm, measured, capacities[arm]) for arm in chosen.strategies},
            "freeze": _freeze(measured.frozen),
        },
    }
    return judged(results)


def _rows(measured: Measured) -> list[tuple[int, Any]]:
    """Give every request with its position; what the two clients saw as arms of their own, a block per freeze."""
    rows = [(piece.position, operation) for piece in measured.found.slices for operation in piece.operations]
    for look in measured.frozen:
        for operation in look.operations:
            operation.arm, operation.block = CLIENTS[look.closed], look.turn
            rows.append((0, operation))
    return rows


def reference_rps(points: Sequence[Point], arms: Sequence[str]) -> float | None:
    """Return the highest level of the ladder at which every arm kept the limit, None if there is none."""
    kept = [
        {point.load_rps for point in points if point.arm == arm and point.part == "ladder" and point.outcome == "kept"}
        for arm in arms
    ]
    return max(set.intersection(*kept), default=None) if kept else None


def _strategy(arm: str, points: Sequence[Point], columns: samples.Samples, reference: float | None) -> dict[str, Any]:
    """Return what every experiment says of a strategy, its latency and CPU time at the reference load."""
    own = [point for point in points if point.arm == arm]
    at = [point for point in own if point.part == "ladder" and point.load_rps == reference]
    sent, failed = sum(point.requests for point in own), sum(point.failed for point in own)
    rows = columns.rows(arm) & np.isin(columns.block, [point.block for point in at])
    return {
        "requests": {"scheduled": sent, "sent": sent, "ok": sent - failed, "failed": failed},
        "latency_ms": {"all": _carried(columns.latency_ms[rows], columns.block[rows])},
        "latency_ratio": None,
        "cpu_ms_per_request": _cpu(at),
    }


def _carried(values: Any, blocks: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, p in statistics.PERCENTILES.items():
        weight = statistics.carries(len(values), p)
        found[name] = None if weight == "none" else msgspec.to_builtins(statistics.pooled_quantile(values, blocks, p))
        if weight == "faded":
            found[name]["faded"] = True
    return found


def _cpu(points: Sequence[Point]) -> dict[str, float | None]:
    if not points:
        return dict.fromkeys((*_SERVING, "total"))
    spent = {name: float(np.mean([point.cpu_ms[name] for point in points])) for name in _SERVING}
    return {**spent, "total": sum(spent.values())}


def _arm(arm: str, measured: Measured, carried: Capacity) -> dict[str, Any]:
    """Return an arm's points, its capacity, what was busy there, and what the utilisation law would have said."""
    found, chosen = measured.found, measured.settings
    points = [point for point in found.points if point.arm == arm]
    cpus = os.cpu_count() or 1
    shares = busy(near(points, carried.estimate), cpus=cpus)
    many: dict[str, Any] = {"cpus": cpus, "servers": chosen.servers, "others": shares.get("others", 0.0)}
    half = cpu_at(points, arm, carried.estimate, knee=False) or {}
    knee = cpu_at(points, arm, carried.estimate, knee=True) or {}
    ratio = None if arm == BASELINE else capacity_ratio(found, arm, BASELINE)
    return {
        "points": [_told(point) for point in points],
        "capacity": msgspec.to_builtins(carried),
        "capacity_ratio": msgspec.to_builtins(ratio),
        "cpu_ms": {"half": half, "knee": knee},
        "busy": shares,
        "bounds_rps": bounds_rps(half, **many),
        "bounds_alone_rps": bounds_rps({name: half[name] for name in _SERVING if name in half}, **many),
    }


def _told(point: Point) -> dict[str, Any]:
    """Return a point, without the 99th percentile where its sample does not carry one."""
    told: dict[str, Any] = msgspec.to_builtins(point)
    if statistics.carries(point.requests, statistics.PERCENTILES["p99"]) == "none":
        told["latency_ms"]["p99"] = None
    told["disturbed"] = disturbed(point)
    told["generator_late"] = point.late_ms > LATENESS_LIMIT_MS
    return told


def busy(points: Sequence[Point], *, cpus: int) -> dict[str, float]:
    """Return which share of all CPUs' time each component used at some points, other programs and idle time included.

    Args:
        points: such as those near a capacity.
        cpus: that the machine has.
    """
    if not points:
        return {}
    shares = {
        name: float(np.mean([point.cpu_ms[name] * point.completed_rps / (1000 * cpus) for point in points]))
        for name in COMPONENTS
    }
    shares["others"] = float(np.mean([point.foreign for point in points]))
    return {**shares, "idle": max(0.0, 1 - sum(shares.values()))}


def _freeze(frozen: Sequence[Frozen]) -> dict[str, Any] | None:
    """Return what each client saw of all freezes together."""
    if not frozen:
        return None
    clients = {}
    for closed, name in CLIENTS.items():
        looks = [look for look in frozen if look.closed == closed]
        latencies = np.concatenate([latencies_ms(look.operations) for look in looks])
        clients[name] = {
            "requests": len(latencies),
            "omitted": sum(look.omitted for look in looks),
            "failed": int(np.isinf(latencies).sum()),
            "slow": int((latencies > SLOW_MS).sum()),
            "latency_ms": {
                **{key: _finite(np.quantile(latencies, p, method="inverted_cdf")) for key, p in _QUANTILES.items()},
                "max": _finite(latencies.max()),
            },
        }
    seconds = [(look.thawed_ns - look.struck_ns) / 1e9 for look in frozen]
    return {"freezes": len(frozen) // 2, "seconds": float(np.mean(seconds)), "slow_ms": SLOW_MS, "clients": clients}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _validity(measured: Measured, capacities: dict[str, Capacity]) -> dict[str, Any]:
    found = measured.found
    late = np.array([late for piece in found.slices for late in piece.lateness_ms])
    spoilt = sum(disturbed(point) for point in found.points)
    kept_late = sum(point.outcome == "kept" and point.late_ms > LATENESS_LIMIT_MS for point in found.points)
    warnings = [
        f"{name} names an engine that is not the lab's own: its CPU time is not counted, so it is missing from the "
        "store's share and the predicted capacity is too high"
        for name in measured.uncounted
    ]
    if spoilt:
        warnings.append(
            f"during {spoilt} of {len(found.points)} slices other programs or machines took much of the CPU"
        )
    if kept_late:
        warnings.append(
            f"in {kept_late} slices that kept the limit the load generator sent one request in twenty more than "
            f"{LATENESS_LIMIT_MS:.0f} ms late: it shares the CPUs with what it measures"
        )
    for arm, one in capacities.items():
        if one.bound != "between":
            cause = ": the load generator was at its end first" if one.by_generator else ""
            warnings.append(f"{arm}: {one.bound} {one.estimate:,.0f} requests/s, no closer{cause}")
    lateness = {"p50": float(np.quantile(late, 0.5)), "p99": float(np.quantile(late, 0.99))} if len(late) else {}
    return {"ok": not warnings, "warnings": warnings, "blocks_redone": found.redone, "generator_lateness_ms": lateness}
