"""How uneven the binding of a population is expected to be, by its size, beside what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.charts.hotspot_marks import told_by
from lab.report.words import interval, number, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run


def draw_crowds(run: Run, figure: Figure) -> Caption:
    """Draw how uneven the binding of a population is expected to be, by its size, and what was measured at one."""
    told = told_by(run)
    model = run.get("hotspot", "by_shoppers") or []
    bound = {name: story["concentration"] for name, story in told.items() if story["binds"]}
    if not bound or not model:
        raise NothingToDraw("No strategy of this run binds shoppers to servers.")
    (name, measured), shoppers = next(iter(bound.items())), run.get("hotspot", "shoppers")
    axes = figure.subplots()
    _expected(axes, model)
    _measured(axes, name, measured, shoppers)
    return Caption(
        crowds_title(model, measured["estimate"], shoppers, name),
        "More shoppers mean more luck evens out, but slowly: with such appetites the heaviest few stay a large part.",
        f"{run.get('run', 'servers')} servers; shoppers make requests in proportion to 1, 1/2, 1/3, …",
        "Dashed: modelled, the mean of many random orders in which shoppers are bound one by one, round robin; grey: "
        "nine of ten orders. Dot: measured in this run, with the 95 % interval over populations.",
        ("shoppers", "modelled mean", "nine of ten orders"),
        tuple(
            (f"{one['shoppers']:,}", number(one["mean"]), f"{number(one['p5'])} to {number(one['p95'])}")
            for one in model
        ),
    )


def _expected(axes: Axes, model: list[dict[str, Any]]) -> None:
    """Draw what is modelled: the mean over many random orders, and where nine of ten lie."""
    sizes = [one["shoppers"] for one in model]
    axes.fill_between(sizes, [one["p5"] for one in model], [one["p95"] for one in model], color=style.GRID, lw=0)
    axes.plot(sizes, [one["mean"] for one in model], color=style.INK, lw=1.8, ls=style.MODELLED)
    axes.annotate(
        "modelled",
        (sizes[-2], model[-2]["mean"]),
        (0, 9),
        textcoords="offset points",
        size=10,
        style="italic",
        ha="center",
        path_effects=style.HALO,
    )
    axes.axhline(1, color=style.SOFT, lw=1, ls=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 1.15)
    axes.set_ylim(0.95, max(one["p95"] for one in model) * 1.03)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("shoppers in the population (log scale)")
    axes.set_ylabel("busiest server ÷ mean")
    axes.grid(axis="y")


def _measured(axes: Axes, name: str, measured: dict[str, Any], shoppers: int) -> None:
    look = style.look(name)
    if measured.get("low") is not None:
        axes.plot([shoppers] * 2, [measured["low"], measured["high"]], color=look.colour, lw=3, solid_capstyle="round")
    axes.plot(shoppers, measured["estimate"], look.marker, ms=10, color=look.colour)
    axes.annotate(
        f"measured, {name}: {interval(measured)}",
        (shoppers, measured["estimate"]),
        (14, 6),
        textcoords="offset points",
        size=10,
        weight="bold",
        color=look.ink,
        path_effects=style.HALO,
    )


def crowds_title(model: list[dict[str, Any]], measured: float, shoppers: int, name: str) -> str:
    """Say what was measured, what was expected, and what more shoppers would do."""
    expected = next((one["mean"] for one in model if one["shoppers"] == shoppers), None)
    largest = model[-1]
    beside = "" if expected is None else f" (modelled: {expected:.2f})"
    return sentence(
        f"{shoppers} bound shoppers load the busiest server {measured:.2f} times the mean under {name}{beside}; "
        f"{largest['shoppers']:,} would load it {largest['mean']:.2f} times"
    )
