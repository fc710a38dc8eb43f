"""Plans: what they promise before anything is sent."""

from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import pytest

from loadtests import plans
from loadtests.lifecycle import MARGIN_SECONDS, Roles, lifecycle_plan
from loadtests.two_tabs import SHARED_LINES, apart, two_tabs_plan

LOAD = {"rate_rps": 200, "seconds": 0.5, "shoppers": 40}


def shopping(seed=1, blocks=120):
    """Draw the first blocks of a run."""
    return list(islice(plans.shopping_plans(seed, **LOAD), blocks))


def test_a_seed_and_a_block_fix_the_plan():
    """The same seed and block give the same plan in any process; another seed or block gives another."""
    assert plans.shopping_plan(7, 3, **LOAD) == plans.shopping_plan(7, 3, **LOAD) == shopping(7, 4)[3]
    assert plans.shopping_plan(7, 3, **LOAD).requests != plans.shopping_plan(8, 3, **LOAD).requests
    assert shopping(7, 4)[2].requests != shopping(7, 4)[3].requests


def test_arrivals_are_poisson_at_the_rate():
    """Arrivals, follow-ups included, come at the rate, and their gaps vary as a Poisson process's do (CV 1)."""
    blocks = shopping()
    rate = sum(plan.scheduled for plan in blocks) / (len(blocks) * LOAD["seconds"])
    assert rate == pytest.approx(200, rel=0.03)
    at = np.array(
        [request.at_seconds for request in plans.shopping_plan(1, 0, rate_rps=400, seconds=20, shoppers=9).requests]
    )
    gaps = np.diff(at)
    assert (gaps >= 0).all()
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.05)
    assert at[-1] < 20


def filled_carts(seed=1):
    """Count what the warm-up has put into each cart."""
    warmup = plans.warmup_plan(seed, rate_rps=200, seconds=0, shoppers=LOAD["shoppers"])
    return Counter(request.shopper for request in warmup.requests if request.f == "add")


def test_two_fifths_are_views_with_an_own_item():
    """About 40 % of the requests are a view with an own item in the cart, and half of the adds have a follow-up."""
    carts, own, adds, followed = filled_carts(), 0, 0, 0
    blocks = shopping(blocks=40)
    for request in (request for plan in blocks for request in plan.requests):
        carts[request.shopper] += request.f == "add"
        adds += request.f == "add"
        followed += request.followed
        own += request.followed + (request.f == "view" and carts[request.shopper] > 0)
        if request.f in {"logout", "checkout"}:
            carts[request.shopper] = 0
    assert own / sum(plan.scheduled for plan in blocks) == pytest.approx(0.4, abs=0.03)
    assert followed / adds == pytest.approx(plans.FOLLOWED, abs=0.05)


def test_carts_stay_small_and_every_verb_occurs():
    """No cart outgrows the limit, a login follows each logout at once, and no verb is missing."""
    carts, away, seen = filled_carts(), set(), Counter()
    for request in (request for plan in shopping() for request in plan.requests):
        seen[request.f] += 1
        carts[request.shopper] += request.f == "add"
        assert carts[request.shopper] <= plans.LINES[1]
        assert (request.shopper in away) == (request.f == "login")
        away.discard(request.shopper)
        if request.f in {"logout", "checkout"}:
            carts[request.shopper] = 0
        if request.f == "logout":
            away.add(request.shopper)
    assert set(seen) == {"product", "search", "visit", "view", "add", "login", "logout", "checkout"}


def test_tokens_are_unique_and_parameters_in_range():
    """No token is planned twice in a run, all are equally long, and products exist."""
    requests = [request for plan in shopping() for request in plan.requests]
    tokens = [request.token for request in requests if request.token]
    assert len(set(tokens)) == len(tokens) > 500
    assert len({len(token) for token in tokens}) == 1
    assert {request.product for request in requests if request.product} <= set(range(1, plans.PRODUCTS + 1))
    assert {request.term for request in requests if request.f == "search"} == set(plans.TERMS)


def test_twins_are_other_shoppers_with_the_same_load():
    """The repeated slice asks for the same at the same times, of shoppers with carts of their own."""
    plan = shopping(blocks=3)[2]
    twin = plan.as_twin()
    assert twin.twin
    assert not plan.twin
    assert [(r.at_seconds, r.f, r.product) for r in twin.requests] == [
        (r.at_seconds, r.f, r.product) for r in plan.requests
    ]
    assert not {r.shopper for r in twin.requests} & {r.shopper for r in plan.requests}
    assert not {r.token for r in twin.requests if r.token} & {r.token for r in plan.requests if r.token}


