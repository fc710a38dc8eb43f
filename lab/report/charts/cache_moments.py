"""Two moments in a cache's life: a hot entry ends, and the origin dies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Patch

from lab.report import style
from lab.report.cache import WITH, WITHOUT, share
from lab.report.charts.cache_marks import AFTER, BEFORE
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

_SERVED = {"hit": "from the cache", "waited": "waited for another's answer", "miss": "asked the origin"}
_COLOURS = {"hit": style.FAINT, "waited": "#E3B505", "miss": style.BAD}


def draw_stampede(run: Run, figure: Figure) -> Caption:
    """Draw every request for the hot entry over time, a panel for each way to fill."""
    found = {arm: one for arm, one in (run.get("cache", "stampede") or {}).items() if one["requests"]}
    if not found:
        raise NothingToDraw("No hot entry ended.")
    panels = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (arm, one) in zip(panels, found.items(), strict=True):
        for served, colour in _COLOURS.items():
            own = [moment for moment in one["moments"] if _as(moment[2]) == served]
            size, order = (9, 3) if served == "miss" else (6, 2)
            axes.plot([m[0] for m in own], [m[1] for m in own], ".", color=colour, ms=size, zorder=order)
        most = max(one["deaths"], default=0)
        axes.set_title(f"{arm}: {one['origin_queries']:,} origin queries, at most {most:,} for one end", size=10.5)
        axes.grid(axis="y")
        axes.set_ylabel("took (ms)", size=9.5)
    panels[0].set_yscale("log")
    panels[-1].set_xlabel("seconds", size=9.5)
    figure.draw_without_rendering()
    style.log_ticks(panels[0].yaxis)
    keys = [Patch(fc=colour, label=_SERVED[served]) for served, colour in _COLOURS.items()]
    panels[0].legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0, 1.17), ncols=3, frameon=False, fontsize=9, borderaxespad=0.1
    )
    return Caption(
        stampede_title(found),
        "Each red dot is a request that asked PostgreSQL. Without a lock, all who come while the entry is missing ask "
        "for the same answer, and slow each other down.",
        "Everybody makes the same thorough search; its entry lives 1 s, without jitter",
        "Each dot is a request, at the time it was sent and at how long it took. Yellow waited while one other, on "
        "whichever server, fetched.",
        ("on a miss", "reads", "times it ended", "origin queries", "most at once", "longest (ms)"),
        tuple(
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
    )


def _as(how: str) -> str:
    return "miss" if how in {"miss", "bypass", "none"} else how


def stampede_title(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how many asked the origin at once, by way to fill."""
    most = {arm: max(one["deaths"], default=0) for arm, one in found.items()}
    parts = [
        f"{count:,} request{'s' if count != 1 else ''} at most if {_WAYS.get(arm, arm)}" for arm, count in most.items()
    ]
    return sentence(f"when a hot entry ends, the origin is asked by {', '.join(parts)}")


_WAYS = {"everybody fills": "everybody fills", "one filler": "one fills for all"}


def draw_outage(run: Run, figure: Figure) -> Caption:
    """Draw the requests of both shops in columns over time: answered by the cache, by the origin, late, or not."""
    found = run.get("cache", "outage")
    arms = {
        arm: one for arm, one in ((found or {}).get("arms") or {}).items() if any(map(sum, one["timeline"].values()))
    }
    if not arms:
        why = run.get("cache", "left_out", "the death of the origin")
        raise NothingToDraw(f"The origin was not killed{f': {why}' if why else ''}.")
    panels = figure.subplots(len(arms), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    kinds = {"cache": AFTER, "origin": BEFORE, "late": style.shade(BEFORE, 0.45), "failed": style.BAD}
    for axes, (arm, one) in zip(panels, arms.items(), strict=True):
        _columns(axes, one["timeline"], kinds, found)
        axes.set_title(arm, size=10.5, weight="bold")
        axes.set_ylabel("reads", size=9.5)
    panels[-1].set_xlabel("seconds since the origin was killed", size=9.5)
    keys = [Patch(fc=colour, label=_LABELS[kind]) for kind, colour in kinds.items()]
    keys.append(Patch(fc=style.GRID, label="PostgreSQL is down"))
    panels[0].legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0, 1.17), ncols=5, frameon=False, fontsize=9, borderaxespad=0.1
    )
    rate = found.get("rate_rps") or run.get("run", "rate_rps")
    return Caption(
        outage_title(arms),
        "Grey: PostgreSQL is dead. What lies in the cache goes on being answered; the rest is refused at once.",
        f"{run.get('run', 'servers')} servers and {number(rate, 0)} reads/s for each shop, both at once; products and "
        "searches by Zipf 1",
        f"Columns of {1000 * found['bucket_seconds']:.0f} ms, each read where it was due. The cache had room for some "
        "products only. After a failure a server with a cache asks the origin once a second, until it answers; how "
        "long each shop went on failing stands in the table.",
        ("shop", "hits before", "answered meanwhile", "share", "a refusal took (ms)", "failed until (s)"),
        tuple(_survived(arm, one) for arm, one in arms.items()),
    )


_LABELS = {
    "cache": "from the cache",
    "origin": "by the origin",
    "late": "waited until it was back",
    "failed": "failed",
}


def _survived(arm: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    """Write what a shop's visitors were answered, as a row of the table."""
    during = one["answered_during"]
    return (
        arm,
        share(one["hit_ratio_before"]) if arm == WITH else "0 %",
        f"{during['answered']:,} of {during['requests']:,}",
        share(during["rate"]),
        number(one["failed_wait_ms"], 0),
        number(one["failed_until_seconds"], 1),
    )


def _columns(axes: Axes, line: Mapping[str, list[int]], kinds: Mapping[str, str], found: Mapping[str, Any]) -> None:
    width = found["bucket_seconds"]
    left = width * np.arange(len(line["cache"])) - found["struck_seconds"]
    bottom = np.zeros(len(left))
    axes.axvspan(0, found["repaired_seconds"] - found["struck_seconds"], color=style.GRID, lw=0, zorder=0)
    for kind, colour in kinds.items():
        if kind not in line:
            continue
        axes.bar(left, line[kind], 0.92 * width, bottom=bottom, align="edge", color=colour, lw=0)
        bottom += np.array(line[kind])
    axes.set_xlim(left[0], left[-1] + width)


def outage_title(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what share of the reads each shop answered while its origin was dead."""
    rates = {arm: one["answered_during"]["rate"] for arm, one in arms.items()}
    said = {arm: percent(rate["estimate"]) for arm, rate in rates.items() if rate}
    if WITH not in said:
        return "The origin was dead for too short a time to say what was answered"
    before = arms[WITH]["hit_ratio_before"]
    hits = f" (hit ratio before: {percent(before['estimate'])})" if before else ""
    without = f", without one {said[WITHOUT]}" if WITHOUT in said else ""
    return sentence(f"with the origin dead, the shop with a cache answers {said[WITH]} of the reads{hits}{without}")
