"""From what `load` measured to `results.json` and `samples.npz`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import samples, statistics
from lab.measuring.columns import columns_of, is_failed
from lab.measuring.facts import judged, outline
from strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lab.experiments.load.experiment import Block, Measured
    from loadtests.fleet import Part
    from loadtests.recorder import Operation

SECOND_NS = 1_000_000_000


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples into the run's folder, and return the results."""
    chosen, target = measured.settings, measured.target
    assert target is not None  # noqa: S101 - the procedure has filled it
    operations = [one for block in measured.blocks for one in block.gathered.operations]
    columns = columns_of([(0, one) for one in operations])
    samples.save(columns, folder)
    servers = None if chosen.target else chosen.servers
    results = outline("load", folder, chosen, measured, servers=servers, rate_rps=chosen.rate, blocks=chosen.blocks)
    latency_ms = statistics.latency(columns, target.arm, baseline=None).latency_ms
    requests = _requests(measured.blocks)
    strategy = {
        "requests": requests,
        "latency_ms": latency_ms,
        "latency_ratio": None,
        "cpu_ms_per_request": _cpu(measured.blocks),
    }
    results |= {
        "validity": _validity(measured),
        "strategies": {target.strategy: strategy} if target.strategy in STRATEGIES else {},
        "load": {
            "target": target.url,
            "strategy": chosen.strategy,
            "shoppers": chosen.shoppers,
            "requests": requests,
            "block_seconds": measured.blocks[0].seconds,
            "drain_seconds": _quantiles([_drain_seconds(block) for block in measured.blocks]),
            "answered_rps": _answered_rps(measured.blocks),
            "latency_ms": latency_ms,
            "operations": _by_operation(operations),
            "workers": _workers(measured.blocks),
            "apart_ms": _quantiles([block.gathered.apart_ms for block in measured.blocks]),
            "lost": [{"worker": one.worker, "block": one.block, "why": one.why} for one in measured.lost],
            "machine_busy": float(np.mean([block.busy for block in measured.blocks])),
            "cpus": os.cpu_count() or 1,
            "master_cpu_seconds": sum(block.gathered.master_cpu_seconds for block in measured.blocks),
        },
    }
    return judged(results)


def _requests(blocks: Sequence[Block]) -> dict[str, int]:
    operations = [one for block in blocks for one in block.gathered.operations]
    failed = sum(map(is_failed, operations))
    return {
        "scheduled": sum(block.gathered.scheduled for block in blocks),
        "sent": sum(block.gathered.sent for block in blocks),
        "ok": len(operations) - failed,
        "failed": failed,
    }


def _by_operation(operations: Iterable[Operation]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for operation in operations:
        for name in ("all", operation.f):
            own = counts.setdefault(name, {"sent": 0, "failed": 0})
            own["sent"] += 1
            own["failed"] += is_failed(operation)
    return counts


def _drain_seconds(block: Block) -> float:
    """Return how long after the end of a block's plan the last answer came."""
    last_ns = max((one.t1_ns for one in block.gathered.operations), default=block.gathered.zero_ns)
    return max(0.0, (last_ns - block.gathered.zero_ns) / SECOND_NS - block.seconds)


def _answered_rps(blocks: Sequence[Block]) -> float:
    """Return how many requests were answered a second, the wait for the last of each block included."""
    answered = sum(not is_failed(one) for block in blocks for one in block.gathered.operations)
    return answered / sum(block.seconds + _drain_seconds(block) for block in blocks)


def _workers(blocks: Sequence[Block]) -> dict[str, dict[str, Any]]:
    """Return what each worker did in the blocks that count, also of one that was lost later."""
    parts: dict[str, list[Part]] = {}
    for block in blocks:
        for part in block.gathered.parts:
            parts.setdefault(part.worker.name, []).append(part)
    return {name: _worker(own) for name, own in parts.items()}


def _worker(parts: Sequence[Part]) -> dict[str, Any]:
    operations = [one for part in parts for one in part.operations]
    wall = sum(part.wall_seconds for part in parts)
    cpu = sum(part.cpu_seconds for part in parts)
    return {
        "host": parts[0].worker.host,
        "here": parts[0].worker.here,
        "shoppers": parts[-1].shoppers,
        "blocks": len(parts),
        "sent": len(operations),
        "failed": sum(map(is_failed, operations)),
        "lateness_ms": _quantiles([late for part in parts for late in part.lateness_ms]),
        "cpu_seconds": cpu,
        "core_share": cpu / wall if wall else None,
        "round_trip_ms": _quantiles([part.start.round_trip_ms for part in parts]),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, 95th and 99th percentile and the largest; None without values."""
    if not len(values):
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(np.max(values))}


def _cpu(blocks: Sequence[Block]) -> dict[str, float | None]:
    """Return CPU ms per request of what serves; nobody knows those of a shop that is not the lab's."""
    names = ("servers", "store", "balancer")
    spent = [block.cpu for block in blocks if block.cpu is not None]
    if len(spent) < len(blocks):
        return dict.fromkeys((*names, "total"))
    sent = sum(block.gathered.sent for block in blocks)
    own = {name: 1000 * sum(cpu[name] for cpu in spent) / max(sent, 1) for name in names}
    return {**own, "total": sum(own.values())}


def _validity(measured: Measured) -> dict[str, Any]:
    busy = float(np.mean([block.busy for block in measured.blocks]))
    late = [one for block in measured.blocks for one in block.gathered.lateness_ms]
    warnings = [_lost(measured)] if measured.lost else []
    warnings += _summed(measured.warnings)
    if busy > statistics.CROWDED:
        warnings.append(
            f"the CPUs of this machine were {100 * busy:.0f} % in use: what waits there is part of every latency. "
            "Send less, or from other machines"
        )
    quantiles = _quantiles(late)
    return {
        "ok": not warnings,
        "warnings": warnings,
        "blocks_redone": measured.redone,
        "generator_lateness_ms": quantiles and {"p50": quantiles["p50"], "p99": quantiles["p99"]},
    }


def _lost(measured: Measured) -> str:
    names = "; ".join(f"{one.worker} in {_when(one.block)} ({one.why})" for one in measured.lost)
    return (
        f"lost: {names}. All shoppers came in anew at the {measured.lost[-1].left} that were left, and what was under "
        "way was measured again"
    )


def _when(block: int) -> str:
    return "the warm-up" if block < 0 else f"block {block}"


def _summed(warnings: Sequence[str]) -> list[str]:
    """Return the first of many warnings of the same sort with how many more there are."""
    if len(warnings) < 2:  # noqa: PLR2004
        return list(warnings)
    return [f"{warnings[0]}; {len(warnings) - 1} more blocks broke a rule. Send less, or from more workers"]
