"""When a cache pays: latency by the cost of the origin, and the origin's relief; and the charts of a cache run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.cache import KINDS, WITH, WITHOUT, is_unsure, loads, share
from lab.report.charts import cache_capacity, cache_hits, cache_marks, cache_moments
from lab.report.charts.cache_marks import COLOURS, MARKERS, SHADES
from lab.report.charts.chart import Caption, Draw, NothingToDraw, load_subtitle
from lab.report.words import interval, listed, number, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

_SAME = 0.05

_COMPONENTS = {"servers": "web servers", "store": "PostgreSQL and Redis", "balancer": "balancer"}


# --- latency ---------------------------------------------------------------------------------------------------------


def draw_latency(run: Run, figure: Figure) -> Caption:
    """Draw the ratio of medians with and without the cache by the cost of the origin's query."""
    told = {kind: load for kind, load in loads(run).items() if kind != "shop" and _both(load)}
    if not told:
        raise NothingToDraw("No latency was measured.")
    even = run.get("cache", "break_even", "ms")
    _costs(figure, told, even)
    return Caption(
        latency_title({kind: load["ratio"]["p50"] for kind, load in told.items()}),
        "Below the dashed line the cache makes the median read quicker, above it slower: a cheap query gains little or "
        "loses, because asking the cache costs time, too.",
        load_subtitle(run),
        ("Lines: 95 % intervals over blocks. " if _bounded(told) else "Too few blocks for intervals. ")
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


def _costs(figure: Figure, told: Mapping[str, Any], even: float | None) -> None:
    """Draw each kind of read's ratio at what its query costs the origin."""
    axes = figure.subplots()
    axes.axhline(1, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    for (kind, load), colour, marker in zip(told.items(), SHADES, MARKERS, strict=False):
        ratio = load["ratio"]["p50"]
        cache_marks.point(axes, load["origin_ms"], ratio, color=colour, marker=marker)
        axes.annotate(
            f"{KINDS[kind]}: {number(ratio['estimate'])}",
            (load["origin_ms"], ratio["estimate"]),
            (10, 6),
            textcoords="offset points",
            size=10,
            color=style.Look(colour, "", "").ink,
            path_effects=style.HALO,
        )
    if even is not None:
        axes.axvline(even, color=style.SOFT, lw=1.2, ls=":", zorder=1)
    axes.set_xscale("log")
    costs = [load["origin_ms"] for load in told.values()]
    axes.set_xlim(min(costs) / 1.6, max(costs) * 2.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlabel("what a query costs at the origin: time on a connection (ms)")
    axes.set_ylabel("median with the cache ÷ without")
    figure.draw_without_rendering()
    style.log_ticks(axes.xaxis)


def _bounded(told: Mapping[str, Any]) -> bool:
    return any(load["ratio"]["p50"].get("low") is not None for load in told.values())


def _both(load: Mapping[str, Any]) -> bool:
    return bool(load["ratio"]["p50"] and load["origin_ms"])


def latency_title(ratios: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which reads the cache made quicker, which not, and of which it cannot be told."""
    unsure = {kind: one for kind, one in ratios.items() if is_unsure(one)}
    sure = {kind: one for kind, one in ratios.items() if kind not in unsure}
    parts = [f"{_READS[kind]} takes {number(one['estimate'])} times as long" for kind, one in sure.items()]
    close = [f"{_READS[kind]} ({number(one['estimate'])})" for kind, one in unsure.items()]
    rest = f"too close to call for {listed(close)}" if close else ""
    if not any(one["estimate"] < 1 - _SAME for one in sure.values()):
        return sentence(f"the cache makes no read clearly quicker: {', '.join([*parts, rest] if rest else parts)}")
    return sentence(f"with the cache {', '.join(parts)}{f'; {rest}' if rest else ''}")


_READS = {"product": "a product page", "search": "a search", "thorough": "a thorough search"}


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
        "connections: for how long the servers' own pools had connections to PostgreSQL out, divided by the time.",
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
    told = {name: one for name, one in ratios.items() if one}
    sure = [_SPARED[name][0].format(_times(one["estimate"])) for name, one in told.items() if not is_unsure(one)]
    close = [f"{_SPARED[name][1]} ({number(one['estimate'])})" for name, one in told.items() if is_unsure(one)]
    rest = f"too close to call for {listed(close)}" if close else ""
    if not sure:
        return sentence(f"whether the cache spares anything is {rest}")
    return sentence(f"with the cache a read {listed(sure)}{f'; {rest}' if rest else ''}")


def _times(ratio: float) -> str:
    return number(ratio) if ratio >= 0.005 else "less than 0.01"  # noqa: PLR2004 - half of the last digit


_SPARED = {
    "queries": ("asks the origin {} times as often", "origin queries"),
    "connections": ("keeps {} times as many connections busy", "busy connections"),
    "cpu": ("costs {} times the CPU time", "the CPU time"),
}
"""Ratio to how a title says it, and to its name."""


CHARTS: dict[str, Draw] = {
    "latency": draw_latency,
    "relief": draw_relief,
    "hit-ratio": cache_hits.draw_hits,
    "changes": cache_hits.draw_updates,
    "stampede": cache_moments.draw_stampede,
    "origin-killed": cache_moments.draw_outage,
    "capacity": cache_capacity.draw_capacity,
}
"""The charts of a run by name, in the order of the page."""
