"""From what `redis-speed` measured to `results.json` and `samples.npz`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import samples
from lab.experiments.redis_speed.pipeline import CONNECTIONS, VALUE_BYTES
from lab.experiments.redis_speed.sessions import FIELDS, OPERATIONS, SETTLED_BYTES, SIZES_BYTES, STORES
from lab.experiments.redis_speed.types import CHANGES, KINDS, SESSION_BYTES, WAYS, WRITERS
from lab.measuring.facts import judged, outline
from lab.measuring.timed import FOREIGN_LIMIT
from lab.statistics import carries, mean_of_blocks, paired_ratio, pooled_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lab.experiments.redis_speed.experiment import Measured
    from lab.experiments.redis_speed.pipeline import Stretch
    from lab.experiments.redis_speed.sessions import Cell, Slice
    from lab.statistics import Interval

_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples into the run's folder, and return the results."""
    samples.save(_columns(measured.slices, measured.distant), folder)
    size = measured.settings.lengths
    results = outline("redis-speed", folder, measured.settings, measured, blocks=size.blocks)
    by_size, by_distance = _by_cell(measured.slices), _by_cell(measured.distant)
    results |= {
        "validity": {"ok": not (found := _warnings(measured)), "warnings": found},
        "strategies": {name: {"latency_ms": _latencies(name, by_size)} for name in STORES},
        "redis_speed": {
            "left_out": measured.left_out,
            "sessions": {
                "sizes": list(SIZES_BYTES),
                "settled_size": SETTLED_BYTES,
                "fields": FIELDS,
                "blocks": size.blocks,
                "cells": [_cell(cell, slices) for cell, slices in by_size.items()],
                "ratios": _ratios(by_size),
            },
            "network": {
                "emulated": True,
                "size": SETTLED_BYTES,
                "blocks": size.distant_blocks,
                "cells": [_cell(cell, slices) for cell, slices in by_distance.items()],
            },
            "pipeline": _pipeline(measured),
            "types": _types(measured),
        },
    }
    return judged(results)


def _warnings(measured: Measured) -> list[str]:
    found = [f"{what} left out: {why}" for what, why in measured.left_out.items()]
    if (foreign := max(measured.foreign, default=0.0)) > FOREIGN_LIMIT:
        found.append(f"other programs used {100 * foreign:.0f} % of the CPU: times are longer than on a quiet machine")
    return found


# --- session operations ----------------------------------------------------------------------------------------------


def _by_cell(slices: Sequence[Slice]) -> dict[Cell, list[Slice]]:
    found: dict[Cell, list[Slice]] = defaultdict(list)
    for one in slices:
        found[one.cell].append(one)
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _place(cell: Cell) -> tuple[float, ...]:
    """Order cells by store, operation, size and distance; what has no link comes before links."""
    away = -1.0 if cell.round_trip_ms is None else cell.round_trip_ms
    return STORES.index(cell.store), OPERATIONS.index(cell.operation), cell.size, away


def _cell(cell: Cell, slices: Sequence[Slice]) -> dict[str, Any]:
    return {
        "store": cell.store,
        "operation": cell.operation,
        "size": cell.size,
        "round_trip_ms": cell.round_trip_ms,
        "calls": sum(len(one.taken_ms) for one in slices),
        "mean_ms": _plain(mean_of_blocks([one.taken_ms.mean() for one in slices])),
        **_percentiles(slices),
    }


def _percentiles(slices: Sequence[Slice]) -> dict[str, Any]:
    taken = np.concatenate([one.taken_ms for one in slices])
    blocks = np.concatenate([np.full(len(one.taken_ms), one.block) for one in slices])
    return {
        name: _plain(pooled_quantile(taken, blocks, p)) if carries(len(taken), p) != "none" else None
        for name, p in _PERCENTILES.items()
    }


def _latencies(store: str, cells: dict[Cell, list[Slice]]) -> dict[str, Any]:
    """Return percentiles by operation, at the size that the claim is about."""
    return {
        cell.operation: _percentiles(slices)
        for cell, slices in cells.items()
        if cell.store == store and cell.size == SETTLED_BYTES
    }


def _ratios(cells: dict[Cell, list[Slice]]) -> dict[str, Any]:
    """Return how many times as long as Redis the others take, by operation and size, paired by block."""
    means = {cell: {one.block: float(one.taken_ms.mean()) for one in slices} for cell, slices in cells.items()}
    found: dict[str, Any] = {}
    for cell, by_block in means.items():
        if cell.store != "redis":
            redis = means[msgspec.structs.replace(cell, store="redis")]
            ratio = _plain(paired_ratio(by_block, [redis]))
            found.setdefault(cell.store, {}).setdefault(cell.operation, {})[str(cell.size)] = ratio
    return found


