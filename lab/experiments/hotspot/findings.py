"""From what `hotspot` measured to `results.json`, `samples.npz` and `history.jsonl`."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import samples, statistics
from lab.consistency.checks import check
from lab.consistency.history import write_history
from lab.measuring.columns import columns_of, is_failed
from lab.measuring.facts import judged, outline
from lab.measuring.timed import LATENESS_LIMIT_MS
from loadtests.uneven import population_of, zipf
from strategies import find

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lab.experiments.hotspot.experiment import Lived, Measured
    from lab.statistics import Interval
    from loadtests.recorder import Operation

BIN_SECONDS = 1.0
"""Width of a column of the timelines."""

CROWDS = (10, 20, 40, 80, 160, 400, 1000, 10_000)
"""Sizes of a population for which it is worked out how uneven its binding is."""

_DRAWS = 400
_SECOND_NS = 1_000_000_000


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples and the history into the run's folder, and return the results."""
    write_history(folder / "history.jsonl", (op for lived in measured.lived for op in lived.history()))
    turns = columns_of([(0, op) for lived in measured.lived for turn in lived.turns for op in turn])
    samples.save(turns, folder)
    chosen = measured.settings
    each_rps = chosen.rate / chosen.together
    entered = {operation.shopper for operation in measured.lived[0].entered}
    results = outline(
        "hotspot",
        folder,
        chosen,
        measured,
        servers=chosen.servers,
        rate_rps=chosen.rate,
        shoppers=len(entered),
        strategies=list(chosen.strategies),
    )
    populations = len(measured.lived[0].turns)
    of_each = len(entered) // populations
    results |= {
        "validity": _validity(measured),
        "strategies": {lived.arm: _strategy(lived, turns) for lived in measured.lived},
        "hotspot": {
            "populations": populations,
            "shoppers": of_each,
            "heaviest_share": float(zipf(of_each)[0]),
            "together": chosen.together,
            "rate_rps_each": each_rps,
            "turn_seconds": chosen.lengths.turn,
            "by_shoppers": [_expected(shoppers, chosen.servers) for shoppers in CROWDS],
            "strategies": {lived.arm: _story(lived, turns) for lived in measured.lived},
        },
    }
    return judged(results)


def busiest_server(operations: Iterable[Operation]) -> str:
    """Return who answered most of these requests; of several, the first by name; nobody's name if nobody did."""
    counts = _by_server(operations)
    return min(counts, key=lambda server: (-counts[server], server), default="")


def _by_server(operations: Iterable[Operation]) -> Counter[str]:
    return Counter(operation.server for operation in operations if operation.server is not None)


def _strategy(lived: Lived, turns: samples.Samples) -> dict[str, Any]:
    """Return what the results of every experiment say about a strategy, as far as this one measured it."""
    operations = lived.operations()
    answered = _by_server(op for turn in lived.turns for op in turn)
    failed = sum(is_failed(operation) for operation in operations)
    ok = sum(operation.outcome == "ok" for operation in operations)
    sent = {"scheduled": len(operations), "sent": len(operations), "ok": ok, "failed": failed}
    return {
        "requests": sent,
        "latency_ms": statistics.latency(turns, lived.arm, None).latency_ms,
        "latency_ratio": None,
        "cpu_ms_per_request": {"servers": _cpu_ms(lived), "store": None, "balancer": None, "total": None},
        "servers": {server: {"requests": answered[server]} for server in sorted(answered)},
        "consistency": check(lived.history(), "shopping"),
    }


def _story(lived: Lived, turns: samples.Samples) -> dict[str, Any]:
    busiest = [busiest_server(turn) for turn in lived.turns]
    return {
        "binds": find(lived.arm).balancer == "affinity",
        "concentration": concentration(lived.turns, lived.servers),
        "latency": _latency(lived.arm, turns, busiest),
        "cpu": _cpu(lived, busiest),
        "added": _added(lived),
        "drained": _drained(lived),
        "timeline": {
            "bin_seconds": BIN_SECONDS,
            "added": _timeline(lived.stay, lived.added.asked_ns),
            "drained": _timeline(lived.drain, lived.drained.asked_ns),
        },
        "failed": sum(is_failed(op) for op in (*lived.stay, *lived.roll_call, *lived.drain)),
    }


