"""From what `contention` measured to `results.json` and `samples.npz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import samples
from lab.experiments.contention.report import LINES
from lab.measuring.columns import columns_of, is_failed
from lab.measuring.facts import judged, outline
from lab.measuring.timed import LATENESS_LIMIT_MS
from lab.statistics import (
    CONFIDENCE,
    CROWDED,
    Interval,
    carries,
    mean_of_blocks,
    paired_ratio,
    pooled_quantile,
    quantile_by_block,
)
from loadtests.browsing import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lab.experiments.contention.experiment import Lived, Measured
    from lab.experiments.contention.watch import Counts, Reading, Waits
    from lab.measuring.timed import Slice

P95 = 0.95
STRATEGIES = ("database", "redis")


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the samples into the run's folder, and return the results."""
    columns = _columns(measured.lived)
    samples.save(columns, folder)
    chosen, size = measured.settings, measured.settings.lengths
    results = outline(
        "contention",
        folder,
        chosen,
        measured,
        servers=chosen.servers,
        blocks_per_load=size.blocks,
        loads_rps=list(size.loads_rps),
        report_loads_rps=list(size.report_rps),
    )
    tellers = [_Teller(lived, columns, measured.own) for lived in measured.lived]
    usual = [teller for teller in tellers if teller.lived.case.pair is None]
    points = _widened([teller.point() for teller in usual], usual)
    results |= {
        "validity": _validity(measured, points),
        "strategies": {name: {"requests": _requests(measured.lived, name)} for name in STRATEGIES},
        "contention": {
            "points": points,
            "pairs": [teller.point() for teller in tellers if teller.lived.case.pair is not None],
            "pairs_left_out": measured.left_out or None,
            "pair_rps": size.pair_rps,
            "same_against_same": next((teller.same() for teller in usual if teller.lived.case.twin), None),
            "report": _report(measured),
            "commit_ms": msgspec.to_builtins(measured.commits),
            "crowded": CROWDED,
        },
    }
    return judged(results)


def _columns(lived: Sequence[Lived]) -> samples.Samples:
    """Put the requests of all timed blocks into columns, the case in the name of the arm."""
    rows = []
    for one in lived:
        for piece in one.timed.slices:
            for operation in piece.operations:
                operation.arm = _arm(piece.arm, one)
                rows.append((piece.position, operation))
    return columns_of(rows)


def _arm(name: str, lived: Lived) -> str:
    return f"{name}, {lived.case.title}"


