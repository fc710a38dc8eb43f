"""Hot servers: who served how much, what a new server got, what shoppers waited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.hotspot import shares, stories
from lab.report.results import get
from lab.report.words import TIMES, interval, listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

Stories = dict[str, dict[str, Any]]

_MOVED = 0.1
"""A server that keeps less than this part of its share has given its load away."""

_SAME = 0.05
_EVEN = 1.1
"""A busiest server with less than this many times the mean is nothing to speak of."""

_LOW = 60
"""Panels up to so many percent have a tick at 25; higher ones at 50."""

_ON_WHITE: dict[str, Any] = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"}
"""Keeps a label legible across a line."""

_NEW_NAME = "added server"


def _told(run: Run) -> Stories:
    """Return every strategy's story.

    Raises:
        NothingToDraw: there is none.
    """
    told = stories(run)
    if not told:
        raise NothingToDraw("No shoppers were counted.")
    return told


def _subtitle(run: Run) -> str:
    facts = run.get("hotspot")
    return (
        f"{facts['populations']} populations of {facts['shoppers']} shoppers, {run.get('run', 'servers')} servers, "
        f"{number(facts['rate_rps_each'], 0)} requests/s to each strategy"
    )


# --- shares over time ------------------------------------------------------------------------------------------------


def draw_timeline(run: Run, figure: Figure) -> Caption:
    """Draw each server's share of the requests, second by second, around the addition and the draining."""
    told = _told(run)
    panels = figure.subplots(len(told), 2, squeeze=False, sharex="col", sharey=True, width_ratios=(2.6, 1))
    for row, (name, story) in zip(panels, told.items(), strict=True):
        for axes, event in zip(row, ("added", "drained"), strict=True):
            _lines(axes, name, story, event)
        row[0].set_ylabel(name, color=style.look(name).ink, weight="bold", size=11, rotation=0, ha="right", va="center")
    top = 100 * max(_peak(story) for story in told.values())
    highest = max(45.0, 1.12 * top)
    panels[0][0].set_ylim(0, highest)
    panels[0][0].set_yticks([0, 25] if highest <= _LOW else [0, 50])
    for axes, words in zip(panels[-1], ("the server was added", "draining"), strict=True):
        axes.set_xlabel(f"seconds since {words}")
        axes.xaxis.set_major_locator(MaxNLocator(7 if axes is panels[-1][0] else 4, integer=True, prune="both"))
    panels[0][0].set_title("a server is added", size=10.5, color=style.SOFT)
    panels[0][1].set_title("the busiest is drained", size=10.5, color=style.SOFT)
    for axes in panels[:-1].flat:
        axes.tick_params(labelbottom=False)
    _legend(panels[0][0])
    return Caption(
        timeline_title(told),
        "A server that is bound to its shoppers keeps its line, whatever is added or drained; where nobody is bound, "
        "the lines meet anew at once.",
        f"One population of {run.get('hotspot', 'shoppers')} shoppers; share of its requests (%) that each server "
        "answered, in each second",
        "Thick: the server that was busiest in the population's first turn, and that is drained in the end. Dashed and "
        "dark: the server that was added. Thin: the others. Dotted: when it was asked for; grey: until the balancer "
        "had changed over.",
        ("strategy", "busiest, before the addition", "added server, last seconds", "drained: before", "after"),
        tuple(_timeline_row(name, story) for name, story in told.items()),
    )


def _timeline_row(name: str, story: dict[str, Any]) -> tuple[str, ...]:
    drained = story["drained"]
    before = _means(story, "added", until=0).get(drained["server"])
    later = _means(story, "added", since=story["added"]["seconds"]).get(story["added"]["server"], 0.0)
    return (
        name,
        percent(before),
        percent(later),
        percent(drained["before"]["share"]),
        percent(drained["after"]["share"]),
    )


def _means(story: dict[str, Any], event: str, *, since: float = -1e9, until: float = 1e9) -> dict[str, float]:
    """Return each server's share of the requests in the whole bins between two times."""
    line, width = story["timeline"][event], story["timeline"]["bin_seconds"]
    sums = {
        server: sum(
            count
            for n, count in enumerate(counts)
            if line["from_seconds"] + n * width >= since and line["from_seconds"] + (n + 1) * width <= until
        )
        for server, counts in line["servers"].items()
    }
    total = sum(sums.values())
    return {server: count / total for server, count in sums.items()} if total else {}


