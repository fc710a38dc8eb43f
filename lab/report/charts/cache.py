"""When a cache pays: latency by the cost of the origin, hit ratios, changes, the origin's relief, capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.cache import KINDS, WITH, WITHOUT, ending, loads, popularity, share
from lab.report.charts import cache_moments
from lab.report.charts.chart import Caption, Draw, NothingToDraw, load_subtitle
from lab.report.words import interval, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

BEFORE, AFTER = "#0072B2", "#D55E00"
"""Colours of a shop without a cache and of one with it."""

COLOURS = {WITHOUT: BEFORE, WITH: AFTER}

_SHADES = ("#0072B2", "#009E73", "#CC79A7", "#D55E00")
_MARKERS = "osD^"
_SAME = 0.05

_COMPONENTS = {"servers": "web servers", "store": "PostgreSQL and Redis", "balancer": "balancer"}


def _bars(axes: Axes, at: float, value: dict[str, Any], **look: Any) -> None:
    """Draw a point with its interval, where there is one."""
    if value.get("low") is not None:
        axes.plot([at, at], [value["low"], value["high"]], color=look["color"], lw=1.8, zorder=2)
    axes.plot(at, value["estimate"], look.get("marker", "o"), color=look["color"], ms=8, zorder=3)


# --- latency ---------------------------------------------------------------------------------------------------------


def draw_latency(run: Run, figure: Figure) -> Caption:
    """Draw the ratio of medians with and without the cache by the cost of the origin's query."""
    told = {kind: load for kind, load in loads(run).items() if kind != "shop" and _both(load)}
    if not told:
        raise NothingToDraw("No latency was measured.")
    axes = figure.subplots()
    axes.axhline(1, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    for (kind, load), colour, marker in zip(told.items(), _SHADES, _MARKERS, strict=False):
        _bars(axes, load["origin_ms"], load["ratio"]["p50"], color=colour, marker=marker)
        axes.annotate(
            KINDS[kind],
            (load["origin_ms"], load["ratio"]["p50"]["estimate"]),
            (10, 6),
            textcoords="offset points",
            size=10,
            color=style.Look(colour, "", "").ink,
            path_effects=style.HALO,
        )
    even = run.get("cache", "break_even", "ms")
    if even is not None:
        axes.axvline(even, color=style.SOFT, lw=1.2, ls=":", zorder=1)
    axes.set_xscale("log")
    costs = [load["origin_ms"] for load in told.values()]
    axes.set_xlim(min(costs) / 1.6, max(costs) * 4)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlabel("what a query costs at the origin: time on a connection (ms)")
    axes.set_ylabel("median with the cache ÷ without")
    figure.draw_without_rendering()
    style.log_ticks(axes.xaxis)
    return Caption(
        latency_title({kind: load["ratio"]["p50"] for kind, load in told.items()}),
        "Below the dashed line the cache makes the median read quicker, above it slower: a cheap query gains little or "
        "loses, because asking the cache costs time, too.",
        load_subtitle(run),
        "Lines: 95 % intervals over blocks. "
        + (f"Dotted: interpolated between the measured points, a cache breaks even at {even:.2f} ms. " if even else "")
        + "Thorough searches are offered at a fifth of the load.",
        ("reads", "origin query (ms)", "without (ms)", "with (ms)", "ratio", "hits"),
        tuple(
            (
                KINDS[kind],
                number(load["origin_ms"]),
                interval(load["latency_ms"][WITHOUT]["p50"]),
                interval(load["latency_ms"][WITH]["p50"]),
                interval(load["ratio"]["p50"]),
                share(load["hit_ratio"]),
            )
            for kind, load in told.items()
        ),
    )


def _both(load: Mapping[str, Any]) -> bool:
    return bool(load["ratio"]["p50"] and load["origin_ms"])


def latency_title(ratios: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which reads the cache made quicker, and which not."""
    names = {"product": "a product page", "search": "a search", "thorough": "a thorough search"}
    parts = [f"{names[kind]} takes {number(one['estimate'])} times as long" for kind, one in ratios.items()]
    quicker = [kind for kind, one in ratios.items() if one["estimate"] < 1 - _SAME]
    if not quicker:
        return sentence(f"the cache makes no read quicker: {', '.join(parts)}")
    return sentence(f"with the cache {', '.join(parts)}")


# --- hit ratio -------------------------------------------------------------------------------------------------------


def draw_hits(run: Run, figure: Figure) -> Caption:
    """Draw the hit ratio by what the cache held, a line for each popularity."""
    found = [one for one in run.get("cache", "hits") or [] if one["hit_ratio"]]
    if not found:
        raise NothingToDraw("No hit ratio was measured.")
    axes = figure.subplots()
    exponents = sorted({one["exponent"] for one in found})
    for exponent, colour, marker in zip(exponents, _SHADES, _MARKERS, strict=False):
        own = sorted((one for one in found if one["exponent"] == exponent), key=lambda one: one["share"])
        spots = [100 * one["share"] for one in own]
        axes.plot(spots, [100 * one["hit_ratio"]["estimate"] for one in own], "-", color=colour, lw=1.4)
        for at, one in zip(spots, own, strict=True):
            scaled = {key: None if one["hit_ratio"].get(key) is None else 100 * one["hit_ratio"][key] for key in _ENDS}
            _bars(axes, at, scaled, color=colour, marker=marker)
        axes.plot([], [], marker + "-", color=colour, label=popularity(exponent))
    every = sorted({100 * one["share"] for one in found})
    axes.plot(every, every, ":", color=style.SOFT, lw=1.2, label="the share that it has room for")
    axes.set_xscale("log")
    axes.set_xlim(min(every) / 1.5, max(every) * 1.5)
    axes.set_xticks(every, [f"{value:g} %" for value in every])
    axes.xaxis.minorticks_off()
    axes.set_ylim(0, 100)
    axes.grid(axis="y")
    axes.set_xlabel("room in the cache (share of the 3,000 products)")
    axes.set_ylabel("hit ratio (%)")
    axes.legend(frameon=False, fontsize=9.5, loc="upper left", title="popularity", title_fontsize=9.5)
    return Caption(
        hits_title(found),
        "A small cache answers much if few things are asked for often; if all are asked for alike, it answers as much "
        "as it holds.",
        "Product pages, read past the web servers; as many reads to warm up as were counted",
        "Lines: 95 % intervals over stretches of the reads. Redis forgets by LRU, approximately. Dotted: what a cache "
        "of that size would answer if every read were for another product.",
        ("popularity", "room", "held in the end", "hit ratio", "reads"),
        tuple(
            (
                popularity(one["exponent"]),
                percent(one["share"]),
                percent(one["held"]),
                share(one["hit_ratio"]),
                f"{one['reads']:,}",
            )
            for one in found
        ),
    )


_ENDS = ("estimate", "low", "high")


def hits_title(found: Sequence[Mapping[str, Any]]) -> str:
    """Say what a cache of 5 % of the products answers at the ends of popularity."""
    at = {one["exponent"]: one["hit_ratio"]["estimate"] for one in found if one["share"] == 0.05}  # noqa: PLR2004
    if len(at) < 2:  # noqa: PLR2004 - two ends
        best = max(found, key=lambda one: one["hit_ratio"]["estimate"])
        return sentence(f"the best hit ratio was {percent(best['hit_ratio']['estimate'])}")
    low, high = min(at), max(at)
    return sentence(
        f"with room for 5 % of the products, the cache answers {percent(at[high])} under {popularity(high)} and "
        f"{percent(at[low])} {_where(low)}"
    )


def _where(exponent: float) -> str:
    return f"under {popularity(exponent)}" if exponent else "where all are asked for alike"


# --- changes ---------------------------------------------------------------------------------------------------------


def draw_updates(run: Run, figure: Figure) -> Caption:
    """Draw hit ratio and stale reads by the rate of updates, where changes delete entries and where only time does."""
    found = run.get("cache", "updates") or []
    if not found:
        raise NothingToDraw("No prices were changed.")
    panels = figure.subplots(1, 2)
    for axes, name, label in zip(panels, ("hit_ratio", "stale"), ("hit ratio (%)", "stale reads (%)"), strict=True):
        for deleting, colour, marker in ((True, AFTER, "o"), (False, BEFORE, "s")):
            own = [one for one in found if one["delete_on_write"] is deleting]
            points = [(100 * one["done"], value) for one in own if (value := _rate(one, name))]
            axes.plot([at for at, _ in points], [100 * v["estimate"] for _, v in points], "-", color=colour, lw=1.3)
            for at, value in points:
                scaled = {key: None if value.get(key) is None else 100 * value[key] for key in _ENDS}
                _bars(axes, at, scaled, color=colour, marker=marker)
            if own:
                axes.plot([], [], marker + "-", color=colour, label=ending(own[0]))
        axes.set_xlabel("updates per 100 reads of the same things", size=9.5)
        axes.set_title(label, size=10.5, weight="bold")
        axes.grid(axis="y")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08)
    panels[0].set_ylim(0, 104)
    panels[1].set_ylim(0, max(1.0, 1.2 * panels[1].get_ylim()[1]))
    panels[0].legend(frameon=False, fontsize=9.5, loc="lower left", title="what ends an entry", title_fontsize=9.5)
    return Caption(
        updates_title(found),
        "Deleting on write keeps reads fresh and costs hits; with time alone old prices stand until the entry ends.",
        "Products and searches by Zipf 1; the same products' prices change meanwhile",
        "Lines: 95 % intervals (hits: over stretches of the reads; stale: Wilson). Stale: an older price than one that "
        "PostgreSQL had committed before the read began. With time alone an entry lives 1 s, with deletion 60 s.",
        ("what ends an entry", "updates per 100 reads", "hit ratio", "stale reads", "stale share"),
        tuple(
            (
                ending(one),
                number(100 * one["done"], 1),
                share(one["hit_ratio"]),
                f"{one['stale']['events']:,} of {one['reads']:,}",
                share(one["stale"]["rate"]),
            )
            for one in found
        ),
    )


def _rate(one: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value: dict[str, Any] | None = one["stale"]["rate"] if name == "stale" else one[name]
    return value


def updates_title(found: Sequence[Mapping[str, Any]]) -> str:
    """Say what the most updates did to hits and freshness."""
    parts = []
    for deleting, how in ((False, "time alone ends entries"), (True, "changes delete them")):
        own = [one for one in found if one["delete_on_write"] is deleting and one["asked"] and one["stale"]["rate"]]
        if own:
            most = max(own, key=lambda one: one["asked"])
            parts.append(f"{percent(most['stale']['rate']['estimate'])} of the reads are stale if {how}")
    calm = [one for one in found if one["delete_on_write"] and not one["asked"] and one["hit_ratio"]]
    busy = [one for one in found if one["delete_on_write"] and one["asked"] and one["hit_ratio"]]
    if calm and busy:
        last = max(busy, key=lambda one: one["asked"])["hit_ratio"]["estimate"]
        parts.append(f"which takes hits from {percent(calm[0]['hit_ratio']['estimate'])} to {percent(last)}")
    return sentence(", ".join(parts)) if parts else "Too few reads to say what changes do"


# --- relief ----------------------------------------------------------------------------------------------------------


def draw_relief(run: Run, figure: Figure) -> Caption:
    """Draw origin queries, busy connections and CPU time per read, without the cache and with it."""
    load = loads(run).get("shop")
    if not load or not load["queries_ratio"]:
        raise NothingToDraw("What the origin was asked was not measured.")
    panels = figure.subplots(1, 3)
    _two(panels[0], load["queries"], "origin queries per read", 2)
    _two(panels[1], load["connections"], "busy connections", 3)
    _cpu(panels[2], load["cpu_ms"])
    ratios = {name: load[f"{name}_ratio"] for name in ("queries", "connections", "cpu")}
    return Caption(
        relief_title(ratios),
        "Left and middle: what PostgreSQL is spared. Right: what all processes together spend, the cache's own work "
        "included: a cache that answers cheap questions may cost more than it saves.",
        load_subtitle(run),
        f"The shop's mix of product pages and searches by Zipf 1, hit ratio {share(load['hit_ratio'])}. Busy "
        "connections: to PostgreSQL, of all servers, on average over time. CPU time per read.",
        ("figure", WITHOUT, WITH, "with ÷ without"),
        (
            ("origin queries per read", *_pair(load["queries"], 3), interval(ratios["queries"])),
            ("busy connections", *_pair(load["connections"], 4), interval(ratios["connections"])),
            (
                "CPU time per read (ms)",
                *(number((load["cpu_ms"][arm] or {}).get("total"), 3) for arm in (WITHOUT, WITH)),
                interval(ratios["cpu"]),
            ),
        ),
    )


def _pair(values: Mapping[str, float], digits: int) -> tuple[str, str]:
    return number(values[WITHOUT], digits), number(values[WITH], digits)


def _two(axes: Axes, values: Mapping[str, float], label: str, digits: int) -> None:
    for at, (arm, colour) in enumerate(COLOURS.items()):
        axes.bar(at, values[arm], 0.6, color=colour)
        axes.annotate(
            number(values[arm], digits), (at, values[arm]), (0, 4), textcoords="offset points", ha="center", size=10
        )
    _shops(axes, label)


def _cpu(axes: Axes, spent: Mapping[str, Mapping[str, float] | None]) -> None:
    for at, (arm, colour) in enumerate(COLOURS.items()):
        parts, bottom = spent[arm] or {}, 0.0
        for strength, name in zip((1.0, 0.6, 0.3), _COMPONENTS, strict=True):
            height = parts.get(name, 0.0)
            axes.bar(at, height, 0.6, bottom=bottom, color=style.shade(colour, strength))
            bottom += height
        axes.annotate(number(bottom), (at, bottom), (0, 4), textcoords="offset points", ha="center", size=10)
    for strength, label in zip((1.0, 0.6, 0.3), _COMPONENTS.values(), strict=True):
        axes.bar([0], [0], color=style.shade(style.SOFT, strength), label=label)
    _shops(axes, "CPU time per read (ms)")
    axes.set_ylim(0, 1.5 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8.8, loc="upper center")


def _shops(axes: Axes, label: str) -> None:
    axes.set_title(label, size=10.5, weight="bold")
    axes.set_xticks([0, 1], ["without", "with cache"])
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.grid(axis="y")


def relief_title(ratios: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Say how much less the origin is asked, and whether the machine has less to do."""
    said = {name: number(one["estimate"]) for name, one in ratios.items() if one}
    text = f"with the cache a read asks the origin {said['queries']} times as often"
    if "connections" in said:
        text += f", keeps {said['connections']} times as many connections busy"
    if "cpu" in said:
        text += f" and costs {said['cpu']} times the CPU time"
    return sentence(text)


# --- capacity --------------------------------------------------------------------------------------------------------


def draw_capacity(run: Run, figure: Figure) -> Caption:
    """Draw the 95th percentile by offered load, without the cache and with it, and the capacities."""
    found = run.get("cache", "capacity")
    points = [one for one in (found or {}).get("points", []) if one["p95_ms"] is not None]
    if not points:
        raise NothingToDraw("No capacity was searched for.")
    axes = figure.subplots()
    for (arm, colour), marker in zip(COLOURS.items(), "os", strict=True):
        own = sorted((one for one in points if one["arm"] == arm), key=lambda one: one["load_rps"])
        axes.plot([one["load_rps"] for one in own], [one["p95_ms"] for one in own], marker, color=colour, ms=5)
        one = found["arms"][arm]
        bound = "" if one["bound"] == "between" else f"{one['bound']} "
        axes.plot([], [], marker, color=colour, label=f"{arm}: {bound}{one['estimate']:,.0f} reads/s")
        axes.axvline(one["estimate"], color=colour, lw=1.3, zorder=1)
        if one["low"] is not None:
            axes.axvspan(one["low"], one["high"], color=style.shade(colour, 0.2), lw=0, zorder=0)
    axes.axhline(found["limit_ms"], color=style.INK, lw=1, ls=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="y")
    axes.set_xlabel("offered load (reads/s)")
    axes.set_ylabel("95th percentile (ms)")
    axes.legend(frameon=False, fontsize=9.5, loc="upper left", title="capacity", title_fontsize=9.5)
    figure.draw_without_rendering()
    style.log_ticks(axes.xaxis)
    style.log_ticks(axes.yaxis)
    return Caption(
        capacity_title(found),
        "A capacity is where the dots cross the dashed line. Servers, engines and the load generator share this "
        "machine: with machines of their own the figures would be larger, and whoever is busiest might be another.",
        f"{run.get('run', 'servers')} servers; the shop's mix of product pages and searches by Zipf 1",
        f"Each dot is one slice of load. Dashed: the limit, {found['limit_ms']:.0f} ms. Upright lines: the load that "
        "was carried below it; shaded, where there are enough passes, the 95 % interval.",
        ("shop", "capacity (reads/s)", "kept", "missed"),
        tuple(
            (arm, interval(one, 0), number(one["kept_rps"], 0), number(one["missed_rps"], 0))
            for arm, one in found["arms"].items()
        ),
    )


def capacity_title(found: Mapping[str, Any]) -> str:
    """Say how many times the load the shop carries with the cache."""
    ratio = found.get("ratio")
    if not ratio:
        carried = [f"{arm} {_bound(one)} {one['estimate']:,.0f} reads/s" for arm, one in found["arms"].items()]
        return sentence(f"below 50 ms the shop carries {', '.join(carried)}")
    return sentence(f"with the cache the shop carries {number(ratio['estimate'])} times the load below 50 ms")


def _bound(one: Mapping[str, Any]) -> str:
    return "about" if one["bound"] == "between" else str(one["bound"])


CHARTS: dict[str, Draw] = {
    "latency": draw_latency,
    "relief": draw_relief,
    "hit-ratio": draw_hits,
    "changes": draw_updates,
    "stampede": cache_moments.draw_stampede,
    "origin-killed": cache_moments.draw_outage,
    "capacity": draw_capacity,
}
"""The charts of a run by name, in the order of the page."""
