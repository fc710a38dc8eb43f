"""How much load each strategy carries, what is busy there, and what a closed loop does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.results import BASELINE
from lab.report.saturation import PARTS, RESOURCES, arms, carried, ladder, predicted
from lab.report.words import NONE, listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from lab.report.results import Run

_PERCENTILES = {"p50": (1.3, 0.45), "p95": (2.6, 1.0), "p99": (1.3, 0.7)}
"""Percentile to the width and the strength of its line."""

_SAME = 1.1
"""Capacities that differ by less are about the same: brackets are no narrower than this."""

_CROWDED = 0.25
"""Share of all CPU time beyond which other programs decide what the strategies carry."""

_STEADY = 1.25
"""CPU time per request that varies by less over the loads is steady."""

_HIDES = 2.0
"""The closed loop hides the freeze if the schedule's share of slow requests is so many times its own."""

_QUANTILES = {"50 %": 0.5, "90 %": 0.9, "95 %": 0.95, "99 %": 0.99, "99.9 %": 0.999}


def _all(run: Run) -> dict[str, dict[str, Any]]:
    found = {name: one for name, one in arms(run).items() if one["points"]}
    if not found:
        raise NothingToDraw("No load was offered.")
    return found


def _subtitle(run: Run) -> str:
    seconds = number(run.get("saturation", "slice_seconds"), 1)
    servers, shoppers = run.get("run", "servers"), run.get("run", "shoppers")
    cpus = run.get("saturation", "cpus")
    return f"{servers} servers and everything else on {cpus} CPUs, {shoppers} shoppers, each load for {seconds} s"


# --- latency by load -------------------------------------------------------------------------------------------------


def draw_latency(run: Run, figure: Figure) -> Caption:
    """Draw a panel per strategy: percentiles of latency by offered load, the limit, and the capacity shaded."""
    told, limit = _all(run), float(run.get("saturation", "limit_ms"))
    panels = figure.subplots(1, len(told), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, one) in zip(panels, told.items(), strict=True):
        _curves(axes, name, one, limit)
    panels[0].set_yscale("log")
    panels[0].set_xscale("log")
    panels[0].margins(x=0.09)
    panels[0].set_ylabel("latency from the intended start (ms)", size=9.5)
    figure.draw_without_rendering()
    style.log_ticks(panels[0].yaxis)
    for axes in panels:
        _few_ticks(axes)
        axes.set_xlabel("offered load (requests/s)", size=9)
    _legend_latency(panels[0], told, limit)
    return Caption(
        latency_title(told, limit),
        "To the left of the shade shoppers hardly notice the load; to the right of it every request joins a queue, and "
        "a little more load means much more waiting.",
        _subtitle(run),
        "Lines: one slice at each level of the ladder. Shade: the capacity, its 95 % interval over passes where there "
        "is one, else its bracket. Small dots: 95th percentile of the slices that searched for it. Hollow: the load "
        "generator itself was late (one request in twenty by more than 10 ms): such a point is the whole machine's.",
        ("strategy", "requests/s", "p50 (ms)", "p95 (ms)", "p99 (ms)", "shopper still waiting", "CPUs busy"),
        tuple(
            (name, *_point_cells(point))
            for name, one in told.items()
            for point in one["points"]
            if point["part"] == "ladder"
        ),
    )


def _point_cells(point: Mapping[str, Any]) -> tuple[str, ...]:
    waits = (number(point["latency_ms"][name], 1) for name in _PERCENTILES)
    return number(point["load_rps"], 0), *waits, percent(point["held"]), percent(point["busy"])