def _series(story: dict[str, Any], event: str) -> tuple[Any, dict[str, Any]]:
    """Return the middles of the bins in seconds and each server's share in them, NaN where nobody asked."""
    line, width = story["timeline"][event], story["timeline"]["bin_seconds"]
    counts = {server: np.array(own, dtype=float) for server, own in line["servers"].items()}
    if not counts:
        return np.empty(0), {}
    total = np.sum(list(counts.values()), axis=0)
    at = line["from_seconds"] + (np.arange(len(total)) + 0.5) * width
    enough = total >= total.max() / 4  # the first and the last bin may be cut short
    with np.errstate(invalid="ignore", divide="ignore"):
        return at, {server: np.where(enough, own / total, np.nan) for server, own in counts.items()}


def _peak(story: dict[str, Any]) -> float:
    every = [own for event in ("added", "drained") for own in _series(story, event)[1].values()]
    return max((float(np.nanmax(own)) for own in every if np.isfinite(own).any()), default=0.0)


def _lines(axes: Axes, name: str, story: dict[str, Any], event: str) -> None:
    look, hot, new = style.look(name), story["drained"]["server"], story["added"]["server"]
    at, series = _series(story, event)
    for server, own in series.items():
        if server == hot:
            axes.plot(at, 100 * own, color=look.colour, lw=2.8, zorder=3, solid_capstyle="round")
        elif server == new:
            there = at > 0 if event == "added" else at > -np.inf
            axes.plot(at[there], 100 * own[there], color=style.INK, lw=1.8, ls=(0, (4, 2)), zorder=4)
        else:
            axes.plot(at, 100 * own, color=style.shade(look.colour, 0.5), lw=1.1, zorder=2)
    if event == "added" and new not in series and len(at):
        axes.plot([0, at[-1]], [0, 0], color=style.INK, lw=1.8, ls=(0, (4, 2)), zorder=4, clip_on=False)
    axes.axvspan(0, story[event]["seconds"], color=style.GRID, lw=0, zorder=0)
    axes.axvline(0, color=style.SOFT, lw=1.2, ls=(0, (1, 1.5)))
    axes.grid(axis="y")
    axes.margins(x=0.015)


def _legend(axes: Axes) -> None:
    handles = [
        Line2D([], [], color=style.SOFT, lw=2.8, label="busiest at first"),
        Line2D([], [], color=style.SOFT, lw=1.1, label="others"),
        Line2D([], [], color=style.INK, lw=1.8, ls=(0, (4, 2)), label=_NEW_NAME),
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, frameon=False, fontsize=9, borderpad=0
    )


def timeline_title(told: Stories) -> str:
    """Say under which strategies the load stayed where it was, and under which it moved."""
    moves = {name: _moves(story) for name, story in told.items()}
    stays = [name for name, moved in moves.items() if moved is False]
    moved = [name for name, moved in moves.items() if moved]
    parts = []
    if stays:
        parts.append(f"Under {listed(stays)} neither a new server nor a drained one moves the load of those bound")
    if moved:
        parts.append(f"under {listed(moved)} both do, at once")
    if unclear := [name for name, moved in moves.items() if moved is None]:
        parts.append(f"under {listed(unclear)} only in part")
    return sentence("; ".join(parts))


def _moves(story: dict[str, Any]) -> bool | None:
    """Say whether load went to the added server and left the drained one; None where only one of both, or in part."""
    share, fair = get(story, "added", "share", "estimate") or 0.0, story["added"]["fair_share"]
    before, after = story["drained"]["before"]["share"], story["drained"]["after"]["share"]
    if before is None or after is None:
        return None
    if share > fair / 2 and after <= _MOVED * before:
        return True
    return False if share < fair / 4 and after > before / 2 else None


# --- busiest against mean --------------------------------------------------------------------------------------------


