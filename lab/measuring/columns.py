"""Requests in columns: from what the load recorded to `lab.samples`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab import samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.probes.pace import Pace
    from loadtests.recorder import Operation

_SERVER_ERROR = 500


def columns_of(rows: Sequence[tuple[int, Operation]], pace: Pace | None = None) -> samples.Samples:
    """Put requests into columns.

    Args:
        rows: each request with the position of its slice in its block; -1 for requests that belong to no block.
        pace: of the machine meanwhile; without it every request has a slowness of 1.
    """
    operations = [operation for _, operation in rows]
    arms, arm = _coded(operation.arm for operation in operations)
    fs, f = _coded(operation.f for operation in operations)
    servers, server = _coded(operation.server or "-" for operation in operations)
    sent = np.array([operation.t0_ns for operation in operations]) / 1e9
    answered = np.array([operation.t1_ns for operation in operations]) / 1e9
    service = np.array([operation.t1_ns - operation.t0_ns for operation in operations]) / 1e6
    late = np.array([operation.t0_ns - operation.intended_ns for operation in operations]) / 1e6
    block = np.array([operation.block if position >= 0 else -1 for position, operation in rows])
    slept = np.array([operation.slept for operation in operations])
    starts = _slice_starts(operations)
    slowness = np.ones(len(rows)) if pace is None else np.where(block >= 0, pace.slowness(sent, answered), 1.0)
    return samples.Samples(
        arms=arms,
        fs=fs,
        server_names=servers,
        arm=arm,
        block=block,
        position=np.array([position for position, _ in rows]),
        twin=np.array([operation.twin for operation in operations]),
        f=f,
        intended_s=np.array([(o.intended_ns - starts[_slice_of(o)]) / 1e9 for o in operations]),
        latency_ms=np.where(slept, service, service + late),
        service_ms=service,
        slowness=slowness,
        lateness_ms=np.where(slept, late, np.nan),
        ok=np.array([operation.outcome == "ok" for operation in operations]),
        failed=np.array([is_failed(operation) for operation in operations]),
        server=server,
    )


def _coded(names: Iterable[str]) -> tuple[Any, Any]:
    values, index = np.unique(np.array(list(names), dtype=np.str_), return_inverse=True)
    return values, index


def _slice_of(operation: Operation) -> tuple[str, bool, int]:
    return operation.arm, operation.twin, operation.block


def _slice_starts(operations: Iterable[Operation]) -> dict[tuple[str, bool, int], int]:
    starts: dict[tuple[str, bool, int], int] = {}
    for operation in operations:
        key = _slice_of(operation)
        starts[key] = min(starts.get(key, operation.intended_ns), operation.intended_ns)
    return starts


def is_failed(operation: Operation) -> bool:
    """Say whether a request failed: a transport error or a 5xx. A 401 from a lost session is a finding, no failure."""
    return operation.status == 0 or operation.status >= _SERVER_ERROR
