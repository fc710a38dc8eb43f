"""A saturation run in words: a headline and its tables. For the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.tellings import Table
from lab.report.words import NONE, interval, listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.report.results import Run

QUESTION = "How much load does each strategy carry before shoppers have to wait, and what is busy then?"

WORDS = {
    "offered load": "Requests that fall due per second, whether or not earlier ones have been answered.",
    "95th percentile": "One request in twenty took longer than this.",
    "capacity": "The offered load up to which the 95th percentile stays below the limit, on this machine, with all "
    "that runs on it: servers, engines, balancer and the load generator.",
    "knee": "Where waiting begins to grow much faster than the load: some resource is busy nearly all the time, and a "
    "queue forms in front of it.",
    "bracket": "The highest load that kept the limit and the lowest above it that did not. The capacity lies between.",
    "utilisation law": "The share of the time for which something is busy is the load times the time that one request "
    "needs of it. At 100 % it can do no more, which predicts a capacity from the CPU time per request alone.",
    "load generator": "The process that plays the shoppers. It needs CPU time as well, of the same machine.",
    "schedule": "Requests are sent when a plan made beforehand says, and a wait counts from then on.",
    "closed loop": "Each user sends the next request after the answer to the last one. What a slow server kept from "
    "being sent is never counted: coordinated omission.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value.",
    "modelled": "Calculated from measured figures, not measured.",
}
"""The glossary of the page."""

PARTS = {
    "servers": "web servers",
    "store": "PostgreSQL and Redis",
    "balancer": "balancer",
    "generator": "load generator",
    "others": "other programs",
    "idle": "idle",
}
"""What may use CPU time, in words."""

RESOURCES = {
    "machine": "all CPUs together",
    "servers": "the web servers",
    "balancer": "the balancer",
    "generator": "the load generator",
}
"""What the utilisation law sees come to its end, in words."""

_ALIKE = 1.05
"""Capacities that differ by less are about the same."""


def arms(run: Run) -> dict[str, dict[str, Any]]:
    """Return what a run says of each arm, in the registry's order."""
    told = run.get("saturation", "arms") or {}
    return {name: told[name] for name in run.strategies if name in told}


def carried(one: Mapping[str, Any]) -> str:
    """Write a capacity: `812 (790 to 835)`, `between 760 and 880`, `at least 375`."""
    found = one["capacity"]
    if found["bound"] != "between":
        return f"{found['bound']} {number(found['estimate'], 0)}"
    if found["low"] is not None:
        return interval(found, 0)
    return f"{number(found['kept_rps'], 0)} to {number(found['missed_rps'], 0)}"


def predicted(bounds: Mapping[str, float] | None) -> tuple[str, float] | None:
    """Return which resource comes to its end first, and at which load in requests/s; None where nothing is known."""
    if not bounds:
        return None
    first = min(bounds, key=lambda name: bounds[name])
    return first, bounds[first]


def headline(run: Run) -> str:
    """Say what each strategy carries, what is busy there, and what a closed loop would have missed."""
    parts = [*_carried(run), *_busy(run), *_predicted(run), *_hidden(run)]
    if not parts:
        return "This run saw too little to say what a strategy carries."
    return " ".join(sentence(part) + "." for part in parts)


def _carried(run: Run) -> list[str]:
    told = arms(run)
    if not told:
        return []
    limit = number(run.get("saturation", "limit_ms"), 0)
    parts = [f"{name} {carried(one)}" for name, one in told.items()]
    return [f"with the 95th percentile below {limit} ms, requests/s: {listed(parts)}"]


def _busy(run: Run) -> list[str]:
    shares = {name: one["busy"] for name, one in arms(run).items() if one.get("busy")}
    if not shares:
        return []
    used = [1 - share["idle"] for share in shares.values()]
    own, load = ([share[key] for share in shares.values()] for key in ("servers", "generator"))
    who = f"{_range(own)} by the web servers and {_range(load)} by the load generator itself"
    return [f"at that load {_range(used)} of all CPU time is used: {who}"]


def _range(shares: Sequence[float]) -> str:
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _predicted(run: Run) -> list[str]:
    ratios = [
        first[1] / one["capacity"]["estimate"]
        for one in arms(run).values()
        if one["capacity"]["bound"] == "between" and (first := predicted(one["bounds_rps"]))
    ]
    if not ratios:
        return []
    low, high = number(min(ratios)), number(max(ratios))
    times = low if low == high else f"{low} to {high}"
    return [
        f"the utilisation law, from the CPU time per request at half the load, predicts {times} times what was measured"
    ]


