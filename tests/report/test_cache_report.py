"""The report of a cache run: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import copy
import io
import json
import re

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from lab import claims
from lab.report import cache, charts, page, results, style, terminal
from lab.report.charts import cache as drawn
from lab.report.charts import cache_capacity, cache_hits, cache_moments

ARMS = (cache.WITHOUT, cache.WITH)


def interval(estimate, spread=0.1, *, points=False):
    """Return a number with its interval, or alone."""
    if points:
        return {"estimate": estimate, "low": None, "high": None}
    return {"estimate": estimate, "low": estimate * (1 - spread), "high": estimate * (1 + spread)}


def load(origin_ms, ratio, cpu, *, points=False):
    """Return what one kind of load showed."""
    one = {arm: {"p50": interval(2.0, points=points), "p95": None, "p99": None} for arm in ARMS}
    parts = {"servers": 1.0, "store": 0.3, "balancer": 0.1, "total": 1.4}
    return {
        "requests": dict.fromkeys(ARMS, 400),
        "failed": dict.fromkeys(ARMS, 0),
        "latency_ms": one,
        "ratio": {"p50": interval(ratio, points=points), "p95": None},
        "added_ms": interval(1 - ratio, points=points),
        "origin_ms": origin_ms,
        "hit_ratio": interval(0.8, points=points),
        "served": {"hit": 320, "waited": 0, "miss": 80, "bypass": 0},
        "cpu_ms": dict.fromkeys(ARMS, parts),
        "queries": {ARMS[0]: 1.0, ARMS[1]: 0.2},
        "connections": {ARMS[0]: 0.2, ARMS[1]: 0.05},
        **{
            f"{name}_ratio": interval(value, points=points) for name, value in (("queries", 0.2), ("connections", 0.25))
        },
        "cpu_ratio": interval(cpu, points=points),
    }


def seen(answered):
    """Return what one arm's visitors saw of the origin's death."""
    rate = interval(answered) if answered else {"estimate": 0.0, "low": 0.0, "high": 0.0}
    return {
        "hit_ratio_before": interval(0.7),
        "answered_during": {"requests": 400, "answered": round(400 * answered), "rate": rate},
        "answered_minus_hits": interval(0.01),
        "answered_after": 0.95,
        "failed_until_seconds": 0.7,
        "failed_wait_ms": 4.0,
        "timeline": {
            "cache": [30] * 20,
            "origin": [20] * 5 + [0] * 10 + [20] * 5,
            "late": [0] * 10 + [5] * 5 + [0] * 5,
            "failed": [0] * 5 + [20] * 5 + [15] * 5 + [0] * 5,
        },
    }


def made_up(*, opposite=False, points=False):
    """Return results of a run; the opposite one speaks against caches, and one with points has no intervals."""
    ratios = (1.3, 1.2, 1.1, 1.25) if opposite else (1.02, 0.6, 0.2, 0.8)
    costs = (0.2, 0.9, 6.0, 0.5)
    loads = {
        kind: load(cost, ratio, 1.3 if opposite else 0.8, points=points)
        for kind, cost, ratio in zip(cache.KINDS, costs, ratios, strict=True)
    }
    hits = [
        {
            "exponent": e,
            "share": s,
            "held": s,
            "reads": 1600,
            "evicted": 9,
            "hit_ratio": interval(0.1 + e * s, points=points),
        }
        for e in (0.0, 0.5, 1.0)
        for s in (0.02, 0.05, 0.2)
    ]
    updates = [
        {
            "asked": asked, "done": asked, "delete_on_write": deleting, "reads": 5000, "hit_ratio": interval(ratio),
            "stale": {"events": stale, "rate": {"estimate": stale / 5000, "low": stale / 6000, "high": stale / 4000}},
        }
        for asked, deleting, ratio, stale in ((0.0, True, 0.99, 0), (0.1, True, 0.88, 0), (0.1, False, 0.7, 900))
    ]  # fmt: skip
    bound = {"bound": "between", "by_generator": False, "passes": []}
    carried = {arm: {**bound, **interval(n, points=points), "kept_rps": n - 50.0, "missed_rps": n + 50.0}
               for arm, n in zip(ARMS, (900.0, 800.0) if opposite else (900.0, 1200.0), strict=True)}  # fmt: skip
    slices = [
        {"arm": arm, "load_rps": rate, "p95_ms": p95, "outcome": "kept"}
        for arm in ARMS
        for rate, p95 in ((500.0, 8.0), (900.0, 40.0), (1400.0, 300.0))
    ]
    moments = [[n / 50, 1.0 + n % 7, "hit"] for n in range(100)] + [[1.0, 20.0, "miss"], [1.01, 21.0, "waited"]]
    rush = {"requests": 102, "failed": 0, "origin_queries": 1, "deaths": [1], "longest_ms": 21.0, "moments": moments}
    found = {
        "engine": {},
        "loads": loads,
        "break_even": {"ms": None if opposite else 0.25, "below_ms": None, "above_ms": 6.0 if opposite else None},
        "hits": hits,
        "reuse": interval(0.05 if opposite else 0.4, points=points),
        "updates": updates,
        "stability": interval(0.11, points=points),
        "capacity": {
            "arms": carried, "ratio": interval(0.9 if opposite else 1.33, points=points), "limit_ms": 50.0,
            "points": slices, "cpu_ms": {arm: {"servers": 1.0, "store": 0.2, "balancer": 0.1} for arm in ARMS},
        },
        "stampede": {"everybody fills": {**rush, "origin_queries": 9, "deaths": [9]}, "one filler": rush},
        "outage": {
            "struck_seconds": 1.25, "repaired_seconds": 3.75, "bucket_seconds": 0.25,
            "arms": {ARMS[0]: seen(0.0), ARMS[1]: seen(0.1 if opposite else 0.7)},
        },
        "left_out": {},
    }  # fmt: skip
    whole = {
        "schema": 1,
        "experiment": "cache",
        "complete": True,
        "run": {"id": "cache-x", "started": "2026-01-01T00:00:00Z", "seconds": 60, "seed": 1, "servers": 4,
                "rate_rps": 200, "blocks": 8},
        "validity": {"ok": True, "warnings": []},
        "strategies": {},
        "cache": found,
    }  # fmt: skip
    return {**whole, "claims": claims.judge(whole)}


def unmeasured():
    """Return results of a run that left everything out that it could."""
    found = made_up()
    found["cache"] = {
        **dict.fromkeys(found["cache"]),
        "left_out": {"the death of the origin": "it is not the lab's own"},
    }
    return {**found, "claims": claims.judge(found)}


VARIANTS = {
    "usual": made_up,
    "opposite": lambda: made_up(opposite=True),
    "points": lambda: made_up(points=True),
    "unmeasured": unmeasured,
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return a function from a variant's name to such a run."""

    def run(variant):
        folder = tmp_path_factory.mktemp("cache") / "cache-20260101T000000Z"
        folder.mkdir()
        results.write(folder, copy.deepcopy(VARIANTS[variant]()))
        return results.load(folder)

    return run


