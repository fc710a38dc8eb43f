"""The search for a capacity, on arms whose capacity is known because they are made up."""

from __future__ import annotations

import pytest

from lab.measuring import capacity as c
from lab.measuring import knee
from lab.measuring.timed import Slice
from loadtests.plans import Plan
from loadtests.recorder import Operation

MS = 1_000_000


def operation(latency_ms, *, number=0, slept=True, late_ms=0.0, status=200, follow=False):
    """Make up a request that fell due at 1 s, left `late_ms` later, and was answered `latency_ms` after that."""
    intended = 1_000 * MS
    sent = intended + round(late_ms * MS)
    return Operation(
        i=number, arm="redis", strategy="redis", scenario="shopping", phase="main", shopper="s1", tab=0, f="view",
        intended_ns=intended, t0_ns=sent, t1_ns=sent + round(latency_ms * MS), slept=slept, follow=follow,
        outcome="ok" if status == 200 else "fail", status=status,
    )  # fmt: skip


class Stage:
    """Answers within 5 ms up to an arm's capacity and within 300 ms beyond it; notes what it is asked.

    A load of 1,000 requests/s keeps 1 ms of CPU time per request busy all the time on one CPU.
    """

    def __init__(self, capacities, *, generator=0.2, foreign=()):
        self.capacities, self.generator, self.foreign = capacities, generator, list(foreign)
        self.asked = []

    def measure(self, arm, plan, block, position):
        """Make up a slice."""
        load = float(plan.scenario)
        self.asked.append((arm, block, position, load, plan.seconds))
        latency = 5.0 if load < self.capacities[arm] else 300.0
        requests = 400
        return Slice(
            arm=arm, twin=False, block=block, position=position,
            operations=[operation(latency, number=n) for n in range(requests)],
            scheduled=requests, sent=requests, cpu={"servers": 0.3, "store": 0.06, "balancer": 0.04},
            drain_seconds=0.0, lateness_ms=[0.2] * requests, foreign=self.foreign.pop(0) if self.foreign else 0.0,
            steal=0.0, wall_seconds=requests / load, generator_cpu=self.generator * requests / load,
        )  # fmt: skip


def next_plan(_arm, number, load_rps, seconds):
    """Make up a plan that names its load."""
    return Plan(scenario=repr(load_rps), block=number, seconds=seconds, requests=[])


HOW = c.Search(start_rps=100, factor=1.5, slice_seconds=1.0, passes=8, steps=3)


def search(capacities, how=HOW, **more):
    """Search on made-up arms; return the stage and what was found."""
    stage = Stage(capacities, **more)
    return stage, c.search(stage, list(capacities), next_plan, how, cpus=2)


@pytest.mark.parametrize("truth", [130, 480, 1000, 2200])
def test_a_known_capacity_is_found(truth):
    """The bracket holds it, and is as narrow as ladder and steps can make it."""
    _, found = search({"redis": truth})
    carried = knee.capacity(found, "redis", HOW)
    assert carried.bound == "between"
    assert carried.kept_rps < truth <= carried.missed_rps
    assert carried.missed_rps / carried.kept_rps == pytest.approx((1.5 * 1.5) ** (1 / 8))
    assert carried.estimate == pytest.approx(truth, rel=0.11)
    assert carried.low <= carried.estimate <= carried.high
    assert len(carried.passes) == 8


def test_one_pass_gives_a_bracket_and_no_interval():
    """Eight are needed: fewer would flatter."""
    how = c.Search(start_rps=100, factor=1.5, passes=1, steps=3)
    _, found = search({"redis": 480}, how)
    carried = knee.capacity(found, "redis", how)
    assert (carried.low, carried.high) == (None, None)
    assert carried.kept_rps < 480 <= carried.missed_rps


def test_a_capacity_that_moves_is_followed():
    """A pass that runs into an end of its bracket moves the next one's: passes do not agree on what none has tried."""

    class Slowing(Stage):
        def measure(self, arm, plan, block, position):
            self.capacities[arm] = 1000 if len(self.asked) < 9 else 300
            return super().measure(arm, plan, block, position)

    stage = Slowing({"redis": 1000})
    found = c.search(stage, ["redis"], next_plan, HOW, cpus=2)
    last = found.passes["redis"][-1]
    assert last[0] < 300 <= last[1]
    first, *_ = found.passes["redis"]
    assert first[0] > 600
    carried = knee.capacity(found, "redis", HOW)
    assert carried.low < 350 < carried.high