def test_the_warmup_logs_everyone_in_first():
    """Each shopper's first request is a login; carts are filled then, and the walk leaves them alone."""
    plan = plans.warmup_plan(1, rate_rps=200, seconds=1, shoppers=40)
    assert [request.f for request in plan.requests[:40]] == ["login"] * 40
    assert len({request.shopper for request in plan.requests[:40]}) == 40
    filling = sum(filled_carts().values())
    assert {request.f for request in plan.requests[40 : 40 + filling]} == {"add"}
    assert {request.f for request in plan.requests[40 + filling :]} == set(plans.WARMUP)
    tokens = {request.token for request in plan.requests if request.f == "add"}
    later = {request.token for plan in shopping() for request in plan.requests if request.token}
    assert len(tokens) == filling
    assert not tokens & later
    assert {len(token) for token in tokens | later} == {13}
    assert plan.phase == "warmup"


def test_two_tabs_write_at_the_same_time():
    """After the shared lines are in, writes come in pairs, one of each tab of a shopper, within a millisecond."""
    plan = two_tabs_plan(1, rate_rps=100, seconds=10, shoppers=40)
    begun = [r for r in plan.requests if r.f == "login" or (r.token and ".line." in r.token)]
    assert len(begun) == 40 * (1 + SHARED_LINES)
    pairs = [r for r in plan.requests[len(begun) :] if r.tab == 0], [r for r in plan.requests if r.tab == 1]
    assert len(pairs[0]) == len(pairs[1]) == pytest.approx(500, rel=0.15)
    apart = [abs(a.at_seconds - b.at_seconds) for a, b in zip(*(sorted(p, key=_pair) for p in pairs), strict=True)]
    assert max(apart) < 0.002
    assert Counter(r.f for r in plan.requests[len(begun) :])["bump"] / (2 * len(pairs[0])) == pytest.approx(
        0.5, abs=0.05
    )
    lines = {r.token for r in begun}
    assert {r.line for r in plan.requests if r.f == "bump"} <= lines


def test_second_tabs_open_in_a_part_of_their_own():
    """Logins and shared lines are one part, pairs the other, whose first is due at once; nothing is left out."""
    plan = two_tabs_plan(1, rate_rps=100, seconds=10, shoppers=40)
    beginnings, pairs = apart(plan)
    assert {request.tab for request in beginnings.requests} == {0}
    assert Counter(request.f for request in beginnings.requests) == {"login": 40, "add": 40 * SHARED_LINES}
    assert [_what(r) for part in (beginnings, pairs) for r in part.requests] == [_what(r) for r in plan.requests]
    assert 0 <= pairs.requests[0].at_seconds < pairs.requests[-1].at_seconds < 10.002
    assert beginnings.seconds + pairs.seconds == plan.seconds
    assert beginnings.requests[-1].at_seconds < beginnings.seconds


def _what(request):
    return request.shopper, request.tab, request.f, request.token, request.line


def _pair(request):
    return request.shopper, request.at_seconds


def test_lifecycle_keeps_the_active_alive():
    """Every active shopper touches the session within the idle lifetime, from the login to the end, in both tabs."""
    plan = lifecycle_plan(1, idle_seconds=3, absolute_seconds=9)
    times, tabs = defaultdict(list), defaultdict(set)
    for request in plan.requests:
        if request.shopper.startswith("a"):
            assert request.late is None
            times[request.shopper].append(request.at_seconds)
            tabs[request.shopper].add(request.tab)
    assert len(times) >= 200
    assert max(np.diff(at).max() for at in times.values()) <= 0.7 * 3
    assert min(at[-1] - at[0] for at in times.values()) > 3
    assert max(at[-1] - at[0] for at in times.values()) < 9
    assert all(seen == {0, 1} for seen in tabs.values())


def test_lifecycle_late_requests_come_after_the_end():
    """Late requests come after the logout or lifetime that they are named for (save one, which races the logout)."""
    plan = lifecycle_plan(1, idle_seconds=3, absolute_seconds=9)
    late = [r for r in plan.requests if r.late]
    assert len(late) >= 200
    own = defaultdict(list)
    for request in plan.requests:
        own[request.shopper].append(request)
    for requests in own.values():
        before = [r for r in requests if not r.late]
        after = [r.at_seconds for r in requests if r.late and r.f != "visit"]
        kind = next((r.late for r in requests if r.late), None)
        if kind == "logout":
            assert before[-1].f == "logout"
            assert min(after) > before[-1].at_seconds
        if kind == "idle":
            assert min(after) > before[-1].at_seconds + 3 + MARGIN_SECONDS
        if kind == "absolute":
            assert min(after) > before[1].at_seconds + 9 + MARGIN_SECONDS
            assert min(after) < before[-1].at_seconds + 3


def test_lifecycle_refuses_lifetimes_without_room():
    """Lifetimes too short for the margins are refused, not silently turned into a test of nothing."""
    with pytest.raises(ValueError, match="too short"):
        lifecycle_plan(1, idle_seconds=1, absolute_seconds=9)
    with pytest.raises(ValueError, match="too short"):
        lifecycle_plan(1, idle_seconds=3, absolute_seconds=3.5, roles=Roles(active=1))
