"""How much load an arm carries before one request in twenty takes longer than a limit: searched for, not calculated.

First a ladder: every arm at the same loads, one level after another, until each has missed the limit twice in a row.
Then passes: in each, every arm halves its bracket of loads a few times. Within a level or a step the arms come right
after one another, so that what the machine does over seconds hits all alike, and passes are pairs.
"""

from __future__ import annotations

from math import ceil, log, sqrt
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from lab import statistics
from lab.measuring.columns import is_failed
from lab.measuring.order import balanced_order
from lab.measuring.timed import FOREIGN_LIMIT, REDO_SHARE, STEAL_LIMIT, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from lab.measuring.timed import Stage
    from loadtests.plans import Plan
    from loadtests.recorder import Operation

    NextPlan = Callable[[str, int, float, float], Plan]
    """From arm, number of the slice, load in requests/s and seconds to the plan of a slice."""

LIMIT_MS = 50.0
"""What the 95th percentile of latency must stay below."""

LEAST_REQUESTS = 300
"""A slice has about so many at least: one in twenty of them are fifteen."""

COMPONENTS = ("servers", "store", "balancer", "generator")

Outcome = Literal["kept", "missed", "generator"]
"""Whether a slice kept the limit; `generator`: it did not, but the load generator, not the arm, was at its end."""

_MISSES = 2
"""So many levels in a row without keeping the limit end an arm's ladder; one may be bad luck."""

_HOPELESS = 10
"""A 95th percentile of so many limits ends it at once: the next level would only wait longer."""

GENERATOR_FULL = 0.9
"""Share of one CPU at which the generator, a process of one thread, has nothing left. Where it is late although it has,
it waits for a CPU like everybody: that is a full machine, the generator on it."""

_IN_VAIN = 4
"""So many slices in a row that were measured again and disturbed again: that is no bad moment, it is the machine."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How thoroughly to search.

    Attributes:
        start_rps: the ladder's first load, in requests/s.
        factor: from one level to the next.
        slice_seconds: how long a load must be kept up; longer where `LEAST_REQUESTS` need longer.
        passes: how often each arm's bracket is searched; at least 8 make an interval.
        steps: halvings of the bracket in a pass.
        most_rps: no load beyond this.
        limit_ms: what the 95th percentile must stay below.
    """

    start_rps: float = 200.0
    factor: float = 1.3
    slice_seconds: float = 1.2
    passes: int = 8
    steps: int = 3
    most_rps: float = 20_000.0
    limit_ms: float = LIMIT_MS

    def seconds(self, load_rps: float) -> float:
        """Return how long a slice at a load is."""
        return max(self.slice_seconds, LEAST_REQUESTS / load_rps)


class Point(msgspec.Struct, kw_only=True):
    """What one slice at one load showed.

    Attributes:
        arm: which.
        block: number of the slice in the search, from 0.
        part: `ladder` or `pass`.
        turn: number of the level, or of the pass, from 0.
        load_rps: what was offered.
        requests: that were sent, all of them.
        failed: of these, without an answer or answered with 5xx.
        latency_ms: `p50`, `p95`, `p99` from the intended start; a failed request counts as one that never ends, so
            that None stands for a percentile that fell on one.
        completed_rps: requests divided by the time until the last was answered.
        overrun_seconds: how long answers went on coming after the last request was due.
        held: share of the requests whose shopper was still waiting for an earlier answer when they were due.
        late_ms: 95th percentile of how late the generator sent what it could have sent in time.
        cpu_ms: CPU time per request by component, the generator's included.
        busy: share of all CPUs' time that was used, other programs included.
        generator_busy: share of one CPU that the generator used.
        foreign: share of all CPUs' time that other programs used.
        steal: share that other virtual machines took.
        outcome: whether the limit was kept.
    """

    arm: str
    block: int
    part: str
    turn: int
    load_rps: float
    requests: int
    failed: int
    latency_ms: dict[str, float | None]
    completed_rps: float
    overrun_seconds: float
    held: float
    late_ms: float
    cpu_ms: dict[str, float]
    busy: float
    generator_busy: float
    foreign: float
    steal: float
    outcome: Outcome


class Found(msgspec.Struct):
    """What a search gave.

    Attributes:
        points: one per slice that counts, in the order of measurement.
        slices: the slices themselves, likewise.
        passes: arm to its final brackets, a pair of loads (kept, missed) per pass.
        redone: slices that were measured again because other programs took the CPU.
    """

    points: list[Point]
    slices: list[Slice]
    passes: dict[str, list[tuple[float, float]]]
    redone: int


