"""The rules of `cache`, at each of their outcomes, with made-up numbers."""

from __future__ import annotations

import pytest
from reasons import reasoned

from lab.claim_rules import cache


def interval(estimate, low=None, high=None):
    """Return a number with its interval as results have it."""
    return {"estimate": estimate, "low": low, "high": high}


def around(estimate):
    """Return a number with a narrow interval."""
    return interval(estimate, estimate - 0.0001, estimate + 0.0001)


def found(**parts):
    """Return results with some parts of the experiment."""
    return {"cache": parts}


EVEN = {"ms": None, "below_ms": None, "above_ms": None}


@pytest.mark.parametrize(
    ("search", "verdict"),
    [
        (interval(0.5, 0.4, 0.8), "holds"),
        (interval(0.7, 0.6, 0.81), "cannot tell"),
        (interval(0.5), "cannot tell"),
        (interval(0.9, 0.85, 1.05), "cannot tell"),
        (interval(1.2, 1.0, 1.4), "does not hold"),
    ],
)
def test_faster_takes_the_whole_interval_of_a_search(search, verdict):
    """0.8 at most to hold, 1 at least to be refuted."""
    loads = {"search": {"ratio": {"p50": search}}, "product": {"ratio": {"p50": around(1.02)}}}
    told = reasoned(cache.cache_faster(found(loads=loads, break_even={**EVEN, "ms": 0.31})))
    assert told.verdict == verdict
    assert "by its primary key 1.02 times" in told.evidence
    assert "breaks even at an origin query of about 0.31 ms" in told.evidence


def test_faster_claims_no_gain_for_a_cheap_query_that_is_too_close_to_call():
    """Whatever the estimate says: an interval with 1 in it gains nothing for sure."""
    for product, text in ((0.98, "whether it gains time is too close to call"), (0.5, "gained time even at")):
        ratio = {"estimate": product, "low": product - 0.1, "high": product + 0.1}
        loads = {"search": {"ratio": {"p50": around(0.5)}}, "product": {"ratio": {"p50": ratio}}}
        told = cache.cache_faster(found(loads=loads, break_even={**EVEN, "below_ms": 0.12}))
        assert text in told.evidence


@pytest.mark.parametrize(
    ("even", "text"),
    [
        ({**EVEN, "below_ms": 0.12}, "even at the cheapest origin query tried, 0.12 ms"),
        ({**EVEN, "above_ms": 8.0}, "gained no time even at the dearest origin query tried, 8.00 ms"),
        (EVEN, "was not found"),
    ],
)
def test_faster_says_where_a_cache_breaks_even(even, text):
    """Or on which side of all that was tried."""
    assert (
        text in cache.cache_faster(found(loads={"search": {"ratio": {"p50": around(0.5)}}}, break_even=even)).evidence
    )


@pytest.mark.parametrize(
    ("reuse", "verdict"),
    [
        (interval(0.4, 0.3, 0.5), "holds"),
        (interval(0.4, 0.29, 0.5), "cannot tell"),
        (interval(0.4), "cannot tell"),
        (interval(0.05, 0.0, 0.1), "does not hold"),
        (interval(0.05, 0.0, 0.11), "cannot tell"),
    ],
)
def test_reuse(reuse, verdict):
    """The hit ratio must be higher by 0.3."""
    hits = [
        {"exponent": exponent, "share": 0.05, "hit_ratio": around(ratio)}
        for exponent, ratio in ((0.0, 0.05), (1.0, 0.45))
    ]
    told = reasoned(cache.cache_needs_reuse(found(reuse=reuse, hits=hits)))
    assert told.verdict == verdict
    assert "45 % against 5 %" in told.evidence


def point(*, deleting, stale, rate, asked=0.1):
    """Return a point of the sweep over updates."""
    return {"delete_on_write": deleting, "asked": asked, "reads": 9000, "stale": {"events": stale, "rate": rate}}


AGED = point(deleting=False, stale=900, rate=interval(0.1, 0.09, 0.11))
FRESH = point(deleting=True, stale=0, rate=interval(0.0, 0.0, 0.0004))


@pytest.mark.parametrize(
    ("drop", "timed", "deleting", "verdict"),
    [
        (interval(0.3, 0.2, 0.4), AGED, FRESH, "holds"),
        (interval(0.3, 0.19, 0.4), AGED, FRESH, "cannot tell"),
        (interval(0.04, 0.03, 0.05), AGED, FRESH, "does not hold"),
        (interval(0.3), AGED, FRESH, "cannot tell"),
        (around(0.3), point(deleting=False, stale=0, rate=interval(0.0, 0.0, 0.0004)), FRESH, "cannot tell"),
        (around(0.3), AGED, point(deleting=True, stale=3, rate=interval(0.0005, 0.0002, 0.002)), "cannot tell"),
        (around(0.3), AGED, point(deleting=True, stale=90, rate=interval(0.01, 0.009, 0.011)), "does not hold"),
    ],
)
def test_stability_takes_hits_and_freshness_together(drop, timed, deleting, verdict):
    """Hits must fall, time alone must show something stale, deletion next to nothing."""
    calm = point(deleting=True, stale=0, rate=around(0.0), asked=0.0)
    told = reasoned(cache.cache_needs_stability(found(stability=drop, updates=[calm, timed, deleting])))
    assert told.verdict == verdict


LESS, SAME, MORE = interval(0.3, 0.25, 0.35), interval(0.95, 0.92, 1.1), interval(1.2, 1.0, 1.4)


