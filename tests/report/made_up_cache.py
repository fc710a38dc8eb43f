"""Made-up runs of `cache`: what its report must be able to tell."""

from __future__ import annotations

from lab import claims
from lab.report import cache
from lab.report import results as files

ARMS = (cache.WITHOUT, cache.WITH)


def write(folder, **options):
    """Write a run into a folder; see `results`."""
    folder.mkdir()
    files.write(folder, results(**options))
    return folder


def results(*, opposite=False, points=False, unmeasured=False):
    """Return results of a run.

    Args:
        opposite: everything speaks against caches.
        points: figures without intervals.
        unmeasured: everything was left out that could be.
    """
    found = _found(opposite=opposite, points=points)
    if unmeasured:
        found = {**dict.fromkeys(found), "left_out": {"the death of the origin": "it is not the lab's own"}}
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


def interval(estimate, spread=0.1, *, points=False):
    """Return a number with its interval, or alone."""
    if points:
        return {"estimate": estimate, "low": None, "high": None}
    return {"estimate": estimate, "low": estimate * (1 - spread), "high": estimate * (1 + spread)}


def _found(*, opposite, points):
    return {
        "engine": {},
        "loads": _loads(opposite=opposite, points=points),
        "break_even": {"ms": None if opposite else 0.25, "below_ms": None, "above_ms": 6.0 if opposite else None},
        "hits": _hits(points=points),
        "reuse": interval(0.05 if opposite else 0.4, points=points),
        "updates": _updates(),
        "stability": interval(0.11, points=points),
        "capacity": _capacity(opposite=opposite, points=points),
        "stampede": _stampede(),
        "outage": {
            "struck_seconds": 1.25, "repaired_seconds": 3.75, "bucket_seconds": 0.25, "rate_rps": 300.0,
            "arms": {ARMS[0]: seen(0.0), ARMS[1]: seen(0.1 if opposite else 0.7)},
        },
        "left_out": {},
    }  # fmt: skip


def _loads(*, opposite, points):
    ratios = (1.3, 1.2, 1.1, 1.25) if opposite else (1.02, 0.6, 0.2, 0.8)
    costs = (0.2, 0.9, 6.0, 0.5)
    return {
        kind: _load(cost, ratio, 1.3 if opposite else 0.8, points=points)
        for kind, cost, ratio in zip(cache.KINDS, costs, ratios, strict=True)
    }


def _load(origin_ms, ratio, cpu, *, points=False):
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


def _hits(*, points):
    return [
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


def _updates():
    return [
        {
            "asked": asked, "done": asked, "delete_on_write": deleting, "reads": 5000, "hit_ratio": interval(ratio),
            "stale": {"events": stale, "rate": {"estimate": stale / 5000, "low": stale / 6000, "high": stale / 4000}},
        }
        for asked, deleting, ratio, stale in ((0.0, True, 0.99, 0), (0.1, True, 0.88, 0), (0.1, False, 0.7, 900))
    ]  # fmt: skip


def _capacity(*, opposite, points):
    bound = {"bound": "between", "by_generator": False, "passes": []}
    carried = (900.0, 800.0) if opposite else (900.0, 1200.0)
    return {
        "arms": {
            arm: {**bound, **interval(rps, points=points), "kept_rps": rps - 50.0, "missed_rps": rps + 50.0}
            for arm, rps in zip(ARMS, carried, strict=True)
        },
        "ratio": interval(0.9 if opposite else 1.33, points=points),
        "limit_ms": 50.0,
        "points": [
            {"arm": arm, "load_rps": rate, "p95_ms": p95, "outcome": "kept"}
            for arm in ARMS
            for rate, p95 in ((500.0, 8.0), (900.0, 40.0), (1400.0, 300.0))
        ],
        "cpu_ms": {arm: {"servers": 1.0, "store": 0.2, "balancer": 0.1} for arm in ARMS},
    }


def _stampede():
    moments = [[n / 50, 1.0 + n % 7, "hit"] for n in range(100)] + [[1.0, 20.0, "miss"], [1.01, 21.0, "waited"]]
    rush = {"requests": 102, "failed": 0, "origin_queries": 1, "deaths": [1], "longest_ms": 21.0, "moments": moments}
    return {"everybody fills": {**rush, "origin_queries": 9, "deaths": [9]}, "one filler": rush}


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
