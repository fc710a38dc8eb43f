"""Plans of uneven shoppers: what they promise before anything is sent."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from loadtests.uneven import Lengths, population_of, uneven_story, zipf

LENGTHS = Lengths(populations=5, shoppers=40, turn=6, stay=12, roll_call=10, newcomers=2, drain=4)
RATE_RPS, LOGIN_RPS = 100, 200


@pytest.fixture(scope="module")
def story():
    """Give the plans of a run."""
    return uneven_story(1, LENGTHS, rate_rps=RATE_RPS, login_rps=LOGIN_RPS)


def stretches(story):
    """Return every plan, in the order in which they are sent."""
    return [story.enter, *story.turns, story.stay, story.roll_call, story.newcomers, story.drain]


def test_the_heaviest_shopper_makes_twice_as_many_requests_as_the_second():
    """Zipf's law with exponent 1; of 40, the first makes 23 %."""
    shares = zipf(40)
    assert shares.sum() == pytest.approx(1)
    assert list(shares[0] / shares[:4]) == pytest.approx([1, 2, 3, 4])
    assert shares[0] == pytest.approx(0.2337, abs=1e-4)


def test_a_seed_fixes_the_plans(story):
    """The same seed gives the same plans in any process; another one gives others."""
    assert uneven_story(1, LENGTHS, rate_rps=RATE_RPS, login_rps=LOGIN_RPS) == story
    assert uneven_story(2, LENGTHS, rate_rps=RATE_RPS, login_rps=LOGIN_RPS) != story


def test_each_shopper_makes_the_share_of_the_law_up_to_rounding(story):
    """In every turn, and in each population's part of the roll call; nothing is left to a short stretch's dice."""
    parts = [[planned.shopper for planned in plan.requests] for plan in story.turns]
    called = [planned.shopper for planned in story.roll_call.requests]
    parts += [[shopper for shopper in called if population_of(shopper) == number] for number in range(5)]
    for part in parts:
        counts = Counter(part)
        own = [counts[f"p{population_of(part[0]):03d}{rank:03d}"] for rank in range(40)]
        assert np.abs(np.array(own) - zipf(40) * len(part)).max() < 1
        assert sum(own) == len(part)


def test_the_rate_is_offered_and_requests_keep_to_their_stretch(story):
    """Follow-ups included; in the order of their time, and none after the end."""
    assert sum(plan.scheduled for plan in story.turns) == pytest.approx(RATE_RPS * 30, rel=0.05)
    for plan in stretches(story):
        at = [planned.at_seconds for planned in plan.requests]
        assert at == sorted(at)
        assert at[0] >= 0
        assert at[-1] <= plan.seconds


def test_populations_log_in_one_after_another_in_an_order_that_knows_nothing_of_appetite(story):
    """So each is bound as it would be alone, and the heaviest land anywhere."""
    names = [planned.shopper for planned in story.enter.requests]
    assert {planned.f for planned in story.enter.requests} == {"login"}
    populations = [population_of(name) for name in names]
    assert populations == sorted(populations)
    assert Counter(populations) == dict.fromkeys(range(5), 40)
    orders = {tuple(int(name[4:]) for name in names[first : first + 40]) for first in range(0, 200, 40)}
    assert len(orders) == 5
    assert all(sorted(order) == list(range(40)) for order in orders)


def test_each_stretch_has_its_shoppers(story):
    """A population a turn, the first one around each change, all in the roll call in turn, new ones only then."""
    assert [{population_of(planned.shopper) for planned in plan.requests} for plan in story.turns] == [
        {number} for number in range(5)
    ]
    assert [plan.block for plan in story.turns] == list(range(5))
    for plan in (story.stay, story.drain):
        assert {population_of(planned.shopper) for planned in plan.requests} == {0}
    called = [population_of(planned.shopper) for planned in story.roll_call.requests]
    assert called == sorted(called)
    assert set(called) == set(range(5))
    came = story.newcomers.requests
    assert {population_of(planned.shopper) for planned in came} == {5}
    assert {planned.f for planned in came[:40]} == {"login"}


def test_lives_go_over_from_stretch_to_stretch(story):
    """Who has logged out begins with a login, whatever the stretch; and no token comes twice."""
    logged_in: dict[str, bool] = {}
    tokens: list[str] = []
    for plan in stretches(story):
        for planned in plan.requests:
            assert logged_in.get(planned.shopper, False) == (planned.f != "login")
            logged_in[planned.shopper] = planned.f != "logout"
            tokens += [planned.token] if planned.token else []
    assert len(tokens) == len(set(tokens)) > 100
