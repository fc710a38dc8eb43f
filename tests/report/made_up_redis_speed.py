"""A made-up run of `redis-speed`: plausible figures, put together, judged and written as a real run's would be.

No number here was measured. In a run that is `opposite` Redis is slow, native types send more and lose changes, and the
network is nothing beside the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lab.experiments.redis_speed import experiment as redis_speed
from lab.experiments.redis_speed.findings import assemble
from lab.experiments.redis_speed.pipeline import CONNECTIONS, KEPT, UNKEPT, Stretch, loads
from lab.experiments.redis_speed.sessions import Cell, Slice, network_cells, session_cells
from lab.experiments.redis_speed.types import KINDS, WAYS, Change, Race
from lab.report import results as results_file

if TYPE_CHECKING:
    from pathlib import Path

MEANS_MS = {
    "sticky": {"read": 0.002, "write": 0.005, "write all": 0.006},
    "database": {"read": 0.1, "write": 0.25, "write all": 0.4},
    "redis": {"read": 0.06, "write": 0.07, "write all": 0.09},
}
CPU_US = {"GET": 0.55, "SET": 1.6, UNKEPT: 0.9}
CLUSTER = "LAB_REDIS_URL leads to a Redis Cluster; this part asks a single server"
NO_LINK = "LAB_REDIS_URL is not a plain TCP address, which alone a link can lead to"


def write(
    folder: Path,
    *,
    blocks: int = 12,
    opposite: bool = False,
    remote: bool = False,
    cluster: bool = False,
    benchmark: bool = False,
) -> Path:
    """Write the files of a made-up run into `folder` and return it.

    Args:
        folder: a run's folder; made if it is missing.
        blocks: of every part; fewer than eight carry no interval.
        opposite: everything comes out the other way round.
        remote: Redis is not the lab's own: its CPU time is not known, and no link leads to it.
        cluster: Redis is a cluster as well: what needs a single server was left out.
        benchmark: `redis-benchmark` was there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = redis_speed.settings(size="quick", seed=1, out=folder.parent, command="make <redis-speed>")
    machine = {"cpus": 2, "memory_bytes": 8_000_000_000, "platform": "made up"}
    draw = np.random.default_rng(7)
    measured = redis_speed.Measured(chosen, started="2026-01-01T00:00:00Z", machine=machine, seconds=21.0)
    measured.versions = {"python": "3.13.0", "redis": "8.2.0", "nginx": None}
    measured.durability = {"redis": "appendfsync everysec", "postgresql": "fsync on"}
    measured.foreign = [0.05, 0.4 if opposite else 0.06]
    measured.slices = _slices(session_cells(), blocks, draw, opposite=opposite)
    distant = [cell for cell in network_cells(redis_speed.ROUND_TRIPS_MS) if not remote or _is_reached(cell)]
    measured.distant = _slices(distant, blocks, draw, opposite=opposite)
    if not cluster:
        measured.stretches = _stretches(blocks, draw, opposite=opposite, remote=remote)
        measured.changes = _changes(blocks, draw, opposite=opposite)
        measured.races = _races(opposite=opposite)
    if remote:
        measured.left_out["emulated links to redis"] = NO_LINK
    if cluster:
        measured.left_out |= {"pipelined operations": CLUSTER, "native types": CLUSTER}
    if benchmark:
        alone = {"command": "GET", "depth": 1, "connections": 1, "per_second": 31_234.5}
        measured.benchmark = [alone, {**alone, "depth": 64, "connections": CONNECTIONS, "per_second": 1_400_000.0}]
    results_file.write(folder, assemble(measured, folder))
    return folder


def _is_reached(cell: Cell) -> bool:
    return cell.store == "database" or cell.round_trip_ms is None


def _slices(cells: list[Cell], blocks: int, draw: np.random.Generator, *, opposite: bool) -> list[Slice]:
    made = []
    for block in range(blocks):
        for position, cell in enumerate(cells):
            slow = 30 if opposite and cell.store == "redis" else 1
            engine_ms = slow * MEANS_MS[cell.store][cell.operation] * (1 + cell.size / 40_000)
            away_ms = 0.0 if cell.round_trip_ms is None else cell.round_trip_ms + 0.06
            made.append(Slice(cell, block, position, (engine_ms + away_ms) * draw.lognormal(0, 0.1, 60)))
    return made


def _stretches(blocks: int, draw: np.random.Generator, *, opposite: bool, remote: bool) -> list[Stretch]:
    made = []
    for block in range(blocks):
        for load in loads(KEPT if remote else (*KEPT, UNKEPT)):
            each_us = CPU_US[load.command] * (8 if opposite else 1) + 13 / load.depth
            cpu_seconds = 0.06 * draw.uniform(0.9, 1.0)
            operations = round(cpu_seconds * 1e6 / each_us)
            made.append(Stretch(load, block, operations, 0.06, None if remote else cpu_seconds))
    return made


def _changes(blocks: int, draw: np.random.Generator, *, opposite: bool) -> list[Change]:
    sizes = {"one value": (8400, 8300, 0.18), "native types": (9000 if opposite else 300, 18, 0.08)}
    return [
        Change(
            way.name, kind, block, sizes[way.name][0], sizes[way.name][1], sizes[way.name][2] * draw.uniform(0.9, 1.1)
        )
        for block in range(blocks)
        for way in WAYS
        for kind in KINDS
    ]


def _races(*, opposite: bool) -> list[Race]:
    none, some = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 190)
    return [Race("one value", 960, none if opposite else some), Race("native types", 960, some if opposite else none)]
