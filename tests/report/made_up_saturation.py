"""A made-up saturation run: slices of arms with a known capacity, searched, judged and written as a real run would be.

No number here was measured. `sticky` carries most and `all-to-all` least, and the closed loop hides the freeze; a run
that is `opposite` has it the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab.experiments.saturation import experiment as saturation
from lab.experiments.saturation.findings import assemble
from lab.measuring.capacity import Search, search
from lab.measuring.timed import Slice
from lab.report import results as results_file
from loadtests.plans import Plan
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
CAPACITIES = {"sticky": 1100.0, "all-to-all": 520.0, "database": 830.0, "redis": 910.0}
CPU = {"sticky": 1.0, "all-to-all": 2.0, "database": 1.4, "redis": 1.2}
SEARCHES = {
    "default": Search(start_rps=200, factor=1.3, passes=8, steps=2),
    "quick": Search(start_rps=250, factor=1.5, slice_seconds=0.8, passes=1, steps=3),
    "short": Search(start_rps=200, factor=1.3, passes=8, steps=3, most_rps=300),
}


def write(
    folder: Path,
    *,
    strategies: tuple[str, ...] = tuple(CAPACITIES),
    how: str = "default",
    opposite: bool = False,
    frozen: bool = True,
    failing: bool = False,
    uncounted: tuple[str, ...] = (),
) -> Path:
    """Write the files of a made-up run into `folder` and return it.

    Args:
        folder: a run's folder; made if it is missing.
        strategies: which ones took part.
        how: the search's size, of `SEARCHES`.
        opposite: who carries most carries least, and the closed loop sees the freeze as the schedule does.
        frozen: whether a server was frozen.
        failing: whether requests fail beyond the knee.
        uncounted: engines that are not the lab's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = "quick" if how == "quick" else "default"
    chosen = saturation.settings(
        size=size, strategies=strategies, servers=4, seed=1, out=folder.parent, command="make <saturation>"
    )
    capacities = dict(zip(CAPACITIES, reversed(CAPACITIES.values()), strict=True)) if opposite else CAPACITIES
    stage = _Stage(capacities, failing=failing)
    found = search(stage, chosen.strategies, _next_plan, SEARCHES[how], cpus=2)
    machine = {"cpus": 2, "memory_bytes": 8_000_000_000, "platform": "made up"}
    measured = saturation.Measured(chosen, started="2026-01-01T00:00:00Z", machine=machine, seconds=61.0, found=found)
    measured.frozen = [_look(closed, opposite=opposite) for closed in (False, True)] if frozen else []
    measured.versions, measured.durability = {"python": "3.13.0"}, {"redis": "appendfsync everysec"}
    measured.uncounted = list(uncounted)
    results = assemble(measured, folder)
    results_file.write(folder, results)
    return folder


def _next_plan(_arm: str, number: int, load_rps: float, seconds: float) -> Plan:
    return Plan(scenario=repr(load_rps), block=number, seconds=seconds, requests=[])


class _Stage:
    """Waiting grows with the load as in a queue, a little differently each time."""

    def __init__(self, capacities: dict[str, float], *, failing: bool) -> None:
        self._capacities, self._failing = capacities, failing
        self._rng = np.random.default_rng(7)

    def measure(self, arm: str, plan: Plan, block: int, position: int) -> Slice:
        load = float(plan.scenario)
        requests = 1000 if arm == "redis" and load > 1000 else 60  # few make a test quick; a thousand carry p99
        full = load / self._capacities[arm] * float(self._rng.normal(1, 0.03))
        mean = 3 / max(1 - 0.85 * full, 0.02) if full < 1 else 60 + 900 * (full - 1)
        waits = self._rng.gamma(3, mean / 3, requests)
        failed = self._failing and full > 1.2
        spent = CPU[arm] * requests / 1000
        return Slice(
            arm=arm, twin=False, block=block, position=position, scheduled=requests, sent=requests,
            operations=[_operation(arm, n, wait, block, failed=failed and n % 8 == 0) for n, wait in enumerate(waits)],
            cpu={"servers": 0.8 * spent, "store": 0.12 * spent, "balancer": 0.08 * spent}, drain_seconds=0.0,
            lateness_ms=[15.0 if full > 1 else 0.3] * requests, foreign=0.02, steal=0.0,
            wall_seconds=requests / load * max(1.0, full), generator_cpu=0.25 * requests / 1000,
        )  # fmt: skip


def _operation(arm: str, number: int, wait_ms: float, block: int, **more: Any) -> Operation:
    failed = more.get("failed", False)
    due = 100 * SECOND + number * SECOND // 1000
    return Operation(
        i=number, arm=arm, strategy=arm, scenario="shopping", phase="main", block=block, shopper="s1", tab=0, f="view",
        intended_ns=due, t0_ns=due, t1_ns=due + round(wait_ms * 1e6), server="web-1",
        outcome="fail" if failed else "ok", status=503 if failed else 200,
    )  # fmt: skip


def _look(closed: bool, *, opposite: bool) -> saturation.Frozen:
    """Make up what a client saw: the schedule a fifth of its requests late, the closed loop four of them."""
    requests = 700 if closed else 1000
    late = 4 if closed and not opposite else 200
    waits = [1000.0 * (late - n) / late for n in range(late)] + [3.0 + n % 5 for n in range(requests - late)]
    operations = [_operation("frozen", n, wait, 0) for n, wait in enumerate(waits)]
    start = 100 * SECOND
    look = saturation.Frozen(closed, 0, operations, 0, start, start + 2 * SECOND, start + 3 * SECOND)
    return msgspec.structs.replace(look, omitted=300) if closed else look