def _curves(axes: Axes, name: str, one: Mapping[str, Any], limit: float) -> None:
    look = style.look(name)
    axes.set_title(f"\n{name}", size=10.5, weight="bold", color=look.ink)  # above it: room for the legend
    axes.grid()
    axes.axhline(limit, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    low, high = _ends(one["capacity"])
    if high is not None:
        axes.axvspan(low, high, color=style.shade(look.colour, 0.25), lw=0, zorder=0)
    elif one["capacity"]["bound"] == "at least":
        axes.axvline(low, color=style.shade(look.colour, 0.4), lw=2, zorder=0)
    points = [point for point in one["points"] if point["part"] == "ladder"]
    for key, (width, strength) in _PERCENTILES.items():
        known = [(point["load_rps"], point["latency_ms"][key]) for point in points if point["latency_ms"][key]]
        if known:
            line = ":" if key == "p99" else "-"
            axes.plot(*zip(*known, strict=True), line, color=style.shade(look.colour, strength), lw=width, zorder=2)
    for point in points:
        if point["latency_ms"]["p95"]:
            fill = "white" if point["generator_late"] else look.colour
            axes.plot(
                point["load_rps"], point["latency_ms"]["p95"], look.marker, color=look.colour, mfc=fill, ms=6, zorder=3
            )
    searched = [
        (point["load_rps"], point["latency_ms"]["p95"])
        for point in one["points"]
        if point["part"] == "pass" and point["latency_ms"]["p95"]
    ]
    if searched:
        axes.plot(*zip(*searched, strict=True), ".", color=style.shade(look.colour, 0.55), ms=4, zorder=2)


def _ends(found: Mapping[str, Any]) -> tuple[float, float | None]:
    """Return what is shaded as a capacity: its interval, else its bracket; only one end where there is no more."""
    if found["bound"] != "between":
        return found["estimate"], None
    if found["low"] is not None:
        return found["low"], found["high"]
    return found["kept_rps"], found["missed_rps"]


def _few_ticks(axes: Axes) -> None:
    """Keep ticks whose labels do not run into each other: a panel is narrow."""
    low, high = axes.get_xlim()
    ticks: list[float] = []
    for steps in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [tick for power in range(5) for step in steps if low <= (tick := step * 10**power) <= high]
        if len(ticks) > 1:
            break
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()


def _legend_latency(axes: Axes, told: Mapping[str, Mapping[str, Any]], limit: float) -> None:
    carried_p99 = any(point["latency_ms"]["p99"] for one in told.values() for point in one["points"])
    keys = [
        Line2D([], [], color=style.SOFT, lw=_PERCENTILES["p50"][0], alpha=0.6, label="median"),
        Line2D([], [], color=style.SOFT, lw=_PERCENTILES["p95"][0], marker="o", ms=6, label="95th percentile"),
        *([Line2D([], [], color=style.SOFT, lw=_PERCENTILES["p99"][0], ls=":", label="99th")] if carried_p99 else []),
        Line2D([], [], color=style.INK, lw=1, ls=(0, (4, 3)), label=f"limit, {limit:.0f} ms"),
        Patch(fc=style.shade(style.SOFT, 0.25), label="capacity"),
    ]
    legend = axes.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0, 1.115), ncols=5, frameon=False, fontsize=9,
        columnspacing=1.3, borderaxespad=0, borderpad=0,
    )  # fmt: skip
    legend.set_in_layout(False)  # it is as wide as all panels together


def latency_title(told: Mapping[str, Mapping[str, Any]], limit: float) -> str:
    """Say up to which load each strategy stays below the limit, from the one that carries most."""
    ranked = sorted(told, key=lambda name: -told[name]["capacity"]["estimate"])
    parts = []
    for name in ranked:
        found = told[name]["capacity"]
        bound = "" if found["bound"] == "between" else f"{found['bound']} "
        parts.append(f"{name} {bound}{_round(found['estimate'])}")
    crowd = max((one["busy"]["others"] for one in told.values() if one["busy"]), default=0.0)
    other = f"; other programs used up to {percent(crowd)} of the CPU time" if crowd > _CROWDED else ""
    return sentence(f"requests/s before one in twenty waits {limit:.0f} ms: {listed(parts)}{other}")


def _round(value: float) -> str:
    """Write a load with as many digits as a bracket tells."""
    step = 10 if value < 1000 else 50  # noqa: PLR2004 - about one part in a hundred
    return f"{round(value / step) * step:,}"


# --- capacity --------------------------------------------------------------------------------------------------------


def draw_capacity(run: Run, figure: Figure) -> Caption:
    """Draw the capacities with intervals beside what the utilisation law predicts, and who uses the CPUs there."""
    told = _all(run)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    names = list(told)
    for row, (name, one) in enumerate(told.items()):
        _bar(left, row, name, one)
        _stack(right, row, one["busy"])
    style.rows(left, names, names)
    right.tick_params(axis="y", length=0)
    right.spines["left"].set_visible(False)
    left.grid(axis="x")
    left.set_xlabel("requests/s with a 95th percentile below the limit", size=9.5)
    left.set_xlim(0, _longest(told) * 1.16)
    right.set_xlim(0, 100)
    right.set_xlabel("share of all CPU time at that load (%)", size=9.5)
    _legend_capacity(left, right)
    return Caption(
        capacity_title(told),
        "Left: how much each carries, and whether that is what its CPU time per request lets expect. Right: where the "
        "CPU time goes then; what is idle there was left over although shoppers were waiting.",
        _subtitle(run),
        "Bars: capacity; black lines: 95 % interval over passes, or the bracket. Ticks: predicted by the utilisation "
        "law from the CPU time per request at about half the load, the load generator included. Dashed: modelled, the "
        "same with the load generator on another machine. The load generator shares the CPUs with the servers here.",
        (
            "strategy",
            "requests/s",
            "predicted",
            "comes to its end first",
            "modelled, generator elsewhere",
            *PARTS.values(),
        ),
        tuple((name, *_capacity_row(one)) for name, one in told.items()),
    )


