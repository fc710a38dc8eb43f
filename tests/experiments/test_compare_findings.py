"""What a comparison says of its own run."""

from __future__ import annotations

from lab.experiments.compare.findings import failed, given_up
from tests.consistency.stories import Story


def test_a_server_that_the_balancer_gave_up_on_is_named_with_what_that_cost():
    """A student whose laptop was busy must not take the loss of bound shoppers for the strategy's."""
    by_arm = {
        strategy: Story(strategy=strategy)
        .add("a", 0, 1)
        .add("b", 2, 3, outcome="info", status=504)
        .add("c", 4, 5, outcome="info")
        .operations
        for strategy in ("sticky", "redis")
    }
    by_arm["database"] = Story(strategy="database").add("a", 0, 1).operations

    sticky, redis = given_up(by_arm)

    assert "sticky: servers that did not answer in time (504, 1x)" in sticky
    assert "lost their carts" in sticky
    assert "redis: servers that did not answer in time (504, 1x)" in redis
    assert "lost" not in redis


def test_requests_that_failed_are_told_whether_their_latency_is_shown_or_not():
    """A time-out in the warm-up leaves carts empty, and one in a slice is missing in the percentiles: both are said."""
    by_arm = {
        "sticky": Story(strategy="sticky")
        .add("a", 0, 1)
        .add("b", 2, 3, outcome="info", status=504)
        .add("c", 4, 5, outcome="info", status=0)
        .view(6, 7, "", outcome="fail", status=401)
        .operations,
        "redis": Story(strategy="redis").add("a", 0, 1).operations,
        "redis lifecycle": Story(strategy="redis").add("a", 0, 1, outcome="info", status=503).operations,
    }
    shown = {"sticky": {"sent": 2, "failed": 1}, "redis": {"sent": 1, "failed": 0}}

    inside, outside = failed(shown, by_arm)

    assert "1 of 2 under sticky" in inside
    assert "redis" not in inside
    assert "1 of 2 under sticky, 1 of 1 under redis lifecycle" in outside


def test_where_nothing_failed_nothing_is_said():
    """A refused write (409) or a lost session (401) is a finding, no failure."""
    story = Story(strategy="redis").add("a", 0, 1).add("b", 2, 3, outcome="fail", status=409)
    assert failed({"redis": {"sent": 1, "failed": 0}}, {"redis": story.operations}) == []
