"""How noisy the machine was: each block's medians, and same against same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.results import BASELINE, Run
from lab.report.words import interval, number, percent
from lab.statistics import BAND, quantile_by_block

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from lab.samples import Samples

Medians = dict[int, float]
_LABEL_ROOM = 1.24


def draw(run: Run, figure: Figure) -> Caption:
    """Draw every strategy's median block by block, and the baseline's second slice against its first."""
    samples = run.samples
    if samples is None:
        raise NothingToDraw("This run kept no samples.")
    medians = {name: _medians(samples, samples.latency_ms, name, twin=False) for name in run.compared}
    medians = {name: own for name, own in medians.items() if len(own) > 1}
    if not medians:
        raise NothingToDraw("There are fewer than two timed blocks.")
    ratios = _ratios(samples, samples.latency_ms / samples.slowness)
    panels = figure.subplots(1, 2, width_ratios=(1.6, 1), squeeze=False)[0] if ratios else [figure.subplots()]
    _draw_medians(panels[0], medians)
    if ratios:
        _draw_ratios(panels[1], ratios, _ratios(samples, samples.latency_ms))
    same = run.get("validity", "same_against_same", "p50")
    return Caption(
        title(medians, None if not same else same.get("estimate")),
        "Left, when the machine is disturbed all lines move together, which is why strategies are compared within a "
        f"block. Right, each dot is {BASELINE} against itself: its scatter is pure noise (faint dots: before each "
        "request is divided by how slow the CPU was at that moment).",
        f"Median latency of each slice, {len(next(iter(medians.values())))} blocks",
        f"Grey band: ± {100 * BAND:.0f} %. Same against same over all blocks: {interval(same)} (1 is perfect).",
        ("strategy", "lowest block median (ms)", "middle (ms)", "highest (ms)"),
        tuple((name, *(number(value) for value in _spread(own))) for name, own in medians.items()),
    )


def title(medians: dict[str, Medians], same: float | None) -> str:
    """Say how far block medians wandered, and how near same against same came to 1."""
    name = BASELINE if BASELINE in medians else next(iter(medians))
    low, middle, high = _spread(medians[name])
    wandered = f"The same request took {low:.1f} to {high:.1f} ms from block to block"
    if high - low < 2 * BAND * middle:
        wandered = f"The machine was steady: block medians within {percent((high - low) / middle)} of each other"
    if same is None:
        return wandered
    contrast = "yet" if high - low >= 2 * BAND * middle and abs(same - 1) <= BAND else "and"
    return f"{wandered}, {contrast} same against same differs by {percent(abs(same - 1))} only".replace(
        " only", " only" if abs(same - 1) <= BAND else ""
    )


def _medians(samples: Samples, latency_ms: NDArray[np.float64], arm: str, *, twin: bool) -> Medians:
    rows = samples.rows(arm, twin=twin)
    return quantile_by_block(latency_ms[rows], samples.block[rows], 0.5)


def _ratios(samples: Samples, latency_ms: NDArray[np.float64]) -> Medians:
    """Return the baseline's second slice as a multiple of its first, by block."""
    first, again = (_medians(samples, latency_ms, BASELINE, twin=twin) for twin in (False, True))
    return {block: again[block] / own for block, own in first.items() if block in again}


def _spread(medians: Medians) -> tuple[float, float, float]:
    low, middle, high = np.quantile(list(medians.values()), [0, 0.5, 1])
    return float(low), float(middle), float(high)


def _draw_medians(axes: Axes, medians: dict[str, Medians]) -> None:
    axes.set_title("Median latency per block", color=style.SOFT)
    for name, own in medians.items():
        look = style.look(name)
        size = 3.5 if len(own) > 30 else 6  # noqa: PLR2004 - markers must not touch
        axes.plot(list(own), list(own.values()), color=look.colour, ls=look.line, lw=1.1, marker=look.marker, ms=size)
    axes.set_yscale("log")
    style.log_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("block")
    axes.set_ylabel("ms (log scale)")
    axes.grid(axis="y")
    last = max(max(own) for own in medians.values())
    axes.set_xlim(-0.02 * last, last * _LABEL_ROOM)
    low, high = np.log(axes.get_ylim())
    ends = {name: float(np.median(list(own.values())[-5:])) for name, own in medians.items()}
    heights = style.spread([float((np.log(y) - low) / (high - low)) for y in ends.values()], 0.065)
    for name, height in zip(ends, heights, strict=True):
        y = float(np.exp(low + height * (high - low)))
        axes.text(last * 1.02, y, name, color=style.look(name).ink, size=10, weight="bold", va="center")


def _draw_ratios(axes: Axes, ratios: Medians, uncorrected: Medians) -> None:
    look = style.look(BASELINE)
    axes.set_title(f"{BASELINE} again ÷ {BASELINE}", color=style.SOFT)
    axes.axhspan(1 - BAND, 1 + BAND, color=style.GRID, lw=0)
    axes.axhline(1, color=style.SOFT, lw=1)
    axes.plot(list(uncorrected), list(uncorrected.values()), look.marker, color=look.colour, alpha=0.25, mew=0, ms=4)
    axes.plot(list(ratios), list(ratios.values()), look.marker, mfc="white", mec=look.colour, mew=1.4, ms=5)
    reach = max(0.2, *(abs(np.log(value)) for value in (*ratios.values(), *uncorrected.values()))) * 1.1
    axes.set_yscale("log")
    axes.set_ylim(np.exp(-reach), np.exp(reach))
    style.log_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("block")
    axes.set_ylabel("ratio (log scale)")
