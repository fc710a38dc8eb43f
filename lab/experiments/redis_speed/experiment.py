"""`make redis-speed`: how quick is Redis, one session at a time and at full tilt; and when does the network decide?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.

No web server takes part: the lab's own process is the client, and asks each engine in turn.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import Lab
from lab.experiments.redis_speed import pipeline, sessions, types
from lab.experiments.redis_speed.findings import assemble
from lab.measuring.facts import Asked, Facts, conduct
from lab.probes.cpu import CpuMeter, machine_time
from lab.report.redis_speed import QUESTION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from lab.measuring.runs import Steps

# --- the question ----------------------------------------------------------------------------------------------------

ROUND_TRIPS_MS = (0.0, 0.2, 0.5, 2.0)
"""Of the emulated links: none, the same rack, another room, another city's data centre. The first shows what the
emulation itself costs."""

# --- the arms --------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """How long each part of a run is.

    Attributes:
        blocks: of the session operations.
        slice_seconds: the longest that a slice of one of them takes.
        stretches: blocks of the pipelined operations.
        stretch_seconds: of each way of asking in such a block.
        distant_blocks: of the session operations through emulated links.
        changes: blocks of changes to a session, by one writer.
        races: sessions that several writers change at once, in each way.
    """

    blocks: int
    slice_seconds: float
    stretches: int
    stretch_seconds: float
    distant_blocks: int
    changes: int
    races: int


SIZES = {
    "quick": Size(
        blocks=10,
        slice_seconds=0.012,
        stretches=10,
        stretch_seconds=0.06,
        distant_blocks=10,
        changes=10,
        races=40,
    ),
    "default": Size(
        blocks=60,
        slice_seconds=0.015,
        stretches=30,
        stretch_seconds=0.12,
        distant_blocks=40,
        changes=40,
        races=250,
    ),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of such a run; see `python -m lab redis-speed --help`."""

    @property
    def lengths(self) -> Size:
        """How long each part is."""
        return SIZES[self.size]


# --- the procedure ---------------------------------------------------------------------------------------------------


@dataclass
class Measured(Facts):
    """Filled by the procedure, part by part.

    Attributes:
        settings: what the user asked for.
        slices: of the session operations.
        distant: of the session operations through emulated links, and beside them.
        stretches: of the pipelined operations.
        benchmark: what `redis-benchmark` says of the same; None where there is none.
        changes: to a session of 8 KB, by one writer.
        races: by several writers.
        left_out: part of the run to why it was left out.
        foreign: share of the machine's CPU time that went to other programs, in each half of the run.
    """

    settings: Settings
    slices: list[sessions.Slice] = field(default_factory=list)
    distant: list[sessions.Slice] = field(default_factory=list)
    stretches: list[pipeline.Stretch] = field(default_factory=list)
    benchmark: list[dict[str, Any]] | None = None
    changes: list[types.Change] = field(default_factory=list)
    races: list[types.Race] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    foreign: list[float] = field(default_factory=list)


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Measure the four parts, one after the other."""
    measured = Measured(chosen)
    steps.begin("starting engines")
    with Lab(folder, seed=chosen.seed) as lab:
        measured.learn(lab)
        with _watched(lab, measured):
            _sessions(lab, chosen, measured, steps)
        with _watched(lab, measured):
            _single_server(lab, chosen, measured, steps)
        lab.keeper.check()
    measured.end()
    return measured


@contextmanager
def _watched(lab: Lab, measured: Measured) -> Iterator[None]:
    """Note which share of the machine's CPU time went to programs that have nothing to do with the lab."""
    engines = [engine.pid for engine in (lab.postgresql, lab.redis) if engine is not None and engine.pid is not None]
    meter, before = CpuMeter({"own": [os.getpid(), *engines]}), machine_time()
    meter.read()
    yield
    now, own = machine_time(), meter.read()["own"]
    foreign = max(0.0, now.busy - before.busy - own) / max(now.total - before.total, 1e-9)
    measured.foreign.append(foreign)


def _sessions(lab: Lab, chosen: Settings, measured: Measured, steps: Steps) -> None:
    """Time session operations: by size and store, then by distance."""
    size = chosen.lengths
    with sessions.Sessions(lab, chosen.seed, ROUND_TRIPS_MS) as opened:
        measured.left_out |= {f"emulated links to {name}": why for name, why in opened.left_out.items()}
        steps.begin(f"session operations by size, {size.blocks} blocks", total=size.blocks)
        measure = partial(
            sessions.measure, opened, seconds=size.slice_seconds, seed=chosen.seed, on_block=steps.advance
        )
        measured.slices = measure(sessions.session_cells(), blocks=size.blocks)
        steps.begin(f"session operations by distance (emulated), {size.distant_blocks} blocks", size.distant_blocks)
        measured.distant = measure(sessions.network_cells(ROUND_TRIPS_MS), blocks=size.distant_blocks)
        opened.check()


def _single_server(lab: Lab, chosen: Settings, measured: Measured, steps: Steps) -> None:
    """Ask one Redis server for as much as it can do, then change sessions in two ways."""
    size, engine = chosen.lengths, lab.redis
    assert engine is not None  # noqa: S101 - this lab was started with it
    with engine.connect() as client:
        refused = pipeline.refusal(client)
    if refused:
        measured.left_out |= {"pipelined operations": refused, "native types": refused}
        return
    steps.begin(f"pipelined operations, {size.stretches} blocks", total=size.stretches)
    measured.stretches = pipeline.measure(
        lab, blocks=size.stretches, seconds=size.stretch_seconds, seed=chosen.seed, on_block=steps.advance
    )
    measured.benchmark = pipeline.benchmark(lab)
    steps.begin("a cart as a hash, or as part of one value: one writer", total=size.changes)
    measured.changes = types.alone(lab, blocks=size.changes, on_block=steps.advance)
    steps.begin(f"the same, {types.WRITERS} writers at once")
    measured.races = types.race(lab, rounds=size.races)


# --- the findings ----------------------------------------------------------------------------------------------------


def settings(**options: Any) -> Settings:
    """Complete what the user asked for."""
    return Settings(**options)


def run(chosen: Settings, console: Console) -> None:
    """Carry out a run, from its folder to its report."""
    conduct("redis-speed", chosen, console, procedure, assemble, question=QUESTION, last_step="working out the figures")
