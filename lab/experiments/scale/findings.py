"""From what `scale` measured to `results.json` and `samples.npz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab import samples, statistics
from lab.experiments.scale import lines
from lab.experiments.scale.amounts import COPYING, link_blocks, mean, pieces_of, plain, ratio_of_sums, writes_between
from lab.experiments.scale.beyond import modelled
from lab.experiments.scale.stale import visibility
from lab.measuring.columns import columns_of, is_failed
from lab.measuring.facts import judged, outline
from lab.measuring.timed import LATENESS_LIMIT_MS
from lab.measuring.usage import per_request
from lab.probes.storage import ADDS_PER_SESSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.experiments.scale.experiment import Measured, Stretch
    from lab.measuring.timed import Slice
    from lab.measuring.usage import Usage
    from lab.statistics import Interval

PARTS = ("servers", "redis", "postgresql", "balancer")
"""Whose CPU time is told apart; an engine that is not the lab's own is missing."""


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples into the run's folder, and return the results."""
    samples.save(_columns(measured), folder)
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
    fits = lines.fits(measured, names)
    found = {
        "points": points,
        "fits": fits,
        "checked": lines.checked(measured, points),
        "visibility": [visibility(watched) for watched in measured.watched],
        "unread_bound": _unread([measured.bound]) if measured.bound else None,
    }
    results |= {
        "validity": _validity(measured),
        "strategies": {name: _strategy(points[name][largest]) for name in names},
        "scale": {**found, "model": modelled(points, fits, size.servers)},
    }
    return judged(results)


def _columns(measured: Measured) -> samples.Samples:
    """Put the requests of all timed blocks into columns: the number of servers in the arm's name, passes in a row."""
    rows, passed = [], dict.fromkeys(measured.settings.lengths.servers, 0)
    for stretch in measured.stretches:
        first = passed[stretch.servers] * measured.settings.lengths.blocks
        passed[stretch.servers] += 1
        for piece in stretch.timed.slices:
            for operation in piece.operations:
                operation.arm = f"{piece.arm}, {stretch.servers} servers"
                operation.block = first + piece.block
                rows.append((piece.position, operation))
    return columns_of(rows)


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
    pieces = pieces_of(own, name)
    usages = [stretch.usage[name] for stretch in own]
    ladders = [stretch.storage[name] for stretch in own if name in stretch.storage]
    sent = sum(piece.sent for piece in pieces)
    return {
        "servers": servers,
        "requests": {
            "scheduled": sum(piece.scheduled for piece in pieces),
            "sent": sent,
            "ok": sum(operation.outcome == "ok" for piece in pieces for operation in piece.operations),
            "failed": sum(is_failed(operation) for piece in pieces for operation in piece.operations),
        },
        "cpu_ms": _cpu(pieces),
        "copies": _copies([ladder.holding for ladder in ladders]),
        "sessions": sum(ladder.holding.sessions for ladder in ladders),
        "logical_bytes": ladders[0].holding.logical_bytes_per_session if ladders else None,
        "physical_bytes": plain(_physical([ladder.ladder for ladder in ladders])),
        "log_bytes_per_write": _log_bytes(ladders),
        "writes_per_request": _writes_per_request(usages, own, name),
        "traffic": _traffic(usages, own, name),
        "per_write": _per_write(own) if name == COPYING else None,
        "unread": _unread([stretch.use for stretch in own]) if name == COPYING and servers > 1 else None,
    }


def _cpu(pieces: Sequence[Slice]) -> dict[str, dict[str, Any] | None]:
    """Return CPU time per request in ms, by component and in total."""
    requests = [float(len(piece.operations)) for piece in pieces]
    parts = [part for part in PARTS if pieces and part in pieces[0].cpu]
    found = {part: plain(ratio_of_sums([1000 * piece.cpu[part] for piece in pieces], requests)) for part in parts}
    total = ratio_of_sums([1000 * sum(piece.cpu.values()) for piece in pieces], requests)
    return {**found, "total": plain(total)}


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


def _sent(stretches: Sequence[Stretch], name: str) -> int:
    """Count the requests between the readings of an arm: those of blocks that were measured again included."""
    pieces = [piece for stretch in stretches for piece in (*stretch.timed.slices, *stretch.timed.discarded)]
    return sum(piece.sent for piece in pieces if piece.arm == name)


def _writes_per_request(usages: Sequence[tuple[Usage, Usage]], stretches: Sequence[Stretch], name: str) -> float | None:
    sent = _sent(stretches, name)
    return sum(writes_between(*usage) for usage in usages) / sent if sent else None


def _traffic(usages: Sequence[tuple[Usage, Usage]], stretches: Sequence[Stretch], name: str) -> dict[str, Any]:
    """Return bytes and messages per request on each link, the mean over the passes."""
    each = [per_request(*usage, max(_sent([own], name), 1)) for usage, own in zip(usages, stretches, strict=True)]
    return {
        f"{what}_per_request": {link: mean([one[what][link] for one in each]) for link in each[0][what]}
        for what in ("bytes", "messages")
    }


def _per_write(stretches: Sequence[Stretch]) -> dict[str, Any]:
    blocks = link_blocks(stretches)
    told = len(blocks["bytes"]) == len(blocks["writes"])
    return {
        "bytes": plain(ratio_of_sums(blocks["bytes"], blocks["writes"])) if told else None,
        "messages": plain(ratio_of_sums(blocks["messages"], blocks["writes"])),
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
    return {"delivered": int(sum(received)), "never_read": int(sum(unread)), "rate": plain(rate)}