@pytest.mark.parametrize(
    ("queries", "connections", "cpu", "verdict"),
    [
        (LESS, LESS, LESS, "holds"),
        (interval(0.4, 0.3, 0.5), interval(0.6, 0.5, 0.7), interval(0.8, 0.7, 0.9), "holds"),
        (interval(0.4, 0.3, 0.51), LESS, LESS, "cannot tell"),
        (LESS, interval(0.6, 0.5, 0.71), LESS, "cannot tell"),
        (LESS, LESS, interval(0.8, 0.7, 0.91), "cannot tell"),
        (LESS, LESS, SAME, "cannot tell"),
        (LESS, LESS, interval(0.5), "cannot tell"),
        (LESS, LESS, MORE, "does not hold"),
        (MORE, LESS, LESS, "does not hold"),
        (LESS, MORE, LESS, "does not hold"),
    ],
)
def test_relief_takes_queries_connections_and_cpu(queries, connections, cpu, verdict):
    """Each on its right side; one on the wrong side refutes."""
    load = {"queries_ratio": queries, "connections_ratio": connections, "cpu_ratio": cpu}
    assert reasoned(cache.cache_relieves_origin(found(loads={"shop": load}))).verdict == verdict


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (interval(1.4, 1.2, 1.6), "holds"),
        (interval(1.4, 1.19, 1.6), "cannot tell"),
        (interval(1.4), "cannot tell"),
        (None, "cannot tell"),
        (interval(0.9, 0.8, 1.0), "does not hold"),
    ],
)
def test_scales(ratio, verdict):
    """1.2 times at the least; without both brackets nothing can be told."""
    arms = {
        "without cache": {"estimate": 900.0, "bound": "between"},
        "with cache": {"estimate": 1200.0, "bound": "at least"},
    }
    told = reasoned(cache.cache_scales(found(capacity={"arms": arms, "ratio": ratio})))
    assert told.verdict == verdict
    assert "without cache 900/s, with cache at least 1,200/s" in told.evidence


@pytest.mark.parametrize(
    ("answered", "minus", "verdict"),
    [
        (interval(0.7, 0.6, 0.8), interval(0.0, -0.05, 0.05), "holds"),
        (interval(0.7, 0.6, 0.8), interval(-0.1, -0.2, -0.06), "cannot tell"),
        (interval(0.5, 0.4, 0.6), around(0.0), "cannot tell"),
        (interval(0.7), interval(0.0), "cannot tell"),
        (interval(0.7, 0.6, 0.8), None, "cannot tell"),
        (interval(0.1, 0.0, 0.2), interval(-0.5, -0.6, -0.4), "does not hold"),
    ],
)
def test_survives(answered, minus, verdict):
    """As much as the hits before, and half at the least."""
    arms = {
        "with cache": {
            "answered_during": {"rate": answered},
            "answered_minus_hits": minus,
            "hit_ratio_before": around(0.7),
        },
        "without cache": {"answered_during": {"answered": 0, "requests": 400}},
    }
    told = reasoned(cache.cache_survives_origin(found(outage={"arms": arms})))
    assert told.verdict == verdict
    assert "Without a cache: 0 of 400." in told.evidence


def test_relief_that_is_open_names_what_leaves_it_so_and_where_it_would_turn():
    """The part that lies between, not those that hold; and the dear searches beside it."""
    loads = {"shop": {"queries_ratio": LESS, "connections_ratio": LESS, "cpu_ratio": SAME}}
    told = cache.cache_relieves_origin(found(loads={**loads, "thorough": {"cpu_ratio": interval(0.35, 0.3, 0.4)}}))
    assert "for searches that read every product 0.35 times (0.30 to 0.40)" in told.evidence
    assert told.left_open.endswith("Left open by the CPU time: up to 0.90 times holds, from 1.00 on does not.")


def test_scales_says_what_the_cpu_time_lets_expect():
    """Modelled, for the mix that was measured and for one whose queries are dear."""
    cpu = {
        kind: {"cpu_ms": {arm: {"total": ms} for arm, ms in zip(("without cache", "with cache"), both, strict=True)}}
        for kind, both in {"shop": (1.8, 1.5), "thorough": (6.0, 2.0)}.items()
    }
    capacity = {"arms": {}, "ratio": interval(1.1, 0.9, 1.3)}
    text = "expect 1.20 times for this mix, and 3.00 times for searches that read every product (modelled)."
    assert text in cache.cache_scales(found(capacity=capacity, loads=cpu)).evidence
    del cpu["thorough"]
    assert "modelled" not in cache.cache_scales(found(capacity=capacity, loads=cpu)).evidence


@pytest.mark.parametrize(
    ("minus", "text"),
    [
        (interval(0.0, -0.1, 0.1), "about 3,200 reads instead of 800 would do (modelled)"),
        (interval(-0.01, -0.06, 0.04), "about 1,250 reads instead of 800"),
        (interval(-0.1, -0.2, -0.06), None),
        (interval(0.0), None),
    ],
)
def test_survival_that_is_open_says_how_many_reads_would_do(minus, text):
    """If the difference stayed as it is; where it is surely too large, or has no interval, more reads are no cure."""
    during = {"rate": interval(0.7, 0.6, 0.8), "requests": 800}
    arm = {"answered_during": during, "answered_minus_hits": minus, "hit_ratio_before": around(0.7)}
    told = cache.cache_survives_origin(found(outage={"arms": {"with cache": arm}}))
    assert told.verdict == "cannot tell"
    assert (text or "from -5 points on holds") in told.left_open
    assert (text is None) == ("modelled" not in told.left_open)


@pytest.mark.parametrize(
    "rule",
    [
        cache.cache_faster,
        cache.cache_needs_reuse,
        cache.cache_needs_stability,
        cache.cache_relieves_origin,
        cache.cache_scales,
        cache.cache_survives_origin,
    ],
)
def test_what_was_not_measured_is_not_tested(rule):
    """Whatever part is missing."""
    assert rule(found()).verdict == "not tested"
    assert rule({}).verdict == "not tested"