def concentration(turns: Sequence[Sequence[Operation]], servers: int) -> dict[str, Any]:
    """Work out how many times the mean the busiest server served.

    For each population: the busiest server's requests, divided by the mean over all servers. Over populations: the
    mean, with an interval over resampled populations, since it is each population's binding that is left to chance.

    Args:
        turns: each population's requests.
        servers: how many there are, idle ones included.

    Returns:
        `estimate`, `low`, `high`, the figures `by_population`, and `shares`: of each population's requests, the share
        of each server, from the busiest to the idlest, averaged over populations.
    """
    counts = [sorted(_by_server(turn).values(), reverse=True) for turn in turns]
    shares = np.zeros((len(turns), servers))
    for row, own in enumerate(counts):
        shares[row, : len(own)] = np.array(own) / max(sum(own), 1)
    ratios = [float(ratio) for ratio in shares[:, 0] * servers]
    return {
        **(_plain(statistics.mean_of_blocks(ratios)) or {}),
        "by_population": ratios,
        "shares": [float(share) for share in shares.mean(axis=0)],
        "requests": int(sum(sum(own) for own in counts)),
    }


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else msgspec.to_builtins(interval)


def _latency(arm: str, turns: samples.Samples, busiest: Sequence[str]) -> dict[str, Any]:
    """Compare the waits at each population's busiest server with those at all others, paired by population."""
    rows = turns.rows(arm) & (turns.block >= 0)
    hot_name = np.array(busiest, dtype=np.str_)[turns.block]
    is_hot = turns.server_names[turns.server] == hot_name
    parts = {"hot": rows & is_hot, "rest": rows & ~is_hot}
    figures: dict[str, Any] = {part: _waits(turns, chosen) for part, chosen in parts.items()}
    ratios = {}
    for name, p in (("p50", 0.5), ("p95", 0.95)):
        hot, rest = (
            statistics.quantile_by_block(turns.latency_ms[chosen], turns.block[chosen], p) for chosen in parts.values()
        )
        ratios[name] = _plain(statistics.paired_ratio(hot, [rest])) if rest else None
    return {**figures, "ratio": ratios}