def test_arms_are_measured_right_after_one_another():
    """At each level, and at each step of a pass, every arm once, in changing order, each slice with its own number."""
    stage, found = search({"sticky": 700, "redis": 480})
    pairs = list(zip(stage.asked[::2], stage.asked[1::2], strict=False))
    levels = [pair for pair in pairs if pair[0][3] == pair[1][3]]
    assert len(levels) >= 5
    assert all({arm for arm, *_ in pair} == {"sticky", "redis"} for pair in levels)
    assert len({pair[0][0] for pair in pairs}) == 2
    assert len({block for _, block, *_ in stage.asked}) == len(stage.asked)
    ratio = knee.capacity_ratio(found, "redis", "sticky")
    assert ratio.estimate == pytest.approx(480 / 700, rel=0.11)
    assert ratio.low is not None


def test_an_arm_past_its_knee_is_driven_no_further():
    """Two levels in a row end its ladder; the other one goes on."""
    stage, found = search({"sticky": 2000, "redis": 200}, c.Search(start_rps=100, factor=1.5, passes=0))
    assert max(load for arm, _, _, load, _ in stage.asked if arm == "redis") == pytest.approx(100 * 1.5**3)
    assert max(load for arm, _, _, load, _ in stage.asked if arm == "sticky") > 2000
    carried = knee.capacity(found, "redis", HOW)
    assert (carried.bound, carried.kept_rps, carried.missed_rps) == ("at least", pytest.approx(150), pytest.approx(225))


def test_one_missed_level_is_not_the_end():
    """A level that is kept after a missed one counts: the missed one was bad luck."""
    points = [
        point(load, outcome) for load, outcome in ((100, "kept"), (150, "missed"), (225, "kept"), (340, "missed"))
    ]
    assert c.bracket(points) == (225, 340)
    assert c.bracket(points[:1]) == (100, None)
    assert c.bracket(points[1:2]) == (None, 150)


def test_an_arm_that_keeps_no_load_is_searched_for_below():
    """A first level that is too much already does not end the search."""
    _, found = search({"redis": 80})
    carried = knee.capacity(found, "redis", HOW)
    assert carried.kept_rps < 80 <= carried.missed_rps


def test_a_ladder_that_ends_before_the_knee_gives_a_lower_bound():
    """No load beyond the most that was asked for."""
    how = c.Search(start_rps=100, factor=1.5, most_rps=300)
    stage, found = search({"redis": 10_000}, how)
    carried = knee.capacity(found, "redis", how)
    assert (carried.bound, carried.estimate, carried.by_generator) == ("at least", pytest.approx(225), False)
    assert max(load for *_, load, _ in stage.asked) <= 300


def test_a_generator_at_its_end_gives_a_lower_bound_too():
    """What it cannot offer says nothing about the arm."""
    _, found = search({"redis": 480}, generator=0.97)
    carried = knee.capacity(found, "redis", HOW)
    assert {point.outcome for point in found.points} == {"kept", "generator"}
    assert (carried.bound, carried.by_generator, carried.passes) == ("at least", True, [])
    assert carried.estimate == pytest.approx(100 * 1.5**3)
    assert knee.capacity_ratio(found, "redis", "redis") is None


def test_a_disturbed_slice_is_measured_again_within_bounds():
    """Once each; in all no more than a fifth of the slices and one; and not for ever where it does not help."""
    stage, found = search({"redis": 480}, foreign=[0.9])
    assert found.redone == 1
    assert len(stage.asked) == len(found.points) + 1
    assert not any(c.disturbed(point) for point in found.points)
    stage, found = search({"redis": 480}, foreign=[0.9] * 1000)
    assert found.redone == 4
    assert all(c.disturbed(point) for point in found.points)


def test_a_slice_of_little_load_lasts_until_it_has_enough_requests():
    """At 100 requests/s, 1 s would not do."""
    assert HOW.seconds(100) == pytest.approx(3)
    assert HOW.seconds(5000) == 1.0