def draw_concentration(run: Run, figure: Figure) -> Caption:
    """Draw how many times the mean the busiest server served, for each population and on average."""
    told = _told(run)
    found = {name: story["concentration"] for name, story in told.items()}
    axes = figure.subplots()
    rng = np.random.default_rng(1)
    for row, (name, one) in enumerate(found.items()):
        look = style.look(name)
        ratios = np.array(one["by_population"])
        axes.plot(
            ratios,
            row + 0.22 + rng.uniform(-0.09, 0.09, len(ratios)),
            look.marker,
            ms=5,
            mfc=style.shade(look.colour, 0.4),
            mec="none",
        )
        _mark(axes, row - 0.08, name, one, _times(one))
    axes.axvline(1, color=style.INK, lw=1, ls=(0, (4, 3)))
    axes.text(1, -0.63, "perfectly even", va="bottom", ha="center", size=9.5, color=style.SOFT)
    axes.set_xlim(0.9, max(1.6, *(max(one["by_population"]) for one in found.values())) * 1.06)
    style.rows(axes, list(found), list(found))
    axes.set_xlabel("requests of the busiest server ÷ mean over all servers")
    axes.grid(axis="x")
    return Caption(
        concentration_title({name: one["estimate"] for name, one in found.items()}, run.get("run", "servers")),
        "Small marks are populations: where shoppers are bound, each has its own luck with its few heavy shoppers.",
        _subtitle(run),
        "Large: mean over populations, with the 95 % interval over resampled populations. Small: one population each "
        "(moved up and down only to be told apart).",
        ("strategy", "busiest ÷ mean", "lowest population", "highest population", "requests"),
        tuple(
            (
                name,
                interval(one),
                number(min(one["by_population"])),
                number(max(one["by_population"])),
                f"{one['requests']:,}",
            )
            for name, one in found.items()
        ),
    )


def concentration_title(times: Mapping[str, float], servers: int) -> str:
    """Say under which strategy the busiest server had most to do, or that work was even everywhere."""
    worst = max(times, key=lambda name: times[name])
    if times[worst] < _EVEN:
        return f"Work was even: no server had more than {times[worst]:.2f} times the mean, whatever the strategy"
    others = [value for name, value in times.items() if name != worst]
    rest = f"; elsewhere {max(others):.2f} times at most" if others else ""
    return sentence(f"under {worst} the busiest of {servers} servers had {times[worst]:.2f} times the mean{rest}")


def _times(found: dict[str, Any]) -> str:
    bounds = "" if found.get("low") is None else f" ({number(found['low'])} to {number(found['high'])})"
    return f"{number(found['estimate'])}{TIMES}{bounds}"


def _mark(axes: Axes, row: float, name: str, found: dict[str, Any], text: str, *, scale: float = 1.0) -> None:
    """Draw an estimate with its interval, and write it above."""
    look, estimate = style.look(name), scale * found["estimate"]
    if found.get("low") is not None:
        ends = [scale * found["low"], scale * found["high"]]
        axes.plot(ends, [row, row], color=look.colour, lw=3, solid_capstyle="round")
    axes.plot(estimate, row, look.marker, ms=10, color=look.colour)
    axes.annotate(
        text,
        (estimate, row),
        (0, 12),
        textcoords="offset points",
        ha="center",
        size=9.5,
        color=style.INK,
        annotation_clip=False,
        bbox=_ON_WHITE,
    )


# --- how many shoppers -----------------------------------------------------------------------------------------------


def draw_crowds(run: Run, figure: Figure) -> Caption:
    """Draw how uneven the binding of a population is expected to be, by its size, and what was measured at one."""
    told = _told(run)
    model = run.get("hotspot", "by_shoppers") or []
    bound = {name: story["concentration"] for name, story in told.items() if story["binds"]}
    if not bound or not model:
        raise NothingToDraw("No strategy of this run binds shoppers to servers.")
    (name, measured), shoppers = next(iter(bound.items())), run.get("hotspot", "shoppers")
    axes, look = figure.subplots(), style.look(next(iter(bound)))
    sizes = [one["shoppers"] for one in model]
    axes.fill_between(sizes, [o["p5"] for o in model], [o["p95"] for o in model], color=style.GRID, lw=0)
    axes.plot(sizes, [one["mean"] for one in model], color=style.INK, lw=1.8, ls=(0, (5, 3)))
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
    axes.axhline(1, color=style.SOFT, lw=1, ls=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 1.15)
    axes.set_ylim(0.95, max(one["p95"] for one in model) * 1.03)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("shoppers in the population (log scale)")
    axes.set_ylabel("busiest server ÷ mean")
    axes.grid(axis="y")
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


