"""From what `compare` measured to `results.json`, `samples.npz` and `history.jsonl`."""

from __future__ import annotations

from collections import Counter, defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import samples, statistics
from lab.consistency.checks import check
from lab.consistency.history import write_history
from lab.measuring.columns import columns_of, is_failed
from lab.measuring.facts import CONTROL, judged, outline
from lab.measuring.timed import LATENESS_LIMIT_MS
from lab.measuring.usage import detail, per_request, shared_store
from lab.probes.storage import holding
from lab.report.results import BASELINE
from strategies import find
from strategies.session_interface import short_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from lab.experiments.compare.measured import Measured
    from lab.probes.containers import Use
    from loadtests.recorder import Operation

__all__ = ["SAME_LIMIT", "assemble", "failed", "given_up", "is_failed"]

SAME_LIMIT = 0.10
"""The run is not valid when the median of same against same is further than this from 1."""

SHOWN_SESSIONS = 40
"""So many sessions are drawn in the picture of who holds what."""


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples and the history into the run's folder, and return the results."""
    by_arm: dict[str, list[Operation]] = defaultdict(list)
    for operation in measured.history:
        by_arm[operation.arm].append(operation)
    write_history(folder / "history.jsonl", measured.history)
    columns = _samples(measured, by_arm[CONTROL])
    samples.save(columns, folder)
    chosen = measured.settings
    results = outline(
        "compare",
        folder,
        chosen,
        measured,
        servers=chosen.servers,
        rate_rps=chosen.rate,
        blocks=chosen.blocks,
        slice_seconds=chosen.lengths.slice_seconds,
        write_policy=chosen.writes,
        replication=chosen.replication,
        strategies=list(chosen.strategies),
        added=list(chosen.added),
        target=chosen.where.target.name if chosen.where.target else None,
        left_out=measured.arms.left_out,
    )
    strategies = {name: _strategy(name, measured, columns, by_arm) for name in chosen.strategies}
    failures = failed({name: told["requests"] for name, told in strategies.items()}, by_arm)
    results |= {
        "validity": _validity(measured, columns, given_up(by_arm) + failures),
        "strategies": strategies,
        "arms": {
            spec.name: _untimed_arm(spec.name, measured, by_arm)
            for spec, _ in measured.arms.untimed
            if spec.name not in chosen.strategies
        },
    }
    return judged(results)


def _samples(measured: Measured, control: Sequence[Operation]) -> samples.Samples:
    """Put the requests of the timed blocks into columns; those of the control, which has no blocks, as block -1."""
    rows = [(piece.position, operation) for piece in measured.timed.slices for operation in piece.operations]
    rows += [(-1, operation) for operation in control if operation.phase == "main" and operation.scenario == "shopping"]
    return columns_of(rows, measured.pace)


def given_up(by_arm: Mapping[str, Sequence[Operation]]) -> list[str]:
    """Say where the balancer gave up on a server: so busy a machine breaks promises that the strategy keeps."""
    counts = {arm: _timed_out(own) for arm, own in by_arm.items()}
    return [
        f"{arm}: servers that did not answer in time (504, {count}x) were left out by the balancer for a moment"
        f"{_loss(by_arm[arm][0].strategy)}: the machine was too busy"
        for arm, count in counts.items()
        if count
    ]


def _timed_out(operations: Iterable[Operation]) -> int:
    return sum(operation.status == HTTPStatus.GATEWAY_TIMEOUT for operation in operations)


def failed(shown: Mapping[str, Mapping[str, int]], by_arm: Mapping[str, Sequence[Operation]]) -> list[str]:
    """Say how many requests failed: those whose latency is shown, and those that were only to prepare or to check.

    Args:
        shown: arm to the counts of its requests whose latency is shown.
        by_arm: every request of every arm.
    """
    inside = {arm: (counts["failed"], counts["sent"]) for arm, counts in shown.items()}
    every = {arm: (sum(map(is_failed, own)), len(own)) for arm, own in by_arm.items()}
    outside = {arm: (n - inside.get(arm, (0, 0))[0], m - inside.get(arm, (0, 0))[1]) for arm, (n, m) in every.items()}
    measured = "measured requests failed (no answer in time, or an error of a server's): {}. Latencies leave them out"
    others = "requests outside the measured slices failed: {}. What they were to put into carts is missing there"
    return [
        text.format(", ".join(f"{n:,} of {m:,} under {arm}" for arm, (n, m) in counts.items() if n))
        for text, counts in ((measured, inside), (others, outside))
        if any(n for n, _ in counts.values())
    ]


def _loss(strategy: str) -> str:
    return ", so that shoppers bound to them lost their carts" if find(strategy).balancer == "affinity" else ""