def latencies_ms(operations: Iterable[Operation]) -> NDArray[np.float64]:
    """Return each request's latency from its intended start, without the generator's own lateness; failed: infinite."""
    return np.array(
        [
            np.inf if is_failed(one) else (one.t1_ns - (one.t0_ns if one.slept else one.intended_ns)) / 1e6
            for one in operations
        ]
    )


def percentiles_ms(latencies: NDArray[np.float64]) -> dict[str, float | None]:
    """Return p50, p95 and p99; None where one falls on a request that failed, or there is none."""
    if not len(latencies):
        return dict.fromkeys(statistics.PERCENTILES)
    found = {
        name: float(np.quantile(latencies, p, method="inverted_cdf")) for name, p in statistics.PERCENTILES.items()
    }
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def search(
    stage: Stage,
    arms: Sequence[str],
    next_plan: NextPlan,
    how: Search,
    *,
    seed: int = 1,
    cpus: int = 1,
    on_slice: Callable[[str, float], None] = lambda _arm, _load: None,
) -> Found:
    """Search for every arm's capacity; plans end, so every slice does, whatever the load.

    Args:
        stage: where slices are measured; knows all arms.
        arms: their names.
        next_plan: gives the plan of a slice; no number comes twice.
        how: how thoroughly.
        seed: of the order of the arms.
        cpus: that the machine has.
        on_slice: called before each slice with its arm and load.
    """
    measure = _Measure(stage, next_plan, how, cpus, on_slice)
    _climb(measure, arms, how, seed)
    _narrow(measure, arms, how, seed)
    return measure.found


class _Measure:
    """Measures slices and keeps what they gave."""

    def __init__(
        self, stage: Stage, next_plan: NextPlan, how: Search, cpus: int, on_slice: Callable[[str, float], None]
    ) -> None:
        self._stage, self._next_plan, self._how, self._cpus, self._on_slice = stage, next_plan, how, cpus, on_slice
        self._block = self._in_vain = 0
        self.found = Found([], [], {}, 0)

    def __call__(self, arm: str, part: str, turn: int, load_rps: float, position: int) -> Point:
        """Measure one slice, once more where other programs took the CPU and that did not happen too often yet."""
        point, piece = self._once(arm, part, turn, load_rps, position)
        affordable = self.found.redone < 1 + REDO_SHARE * len(self.found.points) and self._in_vain < _IN_VAIN
        if disturbed(point) and affordable:
            self.found.redone += 1
            point, piece = self._once(arm, part, turn, load_rps, position)
            self._in_vain = self._in_vain + 1 if disturbed(point) else 0
        self.found.points.append(point)
        self.found.slices.append(piece)
        return point

    def _once(self, arm: str, part: str, turn: int, load_rps: float, position: int) -> tuple[Point, Slice]:
        self._on_slice(arm, load_rps)
        plan = self._next_plan(arm, self._block, load_rps, self._how.seconds(load_rps))
        piece = self._stage.measure(arm, plan, self._block, position)
        self._block += 1
        point = point_of(
            piece,
            part=part,
            turn=turn,
            load_rps=load_rps,
            seconds=plan.seconds,
            cpus=self._cpus,
            limit_ms=self._how.limit_ms,
        )
        _lighten(piece)
        return point, piece


def _lighten(piece: Slice) -> None:
    """Let go of what the answers showed: a search has hundreds of thousands of them, and asks for none."""
    for operation in piece.operations:
        operation.cart = operation.quantities = operation.recent = None


def disturbed(point: Point) -> bool:
    """Say whether others had too much of the machine. This knows nothing of latency, so it favours no arm."""
    return point.foreign > FOREIGN_LIMIT or point.steal > STEAL_LIMIT


def point_of(
    piece: Slice, *, part: str, turn: int, load_rps: float, seconds: float, cpus: int, limit_ms: float
) -> Point:
    """Sum a slice up.

    Args:
        piece: the slice.
        part: `ladder` or `pass`.
        turn: number of the level or pass.
        load_rps: what was offered.
        seconds: the plan's length.
        cpus: that the machine has.
        limit_ms: what the 95th percentile must stay below.
    """
    requests = len(piece.operations)
    spent = {**piece.cpu, "generator": piece.generator_cpu}
    wall = max(piece.wall_seconds, 1e-9)
    late = [late for late in piece.lateness_ms if np.isfinite(late)]
    planned = [one for one in piece.operations if not one.follow and not one.attempt]
    point = Point(
        arm=piece.arm,
        block=piece.block,
        part=part,
        turn=turn,
        load_rps=load_rps,
        requests=requests,
        failed=sum(is_failed(one) for one in piece.operations),
        latency_ms=percentiles_ms(latencies_ms(piece.operations)),
        completed_rps=requests / wall,
        overrun_seconds=max(0.0, wall - seconds),
        held=sum(not one.slept for one in planned) / max(len(planned), 1),
        late_ms=float(np.quantile(late, 0.95)) if late else 0.0,
        cpu_ms={name: 1000 * spent[name] / max(requests, 1) for name in COMPONENTS},
        busy=min(1.0, sum(spent.values()) / (wall * cpus) + piece.foreign),
        generator_busy=piece.generator_cpu / wall,
        foreign=piece.foreign,
        steal=piece.steal,
        outcome="kept",
    )
    point.outcome = _outcome(point, limit_ms)
    return point


