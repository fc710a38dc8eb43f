"""A lecture of two tiny experiments through the command line, in a process of its own: `python tiny_lecture.py OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from lab.cli import doors, main
from lab.experiments.failover import experiment as failover
from lab.experiments.failover.faults import FAULTS
from lab.experiments.lecture import experiment as lecture
from lab.experiments.redis_speed import experiment as redis_speed
from lab.report import charts, crew, style

SPEED = redis_speed.Size(
    blocks=2, slice_seconds=0.001, stretches=2, stretch_seconds=0.005, distant_blocks=2, changes=2, races=2
)
FAILOVER = failover.Size(before=1, hold=1, after=2.5, shoppers=12, together=True)
OPTIONS = {"redis-speed": [], "failover": ["--servers=2", "--rate=80", "--strategies=sticky"]}


def deliver(out: str) -> int:
    """Carry it out into a folder of runs and return the exit status."""
    redis_speed.SIZES["quick"] = SPEED
    failover.SIZES["quick"] = FAILOVER
    failover.FAULTS = {"kill-server": FAULTS["kill-server"]}
    lecture.EXPERIMENTS = {name: lecture.EXPERIMENTS[name] for name in OPTIONS}
    for name in OPTIONS:
        charts.CHARTS[name] = dict(list(charts.CHARTS[name].items())[:2])
    style.PNG_DPI, crew.MOST = 20, 1  # small pictures, which nobody looks at
    asked = doors._asked
    doors._asked = lambda door, arguments: asked(door, [*arguments, *OPTIONS[door]])
    return main(["lecture", "--quick", "--out", out])


if __name__ == "__main__":
    sys.exit(deliver(sys.argv[1]))
