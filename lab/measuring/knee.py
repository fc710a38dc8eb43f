"""What a search for capacity says: how much an arm carries, at what CPU time, and what would be its end."""

from __future__ import annotations

from math import log, sqrt
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from lab import statistics
from lab.measuring.capacity import COMPONENTS, bracket, generator_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.measuring.capacity import Found, Point, Search

Bound = Literal["between", "at least", "at most"]

_NEAR = (0.8, 1.15)
_HALF = (0.4, 0.65)
"""Loads, relative to the capacity, at which CPU per request counts as that at the knee, and as that at half load."""


class Capacity(msgspec.Struct, kw_only=True):
    """The load that an arm carries with its 95th percentile below the limit.

    Attributes:
        bound: `between` two loads, or `at least` or `at most` `estimate`.
        estimate: in requests/s: the middle of the brackets.
        low: lower end of the 95 % interval over passes; None with fewer than 8 of them.
        high: upper end.
        kept_rps: the highest load that kept the limit (the mean over passes).
        missed_rps: the lowest load above it that did not; None if none was tried.
        by_generator: the load generator was at its end first, so that this is a lower bound.
        passes: the middle of each pass's bracket.
    """

    bound: Bound = "at least"
    estimate: float = 0.0
    low: float | None = None
    high: float | None = None
    kept_rps: float | None
    missed_rps: float | None
    by_generator: bool
    passes: list[float] = []


def capacity(found: Found, arm: str, how: Search) -> Capacity:
    """Return an arm's capacity from its ladder and passes."""
    points = [point for point in found.points if point.arm == arm]
    kept, missed = bracket(points)
    ends = found.passes.get(arm) or []
    result = Capacity(by_generator=generator_first(points), kept_rps=kept, missed_rps=missed)
    if kept is None:
        result.bound, result.estimate = "at most", how.start_rps
    else:
        result.bound, result.estimate = "at least", kept
    if ends and not result.by_generator:
        middles = _middles(ends)
        mean = statistics.paired_ratio(middles, [dict.fromkeys(middles, 1.0)])
        assert mean is not None  # noqa: S101 - there is a pass
        result.bound, result.estimate, result.low, result.high = "between", mean.estimate, mean.low, mean.high
        result.kept_rps, result.missed_rps = (
            float(np.exp(np.mean(np.log([pair[side] for pair in ends])))) for side in (0, 1)
        )
        result.passes = list(middles.values())
    return result


def capacity_ratio(found: Found, arm: str, baseline: str) -> statistics.Interval | None:
    """Return how many times the baseline's capacity an arm has, paired by pass; None where either was not bracketed.

    The interval needs 8 passes.
    """
    own, other = (_middles(found.passes.get(name) or []) for name in (arm, baseline))
    return statistics.paired_ratio(own, [other])


def _middles(ends: Sequence[tuple[float, float]]) -> dict[int, float]:
    return {turn: sqrt(low * high) for turn, (low, high) in enumerate(ends)}


def cpu_at(points: Iterable[Point], arm: str, capacity_rps: float, *, knee: bool) -> dict[str, float] | None:
    """Return an arm's CPU time per request by component in ms: near its capacity, or at about half of it.

    The mean over requests of the points in that range of loads, or of the nearest one.

    Args:
        points: of a search.
        arm: whose.
        capacity_rps: its capacity.
        knee: near the capacity, else at half of it.
    """
    own = [point for point in points if point.arm == arm and point.requests]
    chosen = near(own, capacity_rps) if knee else _around(own, capacity_rps, _HALF, 0.5)
    requests = sum(point.requests for point in chosen)
    if not requests:
        return None
    return {name: sum(point.cpu_ms[name] * point.requests for point in chosen) / requests for name in COMPONENTS}


def near(points: Sequence[Point], capacity_rps: float) -> list[Point]:
    """Return the points near a capacity, or else the nearest one."""
    return _around(points, capacity_rps, _NEAR, 1.0)


def _around(points: Sequence[Point], capacity_rps: float, ends: tuple[float, float], aim: float) -> list[Point]:
    low, high = ends
    chosen = [point for point in points if low <= point.load_rps / capacity_rps <= high]
    return chosen or sorted(points, key=lambda point: abs(log(point.load_rps / (aim * capacity_rps))))[:1]


def bounds_rps(cpu_ms: dict[str, float], *, cpus: int, servers: int, others: float = 0.0) -> dict[str, float]:
    """Return the load at which each resource would be busy all the time, by the utilisation law.

    Utilisation is load times CPU time per request, and no resource has more than its share of the time: all CPUs
    together, less what other programs use; a web server, one CPU (Python runs one thread at a time); balancer and
    generator, one CPU each (one process of one thread). Source: Denning and Buzen, "The Operational Analysis of
    Queueing Network Models" (1978).

    Args:
        cpu_ms: CPU time per request by component; leave `generator` out for a generator on another machine.
        cpus: that the machine has.
        servers: web servers.
        others: share of all CPUs' time that other programs use.
    """
    at_once = {"servers": min(servers, cpus), "balancer": 1, "generator": 1}
    bounds = {"machine": 1000 * cpus * (1 - others) / max(sum(cpu_ms.values()), 1e-9)}
    for name, many in at_once.items():
        if cpu_ms.get(name):
            bounds[name] = 1000 * many / cpu_ms[name]
    return bounds