def crowds_title(model: list[dict[str, Any]], measured: float, shoppers: int, name: str) -> str:
    """Say what was measured, what was expected, and what more shoppers would do."""
    expected = next((one["mean"] for one in model if one["shoppers"] == shoppers), None)
    largest = model[-1]
    beside = "" if expected is None else f" (modelled: {expected:.2f})"
    return sentence(
        f"{shoppers} bound shoppers load the busiest server {measured:.2f} times the mean under {name}{beside}; "
        f"{largest['shoppers']:,} would still {largest['mean']:.2f} times"
    )


# --- the new server --------------------------------------------------------------------------------------------------


def draw_new_server(run: Run, figure: Figure) -> Caption:
    """Draw the share of requests that the added server took: of those bound before, and of newcomers."""
    told = _told(run)
    added = {name: story["added"] for name, story in told.items() if story["added"].get("share")}
    if not added:
        raise NothingToDraw("Nobody came after the server had been added.")
    axes = figure.subplots()
    fair = next(iter(added.values()))["fair_share"]
    for row, (name, one) in enumerate(added.items()):
        _mark(axes, row - 0.12, name, one["share"], shares(one["share"]), scale=100)
        came = one["newcomers"]["share"]
        if came is not None:
            look = style.look(name)
            axes.plot(100 * came, row + 0.24, look.marker, ms=8, mfc="white", mec=look.colour, mew=1.8)
            axes.annotate(
                f"newcomers {percent(came)}",
                (100 * came, row + 0.24),
                (9, -3.5),
                textcoords="offset points",
                size=9,
                color=style.SOFT,
                bbox=_ON_WHITE,
            )
    axes.axvline(100 * fair, color=style.INK, lw=1, ls=(0, (4, 3)))
    axes.text(100 * fair, -0.63, f"even share {percent(fair)}", va="bottom", ha="center", size=9.5, color=style.SOFT)
    highest = max(
        value
        for one in added.values()
        for value in (one["share"].get("high") or one["share"]["estimate"], one["newcomers"]["share"] or 0.0, fair)
    )
    axes.set_xlim(-2.5, 100 * highest * 1.35)
    style.rows(axes, list(added), list(added))
    axes.set_xlabel("requests that the added server answered (%)")
    axes.grid(axis="x")
    after = number(next(iter(added.values()))["after_seconds"], 0, " s")
    return Caption(
        new_server_title({name: one["share"]["estimate"] for name, one in added.items()}, fair),
        "Where shoppers are bound, only those who come for the first time can be sent to a new server.",
        f"{_subtitle(run)}; from {after} after it was added",
        "Filled: requests of everybody who had been there before, with a 95 % interval (over shoppers by the rule of "
        "three where it got none, else over populations). Hollow: requests of one population that came only then; its "
        "share hangs on who of them landed there.",
        ("strategy", "of those bound before", "share", "of newcomers", "share"),
        tuple(
            (
                name,
                f"{one['requests']:,} of {one['of']:,}",
                shares(one["share"]),
                f"{one['newcomers']['requests']:,} of {one['newcomers']['of']:,}",
                percent(one["newcomers"]["share"]),
            )
            for name, one in added.items()
        ),
    )


def new_server_title(taken: Mapping[str, float], fair: float) -> str:
    """Say under which strategies a new server took none, some, or its share of the work that was there."""
    none = [name for name, share in taken.items() if share < _SAME * fair]
    some = [name for name, share in taken.items() if _SAME * fair <= share < fair / 2]
    its = [name for name in taken if name not in none and name not in some]
    parts = []
    if none:
        parts.append(f"A new server takes nothing from the others under {listed(none)}")
    if some:
        parts.append(f"{'a new server takes ' if not parts else ''}less than half its share under {listed(some)}")
    if its:
        least, most = (percent(f(taken[name] for name in its)) for f in (min, max))
        much = least if least == most else f"{least} to {most}"
        words = "it takes" if parts else "A new server takes"
        parts.append(
            f"under {listed(its)} {words} {much}" if parts else f"{words} {much} of the work under {listed(its)}"
        )
    return sentence("; ".join(parts))


# --- waiting ---------------------------------------------------------------------------------------------------------


