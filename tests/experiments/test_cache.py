"""A run of `cache`, small but real, with everything behind it; and its arithmetic on made-up numbers."""

from __future__ import annotations

import json
from itertools import count

import pytest

from lab.experiments.cache import direct as cache_direct
from lab.experiments.cache import experiment as cache
from lab.experiments.cache import findings as cache_findings
from lab.experiments.cache.direct import Hits, Updates
from lab.measuring import capacity
from lab.report import draw
from loadtests.catalogue import Popularity, Visitors
from loadtests.recorder import Operation

pytestmark = pytest.mark.timeout(400)

TINY = cache.Size(
    blocks=2,
    thorough_blocks=2,
    slice_seconds=0.15,
    warmup_seconds=0.3,
    search=capacity.Search(start_rps=50, factor=4, slice_seconds=0.2, passes=1, steps=1, most_rps=200),
    reads=160,
    points=((0.0, 0.05), (1.0, 0.05)),
    updates=((0.0, True), (0.1, True), (0.1, False)),
    updates_seconds=0.4,
    stampede_seconds=1.3,
    outage_seconds=(0.6, 0.8, 1.2),
)

NUMBERS = count()


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny run on two servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cache.SIZES, "quick", TINY)
        patch.setattr(cache, "VISITS_SECONDS", 2.0)
        for name, few in (("SAMPLE", 100), ("CHANGING", range(1, 61)), ("SEARCHED", cache_direct.SEARCHED[:20])):
            patch.setattr(cache_direct, name, few)
        return carry_out("cache", "--quick", "--servers", "2", "--rate", "60")


@pytest.fixture(scope="module")
def found(run):
    """What its results say of the cache."""
    return json.loads((run / "results.json").read_text())["cache"]


