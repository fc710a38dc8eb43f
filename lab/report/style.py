"""How every chart looks: one colour, marker and line per strategy, one type size for one job, titles that say what is.

Colours are Okabe and Ito's, which colour-blind readers tell apart; markers, lines, hatches and labels beside the data
carry the same meaning in greyscale. A figure is drawn once, at the size of a slide, and is legible at half of it.
"""

from __future__ import annotations

import math
import re
import textwrap
from typing import TYPE_CHECKING, Any

import msgspec
from matplotlib import colors, patheffects, ticker

from lab.report.results import strategy_of
from strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH_INCHES, HEIGHT_INCHES, PNG_DPI = 9.6, 5.4, 200
"""1920 by 1080 pixels."""

INK = "#1F2933"
SOFT = "#5B6770"
FAINT = "#C9D0D6"
GRID = "#E4E8EB"
GOOD = "#1B7F5C"
BAD = "#B3261E"
UNSURE = "#8A6D00"

HALO = [patheffects.withStroke(linewidth=3, foreground="white")]
"""Keeps labels legible over lines."""

SETTINGS: Any = {
    "figure.figsize": (WIDTH_INCHES, HEIGHT_INCHES),
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": FAINT,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "grid.color": GRID,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "session-lab",
}


_LEGIBLE = 0.175
"""Relative luminance that gives text a contrast of 4.5 to 1 on white (WCAG 2.2, 1.4.3)."""


_UNIT = re.compile(r"(\d) (%|ms|s|B|kB|MB|GB)(?!\w)")
"""A number and its unit stay on one line."""


class Look(msgspec.Struct, frozen=True):
    """How one arm is drawn, everywhere.

    Attributes:
        colour: as `#RRGGBB`.
        marker: matplotlib's code.
        line: matplotlib's line style.
        hatch: fill pattern of bars, for arms that share a strategy's colour.
    """

    colour: str
    marker: str
    line: Any
    hatch: str = ""

    @property
    def ink(self) -> str:
        """The colour, darkened until text in it is legible on white."""
        red, green, blue = colors.to_rgb(self.colour)
        while 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > _LEGIBLE:
            red, green, blue = red * 0.97, green * 0.97, blue * 0.97
        return colors.to_hex((red, green, blue))


LOOKS = {
    "isolated": Look("#6B7280", "X", (0, (1, 1.5))),
    "sticky": Look("#0072B2", "o", "-"),
    "all-to-all": Look("#D55E00", "s", (0, (5, 2))),
    "database": Look("#009E73", "^", (0, (7, 2, 1.5, 2))),
    "redis": Look("#CC79A7", "D", (0, (3, 1.2))),
}


SPARE = (
    Look("#56B4E9", "v", (0, (4, 1.5, 1, 1.5))),
    Look("#8C6D1F", "P", (0, (9, 2))),
    Look("#A6444A", "p", (0, (2, 2, 6, 2))),
)
"""Of strategies that have no look of their own, in the order of the registry."""

WITH, WITHOUT = "#7A5195", "#7B8794"
"""Of a thing that is no strategy, and of its absence."""

COMPONENTS = {"servers": "#46597A", "balancer": "#E69F00", "generator": "#7A5195", "others": "#BFC7CE"}
"""Of what takes CPU time beside the engines, in none of the strategies' colours."""

MODELLED = (0, (5, 2.5))
"""The dashes of whatever was not measured."""


def look(arm: str) -> Look:
    """Return the look of an arm: its strategy's, hatched if it is a variant of it."""
    strategy = strategy_of(arm)
    own = LOOKS.get(strategy) or _spare(strategy)
    return own if arm == strategy else Look(own.colour, own.marker, own.line, "////")


def _spare(strategy: str) -> Look:
    newcomers = [name for name in STRATEGIES if name not in LOOKS]
    if strategy not in newcomers:
        return Look(SOFT, "o", "-")
    return SPARE[newcomers.index(strategy) % len(SPARE)]


def shade(colour: str, strength: float) -> str:
    """Mix a colour with white; strength 1 leaves it as it is."""
    red, green, blue = colors.to_rgb(colour)
    return colors.to_hex((1 - strength * (1 - red), 1 - strength * (1 - green), 1 - strength * (1 - blue)))


def dress(figure: Figure, title: str, subtitle: str, note: str) -> None:
    """Write the title (what was found), the subtitle (of what) and the note (how to read it) around a chart."""
    lines = textwrap.wrap(_UNIT.sub("\\1\u00a0\\2", title), 75, break_on_hyphens=False)
    figure.text(0.022, 0.972, "\n".join(lines), size=15, weight="bold", va="top", linespacing=1.25)
    top = 0.972 - 0.057 * len(lines)
    if subtitle:
        figure.text(0.022, top - 0.008, subtitle, size=10.5, color=SOFT, va="top")
        top -= 0.045
    notes = textwrap.wrap(note, 136, break_on_hyphens=False)
    if notes:
        figure.text(0.022, 0.02, "\n".join(notes), size=8.8, color=SOFT, va="bottom", linespacing=1.35)
    bottom = 0.025 + 0.033 * len(notes)
    figure.set_layout_engine("constrained", rect=(0.012, bottom, 0.976, top - 0.02 - bottom))


_STEPS = (
    [1, 2, 5],
    [1, 1.5, 2, 3, 5, 7],
    [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9],
    [1 + step / 20 for step in range(180)],
)
"""Ticks within a decade, from coarse to fine."""

_FEWEST_TICKS = 4


def log_ticks(axis: Axis) -> None:
    """Give a log axis plain numbers, close enough together that a narrow range has some too. Call it after drawing."""
    low, high = sorted(axis.get_view_interval())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in _STEPS:
        ticks = [tick for power in decades for step in steps if low <= (tick := step * 10.0**power) <= high]
        if len(ticks) >= _FEWEST_TICKS:
            break
    axis.set_major_locator(ticker.FixedLocator(ticks))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def spread(positions: Sequence[float], least: float) -> list[float]:
    """Move labels apart so that neighbours are at least `least` from each other, each as near its place as can be.

    Pools neighbours that would overlap and centres the pool on them (isotonic regression), so order is kept.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    pools: list[list[float]] = []
    for rank, index in enumerate(order):
        pools.append([positions[index] - rank * least, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            value, size = pools.pop()
            other, more = pools[-1]
            pools[-1] = [(value * size + other * more) / (size + more), size + more]
    flat = [value for value, size in pools for _ in range(int(size))]
    placed = [0.0] * len(positions)
    for rank, index in enumerate(order):
        placed[index] = flat[rank] + rank * least
    return placed


def rows(axes: Axes, names: Sequence[str], arms: Sequence[str | None]) -> None:
    """Label the rows of a chart from top to bottom, each in its arm's colour."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=8)
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_color(INK if arm is None else look(arm).ink)
        label.set_fontsize(11.5)
        label.set_fontweight("bold")
    axes.spines["left"].set_visible(False)
