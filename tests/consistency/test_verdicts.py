"""Verdicts: enough opportunities or unknown, a violation is proof, a checker that fails never passes."""

from __future__ import annotations

import pytest
from stories import Story, checked

from lab.consistency import checks
from lab.consistency.checks import RULES, check
from lab.consistency.history import HistoryError
from lab.consistency.scenarios import SCENARIOS

GOOD = {"read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads"}


def good(shopper="s1", **known):
    """A shopper to whom nothing happens, on two servers."""
    story = Story("shopping", shopper=shopper, **known).add(f"{shopper}.a", 0, 1, cart=f"{shopper}.a")
    both = f"{shopper}.a {shopper}.b"
    return story.add(f"{shopper}.b", 2, 3, cart=both, server=2).view(4, 5, both).final(both, both)


def test_empty_history_is_unknown():
    """A run in which nothing happened shows nothing."""
    result = check([], "shopping")

    assert result["verdict"] == "unknown"
    assert {name for name in RULES if result[name]["verdict"] == "ok"} == set()


@pytest.mark.parametrize("scenario", ["shopping", "two-tabs", "lifecycle", "failover"])
def test_scenario_declares_its_checks_and_the_others_do_not_apply(scenario):
    """A check outside the scenario takes no part in the verdict."""
    result = check([], scenario)

    applicable = {name for name in RULES if result[name]["verdict"] != "not applicable"}

    assert applicable == set(SCENARIOS[scenario])


def test_too_few_opportunities_are_unknown_and_enough_are_ok():
    """The scenario declares how many it needs; the reason says how many there were."""
    operations = good().operations
    few = check(operations, "shopping")
    enough = check(operations, "shopping", minimum=dict.fromkeys(RULES, 1) | {"cross_server": 1})

    assert few["verdict"] == "unknown"
    assert few["read_your_writes"]["why"] == "1 opportunities, 100 needed"
    assert enough["verdict"] == "ok"


def test_guarantee_that_was_never_tested_across_servers_is_unknown():
    """A balancer that sends everybody to one server must not pass for a consistent store."""
    story = Story("shopping").add("a", 0, 1, cart="a").view(2, 3, "a").final("a", "a")
    found = checked(story, minimum=dict.fromkeys(RULES, 1))["read_your_writes"]

    assert found["verdict"] == "unknown"
    assert found["why"] == "0 opportunities across servers, 30 needed"


@pytest.mark.parametrize("strategy", ["sticky", "all-to-all with affinity"])
def test_bound_shopper_need_not_cross_servers(strategy):
    """Where the balancer binds shoppers to a server, crossing is not to be had."""
    story = Story("shopping", strategy=strategy).add("a", 0, 1, cart="a").view(2, 3, "a").final("a", "a")

    assert checked(story, minimum=dict.fromkeys(RULES, 1))["read_your_writes"]["verdict"] == "ok"


def test_one_server_has_nothing_to_cross():
    """With a single server there is no other one to ask for."""
    story = Story("shopping").add("a", 0, 1, cart="a").view(2, 3, "a").final("a")

    assert checked(story, minimum=dict.fromkeys(RULES, 1))["read_your_writes"]["verdict"] == "ok"


def test_servers_that_a_bound_shopper_never_meets_do_not_diverge():
    """Under `sticky` only one server knows the session; what others show is counted, not judged."""
    story = Story("shopping", strategy="sticky").add("a", 0, 1, cart="a").final("a", "")
    found = checked(story)["divergence"]

    assert (found["verdict"], found["violations"]) == ("not applicable", 1)


def test_one_violation_is_proof_however_few_the_opportunities():
    """Two requests are enough to show that a promise was broken."""
    story = Story("shopping").add("a", 0, 1, cart="a").view(2, 3, "").final("a")

    assert check(story.operations, "shopping")["read_your_writes"]["verdict"] == "violated"


