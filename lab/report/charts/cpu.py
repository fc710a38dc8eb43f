"""What a request costs: CPU time, stacked by component. The steadiest figure on a noisy machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.report import style
from lab.report.charts import bars
from lab.report.charts.chart import Caption, NothingToDraw, load_subtitle
from lab.report.results import BASELINE, Run
from lab.report.words import number, sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAME = 1.05
"""Less than this many times as much is about the same."""

_PARTS = {"servers": "web servers", "store": "store (Redis, PostgreSQL)", "balancer": "balancer"}


def draw(run: Run, figure: Figure) -> Caption:
    """Draw one bar per strategy, split into servers, store and balancer."""
    costs = {name: run.get("strategies", name, "cpu_ms_per_request") for name in run.strategies}
    costs = {name: cost for name, cost in costs.items() if cost and cost.get("total") is not None}
    if not costs:
        raise NothingToDraw("CPU time was not measured on this platform.")
    axes = figure.subplots()
    bars.stack(axes, costs, _PARTS, lambda value: number(value, 2), totals={n: c["total"] for n, c in costs.items()})
    axes.set_xlabel("CPU time per request (ms)")
    style.rows(axes, list(costs), list(costs))
    return Caption(
        title({name: cost["total"] for name, cost in costs.items()}),
        "A longer bar needs more or faster machines for the same shoppers; the shades say whose work it is.",
        load_subtitle(run),
        "CPU time of all processes of a component, divided by requests; catalogue requests included, in all alike. "
        "The database's share has the catalogue's queries in every strategy.",
        ("strategy", *(f"{label} (ms)" for label in _PARTS.values()), "total (ms)"),
        tuple((name, *(number(cost.get(key), 3) for key in (*_PARTS, "total"))) for name, cost in costs.items()),
    )


def title(totals: dict[str, float]) -> str:
    """Say which strategy's requests cost most CPU time and how that compares with the cheapest."""
    ranked = sorted(totals, key=lambda name: totals[name])
    cheapest, dearest = ranked[0], ranked[-1]
    if cheapest == dearest:
        return sentence(f"a request costs {totals[dearest]:.2f} ms of CPU time under {dearest}")
    if totals[dearest] < _SAME * totals[cheapest]:
        return "All strategies cost about the same CPU time per request"
    reference = BASELINE if totals.get(BASELINE, totals[dearest]) * _SAME < totals[dearest] else cheapest
    times = totals[dearest] / totals[reference]
    return sentence(f"{dearest} costs most CPU time per request: {times:.1f} times as much as {reference}")