def _capacity_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    law, alone = predicted(one["bounds_rps"]), predicted(one["bounds_alone_rps"])
    return (
        carried(one),
        number(law[1], 0) if law else NONE,
        RESOURCES[law[0]] if law else NONE,
        number(alone[1], 0) if alone else NONE,
        *(percent(one["busy"].get(part)) for part in PARTS),
    )


def _longest(told: Mapping[str, Mapping[str, Any]]) -> float:
    values = [float(one["capacity"]["estimate"]) for one in told.values()]
    values += [high for one in told.values() if (high := _ends(one["capacity"])[1]) is not None]
    for one in told.values():
        values += [law[1] for key in ("bounds_rps", "bounds_alone_rps") if (law := predicted(one[key]))]
    return max(values)


def _bar(axes: Axes, row: int, name: str, one: Mapping[str, Any]) -> None:
    look, found = style.look(name), one["capacity"]
    axes.barh(row, found["estimate"], 0.46, color=look.colour, hatch=look.hatch, ec="white")
    low, high = _ends(found)
    if high is not None:
        axes.plot([low, high], [row, row], color=style.INK, lw=2, solid_capstyle="butt", zorder=4)
    bound = "" if found["bound"] == "between" else f"{found['bound']} "
    axes.text(
        found["estimate"] * 0.03, row, f"{bound}{number(found['estimate'], 0)}", va="center", size=10.5,
        weight="bold", zorder=5, bbox={"boxstyle": "round,pad=0.18", "fc": "white", "ec": "none", "alpha": 0.88},
    )  # fmt: skip
    for key, line in (("bounds_rps", "-"), ("bounds_alone_rps", (0, (2, 1.2)))):
        law = predicted(one[key])
        if law:
            axes.plot([law[1], law[1]], [row - 0.36, row + 0.36], ls=line, color=style.INK, lw=1.8, zorder=3)


def _stack(axes: Axes, row: int, shares: Mapping[str, float]) -> None:
    start = 0.0
    for part, (colour, hatch) in _FILLS.items():
        share = 100 * shares.get(part, 0.0)
        axes.barh(row, share, 0.46, left=start, color=colour, hatch=hatch, ec="white", lw=1)
        if share > 7:  # noqa: PLR2004 - narrower than its number
            box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
            axes.text(start + share / 2, row, f"{share:.0f}", ha="center", va="center", size=9, bbox=box)
        start += share


_FILLS = {
    "servers": (style.COMPONENTS["servers"], ""),
    "store": (style.LOOKS["database"].colour, "////"),
    "balancer": (style.COMPONENTS["balancer"], ""),
    "generator": (style.COMPONENTS["generator"], "\\\\\\\\"),
    "others": (style.COMPONENTS["others"], ""),
    "idle": ("#F3F5F6", ""),
}


def _legend_capacity(left: Axes, right: Axes) -> None:
    marks = [
        Line2D([], [], color=style.INK, lw=1.8, label="predicted"),
        Line2D([], [], color=style.INK, lw=1.8, ls=(0, (2, 1.2)), label="modelled: generator elsewhere"),
    ]
    parts = [Patch(fc=colour, hatch=hatch, ec="white", label=PARTS[part]) for part, (colour, hatch) in _FILLS.items()]
    parts[-1].set_edgecolor(style.FAINT)
    for axes, keys, columns in ((left, marks, 2), (right, parts, 3)):
        axes.legend(
            handles=keys, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=8.8,
            columnspacing=1.1, handlelength=1.5,
        )  # fmt: skip