def _hidden(run: Run) -> list[str]:
    clients = run.get("saturation", "freeze", "clients")
    if not clients:
        return []
    freeze = run.get("saturation", "freeze")
    kept, closed = clients["schedule"], clients["closed loop"]
    over = f"{kept['slow']:,} of the schedule's {kept['requests']:,} requests took over {freeze['slow_ms']:.0f} ms"
    other = f"{closed['slow']:,} of the closed loop's {closed['requests']:,}, which never sent {closed['omitted']:,}"
    return [f"while a server stood still for {number(freeze['seconds'], 1)} s, {over}, and {other}"]


def tables(run: Run) -> list[Table]:
    """Return the tables: capacities, who is busy, waiting by load, and the frozen server as two clients saw it."""
    found = [_capacities(run), _shares(run), _waits(run), _frozen(run)]
    return [table for table in found if table.rows]


def _capacities(run: Run) -> Table:
    limit = number(run.get("saturation", "limit_ms"), 0)
    return Table(
        title=f"Capacity: the load with a 95th percentile below {limit} ms",
        columns=("strategy", "requests/s", "kept", "missed", "times sticky", "predicted", "CPU ms", "alone"),
        rows=tuple((name, *_capacity_cells(one)) for name, one in arms(run).items()),
        note="kept, missed: the highest load that kept the limit and the lowest above it that did not (mean of the "
        "passes). predicted: by the utilisation law, from the CPU time per request at about half the load, the load "
        "generator included, and the CPU time that other programs left. CPU ms: CPU time per request near the "
        "capacity, without the load generator. alone: modelled, as predicted but with the load generator on another "
        "machine.",
        wide_only=frozenset({2, 3}),
    )


def _capacity_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    found, knee = one["capacity"], one["cpu_ms"]["knee"]
    law, alone = predicted(one["bounds_rps"]), predicted(one["bounds_alone_rps"])
    served = sum(knee[name] for name in ("servers", "store", "balancer")) if knee else None
    return (
        carried(one),
        number(found["kept_rps"], 0),
        number(found["missed_rps"], 0),
        interval(one["capacity_ratio"]),
        number(law[1], 0) if law else NONE,
        number(served),
        number(alone[1], 0) if alone else NONE,
    )


def _shares(run: Run) -> Table:
    return Table(
        title="Who uses the CPUs at that load (% of all CPU time)",
        columns=("strategy", *PARTS.values()),
        rows=tuple(
            (name, *(percent(one["busy"].get(part)) for part in PARTS))
            for name, one in arms(run).items()
            if one.get("busy")
        ),
        note="Mean of the slices near the capacity. Everything runs on one machine, so that the load generator and "
        "other programs take from the servers what they need.",
    )


def ladder(run: Run) -> dict[float, dict[str, dict[str, Any]]]:
    """Return the points of the ladder: load to arm to point."""
    found: dict[float, dict[str, dict[str, Any]]] = {}
    for name, one in arms(run).items():
        for point in one["points"]:
            if point["part"] == "ladder":
                found.setdefault(point["load_rps"], {})[name] = point
    return dict(sorted(found.items()))


def _waits(run: Run) -> Table:
    names = list(arms(run))
    levels = ladder(run).items()
    return Table(
        title="95th percentile by offered load (ms)",
        columns=("requests/s", *names),
        rows=tuple((number(load, 0), *(_wait(told.get(name)) for name in names)) for load, told in levels),
        note=f"One slice each; {NONE}: not offered, the arm was past its knee. *: the load generator itself was late "
        "with one request in twenty by more than 10 ms: the figure is that of the machine with the generator on it.",
        text=frozenset({0}),
    )


def _wait(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return NONE
    p95 = point["latency_ms"]["p95"]
    return ("never" if p95 is None else number(p95, 1)) + ("*" if point["generator_late"] else "")


def _frozen(run: Run) -> Table:
    told = run.get("saturation", "freeze") or {}
    slow, seconds = number(told.get("slow_ms"), 0), number(told.get("seconds"), 1)
    keys = ("p50", "p95", "p99", "p99.9", "max")
    return Table(
        title=f"A server that stood still for {seconds} s, as two clients saw it",
        columns=("client", "sent", "never sent", f"over {slow} ms", *(f"{key} ms" for key in keys)),
        rows=tuple(
            (
                name,
                f"{one['requests']:,}",
                f"{one['omitted']:,}",
                f"{one['slow']:,}",
                *(number(one["latency_ms"][key], 0) for key in keys),
            )
            for name, one in (told.get("clients") or {}).items()
        ),
        note="The same plan on the same server, by other shoppers. The closed loop waits for each answer, so that it "
        "leaves out what should have been sent meanwhile, and nobody counts how long that would have waited.",
    )
