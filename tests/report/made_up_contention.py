"""A made-up contention run: plausible requests, told, judged and written as a real run would be.

No number here was measured. Usually the catalogue's pages take `times` as long with the sessions in the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab.experiments.contention import experiment as contention
from lab.experiments.contention.commits import Commits
from lab.experiments.contention.findings import assemble
from lab.experiments.contention.watch import WAITS, Counts, Reading, Waits
from lab.measuring.timed import TWIN, Slice, TimedRun
from lab.report import results as results_file
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MS = 1_000_000
REQUESTS = 120
"""In each slice; every second one is a page of the catalogue."""

_FULL_RPS = 900.0
"""At this load all of the made-up machine's CPU time is in use."""


def write(
    folder: Path,
    *,
    times: float = 1.4,
    blocks: int = 12,
    loads: tuple[int, ...] | None = None,
    full_rps: float = _FULL_RPS,
    own: bool = True,
    noise: float = 0.05,
    requests: int = REQUESTS,
) -> Path:
    """Write the files of a made-up run into `folder` and return it.

    Args:
        folder: a run's folder; made if it is missing.
        times: how many times as long the catalogue's pages take with the sessions in the database.
        blocks: of each load.
        loads: offered ones; by default those of a long run.
        full_rps: the load at which all CPU time is in use; half of that with the report.
        own: whether the engines are the lab's own.
        noise: of a slice's latencies: the standard deviation of their logarithm.
        requests: in each slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = contention.settings(
        size="default", servers=4, loads=loads, seed=1, out=folder.parent, command="make <contention>"
    )
    machine = {"cpus": 2, "memory_bytes": 8_000_000_000, "platform": "made up"}
    measured = contention.Measured(settings=chosen, started="2026-01-01T00:00:00Z", machine=machine, seconds=281.0)
    measured.own = {"postgresql": own, "redis": own}
    measured.left_out = "" if own else "LAB_REDIS_URL names a Redis that is not the lab's own"
    measured.commits = Commits({"on": 0.5, "off": 0.1, "unlogged": 0.1}, {"always": 0.4} if own else {})
    measured.versions, measured.durability = {"python": "3.13.0"}, {"redis": "always", "postgresql": "fsync on"}
    maker = _Maker(times, blocks, full_rps, noise, requests)
    measured.lived = [maker.live(case) for case in contention.cases(chosen) if own or case.pair is None]
    results_file.write(folder, assemble(measured, folder))
    return folder


class _Maker:
    def __init__(self, times: float, blocks: int, full_rps: float, noise: float, requests: int) -> None:
        self._times, self._blocks, self._full_rps, self._noise = times, blocks, full_rps, noise
        self._requests = requests
        self._rng = np.random.default_rng(1)

    def live(self, case: contention.Case) -> contention.Lived:
        """Make up one case."""
        names = ("database", "redis")
        if case.pair:
            names = (f"database {case.pair.commit}", f"redis {case.pair.redis}")
        slots = [*names, *([names[1] + TWIN] if case.twin else [])]
        pieces = [self._slice(slot, block, case) for block in range(self._blocks) for slot in slots]
        readings = {(slot, block): self._reading(slot, case) for block in range(self._blocks) for slot in slots}
        counts = (Counts(10, 9, 3, 0, 0), Counts(510, 499, 40, 1, 0))
        waits = {} if case.pair else {name: self._waits(name) for name in names}
        reports = [0.25, 0.27, 0.31] if case.report else []
        return contention.Lived(case, names, TimedRun(pieces, [], 0, []), readings, counts, waits, reports)

    def _slice(self, slot: str, block: int, case: contention.Case) -> Slice:
        arm, twin = slot.removesuffix(TWIN), slot.endswith(TWIN)
        slow = (self._times if arm.startswith("database") else 1.0) * float(np.exp(self._rng.normal(0, self._noise)))
        operations = list(self._operations(arm, block, twin, slow * (1 + case.load_rps / 500)))
        cpu = {"servers": 0.1, "store": 0.05, "balancer": 0.02}
        sent = len(operations)
        return Slice(arm, twin, block, 0, operations, sent, sent, cpu, 0.0, [0.2] * sent, 0.01, 0.0, 0.4, 0.03)

    def _operations(self, arm: str, block: int, twin: bool, slow: float) -> Iterable[Operation]:
        for i in range(self._requests):
            f = ("view", "product", "add", "search", "visit", "list")[i % 6]
            began = block * 10_000 * MS + i * MS
            yield Operation(
                i=i,
                arm=arm,
                strategy=arm.partition(" ")[0],
                scenario="shopping",
                phase="main",
                block=block,
                twin=twin,
                shopper="s1",
                tab=0,
                f=f,
                intended_ns=began,
                t0_ns=began,
                t1_ns=began + int(slow * (1 + i / self._requests) * MS),
                outcome="ok",
                status=200,
                server="web-1",
            )

    def _reading(self, slot: str, case: contention.Case) -> Reading:
        share = min(0.99, case.load_rps / self._full_rps * (2 if case.report else 1))
        sessions = slot.startswith("database")
        return Reading(
            postgresql=0.06 + 0.03 * sessions,
            redis=0.004,
            wal_bytes=60_000 if sessions else 4_000,
            busy=share,
            total=1.0,
            seconds=0.5,
        )

    def _waits(self, name: str) -> Waits:
        seen: dict[str, Any] = dict.fromkeys(WAITS, 0)
        return Waits(50, {**seen, "CPU": 8, "disk": 6 if name == "database" else 0})
