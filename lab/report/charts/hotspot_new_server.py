"""What a server that was added under load got: of those bound before, and of newcomers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.charts.hotspot_marks import ON_WHITE, mark, subtitle, told_by
from lab.report.hotspot import shares
from lab.report.words import listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run


_SAME = 0.05
"""A server that took less than this part of its share took nothing."""


def draw_new_server(run: Run, figure: Figure) -> Caption:
    """Draw the share of requests that the added server took: of those bound before, and of newcomers."""
    told = told_by(run)
    added = {name: story["added"] for name, story in told.items() if story["added"].get("share")}
    if not added:
        raise NothingToDraw("Nobody came after the server had been added.")
    fair = next(iter(added.values()))["fair_share"]
    _shares_taken(figure.subplots(), added, fair)
    after = number(next(iter(added.values()))["after_seconds"], 0, " s")
    return Caption(
        new_server_title({name: one["share"]["estimate"] for name, one in added.items()}, fair),
        "Where shoppers are bound, only those who come for the first time can be sent to a new server.",
        f"{subtitle(run)}; from {after} after it was added",
        "Filled: requests of everybody who had been there before, with a 95 % interval (over shoppers by the rule of "
        "three where it got none, else over populations). Hollow: requests of one population that came only then; its "
        "share hangs on who of them landed there.",
        ("strategy", "of those bound before", "share", "of newcomers", "share"),
        tuple(
            (
                name,
                f"{one['requests']:,} of {one['of']:,}",
                shares(one["share"]),
                f"{one['newcomers']['requests']:,} of {one['newcomers']['of']:,}",
                percent(one["newcomers"]["share"]),
            )
            for name, one in added.items()
        ),
    )


def _shares_taken(axes: Axes, added: Mapping[str, dict[str, Any]], fair: float) -> None:
    """Draw a row for each strategy: the share of those bound before, and that of newcomers."""
    for row, (name, one) in enumerate(added.items()):
        mark(axes, row - 0.12, name, one["share"], shares(one["share"]), scale=100)
        if one["newcomers"]["share"] is not None:
            _newcomers(axes, row + 0.24, name, one["newcomers"]["share"])
    axes.axvline(100 * fair, color=style.INK, lw=1, ls=(0, (4, 3)))
    axes.text(100 * fair, -0.63, f"even share {percent(fair)}", va="bottom", ha="center", size=9.5, color=style.SOFT)
    highest = max(
        value
        for one in added.values()
        for value in (one["share"].get("high") or one["share"]["estimate"], one["newcomers"]["share"] or 0.0, fair)
    )
    axes.set_xlim(-2.5, 100 * highest * 1.35)
    style.rows(axes, list(added), list(added))
    axes.set_xlabel("requests that the added server answered (%)")
    axes.grid(axis="x")


def _newcomers(axes: Axes, row: float, name: str, share: float) -> None:
    look = style.look(name)
    axes.plot(100 * share, row, look.marker, ms=8, mfc="white", mec=look.colour, mew=1.8)
    axes.annotate(
        f"newcomers {percent(share)}",
        (100 * share, row),
        (9, -3.5),
        textcoords="offset points",
        size=9,
        color=style.SOFT,
        bbox=ON_WHITE,
    )


def new_server_title(taken: Mapping[str, float], fair: float) -> str:
    """Say under which strategies a new server took none, some, or its share of the work that was there."""
    none = [name for name, share in taken.items() if share < _SAME * fair]
    some = [name for name, share in taken.items() if _SAME * fair <= share < fair / 2]
    its = [name for name in taken if name not in none and name not in some]
    parts = []
    if none:
        parts.append(f"A new server takes nothing from the others under {listed(none)}")
    if some:
        parts.append(f"{'a new server takes ' if not parts else ''}less than half its share under {listed(some)}")
    if its:
        least, most = (percent(f(taken[name] for name in its)) for f in (min, max))
        much = least if least == most else f"{least} to {most}"
        words = "it takes" if parts else "A new server takes"
        parts.append(
            f"under {listed(its)} {words} {much}" if parts else f"{words} {much} of the work under {listed(its)}"
        )
    return sentence("; ".join(parts))
