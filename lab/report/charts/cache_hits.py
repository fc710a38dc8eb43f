"""What a cache answers by its room and by popularity, and what changes of the origin do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.cache import ending, popularity, share
from lab.report.charts.cache_marks import AFTER, BEFORE, MARKERS, SHADES, in_percent, point
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from lab.report.results import Run


def draw_hits(run: Run, figure: Figure) -> Caption:
    """Draw the hit ratio by what the cache held, a line for each popularity."""
    found = [one for one in run.get("cache", "hits") or [] if one["hit_ratio"]]
    if not found:
        raise NothingToDraw("No hit ratio was measured.")
    axes = figure.subplots()
    exponents = sorted({one["exponent"] for one in found})
    for exponent, colour, marker in zip(exponents, SHADES, MARKERS, strict=False):
        own = sorted((one for one in found if one["exponent"] == exponent), key=lambda one: one["share"])
        spots = [100 * one["share"] for one in own]
        axes.plot(spots, [100 * one["hit_ratio"]["estimate"] for one in own], "-", color=colour, lw=1.4)
        for at, one in zip(spots, own, strict=True):
            point(axes, at, in_percent(one["hit_ratio"]), color=colour, marker=marker)
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
    legend = axes.legend(frameon=False, fontsize=9.5, loc="upper left", title="popularity", title_fontsize=9.5)
    legend.set_alignment("left")
    return Caption(
        hits_title(found),
        "A small cache answers much if few things are asked for often; if all are asked for alike, it answers as much "
        "as it holds.",
        "Product pages, read past the web servers; as many reads to warm up as were counted",
        "Zipf 1: the second most wanted product is asked for half as often as the first, the third a third as often, "
        "and so on. Lines: 95 % intervals over stretches of the reads. A full cache forgets what was not read for "
        "longest, approximately. Dotted: the share of the products that it has room for.",
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
                point(axes, at, in_percent(value), color=colour, marker=marker)
            if own:
                axes.plot([], [], marker + "-", color=colour, label=ending(own[0]))
        axes.set_xlabel("updates per 100 reads of the same things", size=9.5)
        axes.set_title(label, size=10.5, weight="bold")
        axes.grid(axis="y")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08)
    panels[0].set_ylim(0, 104)
    panels[1].set_ylim(0, max(1.0, 1.2 * panels[1].get_ylim()[1]))
    legend = panels[0].legend(
        frameon=False, fontsize=9.5, loc="lower left", title="what ends an entry", title_fontsize=9.5
    )
    legend.set_alignment("left")
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
    parts: list[str] = []
    for deleting, how in ((False, "time alone ends entries"), (True, "changes delete them")):
        own = [one for one in found if one["delete_on_write"] is deleting and one["asked"] and one["stale"]["rate"]]
        if own:
            most = max(own, key=lambda one: one["asked"])
            what = f" of the reads are stale at {100 * most['done']:.0f} updates per 100 reads" if not parts else ""
            parts.append(f"{percent(most['stale']['rate']['estimate'])}{what} if {how}")
    calm = [one for one in found if one["delete_on_write"] and not one["asked"] and one["hit_ratio"]]
    busy = [one for one in found if one["delete_on_write"] and one["asked"] and one["hit_ratio"]]
    if calm and busy and parts:
        last = max(busy, key=lambda one: one["asked"])["hit_ratio"]["estimate"]
        parts.append(f"which takes hits from {percent(calm[0]['hit_ratio']['estimate'])} to {percent(last)}")
    return sentence(", ".join(parts)) if parts else "Too few reads to say what changes do"
