"""The closed load: what most load tools do, and why they do not see a server that stands still."""

from __future__ import annotations

import itertools
import time

from loadtests.plans import Plan, PlannedRequest


def plan_of(count, every_ms, *, closed, seconds):
    """Plan that one tab looks at its cart at even intervals."""
    requests = [PlannedRequest(at_seconds=n * every_ms / 1000, shopper="s000", f="view") for n in range(count)]
    return Plan(scenario="shopping", seconds=seconds, requests=requests, closed=closed)


def test_each_request_comes_as_long_after_the_answer_as_planned(shop, generator, open_arm):
    """Answer, pause, next: the pause is the plan's, and the clock starts when the request is sent."""
    shop.fault = lambda method, path: time.sleep(0.05)
    operations = generator.run([(open_arm(shop), plan_of(5, 40, closed=True, seconds=60))]).operations
    assert len(operations) == 5
    assert all(after.intended_ns - before.t1_ns == 40_000_000 for before, after in itertools.pairwise(operations))
    assert all(operation.slept for operation in operations)


def test_what_a_slow_server_left_no_time_for_is_never_sent_and_counted(shop, generator, open_arm):
    """The slower the server, the less it is asked: the stretch ends, and the rest of the plan with it."""
    shop.fault = lambda method, path: time.sleep(0.2)
    arm = open_arm(shop)
    result = generator.run([(arm, plan_of(50, 10, closed=True, seconds=0.5))])
    assert 1 <= result.sent <= 3
    assert result.scheduled == result.sent == result.recorded
    assert result.omitted == 50 - result.sent
    open_load = generator.run([(arm, plan_of(4, 10, closed=False, seconds=0.5))])
    assert (open_load.sent, open_load.omitted) == (4, 0)


def test_a_view_that_follows_an_omitted_add_is_omitted_too(shop, generator, open_arm):
    """Scheduled, sent and recorded stay equal, follow-ups included."""
    shop.fault = lambda method, path: time.sleep(0.3)
    adds = [PlannedRequest(at_seconds=0.01 * n, shopper="s000", f="add", token=f"t{n}", followed=True) for n in (0, 1)]
    plan = Plan(scenario="shopping", seconds=0.1, requests=adds, closed=True)
    result = generator.run([(open_arm(shop), plan)])
    assert [operation.f for operation in result.operations] == ["add", "view"]
    assert result.omitted == 2
