"""The claims on the cache, judged from a run of `cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.claim_rules.judgement import (
    ClaimVerdict,
    Judgement,
    Results,
    absent,
    at,
    interval_of,
    n,
    numbers_of,
    out_of,
    pointed,
    shown,
    times,
    together,
    undecided,
)

if TYPE_CHECKING:
    from lab.statistics import Interval

FASTER, SLOWER = 0.8, 1.0
REUSE, NO_REUSE = 0.3, 0.1
STABILITY, NO_STABILITY = 0.2, 0.05
MOST_STALE = 0.001
FEWER_QUERIES, FEWER_CONNECTIONS, LESS_CPU, NO_RELIEF = 0.5, 0.7, 0.9, 1.0
MORE, NO_MORE = 1.2, 1.0
SLACK, LEAST_ANSWERED, NOT_ANSWERED = 0.05, 0.5, 0.2


def at_most(value: Interval | None, *, holds_to: float, fails_from: float) -> ClaimVerdict:
    """Judge a figure that must be small by where its whole interval lies; without an interval nothing can be told."""
    if value is None or value.low is None or value.high is None:
        return "cannot tell"
    return "holds" if value.high <= holds_to else "does not hold" if value.low >= fails_from else "cannot tell"


def at_least(value: Interval | None, *, holds_from: float, fails_to: float) -> ClaimVerdict:
    """Judge a figure that must be large likewise."""
    if value is None or value.low is None or value.high is None:
        return "cannot tell"
    return "holds" if value.low >= holds_from else "does not hold" if value.high <= fails_to else "cannot tell"


def cache_faster(results: Results) -> Judgement:
    """Judge whether a search from the cache is faster; a read by primary key and the break-even stand beside it."""
    search = interval_of(at(results, "cache", "loads", "search", "ratio", "p50"))
    if search is None:
        return absent("a search with and without a cache")
    product = interval_of(at(results, "cache", "loads", "product", "ratio", "p50"))
    thorough = interval_of(at(results, "cache", "loads", "thorough", "ratio", "p50"))
    even = at(results, "cache", "break_even") or {}
    beside = "" if product is None else f"; of a product by its primary key {times(product)}"
    beside += "" if thorough is None else f"; of a search that reads every product {times(thorough)}"
    evidence = f"The median of a search with the cache is {times(search)} that without{beside}. {_even(even, product)}"
    numbers = {
        **numbers_of("search_p50", search),
        **numbers_of("product_p50", product),
        "break_even_ms": even.get("ms"),
        "break_even_below_ms": even.get("below_ms"),
        "break_even_above_ms": even.get("above_ms"),
    }
    verdict = at_most(search, holds_to=FASTER, fails_from=SLOWER)
    takes = f"the median of a search{pointed(search)}: up to {FASTER:.2f} times holds, from {SLOWER:.2f} on does not"
    return Judgement(verdict, evidence, numbers, undecided((verdict, takes)))


def _even(even: dict[str, Any], cheapest: Interval | None) -> str:
    if even.get("ms") is not None:
        return f"Here a cache breaks even at an origin query of about {even['ms']:.2f} ms."
    if even.get("below_ms") is not None:
        tried = f"at the cheapest origin query tried, {even['below_ms']:.2f} ms"
        if cheapest is not None and cheapest.high is not None and cheapest.high >= 1:
            return f"Where a cache breaks even was not found: {tried}, whether it gains time is too close to call."
        return f"Here a cache gained time even {tried}."
    if even.get("above_ms") is not None:
        return f"Here a cache gained no time even at the dearest origin query tried, {even['above_ms']:.2f} ms."
    return "The origin cost at which a cache breaks even was not found."


def cache_needs_reuse(results: Results) -> Judgement:
    """Judge how much higher the hit ratio is where some things are asked for far more often."""
    reuse = interval_of(at(results, "cache", "reuse"))
    if reuse is None:
        return absent("hit ratios by popularity")
    ratios = {
        one["exponent"]: interval_of(one["hit_ratio"])
        for one in at(results, "cache", "hits") or []
        if one["share"] == 0.05  # noqa: PLR2004 - the size that the claim names
    }
    skewed, even = ratios.get(1.0), ratios.get(0.0)
    both = "" if skewed is None or even is None else f": {_percent(skewed.estimate)} against {_percent(even.estimate)}"
    evidence = (
        f"With room for 5 % of the products, the hit ratio under Zipf 1 is higher by {_points(reuse)} than where all "
        f"are equally popular{both}."
    )
    verdict = at_least(reuse, holds_from=REUSE, fails_to=NO_REUSE)
    takes = (
        f"the difference{pointed(reuse)}: from {100 * REUSE:.0f} points on holds, up to {100 * NO_REUSE:.0f} does not"
    )
    return Judgement(verdict, evidence, numbers_of("difference", reuse), undecided((verdict, takes)))


def cache_needs_stability(results: Results) -> Judgement:
    """Judge what changes cost: hits where a change deletes, freshness where only time does."""
    drop = interval_of(at(results, "cache", "stability"))
    found = at(results, "cache", "updates") or []
    deleting = [one for one in found if one["delete_on_write"] and one["asked"]]
    timed = [one for one in found if not one["delete_on_write"] and one["asked"]]
    if drop is None or not deleting or not timed:
        return absent("reads while prices change")
    stale, events = _stale(deleting)
    aged, old = _stale(timed)
    fresh: ClaimVerdict = (
        "cannot tell" if stale is None or stale.high is None else "holds" if stale.high <= MOST_STALE else "cannot tell"
    )
    if stale is not None and stale.low is not None and stale.low > MOST_STALE:
        fresh = "does not hold"
    shows: ClaimVerdict = "holds" if old else "cannot tell"
    evidence = (
        f"1 update per 10 reads of the same keys lowers the hit ratio by {_points(drop)}. Stale reads: "
        f"{'none' if aged is None else shown(aged)} where only time ends an entry, "
        f"{out_of(events, sum(one['reads'] for one in deleting))} where a change deletes it."
    )
    numbers = {
        **numbers_of("hit_ratio_drop", drop),
        **numbers_of("stale_ttl_only", aged),
        **numbers_of("stale_delete_on_write", stale),
    }
    hits = at_least(drop, holds_from=STABILITY, fails_to=NO_STABILITY)
    fewer = (
        f"the hits{pointed(drop)}: {100 * STABILITY:.0f} points fewer hold, at most {100 * NO_STABILITY:.0f} do not "
        "(where an entry shows one product, a change costs little more than the read after it: about 10 points here)"
    )
    stales = f"stale reads where a change deletes{pointed(stale)}: at most {1000 * MOST_STALE:.0f} in 1,000 holds"
    left = undecided((hits, fewer), (fresh, stales), (shows, "time alone: it would have to show something stale"))
    return Judgement(together(hits, fresh, shows), evidence, numbers, left)


def _stale(points: list[dict[str, Any]]) -> tuple[Interval | None, int]:
    """Return the rate of stale reads of the point with most updates per read, and how many there were in all points."""
    most = max(points, key=lambda one: one["asked"])
    return interval_of(most["stale"]["rate"]), sum(int(one["stale"]["events"]) for one in points)


def cache_relieves_origin(results: Results) -> Judgement:
    """Judge what the origin and the machine are spared under the shop's own mix of products and searches."""
    load = at(results, "cache", "loads", "shop")
    if load is None:
        return absent("the shop's mix with and without a cache")
    queries, connections, cpu = (interval_of(load.get(f"{name}_ratio")) for name in ("queries", "connections", "cpu"))
    if queries is None or connections is None or cpu is None:
        return absent("what the origin is asked")
    evidence = (
        f"With the cache, a request asks the origin {times(queries)} as often, keeps {times(connections)} as many "
        f"connections busy, and costs {times(cpu)} the CPU time of all processes together{_dearer(results)}."
    )
    parts = [
        (
            at_most(value, holds_to=most, fails_from=NO_RELIEF),
            f"{name}{pointed(value)}: up to {most:.2f} times holds, from {NO_RELIEF:.2f} on does not",
        )
        for name, value, most in (
            ("the queries", queries, FEWER_QUERIES),
            ("the busy connections", connections, FEWER_CONNECTIONS),
            ("the CPU time", cpu, LESS_CPU),
        )
    ]
    numbers = {
        **numbers_of("queries", queries),
        **numbers_of("connections", connections),
        **numbers_of("cpu", cpu),
    }
    return Judgement(together(*(verdict for verdict, _ in parts)), evidence, numbers, undecided(*parts))