def capacity_title(told: Mapping[str, Mapping[str, Any]]) -> str:
    """Say who carries most and least, and what is busy there."""
    loads = {name: one["capacity"]["estimate"] for name, one in told.items()}
    ranked = sorted(loads, key=lambda name: -loads[name])
    most, least = ranked[0], ranked[-1]
    times = loads[most] / loads[least]
    (low, _), (_, high) = _ends(told[most]["capacity"]), _ends(told[least]["capacity"])
    if told[least]["capacity"]["bound"] == "at least":
        who = "every strategy" if len(told) > 1 else least
        first = f"{who} carries at least {_round(loads[least])} requests/s: where it would end was not reached"
    elif most == least:
        first = f"{most} carries {_round(loads[most])} requests/s"
    elif times < _SAME or (high is not None and low <= high):
        first = "all strategies carry about the same load"
    else:
        once = "" if told[most]["capacity"]["low"] is not None else "in a single pass "
        first = f"{once}{most} carries {times:.1f} times the load of {least}"
    ends = [
        one["busy"] for one in told.values() if one["busy"] and one["capacity"]["bound"] == "between"
    ]  # at "at least" nobody has come to an end
    if not ends:
        return sentence(first)
    others = max(shares["others"] for shares in ends)
    if others > _CROWDED:
        return sentence(f"other programs used up to {percent(others)} of the CPU time: this run compares no capacities")
    used = float(np.mean([1 - shares["idle"] for shares in ends]))
    biggest = max(PARTS, key=lambda part: -1.0 if part == "idle" else float(np.mean([one[part] for one in ends])))
    return sentence(f"{first}; at capacity {percent(used)} of the CPU time is used, most by {_who(biggest)}")


def _who(part: str) -> str:
    return PARTS[part] if part in {"store", "others"} else f"the {PARTS[part]}"


# --- CPU by load -----------------------------------------------------------------------------------------------------


def draw_cpu(run: Run, figure: Figure) -> Caption:
    """Draw the CPU time of a request by load, without the load generator's: a line per strategy."""
    told = _all(run)
    axes = figure.subplots()
    ends: dict[str, tuple[float, float]] = {}
    for name, one in told.items():
        look = style.look(name)
        points = [(point["load_rps"], _served(point)) for point in one["points"] if point["part"] == "ladder"]
        axes.plot(*zip(*points, strict=True), look.marker, ls=look.line, color=look.colour, lw=2, ms=7, zorder=3)
        ends[name] = points[-1]
    axes.set_xscale("log")
    top = max(_served(point) for one in told.values() for point in one["points"] if point["part"] == "ladder")
    axes.set_ylim(0, top * 1.12)
    right = max(load for load, _ in ends.values())
    places = style.spread([cpu for _, cpu in ends.values()], top * 0.065)
    for (name, (load, cpu)), place in zip(ends.items(), places, strict=True):
        axes.plot([load, right * 1.04], [cpu, place], color=style.FAINT, lw=0.8, zorder=1)
        axes.text(right * 1.06, place, name, color=style.look(name).ink, weight="bold", va="center", size=11)
    axes.set_xlim(None, right * 1.5)
    axes.grid()
    axes.set_xlabel("offered load (requests/s)")
    axes.set_ylabel("CPU time per request (ms)")
    figure.draw_without_rendering()
    style.log_ticks(axes.xaxis)
    by_arm = {
        name: [_served(point) for point in one["points"] if point["part"] == "ladder"] for name, one in told.items()
    }
    return Caption(
        cpu_title(by_arm),
        "A flat line means that a request's cost does not depend on the load, so that it can be reckoned with; where a "
        "line falls, idle CPUs are slow to begin with.",
        _subtitle(run),
        "CPU time of web servers, engines and balancer, divided by requests; without the load generator's. One slice a "
        "point. Capacity is about CPUs divided by this figure and the load generator's.",
        ("requests/s", *told),
        tuple(
            (number(load, 0), *(number(_served(points[name]), 2) if name in points else NONE for name in told))
            for load, points in ladder(run).items()
        ),
    )


def _served(point: Mapping[str, Any]) -> float:
    return float(sum(point["cpu_ms"][name] for name in ("servers", "store", "balancer")))


