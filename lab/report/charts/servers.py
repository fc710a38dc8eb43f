"""Who did the work: requests per server, against a fair share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import number, percent, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

Shares = dict[str, float]
_EVEN = 1.1
"""A busiest server with less than this many times its fair share is nothing to speak of."""

_MOST_NAMED = 6
"""More servers than this are not named at their bars."""


def draw(run: Run, figure: Figure) -> Caption:
    """Draw each server's share of the requests as a thin bar, grouped by strategy."""
    counts = {name: run.get("strategies", name, "servers") or {} for name in run.strategies}
    requests = {
        name: {server: int(one.get("requests") or 0) for server, one in own.items()} for name, own in counts.items()
    }
    shares = {name: _shares(own) for name, own in requests.items() if sum(own.values())}
    if not shares:
        raise NothingToDraw("No requests per server were counted.")
    axes = figure.subplots()
    fair = 1 / max(len(own) for own in shares.values())
    longest = max(max(own.values()) for own in shares.values())
    for row, (name, own) in enumerate(shares.items()):
        _group(axes, row, name, own, at=100 * longest + 0.3)
    axes.axvline(100 * fair, color=style.INK, lw=1, ls=(0, (4, 3)))
    style.rows(axes, list(shares), list(shares))
    axes.text(100 * fair, -0.62, f"fair share {percent(fair)} ", ha="right", va="top", size=10, color=style.INK)
    axes.set_xlim(0, 100 * longest * 1.18)
    axes.set_xlabel("share of the strategy's requests (%)")
    axes.grid(axis="x")
    servers = sorted({server for own in shares.values() for server in own})
    return Caption(
        title(shares),
        "Round robin deals requests out like cards; affinity leaves a server with whatever its shoppers do.",
        "Requests answered by each server",
        "Each thin bar is one server. The dashed line is what each would have if work were shared evenly.",
        ("strategy", *servers, "busiest ÷ fair share"),
        tuple(
            (name, *(f"{requests[name].get(s, 0):,}" for s in servers), number(max(own.values()) * len(own)))
            for name, own in shares.items()
        ),
    )


def title(shares: dict[str, Shares]) -> str:
    """Say under which strategy the busiest server had most to do, or that work was even everywhere."""
    times = {name: max(own.values()) * len(own) for name, own in shares.items()}
    worst = max(times, key=lambda name: times[name])
    if times[worst] < _EVEN:
        return f"Work was even: no server had more than {times[worst]:.2f} times its fair share"
    others = [value for name, value in times.items() if name != worst]
    rest = f"; elsewhere at most {max(others):.2f}" if others else ""
    return sentence(f"under {worst} the busiest server had {times[worst]:.2f} times its fair share{rest}")


def _shares(counts: dict[str, int]) -> Shares:
    total = sum(counts.values())
    return {server: count / total for server, count in counts.items()}


def _group(axes: Axes, row: int, name: str, shares: Shares, *, at: float) -> None:
    """Draw a strategy's bars, and name them in a column at `at`, clear of the line of the fair share."""
    look, height = style.look(name), 0.8 / len(shares)
    for index, (server, share) in enumerate(shares.items()):
        y = row - 0.4 + (index + 0.5) * height
        axes.barh(y, 100 * share, height * 0.86, color=style.shade(look.colour, 0.75))
        if len(shares) <= _MOST_NAMED:
            axes.text(
                at,
                y,
                f"{server}  {percent(share)}",
                va="center",
                size=8.5,
                color=style.SOFT,
                path_effects=style.HALO,
            )