def draw_waits(run: Run, figure: Figure) -> Caption:
    """Draw the 95th percentile of the wait at the hot server against that at the others, and how busy each was."""
    told = _told(run)
    found = {name: story for name, story in told.items() if _p95(story, "hot") and _p95(story, "rest")}
    if not found:
        raise NothingToDraw("Too few requests for a 95th percentile.")
    waits, busy = figure.subplots(1, 2, sharey=True, width_ratios=(1.7, 1))
    for row, (name, story) in enumerate(found.items()):
        for offset, part, words in ((-0.17, "hot", "busiest"), (0.2, "rest", "others")):
            _wait(waits, row + offset, name, _p95(story, part), words, hollow=part == "rest")
            _busy(busy, row + offset, name, story["cpu"][f"{part}_busy"], hollow=part == "rest")
    waits.set_xlim(0, 1.32 * max(_end(_p95(story, part)) for story in found.values() for part in ("hot", "rest")))
    busy.set_xlim(0, 130 * max(0.05, *(story["cpu"]["hot_busy"] for story in found.values())))
    waits.set_xlabel("95th percentile of the wait (ms)")
    busy.set_xlabel("CPU time used (% of one core)")
    rough = any(_p95(story, part).get("faded") for story in found.values() for part in ("hot", "rest"))
    style.rows(waits, list(found), list(found))
    busy.tick_params(axis="y", length=0)
    busy.spines["left"].set_visible(False)
    for axes in (waits, busy):
        axes.grid(axis="x")
    return Caption(
        waits_title({name: get(story, "latency", "ratio", "p95") for name, story in found.items()}),
        "A busier server makes its shoppers wait only when it comes near the limit of its core: see the table of the "
        "load at which it would be full.",
        _subtitle(run),
        "Filled: at each population's busiest server. Hollow: at all others. Lines: 95 % intervals over resampled "
        "populations. Where nobody is bound, busiest is a matter of one request more."
        f"{' Fewer than 600 requests stand behind a dot, so it is rough.' if rough else ''}",
        ("strategy", "busiest (ms)", "others (ms)", "ratio, paired by population", "CPU busiest", "CPU others"),
        tuple(
            (
                name,
                interval(_p95(story, "hot"), 1),
                interval(_p95(story, "rest"), 1),
                interval(get(story, "latency", "ratio", "p95")),
                percent(story["cpu"]["hot_busy"]),
                percent(story["cpu"]["rest_busy"]),
            )
            for name, story in found.items()
        ),
    )


def _p95(story: dict[str, Any], part: str) -> dict[str, Any]:
    return get(story, "latency", part, "p95") or {}


def _end(found: dict[str, Any]) -> float:
    return float(found.get("high") or found["estimate"])


def _wait(axes: Axes, row: float, name: str, found: dict[str, Any], words: str, *, hollow: bool) -> None:
    look = style.look(name)
    if found.get("low") is not None:
        axes.plot([found["low"], found["high"]], [row, row], color=look.colour, lw=2.5, solid_capstyle="round")
    face = "white" if hollow else look.colour
    axes.plot(found["estimate"], row, look.marker, ms=9, mfc=face, mec=look.colour, mew=1.8)
    axes.annotate(
        f"{words} {number(found['estimate'], 1, ' ms')}",
        (_end(found), row),
        (9, -3.5),
        textcoords="offset points",
        size=9,
        color=style.INK,
        path_effects=style.HALO,
    )


def _busy(axes: Axes, row: float, name: str, share: float, *, hollow: bool) -> None:
    look = style.look(name)
    colour = style.shade(look.colour, 0.35 if hollow else 0.9)
    axes.barh(row, 100 * share, 0.3, color=colour)
    axes.annotate(percent(share), (100 * share, row), (5, -3.5), textcoords="offset points", size=9, color=style.INK)


def waits_title(ratios: Mapping[str, dict[str, Any] | None]) -> str:
    """Say where shoppers of the busiest server waited longer, and where no difference could be told."""
    longer = {name: one for name, one in ratios.items() if one and one.get("low") is not None and one["low"] > 1}
    rest = [name for name in ratios if name not in longer]
    if not longer:
        return "At this load nobody can be seen to wait longer because the server is the busiest"
    said = [f"{one['estimate']:.2f} times as long under {name}" for name, one in longer.items()]
    end = f"; not seen under {listed(rest)}" if rest else ""
    return f"One request in twenty waits {listed(said)} at the busiest server{end}"


CHARTS: dict[str, Draw] = {
    "share-over-time": draw_timeline,
    "busiest-over-mean": draw_concentration,
    "new-server": draw_new_server,
    "hot-server-waits": draw_waits,
    "crowd-size": draw_crowds,
}
"""The charts of this experiment by name, in the order of the page."""