def test_the_folder_has_every_file(run):
    """Results, samples, charts in both forms, the page, the log and the engines' logs."""
    for name in ("results.json", "samples.npz", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    charts = {path.stem for path in (run / "charts").glob("*.svg")}
    assert {"latency", "relief", "hit-ratio", "changes", "stampede", "origin-killed"} <= charts
    assert charts == {path.stem for path in (run / "charts").glob("*.png")}
    assert {"cache.log", "postgresql.log"} <= {path.name for path in (run / "engines").glob("*.log")}


def test_without_a_cache_every_read_asks_the_origin_and_with_it_only_what_is_missed(found):
    """Counted by the servers, and by what visitors were told."""
    for load in found["loads"].values():
        if not load["failed"]["with cache"] and not load["failed"]["without cache"]:
            assert load["queries"]["without cache"] == pytest.approx(1)
            missed = load["served"]["miss"] + load["served"]["bypass"]
            assert missed <= load["queries"]["with cache"] * load["requests"]["with cache"] + 0.5
    assert found["loads"]["shop"]["served"]["hit"] > 0


def test_the_sweeps_have_a_point_for_each_that_was_asked(found):
    """With reads, hits and what was stale."""
    assert [(one["exponent"], one["share"]) for one in found["hits"]] == list(TINY.points)
    assert [(one["asked"], one["delete_on_write"]) for one in found["updates"]] == list(TINY.updates)
    assert all(one["reads"] > 0 and one["hit_ratio"] for one in found["hits"] + found["updates"])
    assert found["updates"][0]["stale"]["events"] == found["updates"][1]["stale"]["events"] == 0


def test_the_hot_entry_was_fetched_again_by_each_way(found):
    """All requests are moments; those of the origin add up."""
    for one in found["stampede"].values():
        assert one["requests"] == len(one["moments"]) > 0
        assert sum(one["deaths"]) == one["origin_queries"]


def test_the_dead_origin_answers_nobody_and_the_cache_some(found):
    """Hits are answered while PostgreSQL is dead; without a cache there are none."""
    arms = found["outage"]["arms"]
    answered = {arm: one["answered_during"]["answered"] for arm, one in arms.items()}
    assert answered["with cache"] > answered["without cache"]
    for one in arms.values():
        assert sum(map(sum, one["timeline"].values())) > 0


def test_figures_that_stand_side_by_side_agree(run):
    """Who divides two columns of the page gets the ratio that it tells, and `so many of so many` is the share told."""
    cache = json.loads((run / "results.json").read_text())["cache"]
    for load in cache["loads"].values():
        of_each = {arm: load["cpu_ms"][arm]["total"] for arm in ("with cache", "without cache")}
        ratio = of_each["with cache"] / of_each["without cache"]
        assert load["cpu_ratio"]["estimate"] == pytest.approx(ratio)
    for seen in cache["outage"]["arms"].values():
        during = seen["answered_during"]
        assert during["rate"]["estimate"] == pytest.approx(during["answered"] / during["requests"])


def test_every_claim_on_caches_has_a_verdict(run):
    """None is `not tested` in a run of the lab's own engines."""
    claims = {claim["id"]: claim for claim in json.loads((run / "results.json").read_text())["claims"]}
    for name in ("faster", "needs-reuse", "needs-stability", "relieves-origin", "scales", "survives-origin"):
        assert claims[f"cache-{name}"]["verdict"] != "not tested"
    assert claims["cart-flickers"]["verdict"] == "not tested"


def test_the_report_is_drawn_from_the_files_alone_and_comes_out_the_same(run):
    """Drawing again, without engines, gives the same page to the byte."""
    before = (run / "report.html").read_bytes()
    draw(run)
    assert (run / "report.html").read_bytes() == before


def operation(at, how, *, took=0.01, ok=True):
    """Return a request at a time in seconds."""
    at_ns = round(at * 1e9)
    return Operation(
        i=next(NUMBERS), arm="a", strategy="isolated", scenario="catalogue", phase="main", shopper="v000", tab=0,
        f="product", intended_ns=at_ns, t0_ns=at_ns, t1_ns=at_ns + round(took * 1e9),
        outcome="ok" if ok else "fail", status=200 if ok else 503, cache=how,
    )  # fmt: skip


class TestArithmetic:
    """From requests to findings."""

    def test_deaths_are_told_apart_by_quiet(self):
        """Queries close together belong to one death."""
        asked = [0.1, 0.11, 0.12, 1.1, 2.1, 2.12]
        found = cache_findings.stampede([operation(at, "miss") for at in asked] + [operation(0.5, "hit")])
        assert found["deaths"] == [3, 1, 2]
        assert found["origin_queries"] == 6
        assert found["requests"] == 7
        assert cache_findings.stampede([])["deaths"] == []

    def test_a_break_even_lies_where_the_line_meets_zero(self):
        """Or on one side of all that was tried."""

        def points(*pairs):
            return [(cost, {"estimate": added}) for cost, added in pairs]

        assert cache_findings.break_even(points((2.0, -1.0), (1.0, 1.0)))["ms"] == 1.5
        assert cache_findings.break_even(points((1.0, -0.1), (2.0, -1.0)))["below_ms"] == 1.0
        assert cache_findings.break_even(points((1.0, 0.3), (2.0, 0.1)))["above_ms"] == 2.0
        assert set(cache_findings.break_even([(None, None)]).values()) == {None}

    def test_reuse_and_stability_compare_the_right_points(self):
        """Zipf 1 with all alike at 5 %; no updates with 1 per 10 reads, both deleted on write."""

        def hits(exponent, share, ratio):
            return Hits(exponent=exponent, share=share, held=share, blocks=[ratio] * 8, reads=80, evicted=0)

        def updates(asked, deleting, ratio):
            point = {"asked": asked, "done": asked, "reads": 80, "stale": 0}
            return Updates(delete_on_write=deleting, blocks=[ratio] * 8, **point)

        swept = [hits(0.0, 0.05, 0.05), hits(1.0, 0.05, 0.5), hits(1.0, 0.2, 0.9)]
        assert cache_findings.reuse(swept)["low"] == pytest.approx(0.45)
        assert cache_findings.reuse(swept[1:]) is None
        changed = [updates(0.0, True, 0.9), updates(0.1, True, 0.7), updates(0.1, False, 0.2)]
        assert cache_findings.stability(changed)["estimate"] == pytest.approx(0.2)
        assert cache_findings.stability(changed[1:]) is None

    def test_an_outage_is_cut_at_the_stroke_and_the_repair(self):
        """Requests count by when they were due; a hit ratio only by those that were answered before."""
        operations = [operation(n / 20, "hit" if n % 2 else "miss") for n in range(40)]
        operations += [operation(2 + n / 20, "hit" if n % 2 else None, ok=bool(n % 2)) for n in range(40)]
        operations += [operation(4 + n / 20, None, ok=n > 3) for n in range(20)]
        found = cache_findings.seen(operations, 0, (2_000_000_000, 2_000_000_000), 4_000_000_000)
        assert found["answered_during"]["requests"] == 40
        assert found["answered_during"]["answered"] == 20
        assert found["hit_ratio_before"]["estimate"] == pytest.approx(0.5, abs=0.1)
        assert found["answered_during"]["rate"]["estimate"] == 20 / 40
        told = found["answered_during"]["rate"]["estimate"] - found["hit_ratio_before"]["estimate"]
        assert found["answered_minus_hits"]["estimate"] == pytest.approx(told)
        assert found["answered_after"] == 0.8
        assert found["failed_until_seconds"] == pytest.approx(0.16)
        assert sum(found["timeline"]["failed"]) == 24
        assert sum(found["timeline"]["late"]) == 0
        waited = operation(3.0, "miss")
        waited.t1_ns = 4_500_000_000
        late = cache_findings.seen([waited], 0, (2_000_000_000, 2_000_000_000), 4_000_000_000)
        assert late["answered_during"]["answered"] == 0
        assert (sum(late["timeline"]["late"]), sum(late["timeline"]["origin"])) == (1, 0)
        empty = cache_findings.seen([], 0, (1, 1), 2)
        assert empty["answered_during"]["rate"] is None


class TestVisitors:
    """What is asked for, and how often."""

    def test_the_same_seed_gives_the_same_plan_and_another_block_another(self):
        """Nothing else decides it."""
        visitors = Visitors(seed=1, searches=("tea", "cup"))
        plan = visitors.plan(3, rate_rps=100, seconds=1)
        assert plan == visitors.plan(3, rate_rps=100, seconds=1)
        assert plan.requests != visitors.plan(4, rate_rps=100, seconds=1).requests
        assert {request.f for request in plan.requests} == {"product", "search"}
        assert all((request.product is None) == (request.f == "search") for request in plan.requests)

    def test_popularity_follows_the_law(self):
        """By Zipf 1 the favourite gets about twice as much as the second; else all get alike."""
        import numpy as np

        drawn = Popularity(range(100), 1.0, 1).draw(np.random.default_rng(1), 20_000)
        first, second = sorted(np.bincount(drawn))[:-3:-1]
        assert 1.7 < first / second < 2.3
        alike = np.bincount(Popularity(range(100), 0.0, 1).draw(np.random.default_rng(1), 20_000), minlength=100)
        assert alike.max() < 2 * alike.min()