def test_latency_counts_from_the_intended_start_only_where_the_shopper_was_busy():
    """The generator's own lateness is left out; a failed request never ends."""
    operations = [
        operation(10, late_ms=7),
        operation(10, late_ms=7, slept=False),
        operation(10, status=503),
    ]
    assert list(c.latencies_ms(operations)) == [10, 17, float("inf")]
    told = c.percentiles_ms(c.latencies_ms(operations))
    assert told == {"p50": 17, "p95": None, "p99": None}
    assert set(c.percentiles_ms(c.latencies_ms([])).values()) == {None}


def point(load, outcome="kept", *, cpu=1.0, requests=100, part="ladder"):
    """Make up a point; `cpu` is what the servers need."""
    spent = {"servers": cpu, "store": 0.2, "balancer": 0.1, "generator": 0.3}
    return c.Point(
        arm="redis", block=0, part=part, turn=0, load_rps=load, requests=requests, failed=0,
        latency_ms={"p50": 1.0, "p95": 2.0, "p99": 3.0}, completed_rps=load, overrun_seconds=0.0, held=0.0, late_ms=0.1,
        cpu_ms=spent, busy=0.5, generator_busy=0.1, foreign=0.0, steal=0.0, outcome=outcome,
    )  # fmt: skip


def test_requests_that_fail_do_not_keep_a_limit():
    """One in ten failed, however quick the others: the 95th percentile falls on one of them."""
    piece = Stage({"redis": 1e9}).measure("redis", next_plan("redis", 0, 100.0, 1.0), 0, 0)
    piece.operations[:40] = [operation(1, status=503) for _ in range(40)]
    told = c.point_of(piece, part="ladder", turn=0, load_rps=100, seconds=4.0, cpus=2, limit_ms=50)
    assert (told.failed, told.latency_ms["p95"], told.outcome) == (40, None, "missed")
    assert told.cpu_ms == pytest.approx({"servers": 0.75, "store": 0.15, "balancer": 0.1, "generator": 2.0})


def test_a_request_whose_shopper_was_busy_is_held_and_one_that_follows_is_not():
    """A view that follows an add was never to be on time."""
    piece = Stage({"redis": 1e9}).measure("redis", next_plan("redis", 0, 100.0, 1.0), 0, 0)
    piece.operations = [operation(1), operation(1, slept=False), operation(1, slept=False, follow=True)]
    told = c.point_of(piece, part="ladder", turn=0, load_rps=100, seconds=1.0, cpus=2, limit_ms=50)
    assert told.held == 0.5


def test_cpu_time_is_read_near_the_capacity_and_near_half_of_it():
    """By requests, from the loads around; from the nearest load where there is none."""
    points = [point(100, cpu=3.0), point(500, cpu=2.0), point(900, cpu=1.0), point(1100, cpu=2.0, requests=300)]
    assert knee.cpu_at(points, "redis", 1000, knee=True)["servers"] == pytest.approx((1.0 * 100 + 2.0 * 300) / 400)
    assert knee.cpu_at(points, "redis", 1000, knee=False)["servers"] == 2.0
    assert knee.cpu_at(points, "redis", 10_000, knee=False)["servers"] == 2.0
    assert knee.cpu_at(points, "sticky", 1000, knee=True) is None


def test_the_utilisation_law_knows_what_comes_to_its_end_first():
    """All CPUs together; or web servers, balancer or generator, of one CPU each."""
    spent = {"servers": 1.0, "store": 0.2, "balancer": 0.3, "generator": 0.5}
    small = knee.bounds_rps(spent, cpus=2, servers=4)
    assert small == pytest.approx({"machine": 1000, "servers": 2000, "balancer": 1000 / 0.3, "generator": 2000})
    large = knee.bounds_rps(spent, cpus=64, servers=4)
    assert min(large, key=large.get) == "generator"
    alone = knee.bounds_rps({name: spent[name] for name in ("servers", "store", "balancer")}, cpus=64, servers=2)
    assert alone == pytest.approx({"machine": 64_000 / 1.5, "servers": 2000, "balancer": 1000 / 0.3})
    assert knee.bounds_rps(spent, cpus=2, servers=4, others=0.25)["machine"] == pytest.approx(750)
