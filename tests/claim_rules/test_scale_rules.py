"""The claims of a scale run, at each of their outcomes, with made-up numbers."""

from __future__ import annotations

import pytest
from reasons import reasoned

from lab.claim_rules import scale
from lab.statistics import Interval


def around(estimate, part=0.02):
    """Return an interval so many parts wide on either side."""
    return {"estimate": estimate, "low": estimate * (1 - part), "high": estimate * (1 + part)}


def run(*, sizes=(1, 2, 4, 8), copies=1.0, physical=2000.0, bytes_per_peer=430.0, unread=0.6, bent=1.0):
    """Return results: copies as a share of the servers, bytes per session of each copy, and so on."""
    points = {
        str(size): {
            "servers": size,
            "copies": max(1.0, copies * size),
            "physical_bytes": around(physical * max(1.0, copies * size)),
            "per_write": {"bytes": None if bytes_per_peer is None else around(bytes_per_peer * (size - 1) ** bent)},
            "unread": {"rate": around(unread)} if size > 1 else None,
        }
        for size in sizes
    }
    return {
        "experiment": "scale",
        "scale": {"points": {"all-to-all": points}, "unread_bound": {"rate": around(1.0, 0)}},
    }


def test_a_copy_on_every_server_in_ids_and_in_memory_holds():
    """N ids with N servers, and about eight times the bytes."""
    found = scale.copies_n(run())
    assert found.verdict == "holds"
    assert "8.00 with 8" in found.evidence
    assert found.numbers["physical_8_to_1"] == pytest.approx(8)


@pytest.mark.parametrize("copies", [0.5, 0.25])
def test_half_as_many_copies_as_servers_does_not_hold(copies):
    """N/2 or fewer refute it."""
    assert reasoned(scale.copies_n(run(copies=copies))).verdict == "does not hold"


def test_copies_between_half_and_all_cannot_tell():
    """Neither as many as servers nor few enough."""
    assert reasoned(scale.copies_n(run(copies=0.9))).verdict == "cannot tell"


def test_a_little_off_is_allowed():
    """Two per cent; a session may begin while the servers are scanned."""
    assert reasoned(scale.copies_n(run(copies=1.019))).verdict == "holds"
    assert reasoned(scale.copies_n(run(copies=1.021))).verdict == "cannot tell"


@pytest.mark.parametrize("times", [5.9, 6.1])
def test_the_whole_interval_of_the_bytes_must_reach_six(times):
    """A ratio of 6.1 whose interval begins below 6 is not enough."""
    found = run()
    points = found["scale"]["points"]["all-to-all"]
    points["8"]["physical_bytes"] = around(times * 2000)
    assert reasoned(scale.copies_n(found)).verdict == "cannot tell"
    points["8"]["physical_bytes"] = around(6.5 * 2000)
    assert reasoned(scale.copies_n(found)).verdict == "holds"


def test_bytes_without_an_interval_cannot_tell():
    """A point may be luck."""
    found = run()
    found["scale"]["points"]["all-to-all"]["8"]["physical_bytes"] = {"estimate": 16000, "low": None, "high": None}
    assert reasoned(scale.copies_n(found)).verdict == "cannot tell"


def test_other_sizes_cannot_tell_and_the_evidence_says_which_are_missing():
    """The claim names its numbers of servers."""
    for judge in (scale.copies_n, scale.replication_traffic):
        found = reasoned(judge(run(sizes=(1, 2))))
        assert found.verdict == "cannot tell"
        assert "4, 8 servers" in found.evidence


def test_growing_traffic_that_nobody_reads_holds():
    """Seven times the bytes, and most changes unread."""
    found = scale.replication_traffic(run())
    assert found.verdict == "holds"
    assert "7.00 times" in found.evidence
    assert "of those to bound shoppers 100 %" in found.evidence


@pytest.mark.parametrize(
    ("bent", "verdict"),
    [(1.0, "holds"), (0.6, "does not hold"), (0.8, "cannot tell"), (1.2, "cannot tell")],
)
def test_traffic_must_grow_as_the_peers_do(bent, verdict):
    """Linear holds, less than four times does not, anything else is in between."""
    assert reasoned(scale.replication_traffic(run(bent=bent))).verdict == verdict


@pytest.mark.parametrize(
    ("unread", "verdict"),
    [(0.52, "holds"), (0.5, "cannot tell"), (0.3, "cannot tell"), (0.19, "does not hold")],
)
def test_what_is_delivered_must_be_needless(unread, verdict):
    """Half of it unread with the whole interval, or no more than a fifth."""
    assert reasoned(scale.replication_traffic(run(unread=unread))).verdict == verdict


def test_a_system_that_does_not_tell_bytes_cannot_tell():
    """What nobody reads alone does not decide it, unless it refutes."""
    found = scale.replication_traffic(run(bytes_per_peer=None))
    assert found.verdict == "cannot tell"
    assert "not counted" in found.evidence
    assert reasoned(scale.replication_traffic(run(bytes_per_peer=None, unread=0.1))).verdict == "does not hold"


def test_without_all_to_all_nothing_is_tested():
    """A run without it says so."""
    for judge in (scale.copies_n, scale.replication_traffic):
        assert judge({"experiment": "scale", "scale": {"points": {}}}).verdict == "not tested"


def test_a_quotient_is_as_wide_as_both_ends_allow():
    """Low over high, high over low; without one of them a point, without a divisor nothing."""
    found = scale.quotient(Interval(8, 7, 9), Interval(2, 1, 3))
    assert (found.estimate, found.low, found.high) == (4, pytest.approx(7 / 3), 9)
    assert scale.quotient(Interval(8), Interval(2, 1, 3)) == Interval(4.0)
    assert scale.quotient(Interval(8, 7, 9), Interval(0, 0, 0)) is None
    assert scale.quotient(None, Interval(2, 1, 3)) is None
