"""What every run says about itself: who asked for what, on which machine, with which versions."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lab import claims
from lab.measuring.runs import carry_out, durability, machine, now, versions
from lab.report.results import SCHEMA, Results
from strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from rich.console import Console

    from lab.measuring.place import Place, Shop
    from lab.measuring.runs import Steps

CONTROL = "isolated"
"""The strategy that shows the problem: it serves empty carts, so its latency is compared with nobody's."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a user can ask of every experiment; see `python -m lab <experiment> --help`.

    Attributes:
        size: `quick`, `default`, or what else the experiment offers.
        seed: of every plan and order.
        out: where runs are kept.
        command: what was typed, or would have had to be.
    """

    size: str
    seed: int
    out: Path
    command: str


@dataclass(kw_only=True)
class Facts:
    """What a run learns about its surroundings while it goes on.

    Attributes:
        started: time in UTC.
        machine: cpus, memory, platform.
        seconds: how long the run took, once it has ended.
        begun: the start on the monotonic clock.
        versions: of everything measured.
        durability: what the engines promise to keep.
        engine: what ran the servers: `local`, `docker` or `target`.
        silences: what could not be told there, a sentence each.
    """

    started: str = field(default_factory=now)
    machine: dict[str, Any] = field(default_factory=machine)
    seconds: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    versions: dict[str, str | None] = field(default_factory=dict)
    durability: dict[str, str | None] = field(default_factory=dict)
    engine: str = "local"
    silences: list[str] = field(default_factory=list)

    def learn(self, lab: Place[Any], cluster: Shop | None = None) -> None:
        """Ask a running lab for versions and durability, unless that has been done; without a cluster, not nginx."""
        self.versions = self.versions or versions(lab, cluster)
        self.durability = self.durability or durability(lab)
        self.engine, self.silences = lab.engine, list(lab.silences)

    def end(self) -> None:
        """Note how long the run took."""
        self.seconds = time.monotonic() - self.begun


_Asked = TypeVar("_Asked", bound=Asked)
_Measured = TypeVar("_Measured", bound=Facts)


def in_order(asked: Collection[str]) -> tuple[str, ...]:
    """Return the strategies that were asked for, each once, in the registry's order."""
    return tuple(name for name in STRATEGIES if name in asked)


def conduct(
    experiment: str,
    chosen: _Asked,
    console: Console,
    procedure: Callable[[_Asked, Path, Steps], _Measured],
    assemble: Callable[[_Measured, Path], Results],
    *,
    question: str,
    last_step: str,
) -> None:
    """Carry out a run, from its folder to its report.

    Args:
        experiment: its name.
        chosen: what the user asked for.
        console: where the user looks.
        procedure: measures, with a folder for its files and steps to show.
        assemble: makes the results of what was measured; may write into the folder, too.
        question: printed first.
        last_step: what `assemble` does, in words.
    """
    console.print(question)

    def measure(folder: Path, steps: Steps) -> Results:
        measured = procedure(chosen, folder, steps)
        steps.begin(last_step)
        return assemble(measured, folder)

    carry_out(experiment, chosen.out, console, measure)


def outline(experiment: str, folder: Path, asked: Asked, facts: Facts, **more: Any) -> Results:
    """Return the results of a complete run that every experiment has: `run`, `validity`, `strategies`, no claims yet.

    Args:
        experiment: its name.
        folder: the run's.
        asked: what the user asked for.
        facts: what was learned.
        more: what else stands under `run`, such as `servers`, `rate_rps` and `blocks`; null where it means nothing.
    """
    return {
        "schema": SCHEMA,
        "experiment": experiment,
        "complete": True,
        "run": {
            "id": folder.name,
            "started": facts.started,
            "seconds": round(facts.seconds, 1),
            "engine": facts.engine,
            "not_told": facts.silences,
            "seed": asked.seed,
            "servers": None,
            "rate_rps": None,
            "blocks": None,
            "size": asked.size,
            "write_policy": "fields",
            **more,
            "command": asked.command,
            "machine": facts.machine,
            "durability": facts.durability,
            "versions": facts.versions,
        },
        "validity": {"ok": True, "warnings": []},
        "strategies": {},
    }


def judged(results: Results) -> Results:
    """Add the claims as these results judge them, and return the results."""
    return {**results, "claims": claims.judge(results)}