def _outcome(point: Point, limit_ms: float) -> Outcome:
    p95 = point.latency_ms["p95"]
    if p95 is not None and p95 < limit_ms:
        return "kept"
    return "generator" if point.generator_busy > GENERATOR_FULL else "missed"


def _climb(measure: _Measure, arms: Sequence[str], how: Search, seed: int) -> None:
    """Offer every arm one level after another, those that are past their knee no further."""
    climbing, missed, level, load = list(arms), dict.fromkeys(arms, 0), 0, how.start_rps
    while climbing and load <= how.most_rps:
        (order,) = balanced_order(climbing, 1, seed + level)
        for position, arm in enumerate(order):
            point = measure(arm, "ladder", level, load, position)
            missed[arm] = 0 if point.outcome == "kept" else missed[arm] + 1
            p95 = point.latency_ms["p95"]
            if missed[arm] == _MISSES or (missed[arm] and (p95 is None or p95 > _HOPELESS * how.limit_ms)):
                climbing.remove(arm)
        level, load = level + 1, load * how.factor


def bracket(points: Iterable[Point]) -> tuple[float | None, float | None]:
    """Return the last load of an arm's ladder that kept the limit and the first one above that did not, if any."""
    ladder = [point for point in points if point.part == "ladder"]
    kept = max((point.load_rps for point in ladder if point.outcome == "kept"), default=None)
    missed = [point.load_rps for point in ladder if point.outcome != "kept" and point.load_rps > (kept or 0)]
    return kept, min(missed, default=None)


def _narrow(measure: _Measure, arms: Sequence[str], how: Search, seed: int) -> None:
    """Search each arm's bracket, a bit widened: that of the ladder was found in a single try."""
    widened = sqrt(how.factor)
    brackets: dict[str, tuple[float, float]] = {}
    for arm in arms:
        own = [point for point in measure.found.points if point.arm == arm]
        kept, missed = bracket(own)
        if missed is not None and not generator_first(own):
            brackets[arm] = ((kept or missed / how.factor**2) / widened, min(missed * widened, how.most_rps))
    measure.found.passes = {arm: [] for arm in brackets}
    for turn in range(how.passes):
        now = dict(brackets)
        for step in range(how.steps):
            if not now:
                return
            (order,) = balanced_order(list(now), 1, seed + 1000 * (turn + 1) + step)
            for position, arm in enumerate(order):
                low, high = now[arm]
                middle = sqrt(low * high)
                kept = measure(arm, "pass", turn, middle, position).outcome == "kept"
                now[arm] = (middle, high) if kept else (low, middle)
        for arm, ends in now.items():
            measure.found.passes[arm].append(ends)
            brackets[arm] = _moved(brackets[arm], ends)


def _moved(whole: tuple[float, float], ends: tuple[float, float]) -> tuple[float, float]:
    """Return the bracket of the next pass: moved by half its width where this pass ran into an end of it.

    The machine has changed since the ladder, or the ladder's single tries were bad luck. Unmoved, pass after pass would
    end there, and agree with each other about what none of them has tried.
    """
    by = sqrt(whole[1] / whole[0])
    if ends[0] == whole[0]:
        return whole[0] / by, whole[1] / by
    return (whole[0] * by, whole[1] * by) if ends[1] == whole[1] else whole


def generator_first(points: Iterable[Point]) -> bool:
    """Say whether at least half of the misses were the generator's."""
    missed = [point.outcome for point in points if point.outcome != "kept"]
    return bool(missed) and missed.count("generator") * 2 >= len(missed)


def slices_planned(how: Search, arms: int) -> int:
    """Return about how many slices a search takes on a machine that carries 1,500 requests/s."""
    levels = ceil(log(1500 / how.start_rps) / log(how.factor)) + _MISSES
    return arms * (levels + how.passes * how.steps)
