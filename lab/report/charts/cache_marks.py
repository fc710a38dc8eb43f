"""How the charts of a cache run look alike: colours, markers, and points with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.cache import WITH, WITHOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

BEFORE, AFTER = style.WITHOUT, style.WITH
"""Colours of a shop without a cache and of one with it."""

COLOURS = {WITHOUT: BEFORE, WITH: AFTER}

SHADES = tuple(style.shade(AFTER, strength) for strength in (0.4, 0.7, 1.0, 0.85))
MARKERS = "osD^"

_ENDS = ("estimate", "low", "high")


def point(axes: Axes, at: float, value: Mapping[str, Any], **look: Any) -> None:
    """Draw a point with its interval, where there is one."""
    if value.get("low") is not None:
        axes.plot([at, at], [value["low"], value["high"]], color=look["color"], lw=1.8, zorder=2)
    axes.plot(at, value["estimate"], look.get("marker", "o"), color=look["color"], ms=8, zorder=3, clip_on=False)


def in_percent(share: Mapping[str, Any]) -> dict[str, float | None]:
    """Return a share and the ends of its interval as percentages."""
    return {key: None if share.get(key) is None else 100 * share[key] for key in _ENDS}
