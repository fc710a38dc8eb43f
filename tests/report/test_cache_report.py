"""The report of a cache run: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import json
import re

import made_up_cache
import pytest
from made_up_cache import ARMS, interval, seen
from reading import assert_inside, shown

from lab.report import cache, charts, page
from lab.report.charts import cache as drawn
from lab.report.charts import cache_capacity, cache_hits, cache_moments

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "points": {"points": True},
    "unmeasured": {"unmeasured": True},
}


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("cache", made_up_cache.write, VARIANTS)


def test_the_outage_says_under_which_load_it_was(told):
    """It has one of its own: more visitors come than elsewhere in the run."""
    assert "300 reads/s for each shop" in told.caption("usual", "origin-killed").subtitle


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, no word of the machine's for nothing stands anywhere, no text leaves a picture."""
    run = told(variant)
    for caption in filter(None, told.captions(variant).values()):
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption)), caption.title
    figures = told.figures(variant)
    for name, figure in figures.items():
        assert_inside(figure, name)
    left_out = set(charts.CHARTS["cache"]) - set(figures)
    assert len(left_out) == (7 if variant == "unmeasured" else 0)
    for table in cache.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert not re.search(r"\b(None|nan|undefined)\b", page.render(run, []))
    lines = shown(run, 100).splitlines()
    assert max(map(len, lines)) <= 100
    assert not re.search(r"\b(None|nan)\b", "\n".join(lines))


def test_the_headline_says_what_was_found_either_way(told):
    """Faster and answered; or slower, dearer and hardly answered; or that too little was seen."""
    usual, opposite = cache.headline(told("usual")), cache.headline(told("opposite"))
    assert "a search took 0.60 times as long" in usual
    assert "70 % of the reads were answered" in usual
    assert "18 % of the reads were stale where only time ends them" in usual
    assert "a search took 1.20 times as long" in opposite
    assert "cost 1.30 times the CPU time" in opposite
    assert "10 % of the reads were answered" in opposite
    assert "too little" in cache.headline(told("unmeasured"))


def test_the_claims_follow_the_numbers():
    """Each run's own; points alone decide nothing."""

    def verdicts(found):
        return {claim["id"]: claim["verdict"] for claim in found["claims"] if claim["id"].startswith("cache-")}

    assert verdicts(made_up_cache.results())["cache-faster"] == "holds"
    assert verdicts(made_up_cache.results(opposite=True))["cache-faster"] == "does not hold"
    assert verdicts(made_up_cache.results(opposite=True))["cache-relieves-origin"] == "does not hold"
    assert verdicts(made_up_cache.results(points=True))["cache-scales"] == "cannot tell"
    assert set(verdicts(made_up_cache.results(unmeasured=True)).values()) == {"not tested"}
    assert json.loads(json.dumps(made_up_cache.results()))["experiment"] == "cache"


class TestTitles:
    """Titles say what was found, whichever way it came out."""

    def test_latency(self):
        """Quicker; or nothing quicker."""
        assert drawn.latency_title({"search": interval(0.5)}) == "With the cache a search takes 0.50 times as long"
        assert drawn.latency_title({"search": interval(1.2)}).startswith(
            "The cache makes no read clearly quicker: a search"
        )

    def test_latency_that_is_too_close_to_call(self):
        """What may as well be slower is not said to be quicker; alone, nothing is."""
        ratios = {"product": interval(0.95), "search": interval(0.5)}
        assert drawn.latency_title(ratios) == (
            "With the cache a search takes 0.50 times as long; too close to call for a product page (0.95)"
        )
        assert drawn.latency_title({"product": interval(0.95)}) == (
            "The cache makes no read clearly quicker: too close to call for a product page (0.95)"
        )

    def test_hits(self):
        """The two ends of popularity, or the best of what there is."""
        hits = [{"exponent": e, "share": 0.05, "hit_ratio": interval(r)} for e, r in ((0.0, 0.05), (1.0, 0.5))]
        title = (
            "With room for 5 % of the products, the cache answers 50 % under Zipf 1 and 5.0 % where all are asked for"
        )
        assert cache_hits.hits_title(hits).startswith(title)
        assert cache_hits.hits_title(hits[1:]) == "The best hit ratio was 50 %"

    def test_changes(self):
        """Stale by either way, and what deletion costs; or too little."""
        found = made_up_cache.results()["cache"]["updates"]
        assert cache_hits.updates_title(found) == (
            "18 % of the reads are stale at 10 updates per 100 reads if time alone ends entries, 0 % if changes delete "
            "them, which takes hits from 99 % to 88 %"
        )
        assert cache_hits.updates_title([]).startswith("Too few")

    def test_relief_and_capacity(self):
        """With every ratio, with some, and without."""
        assert drawn.relief_title({"queries": interval(0.2), "connections": None, "cpu": None}) == (
            "With the cache a read asks the origin 0.20 times as often"
        )
        assert drawn.relief_title({"queries": interval(0.2), "connections": None, "cpu": interval(0.95)}) == (
            "With the cache a read asks the origin 0.20 times as often; too close to call for the CPU time (0.95)"
        )
        assert drawn.relief_title({"queries": interval(1.0)}) == (
            "Whether the cache spares anything is too close to call for origin queries (1.00)"
        )
        found = made_up_cache.results()["cache"]["capacity"]
        assert cache_capacity.capacity_title(found) == "With the cache the shop carries 1.33 times the load below 50 ms"
        close = {**found, "ratio": interval(1.05)}
        assert "is too close to call: 1.05 (0.95 to 1.16) times" in cache_capacity.capacity_title(close)
        assert "less than 0.01 times as often" in drawn.relief_title({"queries": {"estimate": 0.001}})
        alike = {**found, "ratio": {"estimate": 1.02, "low": None, "high": None}}
        assert "about the same load below 50 ms" in cache_capacity.capacity_title(alike)
        points = {**found, "ratio": {"estimate": 1.3, "low": None, "high": None}}
        assert cache_capacity.capacity_title(points).startswith(
            "In a single pass, with the cache the shop carries 1.30"
        )
        assert "without cache about 900 reads/s" in cache_capacity.capacity_title({**found, "ratio": None})

    def test_moments(self):
        """Many or one; answered or not, or too short."""
        found = {"everybody fills": {"deaths": [3, 9]}, "one filler": {"deaths": [1, 1]}}
        assert cache_moments.stampede_title(found) == (
            "When a hot entry ends, the origin is asked by 9 requests at most if everybody fills, 1 request at most if "
            "one fills for all"
        )
        assert cache_moments.outage_title({ARMS[0]: seen(0.0), ARMS[1]: seen(0.7)}) == (
            "With the origin dead, the shop with a cache answers 70 % of the reads (hit ratio before: 70 %), "
            "without one 0 %"
        )
        short = {ARMS[1]: {**seen(0.7), "answered_during": {"rate": None}}}
        assert "too short" in cache_moments.outage_title(short)
