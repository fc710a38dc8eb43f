"""Horizontal stacked bars, the strategy's colour in a shade per part: shared by CPU and traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch

from lab.report import style

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes

_SHADES = (1.0, 0.7, 0.48, 0.3, 0.14)
_HATCHES = ("", "////", "\\\\\\\\", "", "")


def stack(
    axes: Axes,
    rows: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, str],
    write: Callable[[float], str],
    totals: Mapping[str, float],
) -> None:
    """Draw one bar per row, its parts in falling shades of the row's colour, with the numbers written on them.

    Args:
        axes: where.
        rows: arm to part to value; what is None is left out.
        parts: part to the words for it, in order.
        write: how a value is written on the bar.
        totals: arm to what is written at the bar's end.
    """
    longest = max([*totals.values(), 1e-12])
    for row, (arm, values) in enumerate(rows.items()):
        start = 0.0
        for index, part in enumerate(parts):
            value = values.get(part) or 0.0
            colour = style.shade(style.look(arm).colour, _SHADES[index])
            axes.barh(row, value, 0.58, left=start, color=colour, ec="white", lw=1, hatch=_HATCHES[index])
            if value > 0.075 * longest:
                box = {"boxstyle": "round,pad=0.18", "fc": "white", "ec": "none", "alpha": 0.88}
                axes.text(start + value / 2, row, write(value), ha="center", va="center", size=9.5, bbox=box)
            start += value
        axes.text(start + 0.012 * longest, row, write(totals[arm]), va="center", size=11, weight="bold")
    axes.set_xlim(0, longest * 1.12)
    axes.grid(axis="x")
    keys = [
        Patch(fc=style.shade(style.INK, _SHADES[index]), ec="white", hatch=_HATCHES[index], label=label)
        for index, label in enumerate(parts.values())
    ]
    axes.legend(
        handles=keys,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=5,
        frameon=False,
        fontsize=9.5,
        columnspacing=1.2,
        handlelength=1.6,
    )
