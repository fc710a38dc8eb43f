"""Timed blocks: one short slice of load on every arm, in a balanced order, again and again.

All arms are up all the time and one generator drives them in turn; within a block every arm gets the same plan, so
that what the machine does over seconds falls on all of them alike and pairs away. A block is measured again when one
of its slices broke a rule that was fixed beforehand and that knows nothing of latency (see `broken_rule`).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab.probes.cpu import machine_time
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.measuring.place import Place, Shop
    from lab.probes.cpu import CpuMeter
    from loadtests.client import Generator
    from loadtests.plans import Plan

LATENESS_LIMIT_MS = 10.0
"""A slice whose requests left later than this (95th percentile, tab idle) measured the generator. A slice has too few
requests for the 99th: that would be the one that was unluckiest."""

FOREIGN_LIMIT = 0.25
"""Share of the machine's CPU time that other programs may use during a slice."""

TWIN = " again"
"""Behind the baseline's name, this marks its repeated slice in an order."""

STEAL_LIMIT = 0.02
"""Share of the machine's CPU time that other virtual machines may take during a slice."""

REDO_SHARE = 0.2
"""At most so many measurements are made again, as a share of the blocks; after that a broken rule is a warning."""

TRIES = 3
"""No block is measured more often, so that a bad minute does not use up what is meant for the whole run."""

_log = logging.getLogger("lab.timed")


class Slice(msgspec.Struct):
    """One stretch of load on one arm.

    Attributes:
        arm: which arm.
        twin: the repeated slice of the baseline, by shoppers of its own.
        block: in which block, from 0.
        position: place within the block, from 0.
        operations: every request.
        scheduled: requests that the plan wanted.
        sent: requests that left.
        cpu: CPU seconds by component: `servers`, `store`, `balancer`, and with containers `idle` (those of other
            strategies) and `engine` (the container engine itself); empty where they cannot be told of a slice.
        drain_seconds: time until the servers had no more to tell each other.
        lateness_ms: how late requests left though their tab was idle.
        foreign: share of the machine's CPU time that went to other programs; 0 where `cpu` is empty, since what is
            not known to be the arm's could be anybody's.
        steal: share that went to other virtual machines.
        wall_seconds: from the first request to the last answer.
        generator_cpu: CPU seconds of the load generator meanwhile.
    """

    arm: str
    twin: bool
    block: int
    position: int
    operations: list[Operation]
    scheduled: int
    sent: int
    cpu: dict[str, float]
    drain_seconds: float
    lateness_ms: list[float]
    foreign: float
    steal: float
    wall_seconds: float = 0.0
    generator_cpu: float = 0.0


class TimedRun(msgspec.Struct):
    """What the timed blocks gave.

    Attributes:
        slices: those that count.
        discarded: those of blocks that were measured again. Their effects are in the carts, so the history has them.
        redone: how many blocks were measured again.
        warnings: rules that stayed broken because the redo budget was used up.
    """

    slices: list[Slice]
    discarded: list[Slice]
    redone: int
    warnings: list[str]


def broken_rule(piece: Slice) -> str | None:
    """Return which rule a slice broke, or None. No rule looks at latency, so none can favour an arm."""
    late = float(np.percentile(piece.lateness_ms, 95)) if piece.lateness_ms else 0.0
    if not piece.scheduled == piece.sent == len(piece.operations):
        return f"scheduled {piece.scheduled}, sent {piece.sent}, recorded {len(piece.operations)} requests"
    if late > LATENESS_LIMIT_MS:
        return f"the generator was {late:.0f} ms late (limit {LATENESS_LIMIT_MS:.0f} ms)"
    if piece.foreign > FOREIGN_LIMIT:
        return f"other programs used {100 * piece.foreign:.0f} % of the CPU (limit {100 * FOREIGN_LIMIT:.0f} %)"
    if piece.steal > STEAL_LIMIT:
        return f"other virtual machines took {100 * piece.steal:.1f} % of the CPU (limit {100 * STEAL_LIMIT:.0f} %)"
    return None


class Stage:
    """Measures slices: knows the generator, the clusters and their processes.

    Args:
        lab: the engines.
        generator: the load.
        clusters: arm to the cluster that serves it.
        meter: makes the meter of an arm's CPU time; by default one with the components of `Slice.cpu`, or none.
    """

    def __init__(
        self,
        lab: Place[Any],
        generator: Generator,
        clusters: Mapping[str, Shop],
        meter: Callable[[Any, Any], CpuMeter | None] = lambda _, cluster: cluster.cpu_meter(),
    ) -> None:
        self._lab = lab
        self._generator = generator
        self._clusters = clusters
        self._meters = {arm: meter(lab, cluster) for arm, cluster in clusters.items()}

    def measure(self, slot: str, plan: Plan, block: int, position: int) -> Slice:
        """Send one plan to one arm, drain it, and account for what everybody did meanwhile.

        Args:
            slot: the arm; with `TWIN` behind it, the repeated slice.
            plan: what is sent.
            block: number of the block.
            position: place within the block.

        Raises:
            LabError: an engine or a server has ended meanwhile.
        """
        arm, twin = slot.removesuffix(TWIN), slot.endswith(TWIN)
        meter, cluster = self._meters[arm], self._clusters[arm]
        if meter:
            meter.read()
        machine, own = machine_time(), time.process_time()
        result = self._generator.run([(arm, plan.as_twin() if twin else plan)])
        self._lab.check()
        drain_seconds = cluster.quiet()
        cpu = meter.read() if meter else {}
        now = machine_time()
        spent = sum(cpu.values()) + result.process_cpu_seconds + time.process_time() - own
        total = max(now.total - machine.total, 1e-9)
        return Slice(
            arm=arm,
            twin=twin,
            block=block,
            position=position,
            operations=[_placed(operation, block) for operation in result.operations],
            scheduled=result.scheduled,
            sent=result.sent,
            cpu=cpu,
            drain_seconds=drain_seconds,
            lateness_ms=list(result.lateness_ms),
            foreign=max(0.0, now.busy - machine.busy - spent) / total if meter else 0.0,
            steal=(now.steal - machine.steal) / total,
            wall_seconds=result.wall_seconds,
            generator_cpu=result.process_cpu_seconds,
        )


def _placed(operation: Operation, block: int) -> Operation:
    operation.block = block
    return operation


def measure_blocks(
    stage: Stage,
    order: Sequence[Sequence[str]],
    next_plan: Callable[[], Plan],
    on_block: Callable[[], None] = lambda: None,
) -> TimedRun:
    """Measure every block of `order`, again where a rule was broken.

    Args:
        stage: where slices are measured.
        order: for each block, its slots in order: arms, and the baseline again.
        next_plan: the plan of the next attempt; each attempt needs its own, because no effect can be had twice.
        on_block: called after each block that counts.
    """
    run = TimedRun([], [], 0, [])
    budget = int(np.ceil(REDO_SHARE * len(order)))
    for block, slots in enumerate(order):
        for attempt in range(1, TRIES + 1):
            plan = next_plan()
            slices = [stage.measure(slot, plan, block, position) for position, slot in enumerate(slots)]
            broken = next((f"{s.arm}: {rule}" for s in slices if (rule := broken_rule(s))), None)
            if broken is None or attempt == TRIES or run.redone >= budget:
                break
            run.redone += 1
            run.discarded += slices
            _log.info("block %d is measured again: %s", block, broken)
        if broken is not None:
            run.warnings.append(f"block {block}, {broken}")
        run.slices += slices
        on_block()
    return run