class _Teller:
    """Tells what one case gave.

    Args:
        lived: the case.
        columns: of the whole run.
        own: which engines are the lab's own.
    """

    def __init__(self, lived: Lived, columns: samples.Samples, own: dict[str, bool]) -> None:
        self.lived = lived
        self._columns, self._own = columns, own
        self._is_catalogue = np.isin(columns.fs[columns.f], CATALOGUE)

    def point(self) -> dict[str, Any]:
        """Return the case as plain values."""
        lived, case = self.lived, self.lived.case
        told = {strategy: self._told(name) for strategy, name in zip(STRATEGIES, lived.names, strict=True)}
        busy = [one["cpu_share"] for one in told.values() if one["cpu_share"] is not None]
        return {
            "load_rps": case.load_rps,
            "report": case.report,
            **({"promise": msgspec.to_builtins(case.pair)} if case.pair else {}),
            "slice_seconds": case.seconds,
            "blocks": case.blocks,
            "ratio": _plain(self.ratio()),
            "session_pages_ratio": _plain(self._ratio(catalogue=False)),
            "cpu_share": max(busy, default=None),
            "judged": bool(busy) and max(busy) < CROWDED and self._carried(),
            "arms": told,
            "engine": _engine(*lived.counts),
            "reports": len(lived.reports),
            "report_seconds": float(np.median(lived.reports)) if lived.reports else None,
        }

    def _carried(self) -> bool:
        """Return whether there are catalogue pages enough on either arm for a 95th percentile."""
        counts = [int(self._rows(name, catalogue=True).sum()) for name in self.lived.names]
        return all(carries(count, P95) == "number" for count in counts)

    def ratio(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Return how many times as long the catalogue's pages take (95th percentile) under `database` as `redis`."""
        return self._ratio(catalogue=True, confidence=confidence)

    def same(self) -> dict[str, Any] | None:
        """Return the same ratio of `redis` to itself."""
        own, again = (self._p95(self.lived.names[1], catalogue=True, twin=twin) for twin in (False, True))
        return _plain(paired_ratio(again, [own]))

    def _ratio(self, *, catalogue: bool, confidence: float = CONFIDENCE) -> Interval | None:
        database, redis = (self._p95(name, catalogue=catalogue) for name in self.lived.names)
        return paired_ratio(database, [redis], confidence)

    def _rows(self, name: str, *, catalogue: bool, twin: bool = False) -> NDArray[np.bool_]:
        own = self._columns.rows(_arm(name, self.lived), twin=twin)
        return np.asarray(own & (self._is_catalogue == catalogue))

    def _p95(self, name: str, *, catalogue: bool, twin: bool = False) -> dict[int, float]:
        rows = self._rows(name, catalogue=catalogue, twin=twin)
        return quantile_by_block(self._columns.latency_ms[rows], self._columns.block[rows], P95)

    def _told(self, name: str) -> dict[str, Any]:
        pieces = [piece for piece in self.lived.timed.slices if piece.arm == name and not piece.twin]
        readings = [self.lived.readings[name, piece.block] for piece in pieces]
        sent = sum(len(piece.operations) for piece in pieces)
        return {
            "name": name,
            "sent": sent,
            "failed": sum(is_failed(operation) for piece in pieces for operation in piece.operations),
            "catalogue": self._figures(name, catalogue=True),
            "session": self._figures(name, catalogue=False),
            "cpu_share": _share(readings),
            "cpu_ms_per_request": self._cpu(pieces, readings, sent),
            **self._log(readings, sent),
            "waits": _waiting(self.lived.waits.get(name)),
        }

    def _figures(self, name: str, *, catalogue: bool) -> dict[str, Any]:
        rows = self._rows(name, catalogue=catalogue)
        values, blocks = self._columns.latency_ms[rows], self._columns.block[rows]
        found: dict[str, Any] = {"requests": len(values)}
        for key, p in (("p50_ms", 0.5), ("p95_ms", P95)):
            found[key] = None if carries(len(values), p) == "none" else _plain(pooled_quantile(values, blocks, p))
        return found

    def _cpu(self, pieces: Sequence[Slice], readings: Sequence[Reading], sent: int) -> dict[str, float | None]:
        """Return CPU time per request by component, in ms; null where an engine is not the lab's own."""
        if not sent:
            return {}
        spent: dict[str, float | None] = {
            "servers": sum(piece.cpu["servers"] for piece in pieces),
            "postgresql": sum(one.postgresql for one in readings) if self._own["postgresql"] else None,
            "redis": sum(one.redis for one in readings) if self._own["redis"] else None,
            "balancer": sum(piece.cpu["balancer"] for piece in pieces),
            "load generator": sum(piece.generator_cpu for piece in pieces),
        }
        known = sum(value for value in spent.values() if value is not None)
        spent["rest of the machine"] = max(0.0, sum(one.busy for one in readings) - known)
        return {key: None if value is None else 1000 * value / sent for key, value in spent.items()}

    def _log(self, readings: Sequence[Reading], sent: int) -> dict[str, Any]:
        seconds = sum(one.seconds for one in readings)
        if not sent or not seconds:
            return {"postgresql_cores": None, "wal_bytes_per_s": None, "wal_bytes_per_request": None}
        cores = [one.postgresql / one.seconds for one in readings]
        wal = sum(one.wal_bytes for one in readings)
        return {
            "postgresql_cores": _plain(mean_of_blocks(cores)) if self._own["postgresql"] else None,
            "wal_bytes_per_s": wal / seconds,
            "wal_bytes_per_request": wal / sent,
        }


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else dict(msgspec.to_builtins(interval))


def _share(readings: Sequence[Reading]) -> float | None:
    total = sum(one.total for one in readings)
    return sum(one.busy for one in readings) / total if total else None


def _engine(before: Counts, after: Counts) -> dict[str, Any]:
    """Return what PostgreSQL counted meanwhile; dead rows are those that there are in the end."""
    updates = after.updates - before.updates
    return {
        "session_updates": updates,
        "hot_share": (after.hot_updates - before.hot_updates) / updates if updates > 0 else None,
        "dead_rows": after.dead_rows,
        "autovacuums": after.autovacuums - before.autovacuums,
        "checkpoints": after.checkpoints - before.checkpoints,
    }


def _waiting(waits: Waits | None) -> dict[str, float] | None:
    """Return how many connections were waiting on average, by what for."""
    if waits is None or not waits.looks:
        return None
    return {"looks": waits.looks, **{kind: seen / waits.looks for kind, seen in waits.seen.items()}}


def _widened(points: list[dict[str, Any]], tellers: Sequence[_Teller]) -> list[dict[str, Any]]:
    """Add to each judged point the interval that is as sure for all together as 95 % is for one (Bonferroni)."""
    looks = sum(point["judged"] for point in points)
    for point, teller in zip(points, tellers, strict=True):
        wide = teller.ratio(1 - (1 - CONFIDENCE) / looks) if point["judged"] else None
        point["ratio_for_all"] = _plain(wide)
    return points


def _requests(lived: Sequence[Lived], strategy: str) -> dict[str, int]:
    index = STRATEGIES.index(strategy)
    pieces = [piece for one in lived for piece in one.timed.slices if piece.arm == one.names[index]]
    operations = [operation for piece in pieces for operation in piece.operations]
    return {
        "scheduled": sum(piece.scheduled for piece in pieces),
        "sent": len(operations),
        "ok": sum(operation.outcome == "ok" for operation in operations),
        "failed": sum(is_failed(operation) for operation in operations),
    }


def _report(measured: Measured) -> dict[str, Any]:
    orders = measured.settings.lengths.orders
    return {"orders": orders, "lines": orders * LINES, "ended": sum(len(one.reports) for one in measured.lived)}


def _validity(measured: Measured, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what spoilt the run; at a load that is crowded anyway, a late generator spoils nothing."""
    crowded = {(point["load_rps"], point["report"]) for point in points if (point["cpu_share"] or 1) >= CROWDED}
    counted = [one for one in measured.lived if (one.case.load_rps, one.case.report) not in crowded or one.case.pair]
    late = np.array([ms for one in counted for piece in one.timed.slices for ms in piece.lateness_ms])
    lateness = {"p50": float(np.quantile(late, 0.5)), "p99": float(np.quantile(late, 0.99))} if len(late) else {}
    warnings = [f"{one.case.title}: {text}" for one in counted for text in one.timed.warnings]
    if measured.left_out:
        warnings.append(f"pairs of equal promise were left out: {measured.left_out}")
    if lateness.get("p99", 0.0) > LATENESS_LIMIT_MS:
        warnings.append(f"the load generator was {lateness['p99']:.0f} ms late (99th percentile)")
    return {
        "ok": not warnings,
        "warnings": warnings,
        "blocks_redone": sum(one.timed.redone for one in measured.lived),
        "generator_lateness_ms": lateness,
    }