def test_check_that_throws_is_unknown(monkeypatch):
    """Whatever goes wrong in a check, it must not look like a pass."""

    def broken(_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(checks.RULES, "phantoms", broken)
    enough = dict.fromkeys(RULES, 1) | {"cross_server": 1}
    result = check(good().operations, "shopping", minimum=enough)

    assert result["phantoms"] == {
        "verdict": "unknown",
        "violations": 0,
        "opportunities": 0,
        "shoppers": 0,
        "rate": {"estimate": None, "low": None, "high": None},
        "why": "the check itself failed (ZeroDivisionError: by zero)",
    }
    assert result["verdict"] == "unknown"


def test_no_violation_leaves_three_over_the_number_of_shoppers():
    """With n shoppers and no event, the rule of three bounds the rate: requests of one shopper are not independent."""
    operations = [op for number in range(10) for op in good(f"s{number}").operations]
    found = check(operations, "shopping")["read_your_writes"]

    assert (found["shoppers"], found["rate"]) == (10, {"estimate": 0.0, "low": 0.0, "high": 0.3})


def test_interval_resamples_shoppers():
    """Ten violations in one of twenty shoppers are one event, not ten: the interval reaches down to 0."""
    operations = [op for number in range(19) for op in good(f"s{number}").operations]
    bad = Story("shopping", shopper="bad").add("a", 0, 1, cart="a")
    for number in range(10):
        bad.view(10 + 2 * number, 11 + 2 * number, "")
    found = check([*operations, *bad.final("a").operations], "shopping")["read_your_writes"]

    assert (found["violations"], found["opportunities"]) == (10, 29)
    assert found["rate"]["low"] == 0
    assert found["rate"]["high"] > 0.5


def test_result_has_the_keys_that_reports_read():
    """The shape of `results.json`'s `consistency`."""
    result = check(good().operations, "shopping")

    assert list(result) == ["verdict", "operations", *RULES, "witnesses"]
    assert result["operations"] == 5
    assert result["witnesses"] == []
    for name in GOOD:
        assert list(result[name])[:9] == [
            "verdict", "violations", "opportunities", "shoppers", "rate", "cross_server", "cross_server_violations",
            "cross_server_shoppers", "cross_server_rate",
        ]  # fmt: skip


def test_other_scenarios_of_the_same_arm_are_left_out():
    """A history holds every scenario; each is checked by itself."""
    assert check(good().operations, "two-tabs")["operations"] == 0


@pytest.mark.parametrize("left_out", ["twin", "held_up"])
def test_twins_and_shoppers_whom_the_machine_held_up_are_left_out(left_out):
    """Twins repeat the baseline's load to gauge the noise; who was held up shows nothing about lifetimes."""
    operations = good().operations
    for op in operations:
        setattr(op, left_out, True)

    assert check(operations, "shopping")["operations"] == 0


def test_requests_of_two_arms_are_not_one_history():
    """Shoppers of two arms bear the same names."""
    operations = [*good().operations, *good(strategy="sticky").operations]

    with pytest.raises(HistoryError, match=r"2 arms \(redis, sticky\)"):
        check(operations, "shopping")


def test_unknown_scenario_is_one_clear_line():
    """The error names what there is."""
    with pytest.raises(HistoryError, match=r"unknown scenario 'shoping'\. There are: shopping, two-tabs"):
        check([], "shoping")


def test_work_grows_with_the_history_and_not_with_its_square():
    """Four times the requests make at most five times the calls, however much is violated."""

    def calls(requests):
        story = Story("shopping")
        for number in range(requests):
            story.add(f"t{number}", 40 * number, 40 * number + 1, cart=f"t{number}")
            story.view(40 * number + 2, 40 * number + 3, "", server=2)
            if number % 10 == 9:
                story.request("checkout", 40 * number + 4, 40 * number + 5, cart="")
        return _count_calls(lambda: check(story.operations, "shopping"))

    assert calls(400) < 5 * calls(100)


def _count_calls(function):
    import sys

    count = 0

    def seen(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count
