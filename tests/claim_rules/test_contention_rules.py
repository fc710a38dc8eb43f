"""The rule of a contention run at each of its outcomes, with made-up numbers."""

from __future__ import annotations

import pytest
from reasons import reasoned

from lab import claims


def point(estimate, low=None, high=None, *, load=100, cpu=0.5, report=False, for_all=None, pages=600):
    """Make up what was measured at one load."""
    cost = {"database": 0.5, "redis": 0.25}
    return {
        "load_rps": load,
        "report": report,
        "cpu_share": cpu,
        "ratio": None if estimate is None else {"estimate": estimate, "low": low, "high": high},
        "ratio_for_all": for_all,
        "arms": {
            arm: {"cpu_ms_per_request": {"postgresql": ms}, "catalogue": {"requests": pages}}
            for arm, ms in cost.items()
        },
    }


def judged(*points):
    """Return how `database-slows` is judged."""
    found = {"experiment": "contention", "contention": {"points": list(points)}}
    return reasoned(next(one for one in claims.judge(found) if one["id"] == "database-slows"))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([point(1.3, 1.10, 1.5)], "holds"),
        ([point(1.3, 1.09, 1.5)], "cannot tell"),
        ([point(0.9, 0.8, 1.0), point(1.3, 1.2, 1.4)], "holds"),
        ([point(1.0, 0.95, 1.05)], "does not hold"),
        ([point(1.0, 0.95, 1.06)], "cannot tell"),
        ([point(0.9, 0.8, 1.0), point(1.0, 0.9, 1.04, report=True)], "does not hold"),
        ([point(0.9, 0.8, 1.0), point(1.06, 1.02, 1.09)], "cannot tell"),
        ([point(1.4)], "cannot tell"),
        ([point(1.0, 0.95, 1.04), point(1.0)], "cannot tell"),
    ],
)
def test_one_slow_load_makes_it_hold_and_all_must_be_alike_to_refute_it(points, expected):
    """Whole intervals decide: 1.10 at some load, or 1.05 at every one; points without intervals tell nothing."""
    rising = [{**one, "load_rps": 100 * place} for place, one in enumerate(points, start=1)]
    assert judged(*rising)["verdict"] == expected


def test_crowded_loads_are_not_judged():
    """From 80 % of all CPU time on neither verdict counts; with nothing else nobody can tell."""
    slow, alike = point(2.0, 1.8, 2.2, cpu=0.80), point(1.0, 0.95, 1.04, cpu=0.79)
    assert judged(slow)["verdict"] == "cannot tell"
    assert "No load of 1 is judged: 1 with 80 % total CPU or above." in judged(slow)["evidence"]
    assert judged(slow, alike)["verdict"] == "does not hold"
    assert judged(slow, alike)["numbers"]["judged"] == judged(slow, alike)["numbers"]["not_judged"] == 1
    assert "1 load judged; not judged: 1 with 80 % total CPU or above." in judged(slow, alike)["evidence"]
    assert judged({**alike, "cpu_share": None})["verdict"] == "cannot tell"


def test_too_few_pages_are_not_judged_whatever_they_seem_to_show():
    """A 95th percentile of 235 pages is chance: 3.41 times then says nothing, and how many are missing is told."""
    lucky = point(3.41, 1.74, 6.25, pages=235)
    assert judged(lucky)["verdict"] == "cannot tell"
    assert "(235 on an arm, 600 needed: 365 are missing)" in judged(lucky)["evidence"]
    assert judged(point(3.41, 1.74, 6.25, pages=599))["verdict"] == "cannot tell"
    assert judged(point(3.41, 1.74, 6.25, pages=600))["verdict"] == "holds"
    alike = point(1.0, 0.95, 1.04)
    assert judged(point(1.0, 0.95, 1.04, pages=599))["verdict"] == "cannot tell"
    assert judged(lucky, alike)["verdict"] == "does not hold"
    one_arm = point(3.41, 1.74, 6.25)
    one_arm["arms"]["redis"]["catalogue"]["requests"] = 100
    assert judged(one_arm)["verdict"] == "cannot tell"


def test_the_evidence_names_the_load_that_decided():
    """The one that speaks most surely for the claim, or the slowest of those that refute it."""
    surely, larger = point(1.3, 1.25, 1.4, load=200), point(1.5, 1.12, 2.0, load=300, report=True)
    found = judged(surely, larger)
    assert "1.30 times (1.25 to 1.40) at 200 requests/s" in found["evidence"]
    assert "Slower at 2 of them" in found["evidence"]
    assert found["numbers"]["ratio"] == 1.3
    alike = judged(point(1.0, 0.9, 1.01), point(0.9, 0.8, 1.04, report=True))
    assert "0.90 times (0.80 to 1.04) at 100 requests/s with the report" in alike["evidence"]


def test_the_evidence_says_whether_many_looks_at_once_spoil_the_verdict():
    """Widened intervals do not change the rule's verdict; they are told."""
    stays = {"estimate": 1.3, "low": 1.11, "high": 1.6}
    gone = {"estimate": 1.3, "low": 1.02, "high": 1.7}
    assert "it stays" in judged(point(1.3, 1.2, 1.4, for_all=stays))["evidence"]
    assert "it would not stay" in judged(point(1.3, 1.2, 1.4, for_all=gone))["evidence"]
    assert judged(point(1.3, 1.2, 1.4, for_all=gone))["verdict"] == "holds"
    assert "widened" not in judged(point(1.0, 0.9, 1.04, for_all=stays))["evidence"]


def test_the_evidence_says_when_the_database_would_be_full():
    """From its CPU time per request at the highest judged load without the report; labelled as modelled."""
    found = judged(point(1.0, 0.9, 1.04), point(1.0, 0.9, 1.04, load=300), point(1.0, 0.9, 1.1, load=900, cpu=0.9))
    assert "At 300 requests/s" in found["evidence"]
    assert "about 2,000 instead of 4,000 requests/s (modelled)" in found["evidence"]
    assert "It would hold where the database is busier" in found["turns"]
    unknown = point(1.0, 0.9, 1.04)
    unknown["arms"]["redis"]["cpu_ms_per_request"]["postgresql"] = None
    assert "modelled" not in judged(unknown)["evidence"]


def test_without_measurements_it_is_not_tested():
    """A run that got nowhere judges nothing."""
    assert judged()["verdict"] == "not tested"
    assert judged(point(None))["verdict"] == "cannot tell"
