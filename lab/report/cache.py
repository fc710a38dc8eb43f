"""A run of `cache` in words: a headline and tables. For the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.tellings import Table
from lab.report.words import NONE, interval, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.report.results import Run

QUESTION = "A cache in front of the catalogue: when does it pay, what does it spare the origin, and what does it cost?"

WITHOUT, WITH = "without cache", "with cache"

KINDS = {
    "product": "product page",
    "search": "search",
    "thorough": "thorough search",
    "shop": "the shop's mix",
}
"""Kind of load to what it is called."""

WORDS = {
    "cache-aside": "The application looks into the cache first. What is not there it fetches from the origin, and "
    "leaves a copy in the cache for the next one.",
    "origin": "Where the truth is: the shop's PostgreSQL with its products. A cache holds copies only.",
    "hit ratio": "Share of the reads that the cache answered without the origin.",
    "Zipf's law": "The thing of rank r is asked for in proportion to 1 / r to the power of s. With s = 0 all are "
    "equally popular; with s = 1 the first of 3,000 gets every ninth request.",
    "TTL": "Time to live: an entry ends by itself after it. Here 60 s, give or take a tenth, so that what was cached "
    "together does not end together.",
    "delete on write": "Whoever changes a product deletes the entries that show it, before the change and after it.",
    "stale": "A read that shows a price although a newer one had been committed before the read began.",
    "stampede": "A hot entry ends, and everybody who misses it asks the origin at once for the same thing.",
    "one filler": "On a miss one request fetches, on whichever server; the others wait for it half a second at most.",
    "LRU": "Least recently used: when the cache is full, Redis forgets what was not used for longest (of a few that it "
    "looks at).",
    "break-even": "What an origin query must cost for a cache to make the median request neither slower nor faster.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value.",
}
"""The glossary of the page."""


def loads(run: Run) -> dict[str, dict[str, Any]]:
    """Return what each kind of load showed, the cheapest origin query first and the mix last."""
    found = run.get("cache", "loads") or {}
    return {kind: found[kind] for kind in KINDS if kind in found}


def headline(run: Run) -> str:
    """Say what the cache did to a search, to the origin, and when the origin died."""
    parts = [*_faster(run), *_relief(run), *_changes(run), *_death(run)]
    return " ".join(f"{sentence(part)}." for part in parts) or "This run saw too little to say when a cache pays."


def _faster(run: Run) -> list[str]:
    told = loads(run)
    ratios = {kind: load["ratio"]["p50"] for kind, load in told.items() if kind != "shop" and load["ratio"]["p50"]}
    if "search" not in ratios:
        return []
    search, product = ratios["search"], ratios.get("product")
    beside = f", a product page {number(product['estimate'])} times{_doubt(product)}" if product else ""
    took = f"a search took {number(search['estimate'])} times as long{_doubt(search)}"
    return [f"with the cache, by medians, {took}{beside}"]


def is_unsure(ratio: Mapping[str, Any]) -> bool:
    """Return whether the interval of a ratio has 1 in it."""
    low, high = ratio.get("low"), ratio.get("high")
    return low is not None and high is not None and low <= 1 <= high


def _doubt(ratio: Mapping[str, Any]) -> str:
    return " (too close to call)" if is_unsure(ratio) else ""


def _relief(run: Run) -> list[str]:
    load = loads(run).get("shop")
    if not load or not load["queries_ratio"]:
        return []
    ratio = load["cpu_ratio"]
    cpu = "" if not ratio else f" and cost {number(ratio['estimate'])} times the CPU time{_doubt(ratio)}"
    queries = number(load["queries_ratio"]["estimate"])
    return [f"under the shop's mix a request asked the origin {queries} times as often{cpu}"]


def _changes(run: Run) -> list[str]:
    found = [one for one in run.get("cache", "updates") or [] if one["asked"]]
    if not found:
        return []
    said = []
    for deleting, how in ((True, "where changes delete entries"), (False, "where only time ends them")):
        own = [one for one in found if one["delete_on_write"] is deleting and one["stale"]["rate"]]
        if own:
            most = max(own, key=lambda one: one["asked"])
            said.append(f"{percent(most['stale']['rate']['estimate'])} of the reads were stale {how}")
    return [f"with prices changing, {' and '.join(said)}"] if said else []


def _death(run: Run) -> list[str]:
    seen = run.get("cache", "outage", "arms", WITH)
    if not seen or not seen["answered_during"]["rate"] or not seen["hit_ratio_before"]:
        return []
    answered = percent(seen["answered_during"]["rate"]["estimate"])
    before = percent(seen["hit_ratio_before"]["estimate"])
    return [f"while the origin was dead, {answered} of the reads were answered (hit ratio before: {before})"]


def tables(run: Run) -> list[Table]:
    """Return the tables of a run: loads, popularity and size, updates, capacity, stampede and outage."""
    every = [_loads(run), _relieved(run), _hits(run), _updates(run), _capacity(run), _stampede(run), _outage(run)]
    return [table for table in every if table.rows]


def _loads(run: Run) -> Table:
    rows = []
    for kind, load in loads(run).items():
        medians = [(load["latency_ms"][arm]["p50"] or {}).get("estimate") for arm in (WITHOUT, WITH)]
        rows.append(
            (
                KINDS[kind],
                number(load["origin_ms"]),
                percent((load["hit_ratio"] or {}).get("estimate")),
                *(number(value) for value in medians),
                interval(load["ratio"]["p50"]),
            )
        )
    return Table(
        title="How long a read takes, without the cache and with it",
        columns=("reads", "origin query ms", "hits", "median ms", "with cache", "ratio"),
        rows=tuple(rows),
        note="A product page reads by primary key, a search by the index of words, a thorough search reads every "
        "product. Origin query: how long it kept a connection, on average. Ratio: paired by block.",
        wide_only=frozenset({3, 4}),
    )


def _relieved(run: Run) -> Table:
    rows = []
    for kind, load in loads(run).items():
        cpu = [(load["cpu_ms"][arm] or {}).get("total") for arm in (WITHOUT, WITH)]
        rows.append(
            (
                KINDS[kind],
                " / ".join(number(load["queries"][arm]) for arm in (WITHOUT, WITH)),
                " / ".join(number(load["connections"][arm], 3) for arm in (WITHOUT, WITH)),
                " / ".join(number(value) for value in cpu),
                interval(load["cpu_ratio"]),
            )
        )
    return Table(
        title="What the origin and the machine are spared, without the cache / with it",
        columns=("reads", "queries per read", "busy connections", "CPU ms per read", "CPU ratio"),
        rows=tuple(rows),
        note="Busy connections: to PostgreSQL, of all servers, on average over time. CPU time of servers, PostgreSQL, "
        "Redis and balancer together.",
        wide_only=frozenset({2}),
    )


def _hits(run: Run) -> Table:
    found = run.get("cache", "hits") or []
    return Table(
        title="Hit ratio by popularity and by size",
        columns=("popularity", "room for", "held in the end", "hit ratio", "reads", "forgotten"),
        rows=tuple(
            (
                popularity(one["exponent"]),
                percent(one["share"]),
                percent(one["held"]),
                share(one["hit_ratio"]),
                f"{one['reads']:,}",
                f"{one['evicted']:,}",
            )
            for one in found
        ),
        note="Product pages, read past the web servers. Held: share of the 3,000 products in the cache when the last "
        "was read. Forgotten: entries that Redis dropped to make room.",
        wide_only=frozenset({5}),
    )


def popularity(exponent: float) -> str:
    """Name a popularity by the exponent of Zipf's law."""
    return f"Zipf {exponent:g}" if exponent else "all alike"