def shown(run, width=100):
    """Return what the terminal prints into a file."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    terminal.show(run.results, console)
    return console.file.getvalue()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, no word of the machine's for nothing stands anywhere, no text leaves a picture."""
    run = told(variant)
    left_out = []
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style.SETTINGS)
        for name in charts.CHARTS["cache"]:
            try:
                figure, caption = charts.compose(run, name)
            except charts.NothingToDraw as reason:
                left_out.append(str(reason))
                continue
            assert caption.rows
            assert all(len(row) == len(caption.columns) for row in caption.rows)
            assert not re.search(r"\b(nan|None|inf)\b", repr(caption)), name
            FigureCanvasAgg(figure).draw()
            for box in [text.get_window_extent() for text in figure.texts] + [a.get_tightbbox() for a in figure.axes]:
                assert min(box.x0, box.y0) > -2, (name, box)
                assert box.x1 < figure.bbox.width + 2, (name, box)
                assert box.y1 < figure.bbox.height + 2, (name, box)
    assert len(left_out) == (7 if variant == "unmeasured" else 0)
    for table in cache.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert not re.search(r"\b(None|nan|undefined)\b", page.render(run, []))
    lines = shown(run).splitlines()
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

    assert verdicts(made_up())["cache-faster"] == "holds"
    assert verdicts(made_up(opposite=True))["cache-faster"] == "does not hold"
    assert verdicts(made_up(opposite=True))["cache-relieves-origin"] == "does not hold"
    assert verdicts(made_up(points=True))["cache-scales"] == "cannot tell"
    assert set(verdicts(unmeasured()).values()) == {"not tested"}
    assert json.loads(json.dumps(made_up()))["experiment"] == "cache"


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
        found = made_up()["cache"]["updates"]
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
        found = made_up()["cache"]["capacity"]
        assert cache_capacity.capacity_title(found) == "With the cache the shop carries 1.33 times the load below 50 ms"
        close = {**found, "ratio": interval(1.05)}
        assert "is too close to call: 1.05 (0.95 to 1.16) times" in cache_capacity.capacity_title(close)
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