# --- operations a second ---------------------------------------------------------------------------------------------


def _pipeline(measured: Measured) -> dict[str, Any] | None:
    if not measured.stretches:
        return None
    by_load: dict[Any, list[Stretch]] = defaultdict(list)
    for one in measured.stretches:
        by_load[one.load].append(one)
    ordered = sorted(by_load.items(), key=lambda item: (item[0].command, item[0].depth, item[0].connections))
    return {
        "value_bytes": VALUE_BYTES,
        "connections": CONNECTIONS,
        "blocks": measured.settings.lengths.stretches,
        "cells": [{**msgspec.to_builtins(load), **_rates(stretches)} for load, stretches in ordered],
        "benchmark": measured.benchmark,
    }


def _rates(stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Return operations a second by the clock, and a second of CPU time of the Redis process."""
    spent = [one.cpu_seconds for one in stretches]
    core = [one.operations / cpu for one, cpu in zip(stretches, spent, strict=True) if cpu]
    known = len(core) == len(stretches)
    return {
        "per_second": _plain(mean_of_blocks([one.operations / one.seconds for one in stretches])),
        "per_core_second": _plain(mean_of_blocks(core)) if known else None,
        "busy": float(sum(filter(None, spent)) / sum(one.seconds for one in stretches)) if known else None,
    }


# --- native types ----------------------------------------------------------------------------------------------------


def _types(measured: Measured) -> dict[str, Any] | None:
    if not measured.changes or not measured.races:
        return None
    races = {race.way: race for race in measured.races}
    ways = {}
    for way in (way.name for way in WAYS):
        own = [change for change in measured.changes if change.way == way]
        race = races[way]
        ways[way] = {
            **_means([(change.sent, change.received) for change in own]),
            "mean_ms": _plain(_mean_by_block((change.block, change.taken_ms) for change in own)),
            "kinds": {
                kind: _means([(change.sent, change.received) for change in own if change.kind == kind])
                for kind in KINDS
            },
            "confirmed": race.confirmed,
            "lost": sum(race.lost.values()),
            "lost_by_kind": race.lost,
        }
    return {
        "bytes": SESSION_BYTES,
        "writers": WRITERS,
        "changes_each": CHANGES,
        "sessions": measured.settings.lengths.races,
        "ways": ways,
    }


def _means(counts: Sequence[tuple[int, int]]) -> dict[str, float]:
    sent, received = np.mean(counts, axis=0)
    return {"sent_bytes": float(sent), "received_bytes": float(received)}


def _mean_by_block(values: Iterable[tuple[int, float]]) -> Interval | None:
    by_block: dict[int, list[float]] = defaultdict(list)
    for block, value in values:
        by_block[block].append(value)
    return mean_of_blocks([float(np.mean(own)) for own in by_block.values()])


def _plain(value: Interval | None) -> Any:
    return None if value is None else msgspec.to_builtins(value)


# --- samples ---------------------------------------------------------------------------------------------------------


NO_LINK = "no link"
"""In the samples, behind the name of a cell that was timed in the blocks with links, but through none."""


def _columns(near: Sequence[Slice], distant: Sequence[Slice]) -> samples.Samples:
    """Return every timed call: the arm is the cell, what was done its operation.

    A cell without a link is timed in both parts, in blocks of their own: two arms, or nobody could tell them apart.
    """
    slices = [*near, *distant]
    names = [one.cell.name for one in near]
    names += [one.cell.name if one.cell.round_trip_ms is not None else f"{one.cell.name} {NO_LINK}" for one in distant]
    arms = sorted(set(names))
    fs = sorted({str(one.cell.operation) for one in slices})
    lengths = [len(one.taken_ms) for one in slices]
    rows = sum(lengths)

    def column(values: Sequence[int]) -> Any:
        return np.repeat(np.array(values, dtype=np.int64), lengths)

    taken = np.concatenate([one.taken_ms for one in slices]) if slices else np.empty(0)
    return samples.Samples(
        arms=np.array(arms, dtype=np.str_),
        fs=np.array(fs, dtype=np.str_),
        server_names=np.array([], dtype=np.str_),
        arm=column([arms.index(name) for name in names]),
        block=column([one.block for one in slices]),
        position=column([one.position for one in slices]),
        twin=np.zeros(rows, dtype=np.bool_),
        f=column([fs.index(str(one.cell.operation)) for one in slices]),
        intended_s=np.zeros(rows),
        latency_ms=taken,
        service_ms=taken,
        slowness=np.ones(rows),
        lateness_ms=np.zeros(rows),
        ok=np.ones(rows, dtype=np.bool_),
        failed=np.zeros(rows, dtype=np.bool_),
        server=np.full(rows, -1, dtype=np.int64),
    )
