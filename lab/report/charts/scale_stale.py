"""Stale reads of all-to-all against the gap between write and read, a curve for each distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import ticker

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.scale import COPYING, link_name
from lab.report.words import number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

_SHADES = (0.45, 0.62, 0.8, 1.0)
_MARKS = ("o", "^", "s", "D", "v")


def draw(run: Run, figure: Figure) -> Caption:
    """Draw the share of stale reads against the gap between write and read, a curve for each distance."""
    arms = [arm for arm in run.get("scale", "visibility") or [] if arm["points"]]
    if not arms:
        raise NothingToDraw("Stale reads were not looked for.")
    axes = figure.subplots()
    waiting = [arm for arm in arms if arm["replication"] == "sync"]
    for number_, arm in enumerate([arm for arm in arms if arm["replication"] == "async"]):
        colour = style.shade(style.look(COPYING).colour, _SHADES[min(number_, len(_SHADES) - 1)])
        _curve(axes, arm, colour, _MARKS[number_ % len(_MARKS)], "-")
    for arm in waiting:
        _curve(axes, arm, style.GOOD, "X", "none")
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    longest = max(point["waited_ms"] for arm in arms for point in arm["points"])
    axes.set_xlim(-0.06, longest * 1.15)
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= longest * 1.15]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_ylim(-2, 104)
    axes.set_xlabel("time between the answer to the write and the read through another server (ms)")
    axes.set_ylabel("stale reads (%)")
    axes.grid()
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        columnspacing=1.1,
        borderaxespad=0.2,
    )
    return Caption(
        visibility_title(arms),
        "Where a curve is high, a shopper who comes back that quickly through another server does not see the own "
        "write. A link twice as long moves the whole curve to the right.",
        f"All-to-all, {arms[0]['servers']} servers; a write on one of them, then a read on another, past the balancer",
        "Bars: 95 % intervals (Wilson). Distances are one way, emulated by a relay between the servers. Writes come at "
        "random moments, as often as in the shop's load, and one that finds the link busy with another waits for it. "
        "Scale: even up to 1 ms, logarithmic beyond.",
        ("servers", "gap (ms)", "stale", "reads", "share"),
        tuple(
            (link_name(arm), number(point["waited_ms"], 1), str(point["stale"]), str(point["trials"]), _rate(point))
            for arm in arms
            for point in arm["points"]
        ),
    )


def _rate(point: dict[str, Any]) -> str:
    rate = point["rate"]
    return f"{percent(rate['estimate'])} ({percent(rate['low'])} to {percent(rate['high'])})"


def _curve(axes: Axes, arm: dict[str, Any], colour: str, marker: str, line: Any) -> None:
    ordered = sorted(arm["points"], key=lambda point: point["waited_ms"])
    x = [point["waited_ms"] for point in ordered]
    y = [100 * point["rate"]["estimate"] for point in ordered]
    axes.plot(
        x, y, color=colour, ls=line, marker=marker, ms=7, lw=2, zorder=3, label=link_name(arm), clip_on=False
    )  # fmt: skip
    for at, point in zip(x, ordered, strict=True):
        ends = [100 * point["rate"]["low"], 100 * point["rate"]["high"]]
        axes.plot([at, at], ends, color=colour, lw=4, alpha=0.35, solid_capstyle="butt", zorder=2)


def visibility_title(arms: Sequence[dict[str, Any]]) -> str:
    """Say how many reads are stale at once on the shortest and the longest link, and how many under sync."""
    late = sorted((arm for arm in arms if arm["replication"] == "async"), key=lambda arm: arm["delay_ms"])
    parts = []
    if late:
        near = percent(late[0]["points"][0]["rate"]["estimate"])
        parts.append(f"read at once through another server, {near} are stale with servers {link_name(late[0])}")
    if len(late) > 1:
        far = percent(late[-1]["points"][0]["rate"]["estimate"])
        parts[0] += f", {far} with {late[-1]['delay_ms']:g} ms between them (emulated)"
    for arm in arms:
        if arm["replication"] == "sync":
            stale, trials = (sum(point[key] for point in arm["points"]) for key in ("stale", "trials"))
            parts.append(f"under sync {stale} of {trials}")
    return sentence("; ".join(parts))
