"""The order of slices: balanced in position and in neighbours."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from lab.measuring.order import balanced_order, williams_rows


@pytest.mark.parametrize("arms", range(1, 9))
def test_each_arm_stands_in_each_position_and_beside_each_other_equally_often(arms):
    """A Williams design balances position and carry-over."""
    rows = williams_rows(arms)
    positions = Counter((arm, position) for row in rows for position, arm in enumerate(row))
    neighbours = Counter(pair for row in rows for pair in pairwise(row))

    assert all(sorted(row) == list(range(arms)) for row in rows)
    assert len(set(positions.values())) == 1
    assert len(positions) == arms * arms
    assert len(set(neighbours.values())) <= 1
    assert len(neighbours) == arms * (arms - 1)


def test_every_block_has_every_arm_once_and_the_seed_decides_the_order():
    """The same seed gives the same order; another one gives another."""
    arms = ["sticky", "all-to-all", "database", "redis", "sticky again"]
    order = balanced_order(arms, 37, seed=1)

    assert len(order) == 37
    assert all(sorted(block) == sorted(arms) for block in order)
    assert order == balanced_order(arms, 37, seed=1)
    assert order != balanced_order(arms, 37, seed=2)


def test_whole_rounds_are_balanced():
    """After a whole number of rounds every arm stood in every position equally often."""
    arms = ["a", "b", "c", "d", "e"]
    order = balanced_order(arms, 20, seed=3)

    assert set(Counter((arm, place) for block in order for place, arm in enumerate(block)).values()) == {4}
