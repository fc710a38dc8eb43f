"""Timed blocks: rules that make a block be measured again, none of which knows latency."""

from __future__ import annotations

import pytest

from lab.measuring.timed import Slice, broken_rule, measure_blocks
from loadtests.recorder import Operation


def operation(i=0, took_ms=1.0):
    """Make up one request."""
    return Operation(
        i=i,
        arm="redis",
        strategy="redis",
        scenario="shopping",
        phase="main",
        shopper="s1",
        tab=0,
        f="view",
        intended_ns=0,
        t0_ns=0,
        t1_ns=int(took_ms * 1e6),
        outcome="ok",
        status=200,
    )


def piece(arm="redis", *, requests=10, took_ms=1.0, **more):
    """Make up a slice in which nothing went wrong, but for what is given."""
    usual = {
        "arm": arm,
        "twin": False,
        "block": 0,
        "position": 0,
        "operations": [operation(i, took_ms) for i in range(requests)],
        "scheduled": requests,
        "sent": requests,
        "cpu": {"servers": 0.1, "store": 0.0, "balancer": 0.0},
        "drain_seconds": 0.0,
        "lateness_ms": [0.2] * requests,
        "foreign": 0.01,
        "steal": 0.0,
    }
    return Slice(**{**usual, **more})


def test_a_quiet_slice_breaks_no_rule():
    """Nothing wrong, nothing to say."""
    assert broken_rule(piece()) is None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"sent": 9}, "scheduled 10, sent 9"),
        ({"scheduled": 11}, "scheduled 11"),
        ({"lateness_ms": [0.2] * 18 + [40.0] * 2}, "late"),
        ({"foreign": 0.4}, "other programs used 40 %"),
        ({"steal": 0.1}, "other virtual machines took 10.0 %"),
    ],
)
def test_each_rule_is_told(more, says):
    """A slice that the machine or the generator spoilt says how."""
    assert says in broken_rule(piece(**more))


def test_no_rule_knows_latency():
    """However slow the answers, the slice counts: slowness is what is measured."""
    assert broken_rule(piece(took_ms=30_000)) is None


class Stage:
    """Gives prepared slices, in turn."""

    def __init__(self, *spoilt):
        self.spoilt = set(spoilt)
        self.plans = []
        self.measured = 0

    def measure(self, slot, plan, block, position):
        """Hand out the next slice; spoil it if that was asked for."""
        self.plans.append(plan)
        foreign = 0.9 if self.measured in self.spoilt else 0.0
        self.measured += 1
        return piece(slot, block=block, position=position, foreign=foreign)


def measure(stage, blocks=10):
    """Measure blocks of two arms, with plans 0, 1, 2 and so on."""
    plans = iter(range(1000))
    return measure_blocks(stage, [["sticky", "redis"]] * blocks, lambda: next(plans))


def test_a_spoilt_block_is_measured_again_as_a_whole_with_a_fresh_plan():
    """Both arms are measured again, with one plan that neither has seen; the first try is kept apart."""
    stage = Stage(3)  # the second arm of the second block
    run = measure(stage)

    assert run.redone == 1
    assert run.warnings == []
    assert [(s.block, s.arm) for s in run.slices] == [(b, arm) for b in range(10) for arm in ("sticky", "redis")]
    assert [(s.block, s.arm) for s in run.discarded] == [(1, "sticky"), (1, "redis")]
    assert stage.plans == [plan for plan in range(11) for _ in range(2)]


def test_when_the_budget_is_used_up_a_broken_rule_is_a_warning():
    """A fifth of the blocks may be measured again; then the run goes on, and says so."""
    run = measure(Stage(*range(1000)))

    assert run.redone == 2
    assert [s.block for s in run.discarded] == [0, 0, 0, 0]
    assert len(run.slices) == 20
    assert len(run.warnings) == 10
    assert "block 0" in run.warnings[0]


def test_one_bad_block_does_not_use_up_the_whole_budget():
    """A block is tried three times at most."""
    run = measure(Stage(*range(1000)), blocks=40)

    assert run.redone == 8
    assert [s.block for s in run.discarded[::2]] == [0, 0, 1, 1, 2, 2, 3, 3]