def _validity(measured: Measured, columns: samples.Samples, told: list[str]) -> dict[str, Any]:
    late = columns.lateness_ms[np.isfinite(columns.lateness_ms) & (columns.block >= 0)]
    same: dict[str, Any] = statistics.latency(columns, BASELINE, BASELINE).latency_ratio or {}
    same_against_same = {name: _without_verdict(interval) for name, interval in same.items()}
    warnings = told + measured.timed.warnings
    lateness = {"p50": float(np.quantile(late, 0.5)), "p99": float(np.quantile(late, 0.99))} if len(late) else {}
    off = abs(same["p50"]["estimate"] - 1) if "p50" in same else 0.0
    if off > SAME_LIMIT:
        warnings.append(f"sticky against itself differs by {off:.0%}: this machine was too noisy for latencies")
    if lateness.get("p99", 0.0) > LATENESS_LIMIT_MS:
        warnings.append(f"the load generator was {lateness['p99']:.0f} ms late (99th percentile)")
    return {
        "ok": not warnings,
        "warnings": warnings,
        "blocks_redone": measured.timed.redone,
        "generator_lateness_ms": lateness,
        "same_against_same": same_against_same,
        "slowness": _slowness(columns),
    }


def _slowness(columns: samples.Samples) -> dict[str, Any]:
    """Return how far the machine's pace wandered, and its geometric mean while each arm was served."""
    timed = columns.slowness[columns.block >= 0]
    if not len(timed):
        return {}
    low, high = np.quantile(timed, [0.05, 0.95])
    by_arm = {str(arm): np.log(columns.slowness[columns.rows(str(arm), twin=None)]) for arm in columns.arms}
    return {
        "p5": float(low),
        "p95": float(high),
        "by_arm": {arm: float(np.exp(logs.mean())) for arm, logs in by_arm.items() if len(logs)},
    }


def _without_verdict(interval: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in interval.items() if key != "verdict"}


def _strategy(
    name: str, measured: Measured, columns: samples.Samples, by_arm: dict[str, list[Operation]]
) -> dict[str, Any]:
    timed = name != CONTROL
    latency = statistics.latency(columns, name, BASELINE if timed else None)
    ratio = latency.latency_ratio
    if name == BASELINE and ratio is not None:
        ratio = {p: {"estimate": 1.0, "low": 1.0, "high": 1.0, "verdict": "about the same"} for p in ratio}
    own = [operation for operation in by_arm[name] if operation.scenario == "shopping"]
    main = [operation for operation in own if operation.phase == "main"]
    pieces = [piece for piece in measured.timed.slices if piece.arm == name]
    return {
        "requests": _requests([o for piece in pieces for o in piece.operations], sum(p.scheduled for p in pieces))
        if timed
        else _requests(main, len(main)),
        "latency_ms": latency.latency_ms,
        "latency_ratio": ratio,
        "gateway_timeouts": _timed_out(own),
        "cpu_ms_per_request": _cpu(pieces, *measured.containers.get(name, ({}, 0))),
        "containers": _containers(*measured.containers.get(name, ({}, 0))),
        "container_engine": _container_engine(pieces),
        "storage": _storage(name, measured),
        **_flows(name, measured, len(main)),
        "consistency": check([operation for operation in own if not operation.twin], "shopping"),
        "copies_unused": _copies_unused(measured, name),
        "two_tabs": {
            policy: check(by_arm[f"{name} {policy}"], "two-tabs")
            for policy in find(name).policies
            if f"{name} {policy}" in by_arm
        },
        "lifecycle": _lifecycle(name, measured, by_arm[f"{name} lifecycle"]),
        "servers": {server: {"requests": count} for server, count in sorted(_servers(main).items())},
        "drain_seconds": float(np.mean([piece.drain_seconds for piece in pieces])) if pieces else None,
    }


def _requests(operations: Sequence[Operation], scheduled: int) -> dict[str, int]:
    return {
        "scheduled": scheduled,
        "sent": len(operations),
        "ok": sum(operation.outcome == "ok" for operation in operations),
        "failed": sum(is_failed(operation) for operation in operations),
    }


def _servers(operations: Iterable[Operation]) -> Counter[str]:
    return Counter(operation.server for operation in operations if operation.server is not None)


