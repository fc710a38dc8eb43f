"""From what `scale` measured to `results.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import statistics
from lab.experiments.scale.model import SHARDS, Assumed, Demand, curve
from lab.measuring.facts import judged, outline
from lab.measuring.timed import LATENESS_LIMIT_MS
from lab.measuring.usage import per_request
from lab.probes.storage import ADDS_PER_SESSION
from lab.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.experiments.scale.experiment import Measured, Stretch, Watched
    from lab.measuring.timed import Slice
    from lab.measuring.usage import Usage

COPYING = "all-to-all"
REFERENCE = "sticky"
"""What a server costs without copies: the machine's pace, which changes from one size to the next, falls on both."""

PARTS = ("servers", "redis", "postgresql", "balancer")
"""Whose CPU time is told apart; an engine that is not the lab's own is missing."""

_LEAST_SIZES = 2
"""Of clusters, for a line through them."""


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Return the results."""
    chosen, size = measured.settings, measured.settings.lengths
    names = list(measured.stretches[0].usage)
    points = {name: {str(n): _point(name, n, measured) for n in size.servers} for name in names}
    largest = str(size.servers[-1])
    results = outline(
        "scale",
        folder,
        chosen,
        measured,
        servers=size.servers[-1],
        sizes=list(size.servers),
        rate_rps=chosen.rate,
        blocks=size.blocks * size.passes,
        slice_seconds=size.slice_seconds,
        strategies=names,
    )
    fits = _fits(measured, names)
    found = {
        "points": points,
        "fits": fits,
        "checked": _checked(measured, points),
        "visibility": [_visibility(watched) for watched in measured.watched],
        "unread_bound": _unread([measured.bound]) if measured.bound else None,
    }
    results |= {
        "validity": _validity(measured),
        "strategies": {name: _strategy(points[name][largest]) for name in names},
        "scale": {**found, "model": _model(points, fits, size.servers)},
    }
    return judged(results)


def _strategy(point: dict[str, Any]) -> dict[str, Any]:
    """Put what was found with most servers where every experiment has it."""
    return {
        "requests": point["requests"],
        "cpu_ms_per_request": {name: (part or {}).get("estimate") for name, part in point["cpu_ms"].items()},
        "storage": {
            "copies_per_session": point["copies"],
            "logical_bytes_per_session": point["logical_bytes"],
            "physical_bytes_per_session": (point["physical_bytes"] or {}).get("estimate"),
        },
        "traffic": point["traffic"],
    }


def _validity(measured: Measured) -> dict[str, Any]:
    runs = [stretch.timed for stretch in measured.stretches]
    late = [ms for run in runs for piece in run.slices for ms in piece.lateness_ms]
    lateness = {"p50": float(np.quantile(late, 0.5)), "p99": float(np.quantile(late, 0.99))} if late else {}
    warnings = [
        f"{stretch.servers} servers, {warning}" for stretch in measured.stretches for warning in stretch.timed.warnings
    ]
    if lateness.get("p99", 0.0) > LATENESS_LIMIT_MS:
        warnings.append(f"the load generator was {lateness['p99']:.0f} ms late (99th percentile)")
    return {
        "ok": not warnings,
        "warnings": warnings,
        "blocks_redone": sum(run.redone for run in runs),
        "generator_lateness_ms": lateness,
    }


# --- one strategy with one number of servers -------------------------------------------------------------------------


def _point(name: str, servers: int, measured: Measured) -> dict[str, Any]:
    own = [stretch for stretch in measured.stretches if stretch.servers == servers]
    pieces = _pieces(own, name)
    usages = [stretch.usage[name] for stretch in own]
    ladders = [stretch.storage[name] for stretch in own if name in stretch.storage]
    sent = sum(piece.sent for piece in pieces)
    failed = sum(operation.outcome != "ok" for piece in pieces for operation in piece.operations)
    return {
        "servers": servers,
        "requests": {
            "scheduled": sum(piece.scheduled for piece in pieces),
            "sent": sent,
            "ok": sent - failed,
            "failed": failed,
        },
        "cpu_ms": _cpu(pieces),
        "copies": _copies([ladder.holding for ladder in ladders]),
        "sessions": sum(ladder.holding.sessions for ladder in ladders),
        "logical_bytes": ladders[0].holding.logical_bytes_per_session if ladders else None,
        "physical_bytes": _plain(_physical([ladder.ladder for ladder in ladders])),
        "log_bytes_per_write": _log_bytes(ladders),
        "writes_per_request": _writes_per_request(usages, own, name),
        "traffic": _traffic(usages, own, name),
        "per_write": _per_write(own) if name == COPYING else None,
        "unread": _unread([stretch.use for stretch in own]) if name == COPYING and servers > 1 else None,
    }


def _pieces(stretches: Sequence[Stretch], name: str) -> list[Slice]:
    return [piece for stretch in stretches for piece in stretch.timed.slices if piece.arm == name]


def _plain(value: Interval | None) -> dict[str, Any] | None:
    return None if value is None else msgspec.to_builtins(value)


def ratio_of_sums(amounts: Sequence[float], units: Sequence[float]) -> Interval | None:
    """Return amounts per unit, with an interval over resampled blocks where there are enough of them.

    Args:
        amounts: per block, such as CPU ms.
        units: per block, such as requests.
    """
    over, under = np.asarray(amounts, dtype=np.float64), np.asarray(units, dtype=np.float64)
    if not under.sum():
        return None
    estimate = float(over.sum() / under.sum())
    if len(under) < statistics.LEAST_BLOCKS:
        return Interval(estimate)
    drawn = _resampled(over, under)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _resampled(over: np.ndarray, under: np.ndarray, seed: int = statistics.SEED) -> np.ndarray:
    draws = statistics.resample_blocks(len(over), seed=seed)
    sums = under[draws].sum(axis=1)
    return np.asarray(over[draws].sum(axis=1)[sums > 0] / sums[sums > 0])


def _cpu(pieces: Sequence[Slice]) -> dict[str, dict[str, Any] | None]:
    """Return CPU time per request in ms, by component and in total."""
    requests = [float(len(piece.operations)) for piece in pieces]
    parts = [part for part in PARTS if pieces and part in pieces[0].cpu]
    found = {part: _plain(ratio_of_sums([1000 * piece.cpu[part] for piece in pieces], requests)) for part in parts}
    total = ratio_of_sums([1000 * sum(piece.cpu.values()) for piece in pieces], requests)
    return {**found, "total": _plain(total)}


def _copies(holdings: Sequence[Any]) -> float | None:
    sessions = sum(holding.sessions for holding in holdings)
    return sum(holding.copies for holding in holdings) / sessions if sessions else None


def _physical(ladders: Sequence[Any]) -> Interval | None:
    """Return bytes per session: the slope over the rungs of all ladders, each moved to begin at its own middle."""
    x = np.concatenate([ladder.sessions - np.mean(ladder.sessions) for ladder in ladders]) if ladders else np.empty(0)
    y = np.concatenate([ladder.bytes - np.mean(ladder.bytes) for ladder in ladders]) if ladders else np.empty(0)
    return statistics.slope(x, y)


def _log_bytes(ladders: Sequence[Any]) -> float | None:
    """Return bytes of PostgreSQL's log for each save of the storage ladder: a login and the adds of each session."""
    found = [
        ladder.engine["wal_bytes"] / ladder.ladder.sessions[-1] for ladder in ladders if "wal_bytes" in ladder.engine
    ]
    return float(np.mean(found)) / (1 + ADDS_PER_SESSION) if found else None


