"""How soon a write can be seen: the share of views that show the latest confirmed item, by the time since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.results import Run, arms
from lab.report.words import listed, percent, sentence
from lab.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bins = list[dict[str, Any]]
_LEAST_VIEWS = 5
"""A bin with fewer views says nothing."""


def draw(run: Run, figure: Figure) -> Caption:
    """Draw, per arm, the share of views that showed the latest item against the gap since it was confirmed."""
    found = {name: _bins(arm) for name, arm in arms(run.results).items()}
    found = {name: bins for name, bins in found.items() if len(bins) > 1}
    if not found:
        raise NothingToDraw("Too few views followed an item closely enough.")
    late = {name: bins for name, bins in found.items() if _missed(bins)}
    whole = [name for name in found if name not in late]
    axes = figure.subplots()
    for name, bins in late.items():
        _line(axes, name, bins)
    _axes(axes, found)
    _labels(axes, late)
    if whole:
        axes.plot([axes.get_xlim()[0], axes.get_xlim()[1] / 3.6], [100, 100], color=style.SOFT, lw=2, zorder=1)
        axes.text(axes.get_xlim()[0], 101.5, f" always shown: {listed(whole)}", color=style.SOFT, va="bottom", size=10)
    return Caption(
        title(late, whole),
        "A line that climbs to 100 % is only late: wait that long and the item is there. One that stays low has lost "
        "sight of it.",
        "Views after a confirmed item, by the time between confirmation and view",
        "Each point: the views of one range of gaps; lines: 95 % intervals (Wilson), ranges with fewer than "
        f"{_LEAST_VIEWS} views left out.",
        ("arm", "gap from (ms)", "views", "showed the item"),
        tuple(
            (name, f"{one['from_ms']:g}", f"{one['views']:,}", percent(one["visible"] / one["views"]))
            for name, bins in found.items()
            for one in bins
        ),
    )


def title(late: dict[str, Bins], whole: list[str]) -> str:
    """Say which arm misses fresh items most, and how long it takes until they are seen."""
    if not late:
        return sentence(f"every view showed the latest item, however soon it was asked for, under {listed(whole)}")
    parts: list[str] = []
    for name in sorted(late, key=lambda name: -_missed(late[name]))[:2]:
        first, until = late[name][0], _seen_from(late[name])
        share = percent(1 - first["visible"] / first["views"])
        what = "" if parts else " of the soonest views missed the latest item"
        last = _gap(late[name][-1]["from_ms"])
        end = f"some even after {last}" if until is None else f"none after {_gap(until)}"
        parts.append(f"under {name} {share}{what}, {end}")
    return sentence("; ".join(parts))


def _bins(arm: dict[str, Any]) -> Bins:
    stale = (arm.get("consistency") or {}).get("stale_reads") or {}
    bins = (stale.get("t_visibility") or {}).get("bins") or []
    return [one for one in bins if one["views"] >= _LEAST_VIEWS]


def _missed(bins: Bins) -> int:
    return sum(one["views"] - one["visible"] for one in bins)


def _seen_from(bins: Bins) -> float | None:
    """Return the gap from which on every view showed the item; None if there is no such gap."""
    missed = [index for index, one in enumerate(bins) if one["visible"] < one["views"]]
    return None if not missed or missed[-1] + 1 >= len(bins) else bins[missed[-1] + 1]["from_ms"]


def _gap(milliseconds: float) -> str:
    return f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds:g} ms"  # noqa: PLR2004


def _x(one: dict[str, Any]) -> float:
    return max(float(one["from_ms"]), 0.5)


def _line(axes: Axes, name: str, bins: Bins) -> None:
    look = style.look(name)
    xs = [_x(one) for one in bins]
    shares = [wilson(one["visible"], one["views"]) for one in bins]
    ys = [100 * share.estimate for share in shares if share]
    face = "white" if look.hatch else look.colour
    axes.plot(xs, ys, color=look.colour, ls=look.line, lw=2.2, marker=look.marker, ms=8, mfc=face, mew=1.8)
    for x, share in zip(xs, shares, strict=True):
        if share and share.low is not None and share.high is not None:
            axes.plot([x, x], [100 * share.low, 100 * share.high], color=look.colour, lw=1.3)


def _axes(axes: Axes, found: dict[str, Bins]) -> None:
    xs = sorted({_x(one) for bins in found.values() for one in bins})
    axes.set_xscale("log")
    axes.set_xlim(xs[0] * 0.85, xs[-1] * 4)
    axes.xaxis.set_major_locator(FixedLocator(xs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "< 1 ms" if value < 1 else _gap(value)))
    axes.tick_params(axis="x", labelsize=9)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("time from the confirmation of the item to the view, at least")
    axes.set_ylabel("views that showed it (%)")
    axes.grid(axis="y")


def _labels(axes: Axes, late: dict[str, Bins]) -> None:
    ends = [100 * bins[-1]["visible"] / bins[-1]["views"] for bins in late.values()]
    for name, bins, y in zip(late, late.values(), style.spread(ends, 6.5), strict=True):
        axes.text(
            _x(bins[-1]) * 1.15,
            y,
            name,
            color=style.look(name).ink,
            size=10.5,
            weight="bold",
            va="center",
            path_effects=style.HALO,
        )
