"""Promises: kept, broken or not tested, each from a story made up for it; and the tables of the page."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from lab.experiments.failover.faults import FAULTS
from lab.experiments.failover.promises import MADE, PROMISES, judge
from lab.report import failover as report
from strategies import STRATEGIES

PAGE = (Path(__file__).parents[2] / "docs" / "failover.md").read_text(encoding="utf-8")

WELL = {
    "sessions": {"alive": 40, "lost": 0, "lost_elsewhere": 0, "lost_before_last_second": 0},
    "writes": {"acknowledged": 100, "lost": 0, "lost_with_session": 0, "lost_in_last_second": 0},
    "answers": {window: {"views": 50, "wrong": 0} for window in ("before", "during", "after")},
    "recovery": {
        "recovered": True,
        "seconds": 2.0,
        "after_repair_seconds": 0.5,
        "calm_seconds": 1.5,
        "load_after_repair_seconds": 6.0,
    },
    "failures": {
        "requests": 400,
        "failed": 30,
        "by_cause": {"server": 0, "store": 0, "origin": 0, "error": 0},
        "slowest_seconds": {},
    },
    "views_during": {"views": 40, "refused": 0},
    "peer_timeouts": 0,
    "lateness_p99_ms": 3.0,
}


def outcome(promise, **changes):
    """Return the verdict on one promise, with changes to a story in which all went well: `sessions__lost=1`."""
    story = copy.deepcopy(WELL)
    for path, value in changes.items():
        *keys, last = path.split("__")
        place = story
        for key in keys:
            place = place[key]
        place[last] = value
    return PROMISES[promise].judge(story)


@pytest.mark.parametrize(
    ("promise", "changes", "expected"),
    [
        ("sessions", {}, "kept"),
        ("sessions", {"sessions__lost": 1}, "broken"),
        ("sessions", {"sessions__alive": 9}, "not tested"),
        ("sessions", {"sessions__alive": 2, "sessions__lost": 1}, "broken"),
        ("own-sessions", {"sessions__lost": 10}, "kept"),
        ("own-sessions", {"sessions__lost": 10, "sessions__lost_elsewhere": 1}, "broken"),
        ("writes", {}, "kept"),
        ("writes", {"writes__lost": 1}, "broken"),
        ("writes", {"writes__acknowledged": 29}, "not tested"),
        ("own-writes", {"writes__lost": 7, "writes__lost_with_session": 7}, "kept"),
        ("own-writes", {"writes__lost": 7, "writes__lost_with_session": 6}, "broken"),
        ("last-second", {"writes__lost": 2, "writes__lost_in_last_second": 2}, "kept"),
        ("last-second", {"writes__lost": 2, "writes__lost_in_last_second": 1}, "broken"),
        ("last-second", {"sessions__lost": 1, "sessions__lost_before_last_second": 1}, "broken"),
        ("correct", {}, "kept"),
        ("correct", {"answers__before__wrong": 5}, "kept"),
        ("correct", {"answers__during__wrong": 1}, "broken"),
        ("correct", {"answers__after__wrong": 1}, "broken"),
        ("correct", {"answers__during__views": 10, "answers__after__views": 10}, "not tested"),
        ("correct-in-time", {}, "kept"),
        ("correct-in-time", {"answers__after__wrong": 1}, "broken"),
        ("correct-in-time", {"answers__after__wrong": 1, "peer_timeouts": 2}, "not tested"),
        ("correct-in-time", {"peer_timeouts": None}, "not tested"),
        ("recovers", {}, "kept"),
        ("recovers", {"recovery__after_repair_seconds": 5.1}, "broken"),
        ("recovers", {"recovery__recovered": False, "recovery__after_repair_seconds": None}, "broken"),
        ("recovers", {"recovery__recovered": False, "recovery__load_after_repair_seconds": 5.0}, "broken"),
        ("recovers", {"recovery__recovered": False, "recovery__load_after_repair_seconds": 4.9}, "not tested"),
        ("recovers", {"recovery__recovered": None, "recovery__after_repair_seconds": None}, "not tested"),
        ("recovers", {"recovery__after_repair_seconds": 5.1, "lateness_p99_ms": 51.0}, "not tested"),
        ("recovers", {"lateness_p99_ms": 51.0}, "kept"),
        ("hardly-noticed", {"failures__failed": 4}, "kept"),
        ("hardly-noticed", {"failures__failed": 5}, "broken"),
        ("hardly-noticed", {"failures__failed": 5, "lateness_p99_ms": 51.0}, "not tested"),
        ("hardly-noticed", {"failures__failed": 0, "failures__requests": 20}, "not tested"),
        ("untouched", {"failures__by_cause__origin": 50}, "kept"),
        ("untouched", {"failures__by_cause__store": 1}, "broken"),
        ("untouched", {"failures__requests": 20}, "not tested"),
        ("bounded", {}, "not tested"),
        ("bounded", {"failures__slowest_seconds__store": 2.1}, "kept"),
        ("bounded", {"failures__slowest_seconds__store": 3.1}, "broken"),
        ("bounded", {"failures__slowest_seconds__store": 3.1, "lateness_p99_ms": 51.0}, "not tested"),
        ("reads-go-on", {}, "kept"),
        ("reads-go-on", {"views_during__refused": 1}, "broken"),
        ("reads-go-on", {"views_during__views": 5}, "not tested"),
    ],
)
def test_each_promise_at_each_of_its_outcomes(promise, changes, expected):
    """One violation breaks it, too few chances leave it untested."""
    found = outcome(promise, **changes)
    assert found.verdict == expected
    assert found.evidence


def test_a_fault_that_was_not_struck_tests_nothing():
    """Every promise under it says so."""
    assert {one["verdict"] for one in judge("kill-redis", "redis", None)} == {"not tested"}


def test_the_control_promises_nothing():
    """Under `isolated` nothing is whole even without a fault."""
    assert all(judge(fault, "isolated", WELL) == [] for fault in MADE)


def test_every_strategy_promises_something_under_every_fault():
    """A new strategy or a new fault needs a row; and the report knows every fault."""
    arms = {name for name in STRATEGIES if name != "isolated"} | {"all-to-all sync"}
    assert set(MADE) == set(FAULTS) == set(report.FAULTS)
    assert all(set(made) == arms for made in MADE.values())
    assert list(report.FAULTS) == list(FAULTS)


def rows(heading):
    """Return the rows of the tables under a heading of the page, as cells of what is in backticks, and the text."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", part, re.MULTILINE)
    return [[(re.findall(r"`([^`]+)`", cell), cell) for cell in line.split(" | ")] for line in lines]


def test_the_page_has_the_table_of_promises():
    """What `docs/failover.md` says each strategy promises is what a run judges."""
    table = rows("What each strategy promises")
    faults = [names[0] for names, _ in table[0][1:]]
    found = {
        fault: {row[0][0][0]: tuple(row[column][0]) for row in table if len(row) == len(faults) + 1 and row[0][0]}
        for column, fault in enumerate(faults, start=1)
    }
    assert found == MADE


def test_the_page_says_what_each_promise_says():
    """In the same words as the report."""
    told = {row[0][0][0]: row[1][1] for row in rows("What each strategy promises") if len(row) == 2 and row[0][0]}
    assert told == {name: promise.text for name, promise in PROMISES.items()}


def test_the_page_names_every_fault():
    """With what is done."""
    assert {row[0][0][0] for row in rows("The faults") if row[0][0]} == set(FAULTS)
