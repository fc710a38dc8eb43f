"""A made-up run on hot servers: planned requests, answered by whom a balancer would have sent them to.

No number here was measured. Under `sticky` shoppers are bound, elsewhere requests go round; a run that is `opposite`
has it the other way round.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from lab.experiments.hotspot import experiment as hotspot
from lab.experiments.hotspot.findings import assemble
from lab.report import results as results_file
from loadtests.recorder import Operation
from loadtests.uneven import Lengths, population_of, uneven_story

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.plans import Plan

SECOND = 1_000_000_000
SERVERS = 4
BEFORE, JOIN, STAY = 3, 1, 14
UNDRAINED = 1.5
STRATEGIES = ("sticky", "all-to-all", "database", "redis")


def write(
    folder: Path,
    *,
    strategies: tuple[str, ...] = STRATEGIES,
    populations: int = 12,
    opposite: bool = False,
    broken: bool = False,
    slow: float = 1.0,
    rate_rps: float = 50,
) -> Path:
    """Write the files of a made-up run into `folder` and return it.

    Args:
        folder: a run's folder; made if it is missing.
        strategies: which ones took part.
        populations: how many.
        opposite: those who are usually bound are free, and the other way round.
        broken: nobody gets an answer.
        slow: how many times as long the hot servers take.
        rate_rps: requests a second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = hotspot.settings(
        size="quick", strategies=strategies, servers=SERVERS, rate=200, seed=1, out=folder.parent, command="<hotspot>"
    )
    lengths = Lengths(
        populations=populations, shoppers=40, turn=1.2, stay=STAY, roll_call=4, newcomers=1, drain=UNDRAINED + 3
    )
    plans = uneven_story(1, lengths, rate_rps=rate_rps, login_rps=100)
    machine = {"cpus": 2, "memory_bytes": 8_000_000_000, "platform": "made up"}
    measured = hotspot.Measured(chosen, started="2026-01-01T00:00:00Z", machine=machine, seconds=55.0)
    measured.versions, measured.durability = {"python": "3.13.0"}, {"redis": "none", "postgresql": "fsync on"}
    for name in strategies:
        shop = _Shop(name, bound=(name == "sticky") != opposite, broken=broken, slow=slow)
        measured.lived.append(_lived(shop, plans, name))
    results_file.write(folder, assemble(measured, folder))
    return folder


def _lived(shop: _Shop, plans: Any, name: str) -> hotspot.Lived:
    entered = shop.follow(plans.enter)
    turns = [shop.follow(plan) for plan in plans.turns]
    added = hotspot.Change("web-5", shop.now + BEFORE * SECOND, shop.now + (BEFORE + JOIN) * SECOND)
    shop.added_ns = added.asked_ns + SECOND // 2
    stay = shop.follow(plans.stay)
    roll_call_ns = shop.now
    roll_call, newcomers = shop.follow(plans.roll_call), shop.follow(plans.newcomers)
    drained = hotspot.Change("web-1", shop.now + round(UNDRAINED * SECOND), shop.now + round((UNDRAINED + 1) * SECOND))
    shop.drained_ns = drained.asked_ns + SECOND // 2
    drain = shop.follow(plans.drain)
    cpu = [{f"web-{n}": 0.02 + 0.01 * (n == 1) for n in range(1, SERVERS + 1)} for _ in turns]
    return hotspot.Lived(
        arm=name,
        servers=SERVERS,
        entered=entered,
        turns=turns,
        cpu=cpu,
        stay=stay,
        added=added,
        roll_call=roll_call,
        roll_call_ns=roll_call_ns,
        newcomers=newcomers,
        drain=drain,
        drained=drained,
        final=[],
        lateness_ms=[0.2] * 100,
    )


class _Shop:
    """Answers planned requests as a balancer would have them answered."""

    def __init__(self, arm: str, *, bound: bool, broken: bool, slow: float) -> None:
        self.now = 100 * SECOND
        self.added_ns = self.drained_ns = 1 << 62
        self._arm, self._bound, self._broken, self._slow = arm, bound, broken, slow
        self._turn, self._numbers = count(), count()
        self._owners: dict[str, str] = {}

    def follow(self, plan: Plan) -> list[Operation]:
        """Answer every request of a plan, and let its time pass."""
        made = [self._answer(planned, plan) for planned in plan.requests]
        self.now += round(plan.seconds * SECOND)
        return made

    def _answer(self, planned: Any, plan: Plan) -> Operation:
        at = self.now + round(planned.at_seconds * SECOND)
        server = self._server(planned.shopper, at)
        heavy = self._bound and planned.shopper.endswith("000")
        took_ms = (4 + next(self._numbers) % 7) * (self._slow if heavy or server == "web-1" else 1.0)
        return Operation(
            i=next(self._numbers),
            arm=self._arm,
            strategy=self._arm,
            scenario="shopping",
            phase=plan.phase,
            block=plan.block,
            shopper=planned.shopper,
            tab=0,
            f=planned.f,
            token=planned.token,
            intended_ns=at,
            t0_ns=at,
            t1_ns=at + round(took_ms * SECOND / 1000),
            outcome="fail" if self._broken else "ok",
            status=0 if self._broken else 200,
            error="refused" if self._broken else None,
            server=None if self._broken else server,
            session=planned.shopper,
            presented=planned.shopper,
        )

    def _server(self, shopper: str, at: int) -> str:
        names = [f"web-{n}" for n in range(1, SERVERS + 1 + (at >= self.added_ns))]
        if not self._bound:
            names = [name for name in names if not (name == "web-1" and at >= self.drained_ns)]
            return names[next(self._turn) % len(names)]
        if shopper.endswith("000"):  # every second population's heaviest shopper is on the first server
            return self._owners.setdefault(shopper, names[population_of(shopper) % 2])
        return self._owners.setdefault(shopper, names[next(self._turn) % len(names)])
