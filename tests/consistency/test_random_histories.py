"""The sweep against the literal rules, on hundreds of random histories."""

from __future__ import annotations

from collections import Counter

import pytest
from literal_rules import LITERAL
from simulated_shop import simulate

from lab.consistency import scenarios
from lab.consistency.checks import RULES, check
from lab.consistency.command import recheck_witness
from lab.consistency.shopper import arrange

HISTORIES = 900
LEAST = dict.fromkeys(RULES, 1) | {"cross_server": 0}


@pytest.fixture(autouse=True)
def _scenario_with_every_check(monkeypatch):
    """A scenario that exercises all checks at once."""
    monkeypatch.setitem(scenarios.SCENARIOS, "all", LEAST)


def counted(tally):
    """Return a check's counts in the order of the literal rules."""
    third = tally.extra["merged"] if tally.check == "lost_updates" else sum(tally.crossed)
    return sum(tally.opportunities), sum(tally.violations), third, sum(tally.crossed_violations)


def test_sweep_agrees_with_the_literal_rules_on_random_histories():
    """Every count of every rule is the same in every history, and every rule is violated in at least 100 of them."""
    violated = Counter()

    for seed in range(HISTORIES):
        operations = simulate(seed)
        shoppers = arrange(operations)
        for name, rule in LITERAL.items():
            expected = rule(operations)

            assert expected == counted(RULES[name](shoppers)), f"{name} in history {seed}"
            violated[name] += expected[1] > 0

    assert set(RULES) == set(violated)
    assert min(violated.values()) >= 100, violated


def test_every_witness_is_violated_again_when_checked_alone():
    """Two to four requests (one for an item from nowhere) are enough to see each violation again."""
    checked = Counter()

    for seed in range(0, HISTORIES, 10):
        for witness in check(simulate(seed), "all", minimum=LEAST)["witnesses"]:
            checked[witness["check"]] += 1
            assert recheck_witness(witness) == "violated", f"{witness['check']} in history {seed}\n{witness['text']}"
            assert len(witness["operations"]) in range(1 + (witness["check"] != "phantoms"), 5), witness["text"]

    assert set(RULES) == set(checked)


def test_order_of_the_lines_does_not_matter():
    """A history read in another order gives the same result."""
    for seed in range(0, HISTORIES, 70):
        operations = simulate(seed)

        assert check(operations, "all") == check(operations[::-1], "all"), seed
