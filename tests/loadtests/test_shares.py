"""However many workers there are, every request of a plan is sent by exactly one of them."""

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plans import Plan, PlannedRequest, shopping_plan, warmup_plan
from loadtests.shares import Seats

WORKERS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=9, unique=True)
PLANS = st.lists(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 12), st.integers(0, 1)), max_size=40).map(
        lambda drawn: Plan(
            scenario="shopping",
            seconds=10,
            requests=[
                PlannedRequest(at_seconds=at, shopper=f"s{who:03d}", tab=tab, f="view", token=f"{number}")
                for number, (at, who, tab) in enumerate(sorted(drawn))
            ],
        )
    ),
    min_size=1,
    max_size=4,
)


@given(WORKERS, PLANS)
def test_every_request_goes_to_exactly_one_worker_in_its_order(workers, plans):
    """Nothing is left out, nothing comes twice; a part is the plan with fewer requests and otherwise the same."""
    seats = Seats(workers)
    for plan in plans:
        parts = seats.split(plan)
        assert list(parts) == workers
        assert sorted(one.token for part in parts.values() for one in part.requests) == sorted(
            one.token for one in plan.requests
        )
        for part in parts.values():
            numbers = [int(one.token) for one in part.requests]
            assert all(earlier < later for earlier, later in pairwise(numbers))
            assert msgspec.structs.replace(part, requests=plan.requests) == plan


@given(WORKERS, PLANS)
def test_a_shopper_stays_with_one_worker_from_plan_to_plan(workers, plans):
    """The cookies are there. And no worker plays more than one shopper more than another."""
    seats = Seats(workers)
    places = {}
    for plan in plans:
        for worker, part in seats.split(plan).items():
            for one in part.requests:
                assert places.setdefault(one.shopper, worker) == worker
    counts = Counter(places.values())
    assert max(counts.values(), default=0) - min((counts[worker] for worker in workers), default=0) <= 1
    assert {worker: len(seats.shoppers(worker)) for worker in workers} == {worker: counts[worker] for worker in workers}


def test_parts_of_a_real_plan_are_alike_and_add_up():
    """Four workers of a shopping run: warm-up first, then a block; all scheduled requests, follow-ups included."""
    seats = Seats(["a", "b", "c", "d"])
    load = {"rate_rps": 400, "seconds": 5.0, "shoppers": 100}
    for plan in (warmup_plan(1, **load), shopping_plan(1, 0, **load)):
        parts = seats.split(plan)
        assert sum(part.scheduled for part in parts.values()) == plan.scheduled
        assert min(part.scheduled for part in parts.values()) > plan.scheduled / 4 * 0.7
    assert {len(seats.shoppers(worker)) for worker in parts} == {25}


@pytest.mark.parametrize("workers", [[], ["a", "a"]])
def test_nobody_or_one_twice_is_refused(workers):
    """A share for nobody would be requests that are never sent."""
    with pytest.raises(ValueError, match="at least one worker and none twice"):
        Seats(workers)
