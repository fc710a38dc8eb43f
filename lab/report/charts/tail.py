"""Latency by percentile, HDR style: the slow end stretched, and each line ending where its sample ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw, load_subtitle
from lab.report.results import BASELINE, Run
from lab.report.words import interval
from lab.statistics import pooled_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_PERCENTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)
_LEAST_BEYOND = 10
"""A line ends where fewer requests than this are slower."""

_BANDS = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


def draw(run: Run, figure: Figure) -> Caption:
    """Draw the latency below which each share of the requests lies, one line per compared strategy."""
    samples = run.samples
    if samples is None:
        raise NothingToDraw("This run kept no samples.")
    data = {name: samples.rows(name, twin=None) for name in run.compared}
    values = {name: (samples.latency_ms[rows], samples.block[rows]) for name, rows in data.items()}
    values = {name: both for name, both in values.items() if len(both[0]) >= 2 * _LEAST_BEYOND}
    if not values:
        raise NothingToDraw("No strategy has enough timed requests.")
    axes = figure.subplots()
    ends = {name: _line(axes, name, *both) for name, both in values.items()}
    _axes(axes, max(share for share, _ in ends.values()))
    _labels(axes, ends)
    return Caption(
        title({name: _figures(run, name) for name in values}),
        "Read upwards at a percentage: that share of the requests was at least as fast. To the right the unlucky "
        "requests; where lines lie closer than their bands are wide, the difference is noise.",
        load_subtitle(run),
        "Exact order statistics of all timed requests; both axes logarithmic. Bands: 95 % intervals from resampled "
        f"blocks. A line ends where fewer than {_LEAST_BEYOND} requests were slower.",
        ("strategy", "requests", "median (ms)", "95th (ms)", "99th (ms)"),
        tuple(
            (name, f"{len(both[0]):,}", *(_cell(run, name, p) for p in ("p50", "p95", "p99")))
            for name, both in values.items()
        ),
    )


def title(figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Say how slow the slow requests are, and under which strategies that differs beyond noise.

    Args:
        figures: strategy to percentile to interval, without percentiles that the sample does not carry.
    """
    percentile = "p99" if all("p99" in own for own in figures.values()) else "p95"
    slow = {name: own[percentile] for name, own in figures.items() if percentile in own}
    if not slow:
        return "Too few requests to speak of the slow ones"
    share = "1 in 100 requests" if percentile == "p99" else "1 in 20 requests"
    most = max(slow, key=lambda name: slow[name]["estimate"])
    least = min(slow, key=lambda name: slow[name]["estimate"])
    top, bottom = slow[most]["estimate"], slow[least]["estimate"]
    if (slow[most].get("low") or 0.0) > (slow[least].get("high") or top):
        return f"{share} takes longer than {_short(top)} ms under {most}, but {_short(bottom)} ms under {least}"
    reach = f"{_short(top)} ms" if _short(top) == _short(bottom) else f"{_short(bottom)} to {_short(top)} ms"
    unlike = "" if len(slow) == 1 else "; what differs there may be noise"
    return f"{share} takes longer than {reach}{unlike}"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"  # noqa: PLR2004 - two digits do


def _figures(run: Run, name: str) -> dict[str, dict[str, Any]]:
    found = run.get("strategies", name, "latency_ms", "all") or {}
    return {p: value for p, value in found.items() if value and value.get("estimate") is not None}


def _cell(run: Run, name: str, percentile: str) -> str:
    found = run.get("strategies", name, "latency_ms", "all", percentile)
    return interval(found) + (" (few requests)" if found and found.get("faded") else "")


def _line(axes: Axes, name: str, values: NDArray[np.float64], blocks: NDArray[np.int64]) -> tuple[float, float]:
    """Draw one strategy and return where its line ends."""
    look = style.look(name)
    ordered = np.sort(values)
    most = len(ordered) / _LEAST_BEYOND
    x = np.geomspace(2, most, 240)
    y = ordered[np.ceil((1 - 1 / x) * len(ordered)).astype(int) - 1]
    axes.plot(x, y, color=look.colour, ls=look.line, lw=2.4, solid_capstyle="butt")
    at = [p for p in _BANDS if 1 / (1 - p) <= most]
    found = [pooled_quantile(values, blocks, p) for p in at]
    if found[0].low is not None:
        low, high = np.array([(one.low, one.high) for one in found], dtype=float).T
        axes.fill_between([1 / (1 - p) for p in at], low, high, color=look.colour, alpha=0.13, lw=0)
    axes.plot(x[-1], y[-1], look.marker, color=look.colour, ms=8)
    return float(x[-1]), float(y[-1])


def _axes(axes: Axes, right: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(2, right * (right / 2) ** 0.24)
    shown = [p for p in _PERCENTILES if 1 / (1 - p) <= right * 1.01]
    axes.xaxis.set_major_locator(FixedLocator([1 / (1 - p) for p in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * (1 - 1 / value):.4g} %"))
    style.log_ticks(axes.yaxis)
    axes.set_xlabel("share of the requests that were at least as fast")
    axes.set_ylabel("latency (ms)")
    axes.grid()


def _labels(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write each strategy's name right of its line, none over another, with a thin line to where it belongs."""
    low, high = np.log(axes.get_ylim())
    heights = style.spread([float((np.log(y) - low) / (high - low)) for _, y in ends.values()], 0.065)
    column = max(x for x, _ in ends.values()) * 1.12
    for (name, (x, y)), height in zip(ends.items(), heights, strict=True):
        look, beside = style.look(name), float(np.exp(low + height * (high - low)))
        axes.plot([x, column * 0.985], [y, beside], color=look.colour, lw=0.8, alpha=0.7)
        text = f"{name} (baseline)" if name == BASELINE else name
        axes.text(column, beside, text, color=look.ink, size=10.5, weight="bold", va="center")
