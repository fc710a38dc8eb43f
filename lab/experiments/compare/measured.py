"""What a comparison measured, before anything is concluded from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lab.measuring.facts import Facts
from lab.measuring.timed import TimedRun
from lab.probes.pace import Pace

if TYPE_CHECKING:
    from lab.experiments.compare.experiment import Arms, Settings
    from lab.measuring.usage import StorageFinding, Usage
    from lab.probes.containers import Use
    from loadtests.recorder import Operation


@dataclass
class Measured(Facts):
    """Filled by the procedure, phase by phase.

    Attributes:
        settings: what the user asked for.
        arms: what was measured.
        timed: the timed blocks.
        history: every request of every phase.
        pace: how fast the machine was during the timed blocks.
        usage: arm to the readings of its meters before and after its shopping.
        storage: strategy to the findings of its storage ladder.
        held_up: strategy to the shoppers of the lifecycle scenario whom the machine kept from their plan, by name.
        containers: timed arm to what each of its containers used in a stretch of its own, and the requests of that.
        left: strategy to the ended sessions of the lifecycle scenario whose ids were still held (`scenarios.Lives`).
    """

    settings: Settings
    arms: Arms
    timed: TimedRun = field(default_factory=lambda: TimedRun([], [], 0, []))
    history: list[Operation] = field(default_factory=list)
    pace: Pace = field(default_factory=lambda: Pace(np.empty(0), np.empty(0)))
    usage: dict[str, tuple[Usage, Usage]] = field(default_factory=dict)
    storage: dict[str, StorageFinding] = field(default_factory=dict)
    containers: dict[str, tuple[dict[str, Use], int]] = field(default_factory=dict)
    held_up: dict[str, set[str]] = field(default_factory=dict)
    left: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