def _waits(turns: samples.Samples, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    values, blocks = turns.latency_ms[chosen], turns.block[chosen]
    found: dict[str, Any] = {"requests": len(values)}
    for name, p in (("p50", 0.5), ("p95", 0.95)):
        weight = statistics.carries(len(values), p)
        carried = weight != "none"
        found[name] = _plain(statistics.pooled_quantile(values, blocks, p)) if carried else None
        if weight == "faded":
            found[name] = {**(found[name] or {}), "faded": True}
    return found


def _cpu_ms(lived: Lived) -> float | None:
    requests = sum(len(turn) for turn in lived.turns)
    return 1000 * sum(sum(used.values()) for used in lived.cpu) / requests if requests else None


def _cpu(lived: Lived, busiest: Sequence[str]) -> dict[str, Any]:
    """Return how busy the hot server's process was and how busy the others; and, modelled, the load that fills it.

    A server's process is taken to need the same CPU time for each request at any load, and to have one core for
    itself: so much load fills the busiest server, and so much would fill all if they shared it evenly.
    """
    hot = sum(used.get(server, 0.0) for used, server in zip(lived.cpu, busiest, strict=True))
    every = sum(sum(used.values()) for used in lived.cpu)
    spans = [max(op.t1_ns for op in turn) - min(op.intended_ns for op in turn) for turn in lived.turns if turn]
    seconds = sum(spans) / _SECOND_NS
    busiest_share = concentration(lived.turns, lived.servers)["shares"][0]
    each_ms = _cpu_ms(lived)
    return {
        "ms_per_request": each_ms,
        "hot_busy": hot / seconds,
        "rest_busy": (every - hot) / seconds / (lived.servers - 1),
        "modelled": {
            "full_rps": 1000 / (each_ms * busiest_share) if each_ms and busiest_share else None,
            "full_rps_even": 1000 * lived.servers / each_ms if each_ms else None,
        },
    }


def _added(lived: Lived) -> dict[str, Any]:
    """Return what the new server got: of those who were bound before, at first and later, and of newcomers."""
    name = lived.added.server
    at_first = [op for op in lived.stay if op.t0_ns >= lived.added.done_ns]
    shopping = [op for op in lived.newcomers if op.f != "login"]
    return {
        "server": name,
        "seconds": (lived.added.done_ns - lived.added.asked_ns) / _SECOND_NS,
        "after_seconds": (lived.roll_call_ns - lived.added.done_ns) / _SECOND_NS,
        "fair_share": 1 / (lived.servers + 1),
        "share": _plain(share_of(name, lived.roll_call)),
        "of": len([op for op in lived.roll_call if op.server is not None]),
        "requests": _by_server(lived.roll_call)[name],
        "shoppers": len({op.shopper for op in lived.roll_call}),
        "at_first": _part(name, at_first),
        "newcomers": _part(name, shopping),
    }


def share_of(server: str, operations: Sequence[Operation]) -> Interval | None:
    """Return the share of these requests that a server answered.

    With an interval over resampled populations; where the server answered none, over shoppers, by the rule of three:
    then each shopper who might have come, and did not, counts.
    """
    answered = [operation for operation in operations if operation.server is not None]
    there: defaultdict[int | str, list[bool]] = defaultdict(list)
    none = not any(operation.server == server for operation in answered)
    for operation in answered:
        key = operation.shopper if none else population_of(operation.shopper)
        there[key].append(operation.server == server)
    return statistics.rate_by_shopper([sum(own) for own in there.values()], [len(own) for own in there.values()])


def _part(server: str, operations: Sequence[Operation]) -> dict[str, Any]:
    counts = _by_server(operations)
    of = sum(counts.values())
    return {"requests": counts[server], "of": of, "share": counts[server] / of if of else None}


def _drained(lived: Lived) -> dict[str, Any]:
    """Return what the drained server still got, and how long after the order its last request was sent."""
    name, asked_ns, done_ns = lived.drained.server, lived.drained.asked_ns, lived.drained.done_ns
    before = _part(name, [op for op in lived.drain if op.t0_ns < asked_ns])
    after = _part(name, [op for op in in_time(lived.drain) if op.t0_ns >= done_ns])
    late = [op.t0_ns for op in lived.drain if op.server == name and op.t0_ns >= asked_ns]
    return {
        "server": name,
        "seconds": (done_ns - asked_ns) / _SECOND_NS,
        "before": before,
        "after": after,
        "last_seconds": None if after["requests"] else max([0.0, *((at - asked_ns) / _SECOND_NS for at in late)]),
    }


def in_time(operations: Sequence[Operation]) -> list[Operation]:
    """Return the requests that left while the plan lasted: afterwards, only those who had fallen behind catch up."""
    end_ns = max((operation.intended_ns for operation in operations), default=0)
    return [operation for operation in operations if operation.t0_ns <= end_ns]


def _timeline(operations: Sequence[Operation], zero_ns: int) -> dict[str, Any]:
    """Count the requests that each server answered in each second, by when they were sent, while the plan lasted.

    Returns:
        `from_seconds`, where the first bin begins, and `servers`, name to counts.
    """
    answered = [(op.server, (op.t0_ns - zero_ns) / _SECOND_NS) for op in in_time(operations) if op.server is not None]
    if not answered:
        return {"from_seconds": 0.0, "servers": {}}
    first = int(np.floor(min(at for _, at in answered) / BIN_SECONDS))
    bins = int(np.floor(max(at for _, at in answered) / BIN_SECONDS)) - first + 1
    counts: dict[str, list[int]] = {}
    for server, at in answered:
        counts.setdefault(server, [0] * bins)[int(np.floor(at / BIN_SECONDS)) - first] += 1
    return {"from_seconds": first * BIN_SECONDS, "servers": dict(sorted(counts.items()))}


def _expected(shoppers: int, servers: int) -> dict[str, Any]:
    """Work out, for shoppers bound one by one in a random order, the busiest server's share ÷ the mean.

    A model, not a measurement: `mean` of many random orders, and where the middle nine tenths lie.
    """
    rng = np.random.default_rng([statistics.SEED, shoppers, servers])
    shares, places = zipf(shoppers), np.arange(shoppers) % servers
    drawn = [
        float(np.max(np.bincount(places, weights=rng.permutation(shares), minlength=servers))) * servers
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(drawn, [0.05, 0.95])
    return {"shoppers": shoppers, "mean": float(np.mean(drawn)), "p5": float(low), "p95": float(high)}


def _validity(measured: Measured) -> dict[str, Any]:
    groups = {id(lived.lateness_ms): lived.lateness_ms for lived in measured.lived}
    late = np.array([late for own in groups.values() for late in own])
    lateness = {"p50": float(np.quantile(late, 0.5)), "p99": float(np.quantile(late, 0.99))} if len(late) else {}
    warnings = []
    if lateness.get("p99", 0.0) > LATENESS_LIMIT_MS:
        warnings.append(f"the load generator was {lateness['p99']:.0f} ms late (99th percentile)")
    for lived in measured.lived:
        failed = sum(is_failed(operation) for operation in lived.operations())
        if failed:
            warnings.append(f"{lived.arm}: {failed} of {len(lived.operations()):,} requests failed")
    return {"ok": not warnings, "warnings": warnings, "blocks_redone": None, "generator_lateness_ms": lateness}
