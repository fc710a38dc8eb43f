"""A load run second by second: the middle and the slow end of each block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.words import number
from lab.statistics import quantile_by_block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lab.report.results import Run

PERCENTILES = {"median": (0.5, "-", "o"), "95th percentile": (0.95, "--", "s")}
"""What is drawn of each block, to its share, line and marker."""

LEAST_BLOCKS = 2


def draw(run: Run, figure: Figure) -> Caption:
    """Draw median and 95th percentile of the latency, block by block."""
    samples = run.samples
    if samples is None:
        raise NothingToDraw("This run kept no samples.")
    rows = ~samples.failed
    lines = {
        name: quantile_by_block(samples.latency_ms[rows], samples.block[rows], share)
        for name, (share, _, _) in PERCENTILES.items()
    }
    if min(map(len, lines.values())) < LEAST_BLOCKS:
        raise NothingToDraw("There are fewer than two blocks with answers.")
    axes = figure.subplots()
    look = style.look(run.get("load", "strategy") or "target")
    for name, blocks in lines.items():
        _, line, marker = PERCENTILES[name]
        size = 6 if len(blocks) <= 30 else 3  # noqa: PLR2004 - markers must not touch
        axes.plot(list(blocks), list(blocks.values()), color=look.colour, ls=line, lw=1.6, marker=marker, ms=size)
        last = max(blocks)
        axes.annotate(name, (last, blocks[last]), (9, 0), textcoords="offset points", color=look.ink, va="center")
    axes.set_yscale("log")
    style.log_ticks(axes.yaxis)
    axes.set_xlim(-0.5, max(map(max, lines.values())) * 1.22 + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("block (one second of load each)")
    axes.set_ylabel("latency (ms)")
    axes.grid()
    return Caption(
        title(list(lines["95th percentile"].values())),
        "A block that stands out is one disturbance; a line that wanders is a machine, or a shop, that does.",
        f"{number(run.get('run', 'rate_rps'), 0)} requests/s offered, {len(lines['median'])} blocks",
        "Latency from the intended start, of answered requests; the axis is logarithmic.",
        ("block", "median (ms)", "95th (ms)"),
        tuple(
            (str(block), number(value), number(lines["95th percentile"][block]))
            for block, value in lines["median"].items()
        ),
    )


def title(slow: list[float]) -> str:
    """Say how the slow end wandered from block to block."""
    low, high = float(np.min(slow)), float(np.max(slow))
    reach = f"{low:.0f} to {high:.0f} ms" if high - low >= 1 else f"{high:.1f} ms"
    return ("Block by block, " if high - low >= 1 else "") + f"1 in 20 requests took longer than {reach}"


CHARTS: dict[str, Draw] = {"latency-by-block": draw}