def cpu_title(by_arm: Mapping[str, Sequence[float]]) -> str:
    """Say whether a request's cost depends on the load, and which strategy's costs most."""
    swing = max(max(values) / min(values) for values in by_arm.values())
    means = {name: float(np.mean(values)) for name, values in by_arm.items()}
    dearest, cheapest = max(means, key=lambda name: means[name]), min(means, key=lambda name: means[name])
    reference = BASELINE if BASELINE in means and dearest != BASELINE else cheapest
    steady = "hardly depends on the load" if swing < _STEADY else f"varies with the load, by up to {swing:.1f} times"
    if len(means) == 1 or means[dearest] / means[reference] < _SAME:
        return f"The CPU time of a request {steady}"
    times = means[dearest] / means[reference]
    return f"The CPU time of a request {steady}; {dearest} needs {times:.1f} times {reference}'s"


# --- the frozen server -----------------------------------------------------------------------------------------------


def draw_freeze(run: Run, figure: Figure) -> Caption:
    """Draw the percentile curves of one frozen server as a schedule and a closed loop saw it."""
    told, columns = run.get("saturation", "freeze"), run.samples
    if not told or columns is None:
        raise NothingToDraw("No server was frozen.")
    axes = figure.subplots()
    curves = {name: np.sort(columns.latency_ms[columns.rows(name)]) for name in told["clients"]}
    if not all(len(values) for values in curves.values()):
        raise NothingToDraw("A client got no answer at all.")
    ends = {name: _curve(axes, name, values) for name, values in curves.items()}
    for name, values in curves.items():
        place = (10, float(np.quantile(values, 0.9)))
        up = name == "schedule"
        axes.annotate(
            name, place, (0, 9 if up else -9), textcoords="offset points", color=_INKS[name], weight="bold",
            ha="right" if up else "left", va="bottom" if up else "top",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.set_xticks([1 / (1 - p) for p in _QUANTILES.values()], list(_QUANTILES))
    axes.xaxis.minorticks_off()
    axes.set_xlim(1.8, max(x for x, _ in ends.values()) * 1.3)
    axes.grid()
    axes.set_xlabel("share of the requests that were no slower")
    axes.set_ylabel("latency (ms)")
    figure.draw_without_rendering()
    style.log_ticks(axes.yaxis)
    return Caption(
        freeze_title(told),
        "Same server, same plan, same freeze. The closed loop waits along with the server, so that few requests meet "
        "the freeze, and those that should have been sent meanwhile are never counted.",
        f"One server, stopped for {number(told['seconds'], 1)} s in the midst of the load, "
        f"{told['freezes']} {'times' if told['freezes'] != 1 else 'time'} under each client",
        "Schedule: latency from when the plan wanted the request sent. Closed loop: the next request comes as long "
        "after the answer as the plan has it after the last request, and its clock starts when it is sent. Both are "
        "clients of the lab; nothing is simulated. The axis stretches the slowest requests.",
        ("client", "sent", "never sent", *_QUANTILES, "slowest"),
        tuple((name, *_freeze_cells(one)) for name, one in told["clients"].items()),
    )


_INKS = {"schedule": style.BAD, "closed loop": style.SOFT}


def _curve(axes: Axes, name: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """Draw a percentile curve and return its end."""
    rank = np.arange(len(values))
    x = len(values) / (len(values) - rank)
    axes.step(x, values, where="post", color=_INKS[name], lw=2.6, ls="-" if name == "schedule" else (0, (5, 2)))
    return float(x[-1]), float(values[-1])


def _freeze_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    waits = (one["latency_ms"][key] for key in ("p50", "p90", "p95", "p99", "p99.9", "max"))
    return f"{one['requests']:,}", f"{one['omitted']:,}", *(number(wait, 1, " ms") for wait in waits)


def freeze_title(told: Mapping[str, Any]) -> str:
    """Say how many requests of each client were slow, and how many the closed loop never sent."""
    kept, closed = (told["clients"][name] for name in ("schedule", "closed loop"))
    over = f"over {number(told['slow_ms'], 0)} ms"
    figures = f"{_slow(closed)} requests {over}, {_slow(kept)} under the schedule"
    if kept["slow"] / kept["requests"] <= _HIDES * closed["slow"] / closed["requests"]:
        return f"Here the closed loop saw the frozen server almost as the schedule did: {figures}"
    return f"The closed loop hides the frozen server: {figures}; it never sent {closed['omitted']:,}"


def _slow(one: Mapping[str, Any]) -> str:
    return f"{one['slow']:,} of {one['requests']:,}"


CHARTS: dict[str, Draw] = {
    "latency-by-load": draw_latency,
    "capacity": draw_capacity,
    "cpu-by-load": draw_cpu,
    "closed-loop": draw_freeze,
}