def _writes(before: Usage, after: Usage) -> int:
    """Count sessions begun, saved and ended between two readings; a shared store's servers count their own."""
    return sum(
        getattr(after.census[server], name) - getattr(before.census[server], name)
        for server in after.census
        for name in ("creates", "saves", "deletes")
    )


def _sent(stretches: Sequence[Stretch], name: str) -> int:
    """Count the requests between the readings of an arm: those of blocks that were measured again included."""
    pieces = [piece for stretch in stretches for piece in (*stretch.timed.slices, *stretch.timed.discarded)]
    return sum(piece.sent for piece in pieces if piece.arm == name)


def _writes_per_request(usages: Sequence[tuple[Usage, Usage]], stretches: Sequence[Stretch], name: str) -> float | None:
    sent = _sent(stretches, name)
    return sum(_writes(*usage) for usage in usages) / sent if sent else None


def _traffic(usages: Sequence[tuple[Usage, Usage]], stretches: Sequence[Stretch], name: str) -> dict[str, Any]:
    """Return bytes and messages per request on each link, the mean over the passes."""
    each = [per_request(*usage, max(_sent([own], name), 1)) for usage, own in zip(usages, stretches, strict=True)]
    return {
        f"{what}_per_request": {link: _mean([one[what][link] for one in each]) for link in each[0][what]}
        for what in ("bytes", "messages")
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _link_blocks(stretches: Sequence[Stretch]) -> dict[str, list[float]]:
    """Return what went between servers in each block; no `bytes` where the system cannot tell."""
    found: dict[str, list[float]] = {"bytes": [], "messages": [], "writes": []}
    for stretch in stretches:
        for before, after in zip(stretch.steps, stretch.steps[1:], strict=False):
            link = after.links["server_server"] - before.links["server_server"]
            found["writes"].append(float(_writes(before, after)))
            found["messages"].append(float(link.messages or 0))
            if link.bytes is not None:
                found["bytes"].append(float(link.bytes))
    return found


def _per_write(stretches: Sequence[Stretch]) -> dict[str, Any]:
    blocks = _link_blocks(stretches)
    told = len(blocks["bytes"]) == len(blocks["writes"])
    return {
        "bytes": _plain(ratio_of_sums(blocks["bytes"], blocks["writes"])) if told else None,
        "messages": _plain(ratio_of_sums(blocks["messages"], blocks["writes"])),
        "writes": sum(blocks["writes"]),
    }


def _unread(readings: Sequence[tuple[Usage, Usage]]) -> dict[str, Any] | None:
    """Return the share of changes delivered to other servers that nobody read there, by receiving server."""
    received, read = [], []
    for before, after in readings:
        for server, census in after.census.items():
            first = before.census[server].details
            received.append(census.details.get("changes_received", 0) - first.get("changes_received", 0))
            read.append(census.details.get("changes_read", 0) - first.get("changes_read", 0))
    unread = [max(0, came - seen) for came, seen in zip(received, read, strict=True)]
    rate = statistics.rate_by_shopper(unread, received)
    if rate is None:
        return None
    return {"delivered": int(sum(received)), "never_read": int(sum(unread)), "rate": _plain(rate)}


# --- lines through the sizes -----------------------------------------------------------------------------------------


def _rows(what: str, name: str, measured: Measured) -> list[tuple[float, float]]:
    """Return a figure for each block, or rung, with the number of peers (N - 1) beside it."""
    rows: list[tuple[float, float]] = []
    for stretch in measured.stretches:
        peers = float(stretch.servers - 1)
        if what == "added_ms":
            own, reference = (_web_ms(stretch, which) for which in (name, REFERENCE))
            rows += [(peers, own[block] - reference[block]) for block in own if block in reference]
        elif what in {"bytes", "messages"}:
            blocks = _link_blocks([stretch])
            rows += [
                (peers, amount / writes)
                for amount, writes in zip(blocks[what], blocks["writes"], strict=False)
                if writes
            ]
        elif name in stretch.storage and stretch.storage[name].ladder.bytes_per_session is not None:
            rows.append((peers, float(stretch.storage[name].ladder.bytes_per_session or 0)))
    return rows


def _web_ms(stretch: Stretch, name: str) -> dict[int, float]:
    """Return the web servers' CPU time per request in ms, by block."""
    pieces = _pieces([stretch], name)
    return {piece.block: 1000 * piece.cpu["servers"] / len(piece.operations) for piece in pieces if piece.operations}


def line(rows: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Fit a straight line: the slope per peer with its interval, and the value without peers."""
    x, y = [row[0] for row in rows], [row[1] for row in rows]
    slope = statistics.slope(x, y) if rows else None
    if slope is None:
        return None
    return {"slope": _plain(slope), "start": float(np.mean(y) - slope.estimate * np.mean(x)), "points": len(rows)}


def _fits(measured: Measured, names: Sequence[str]) -> dict[str, Any]:
    """Fit everything that may grow with the number of servers, over all sizes."""
    return {
        "added_ms": {name: line(_rows("added_ms", name, measured)) for name in names if name != REFERENCE},
        "physical_bytes": {name: line(_rows("physical", name, measured)) for name in names},
        "bytes": line(_rows("bytes", COPYING, measured)),
        "messages": line(_rows("messages", COPYING, measured)),
    }


WORTH_CHECKING = {
    "bytes": ("bytes between servers per write", "B"),
    "messages": ("messages between servers per write", ""),
    "added_ms": ("CPU per request of all web servers, beyond sticky's", "ms"),
    "physical": ("bytes per session on all servers", "B"),
}
"""What a line through the smaller sizes predicts for the largest: words and unit."""


def _checked(measured: Measured, points: dict[str, Any]) -> list[dict[str, Any]]:
    """Predict the largest size from the others alone, and put what was measured beside it."""
    sizes = measured.settings.lengths.servers
    largest, fitted = sizes[-1], sizes[:-1]
    if len(fitted) < _LEAST_SIZES:
        return []
    found = []
    for what, (title, unit) in WORTH_CHECKING.items():
        rows = _rows(what, COPYING, measured)
        fit = line([row for row in rows if row[0] < largest - 1])
        seen = _seen(what, points[COPYING][str(largest)], [row[1] for row in rows if row[0] == largest - 1])
        if fit and seen:
            predicted = fit["start"] + fit["slope"]["estimate"] * (largest - 1)
            found.append(
                {
                    "what": title,
                    "unit": unit,
                    "fitted_on": list(fitted),
                    "at": largest,
                    "start": fit["start"],
                    "slope": fit["slope"]["estimate"],
                    "predicted": predicted,
                    "measured": seen,
                    "off": predicted / seen["estimate"] - 1 if seen["estimate"] else None,
                }
            )
    return found


def _seen(what: str, point: dict[str, Any], values: Sequence[float]) -> dict[str, Any] | None:
    found: dict[str, dict[str, Any] | None] = {
        "added_ms": _plain(statistics.mean_of_blocks(values)) if values else None,
        "physical": point["physical_bytes"],
        **{name: (point["per_write"] or {}).get(name) for name in ("bytes", "messages")},
    }
    return found[what]


# --- stale reads -----------------------------------------------------------------------------------------------------


def _visibility(watched: Watched) -> dict[str, Any]:
    points = []
    for gap in watched.gaps_ms:
        own = [trial for trial in watched.trials if abs(1000 * trial.gap_seconds - gap) < 1e-6]  # noqa: PLR2004
        if own:
            stale = sum(trial.stale for trial in own)
            waited = 1000 * float(np.median([trial.waited_seconds for trial in own]))
            rate = _plain(statistics.wilson(stale, len(own)))
            points.append({"gap_ms": gap, "waited_ms": waited, "stale": stale, "trials": len(own), "rate": rate})
    return {
        "delay_ms": watched.link.delay_ms,
        "replication": watched.link.replication,
        "emulated": watched.link.delay_ms > 0,
        "servers": watched.link.spec.servers,
        "points": points,
        "write_ms": 1000 * float(np.median([trial.write_seconds for trial in watched.trials])),
        "half_ms": crossing(points, 0.5),
        "fresh_ms": crossing(points, 0.05),
    }


def crossing(points: Sequence[dict[str, Any]], share: float) -> float | None:
    """Return after how long at most this share of the reads is stale, by a straight line between two gaps, in ms.

    Returns:
        0 where that is so at once; None where it is not so even at the longest gap.
    """
    before: tuple[float, float] | None = None
    for point in points:
        here = (point["waited_ms"], point["rate"]["estimate"])
        if here[1] <= share:
            if before is None or before[1] == here[1]:
                return 0.0 if before is None else here[0]
            return float(before[0] + (here[0] - before[0]) * (before[1] - share) / (before[1] - here[1]))
        before = here
    return None


# --- beyond this machine ---------------------------------------------------------------------------------------------


def _model(points: dict[str, Any], fits: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    assumed = Assumed()
    demands = {name: _demand(name, points, fits, sizes) for name in points}
    curves = {name: curve(demand, assumed) for name, demand in demands.items()}
    if "redis" in demands:
        curves[f"redis x {SHARDS}"] = curve(demands["redis"], assumed, SHARDS)
    return {
        "assumed": msgspec.to_builtins(assumed),
        "shards": SHARDS,
        "demands": {name: msgspec.to_builtins(demand) for name, demand in demands.items()},
        "curves": curves,
        "most_rps": _plateau(fits, assumed),
    }


def _plateau(fits: dict[str, Any], assumed: Assumed) -> dict[str, Any] | None:
    """Return the requests a second that all-to-all never exceeds, however many servers: each applies every write."""
    slope = ((fits["added_ms"].get(COPYING) or {}).get("slope")) or {}
    if (slope.get("estimate") or 0) <= 0:
        return None
    core_ms = 1000 * assumed.busy_most
    low, high = slope.get("low"), slope.get("high")
    return {
        "estimate": core_ms / slope["estimate"],
        "low": core_ms / high if high else None,
        "high": core_ms / low if low and low > 0 else None,
    }


def _demand(name: str, points: dict[str, Any], fits: dict[str, Any], sizes: Sequence[int]) -> Demand:
    largest = points[name][str(sizes[-1])]
    if name == COPYING:
        usual = _mean([_estimate(points[REFERENCE][str(n)]["cpu_ms"].get("servers")) for n in sizes])
        added, web_growth = _line_of(fits["added_ms"][name])
        web = None if usual is None or added is None else usual + max(added, 0.0)
        _, growth = _line_of(fits["bytes"])
        writes = largest["writes_per_request"]
        return Demand(
            web_ms=web,
            web_ms_per_peer=web_growth or 0.0,
            web_bytes=_estimate(points[name][str(sizes[0])]["physical_bytes"]),
            everywhere=True,
            peer_bytes=None if growth is None or writes is None else growth * writes,
        )
    flat = _mean([_estimate(points[name][str(n)]["cpu_ms"].get("servers")) for n in sizes])
    store = {"redis": "redis", "database": "postgresql"}.get(name)
    if store is None:
        return Demand(web_ms=flat, web_bytes=_estimate(points[name][str(sizes[0])]["physical_bytes"]))
    log, writes = largest["log_bytes_per_write"], largest["writes_per_request"]
    return Demand(
        web_ms=flat,
        store=name,
        store_ms=_for_sessions(points, name, store, sizes),
        store_bytes=_estimate(largest["physical_bytes"]) if name == "redis" else None,
        store_link_bytes=largest["traffic"]["bytes_per_request"].get("server_store"),
        log_bytes=None if log is None or writes is None else log * writes,
    )


def _for_sessions(points: dict[str, Any], name: str, part: str, sizes: Sequence[int]) -> float | None:
    """Return an engine's CPU per request for the session alone: what it uses under `sticky` serves the catalogue."""
    own, others = (
        _mean([_estimate(points[which][str(n)]["cpu_ms"].get(part)) for n in sizes]) if which in points else None
        for which in (name, REFERENCE)
    )
    return None if own is None or others is None else max(own - others, 0.0)


def _line_of(fit: dict[str, Any] | None) -> tuple[float | None, float | None]:
    return (None, None) if fit is None else (fit["start"], fit["slope"]["estimate"])


def _estimate(value: dict[str, Any] | None) -> float | None:
    return None if value is None else value["estimate"]