def _dearer(results: Results) -> str:
    """Say what the CPU time comes to where a query costs the origin much: the condition under which it pays."""
    thorough = interval_of(at(results, "cache", "loads", "thorough", "cpu_ratio"))
    return "" if thorough is None else f" (for searches that read every product {times(thorough)})"


def cache_scales(results: Results) -> Judgement:
    """Judge how much more load the shop carries with the cache."""
    found = at(results, "cache", "capacity")
    if found is None:
        return absent("the capacity with and without a cache")
    ratio = interval_of(found.get("ratio"))
    loads = {arm: one.get("estimate") for arm, one in (found.get("arms") or {}).items()}
    carried = ", ".join(f"{arm} {_bound(found, arm)}{n(load)}/s" for arm, load in loads.items() if load is not None)
    if ratio is None:
        return Judgement("cannot tell", f"The capacities were not both bracketed: {carried}.", {"ratio": None})
    evidence = (
        f"With the cache the shop carries {times(ratio)} the load at a 95th percentile below 50 ms: {carried}."
        f"{_by_cpu_time(results)}"
    )
    verdict = at_least(ratio, holds_from=MORE, fails_to=NO_MORE)
    takes = f"the ratio{pointed(ratio)}: from {MORE:.2f} times on holds, up to {NO_MORE:.2f} does not"
    return Judgement(verdict, evidence, numbers_of("ratio", ratio), undecided((verdict, takes)))


