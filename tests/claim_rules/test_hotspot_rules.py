"""The rule on hot servers, at each of its outcomes, with made-up numbers; at its edges, too."""

from __future__ import annotations

import pytest
from reasons import reasoned

from lab import claims

SERVERS = 5
"""With the added one."""


def interval(estimate, low, high):
    """Return an interval as results write it."""
    return {"estimate": estimate, "low": low, "high": high}


def story(busiest, share, requests=0):
    """Return what a strategy lived through, as far as the rule looks."""
    added = {"share": share, "requests": requests, "of": 400, "after_seconds": 10.4}
    return {"concentration": busiest, "added": added}


STICKY = story(interval(1.65, 1.5, 1.8), interval(0.0, 0.0, 0.05))
REDIS = story(interval(1.02, 1.0, 1.15), interval(0.2, 0.16, 0.22), 80)


def judged(sticky, redis):
    """Return the claim as a run with these strategies judges it; None leaves one out."""
    told = {name: one for name, one in (("sticky", sticky), ("redis", redis)) if one is not None}
    results = {"experiment": "hotspot", "run": {"servers": SERVERS - 1}, "hotspot": {"strategies": told}}
    return reasoned(next(one for one in claims.judge(results) if one["id"] == "sticky-hotspot"))


def test_it_holds_at_the_edge_of_every_number():
    """At least 1.5 and at most 5 %, while redis has at most 1.15 and at least 0.8 of an even share of 1/5."""
    found = judged(STICKY, REDIS)
    assert found["verdict"] == "holds"
    assert found["turns"] == ""
    assert (
        "1.65 times (1.50 to 1.80) the mean, and 10 s after a server was added, it took 0 of 400" in found["evidence"]
    )
    assert found["numbers"]["even_share"] == pytest.approx(1 / SERVERS)


@pytest.mark.parametrize(
    "sticky",
    [
        story(interval(1.1, 1.0, 1.2), interval(0.0, 0.0, 0.02)),
        story(interval(1.65, 1.5, 1.8), interval(0.15, 0.1, 0.2), 60),
        story(interval(1.4, 1.3, 1.6), interval(0.15, 0.1, 0.2), 60),
    ],
)
@pytest.mark.parametrize("redis", [REDIS, None])
def test_it_does_not_hold_where_work_is_even_or_the_new_server_takes_its_half(sticky, redis):
    """At most 1.2 times the mean, or at least half of an even share: whatever redis does."""
    found = judged(sticky, redis)
    assert found["verdict"] == "does not hold"
    assert found["turns"]


@pytest.mark.parametrize(
    ("sticky", "redis"),
    [
        (story(interval(1.6, 1.49, 1.7), interval(0.0, 0.0, 0.02)), REDIS),
        (story(interval(1.1, 1.0, 1.21), interval(0.0, 0.0, 0.02)), REDIS),
        (story(interval(1.65, 1.5, 1.8), interval(0.03, 0.01, 0.051), 12), REDIS),
        (story(interval(1.65, 1.5, 1.8), interval(0.12, 0.099, 0.2), 48), REDIS),
        (story(interval(1.65, None, None), interval(0.0, 0.0, 0.02)), REDIS),
        (story(interval(1.65, 1.5, 1.8), interval(0.0, None, None)), REDIS),
        (STICKY, story(interval(1.1, 1.0, 1.16), interval(0.2, 0.16, 0.22), 80)),
        (STICKY, story(interval(1.02, 1.0, 1.15), interval(0.2, 0.159, 0.22), 80)),
        (STICKY, story(interval(1.02, None, None), interval(0.2, 0.16, 0.22), 80)),
        (STICKY, story(interval(1.02, 1.0, 1.15), interval(0.2, None, None), 80)),
        (STICKY, None),
    ],
)
def test_in_between_nothing_can_be_told(sticky, redis):
    """One end of one interval a little beyond its number, no interval, or nothing beside it."""
    found = judged(sticky, redis)
    assert found["verdict"] == "cannot tell"
    assert found["evidence"].endswith(".")


def test_what_stands_beside_it_is_said():
    """Redis's figures, or that they are missing."""
    assert "Beside it redis: 1.02 times (1.00 to 1.15)" in judged(STICKY, REDIS)["evidence"]
    assert "`redis` was not measured beside it" in judged(STICKY, None)["evidence"]


def test_without_sticky_it_is_not_tested():
    """There is nothing to judge, nor where a run was interrupted."""
    assert judged(None, REDIS)["verdict"] == "not tested"
    assert judged({"concentration": {}, "added": {"share": None}}, REDIS)["verdict"] == "not tested"