def _cpu(pieces: Sequence[Any], used: Mapping[str, Use], alone: int) -> dict[str, float | None]:
    """Return CPU time per request by component, in ms; null for an arm that was not timed, or where it is not known.

    Args:
        pieces: the arm's slices.
        used: what its containers used in a stretch of its own; those count, where there are any.
        alone: requests of that stretch.
    """
    requests = sum(len(piece.operations) for piece in pieces)
    parts = ("servers", "store", "balancer")
    if used and alone:
        spent = {
            part: 1000 * sum(use.cpu_seconds for use in used.values() if use.component == part) / alone
            for part in parts
        }
    elif requests and all(piece.cpu for piece in pieces):
        spent = {part: 1000 * sum(piece.cpu[part] for piece in pieces) / requests for part in parts}
    else:
        return dict.fromkeys((*parts, "total"))
    return {**spent, "total": sum(spent.values())}


def _containers(used: Mapping[str, Use], requests: int) -> dict[str, Any] | None:
    """Return what each container used for a request, by its engine's counters; null where there were none."""
    if not used or not requests:
        return None
    return {
        name: {
            "component": use.component,
            "cpu_ms_per_request": 1000 * use.cpu_seconds / requests,
            "received_bytes_per_request": use.received_bytes / requests,
            "sent_bytes_per_request": use.sent_bytes / requests,
        }
        for name, use in used.items()
    }


def _container_engine(pieces: Sequence[Any]) -> dict[str, float] | None:
    """Return what the container engine itself used for a request of the arm's slices; null where there was none."""
    requests = sum(len(piece.operations) for piece in pieces)
    if not requests or not all("engine" in piece.cpu for piece in pieces):
        return None
    return {"cpu_ms_per_request": 1000 * sum(piece.cpu["engine"] for piece in pieces) / requests}


def _flows(name: str, measured: Measured, requests: int) -> dict[str, Any]:
    """Return traffic and store operations per request, of the phase in which the arm went shopping."""
    if name not in measured.usage:
        return {"traffic": None, "session_operations_per_request": None}
    before, after = measured.usage[name]
    flows = per_request(before, after, requests)
    return {
        "traffic": {"bytes_per_request": flows["bytes"], "messages_per_request": flows["messages"]},
        "session_operations_per_request": flows["operations"],
    }


def _storage(name: str, measured: Measured) -> dict[str, Any]:
    found = measured.storage.get(name)
    if found is None:
        return {}
    shopping = holding(measured.usage[name][1].census, shared_store(name))
    shown = set(sorted({handle for held in shopping.held.values() for handle in held})[:SHOWN_SESSIONS])
    copies = found.holding.copies_per_session
    logical = found.holding.logical_bytes_per_session
    content = None if logical is None or copies is None else logical * copies
    return {
        "copies_per_session": copies,
        "logical_bytes_per_session": content,
        "logical_bytes_per_copy": logical,
        "physical_bytes_per_session": found.ladder.bytes_per_session_above(content or 0.0),
        "sessions": found.holding.sessions,
        "ladder": msgspec.to_builtins(found.ladder),
        "engine": found.engine,
        "held_by": {
            holder: [short_hash(handle) for handle in handles if handle in shown]
            for holder, handles in shopping.held.items()
        },
    }


def _copies_unused(measured: Measured, arm: str) -> dict[str, Any] | None:
    """Return how many copies were held beside the server that wrote the session last, and how many nobody read."""
    if arm not in measured.usage:
        return None
    _, after = measured.usage[arm]
    copies, read = detail(after, "foreign_copies"), detail(after, "foreign_copies_read")
    if not copies:
        return None
    rate = statistics.wilson(copies - read, copies)
    return {"copies": copies, "never_read": copies - read, "rate": msgspec.to_builtins(rate)}


def _lifecycle(name: str, measured: Measured, operations: list[Operation]) -> dict[str, Any]:
    if name not in measured.held_up:
        return {}
    out = measured.held_up[name]
    found = check([operation for operation in operations if operation.shopper not in out], "lifecycle")
    left = measured.left[name]
    ended = sum(count["ended"] for count in left.values())
    still = sum(count["left"] for count in left.values())
    found["handles_left"] = {
        "verdict": "violated" if still else "ok" if ended else "unknown",
        "violations": still,
        "opportunities": ended,
        "shoppers": ended,
        "rate": msgspec.to_builtins(statistics.rate_by_shopper([still / ended] * ended, [1] * ended))
        if ended
        else None,
        **left,
    }
    found["held_up"] = len(out)
    return found


def _untimed_arm(name: str, measured: Measured, by_arm: dict[str, list[Operation]]) -> dict[str, Any]:
    operations = [operation for operation in by_arm[name] if operation.scenario == "shopping"]
    _, after = measured.usage[name]
    main = [operation for operation in operations if operation.phase == "main"]
    return {
        "requests": _requests(main, len(main)),
        "consistency": check(operations, "shopping"),
        "copies_unused": _copies_unused(measured, name),
        "peer_timeouts": detail(after, "peer_timeouts"),
    }