def _by_cpu_time(results: Results) -> str:
    """Say what the CPU time per request lets expect, for the shop's mix and where a query costs the origin much."""
    totals = {
        kind: [at(results, "cache", "loads", kind, "cpu_ms", arm, "total") for arm in ("without cache", "with cache")]
        for kind in ("shop", "thorough")
    }
    more = {kind: without / own for kind, (without, own) in totals.items() if without and own}
    if len(more) < len(totals):
        return ""
    return (
        f" The CPU time per request lets expect {more['shop']:.2f} times for this mix, and {more['thorough']:.2f} "
        "times for searches that read every product (modelled)."
    )


def _bound(found: Results, arm: str) -> str:
    bound = at(found, "arms", arm, "bound")
    return "" if bound in {None, "between"} else f"{bound} "


def cache_survives_origin(results: Results) -> Judgement:
    """Judge whether what was in the cache went on being answered while the origin was dead."""
    arm = at(results, "cache", "outage", "arms", "with cache")
    if arm is None:
        return absent("the death of the origin")
    answered, minus = interval_of(arm["answered_during"]["rate"]), interval_of(arm.get("answered_minus_hits"))
    hits = interval_of(arm["hit_ratio_before"])
    if answered is None or hits is None:
        return absent("the death of the origin")
    other = at(results, "cache", "outage", "arms", "without cache", "answered_during")
    beside = "" if other is None else f" Without a cache: {out_of(other['answered'], other['requests'])}."
    evidence = (
        f"With the origin dead, {shown(answered)} of the catalogue's reads were answered; the hit ratio before was "
        f"{_percent(hits.estimate)}{_apart(minus)}.{beside}"
    )
    kept = at_least(minus, holds_from=-SLACK, fails_to=-1.0)
    enough = at_least(answered, holds_from=LEAST_ANSWERED, fails_to=NOT_ANSWERED)
    verdict: ClaimVerdict = "does not hold" if enough == "does not hold" else together(kept, enough)
    numbers = {
        **numbers_of("answered", answered),
        **numbers_of("hit_ratio_before", hits),
        **numbers_of("answered_minus_hits", minus),
    }
    share = (
        f"the share answered{pointed(answered)}: from {_percent(LEAST_ANSWERED)} on holds, up to "
        f"{_percent(NOT_ANSWERED)} does not"
    )
    apart = f"the difference{pointed(minus)}: from {-100 * SLACK:.0f} points on holds{_more_reads(minus, arm)}"
    left = undecided((kept, apart), (enough, share))
    return Judgement(verdict, evidence, numbers, left if verdict == "cannot tell" else "")


def _more_reads(minus: Interval | None, arm: Results) -> str:
    """Say how many reads would do, where more of them could: the interval narrows with the root of their number."""
    reads = at(arm, "answered_during", "requests")
    if minus is None or minus.low is None or minus.high is None or not reads or minus.estimate <= -SLACK:
        return ""
    needed = reads * ((minus.high - minus.low) / 2 / (minus.estimate + SLACK)) ** 2
    return (
        ". What was cached when the origin died should be hit as often as before, so the difference is 0 but for "
        f"chance; if it stayed as it is, about {n(needed)} reads instead of {n(reads)} would do (modelled)"
    )


def _apart(minus: Interval | None) -> str:
    """Write how far apart the two shares are, which is what the rule looks at."""
    if minus is None:
        return ""
    ends = "" if minus.low is None or minus.high is None else f" ({100 * minus.low:.1f} to {100 * minus.high:.1f})"
    return f", a difference of {100 * minus.estimate:.1f} percentage points{ends}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _points(difference: Interval) -> str:
    """Write a difference of shares in percentage points, with its interval where there is one."""
    if difference.low is None or difference.high is None:
        return f"{100 * difference.estimate:.0f} percentage points"
    text = f"{100 * difference.estimate:.0f} percentage points"
    return f"{text} ({100 * difference.low:.0f} to {100 * difference.high:.0f})"