def share(value: dict[str, Any] | None) -> str:
    """Write a share as a percentage with its interval where there is one."""
    if not value:
        return NONE
    if value.get("low") is None:
        return percent(value["estimate"])
    return f"{percent(value['estimate'])} ({percent(value['low'])} to {percent(value['high'])})"


def _updates(run: Run) -> Table:
    return Table(
        title="Reads while prices change",
        columns=("what ends an entry", "updates", "hit ratio", "stale reads", "stale share"),
        rows=tuple(
            (
                ending(one),
                number(100 * one["done"], 1),
                share(one["hit_ratio"]),
                f"{one['stale']['events']:,} of {one['reads']:,}",
                share(one["stale"]["rate"]),
            )
            for one in run.get("cache", "updates") or []
        ),
        note="Updates: per 100 reads. Products and searches of the same things that change, by Zipf 1. Stale: an older "
        "price than one that was committed before the read began. With time alone an entry lives 1 s, so that this "
        "test sees it end; with deletion 60 s, as in the shop.",
        wide_only=frozenset({3}),
    )


def ending(one: dict[str, Any]) -> str:
    """Say what ends an entry at a point of the sweep over updates."""
    return "a change deletes it" if one["delete_on_write"] else "time alone (1 s)"


def _capacity(run: Run) -> Table:
    found = run.get("cache", "capacity") or {}
    rows = []
    for arm, one in (found.get("arms") or {}).items():
        bound = "" if one["bound"] == "between" else f"{one['bound']} "
        cpu = (found.get("cpu_ms") or {}).get(arm)
        spent = number(sum(cpu[name] for name in ("servers", "store", "balancer"))) if cpu else NONE
        rows.append((arm, f"{bound}{interval(one, 0)}", spent))
    return Table(
        title="Capacity: reads a second with a 95th percentile below 50 ms",
        columns=("shop", "reads/s", "CPU ms per read there"),
        rows=tuple(rows),
        note=f"With the cache divided by without: {interval(found.get('ratio'))}. The shop's mix; servers, engines and "
        "the load generator share this machine's CPUs, so the figures are small and their ratio is what counts.",
    )


def _stampede(run: Run) -> Table:
    found = run.get("cache", "stampede") or {}
    return Table(
        title="A hot entry ends: who fetches it again?",
        columns=("on a miss", "reads", "times it ended", "origin queries", "most at once", "longest ms"),
        rows=tuple(
            (
                arm,
                f"{one['requests']:,}",
                f"{len(one['deaths']):,}",
                f"{one['origin_queries']:,}",
                f"{max(one['deaths'], default=0):,}",
                number(one["longest_ms"], 0),
            )
            for arm, one in found.items()
        ),
        note="Everybody makes the same thorough search; its entry lives 1 s.",
    )


def _outage(run: Run) -> Table:
    found = run.get("cache", "outage", "arms") or {}
    return Table(
        title="The origin is killed, and started again",
        columns=("shop", "hits before", "answered meanwhile", "a refusal took ms", "failed until", "answered after"),
        rows=tuple(
            (
                arm,
                share(seen["hit_ratio_before"]) if arm == WITH else NONE,
                f"{seen['answered_during']['answered']:,} of {seen['answered_during']['requests']:,}",
                number(seen["failed_wait_ms"], 0),
                number(seen["failed_until_seconds"], 1, " s"),
                percent(seen["answered_after"]),
            )
            for arm, seen in found.items()
        ),
        note="Refusal: the median time until a read failed while the origin was dead. Failed until: from the moment "
        "PostgreSQL answered again to the end of the last read that failed.",
    )
