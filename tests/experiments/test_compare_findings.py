"""What a comparison says of its own run."""

from __future__ import annotations

from lab.experiments.compare.findings import given_up
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
