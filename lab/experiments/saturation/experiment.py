"""`make saturation`: how much load does each strategy carry, and what is busy when it carries no more?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec, Lab
from lab.errors import LabError
from lab.experiments.saturation.findings import assemble
from lab.measuring import scenarios
from lab.measuring.bench import Bench
from lab.measuring.capacity import Found, Search, search
from lab.measuring.facts import CONTROL, Asked, Facts, conduct, in_order
from lab.measuring.timed import Stage
from lab.report.saturation import QUESTION
from loadtests.client import Generator
from loadtests.plans import Plan, Shopping, warmup_plan
from loadtests.recorder import Operation
from strategies import find

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from lab.cluster import Cluster
    from lab.measuring.runs import Steps

# --- the question ----------------------------------------------------------------------------------------------------

WARMUP_RPS = 600
"""At which shoppers log in and fill their carts."""

QUIET_SWEEP_SECONDS = 30
"""There are no expired sessions to look for, and looking would land in another arm's slice."""

FROZEN = "frozen"
"""The arm of the server that stands still while two clients look on."""

FREEZE_SECONDS = 1.0
FREEZE_RPS = 200
FREEZE_TABS = 4
"""As few as many load tools open connections: so many requests at most meet the freeze in a closed loop."""

FREEZE_BLOCK = 10_000
"""Number of its first plan: an order's token buys once in a run, so that no number may come twice."""

_WARMUP_SECONDS = 0.3

# --- the arms --------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """How thorough a run is.

    Attributes:
        search: for the capacities.
        shoppers: of each arm. Each waits for one answer at a time, so that there must be far more than are ever busy.
        freeze_seconds: of load on the frozen server, each time.
        freezes: how often each of the two clients sees it freeze.
    """

    search: Search
    shoppers: int
    freeze_seconds: float
    freezes: int


SIZES = {
    "quick": Size(
        search=Search(start_rps=250, factor=1.5, slice_seconds=0.8, passes=1, steps=3),
        shoppers=120,
        freeze_seconds=4,
        freezes=1,
    ),
    "default": Size(
        search=Search(start_rps=200, factor=1.3, slice_seconds=1.2, passes=8, steps=3),
        shoppers=200,
        freeze_seconds=5,
        freezes=3,
    ),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a saturation run; see `python -m lab saturation --help`."""

    servers: int
    strategies: tuple[str, ...]

    @property
    def lengths(self) -> Size:
        """How thorough the run is."""
        return SIZES[self.size]


def settings(*, strategies: tuple[str, ...], **options: Any) -> Settings:
    """Complete what the user asked for: strategies in the registry's order, without the control.

    Raises:
        LabError: nothing is left.
    """
    chosen = in_order({*strategies} - {CONTROL})
    if not chosen:
        raise LabError(f"{CONTROL} alone has no capacity to compare: it serves empty carts. Choose another strategy.")
    return Settings(strategies=chosen, **options)


def arms(chosen: Settings) -> list[ClusterSpec]:
    """List the arms: a strategy each, everything else alike."""
    return [
        ClusterSpec(name=name, strategy=name, servers=chosen.servers, sweep_seconds=QUIET_SWEEP_SECONDS)
        for name in chosen.strategies
    ]


# --- the procedure ---------------------------------------------------------------------------------------------------


class Frozen(msgspec.Struct, frozen=True):
    """What one client saw of a server that stood still for a while.

    Attributes:
        closed: the client waits for each answer before it goes on; else it keeps to its schedule.
        turn: number of the freeze, from 0.
        operations: every request.
        omitted: requests of the plan that were never sent.
        begun_ns: start of the load by the monotonic clock.
        struck_ns: when the server was stopped.
        thawed_ns: when it was let go on.
    """

    closed: bool
    turn: int
    operations: list[Operation]
    omitted: int
    begun_ns: int
    struck_ns: int
    thawed_ns: int


@dataclass
class Measured(Facts):
    """Filled by the procedure, part by part.

    Attributes:
        settings: what the user asked for.
        found: what the search gave.
        frozen: what the two clients saw.
        uncounted: engines that are not the lab's own, so that nobody knows their CPU time.
    """

    settings: Settings
    found: Found = field(default_factory=lambda: Found([], [], {}, 0))
    frozen: list[Frozen] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Search for every arm's capacity; then let two clients look at a server that stands still."""
    measured = Measured(chosen)
    needs_redis = any("redis" in find(name).needs for name in chosen.strategies)
    log = folder / "generator.log"
    steps.begin("starting engines and servers")
    with Lab(folder, redis=needs_redis, seed=chosen.seed) as lab:
        measured.uncounted = _uncounted(lab)
        with Generator(log, exact=False) as crowd, Bench(lab, crowd).clusters(arms(chosen)) as clusters:
            measured.learn(lab, next(iter(clusters.values())))
            measured.found = _search(Bench(lab, crowd), chosen, clusters, steps)
        with Generator(log) as load:
            measured.frozen = _freeze(Bench(lab, load), chosen, steps)
    measured.end()
    return measured


def _uncounted(lab: Lab) -> list[str]:
    engines = {"LAB_DATABASE_URL": lab.postgresql, "LAB_REDIS_URL": lab.redis}
    return [name for name, engine in engines.items() if engine is not None and engine.pid is None]


def _search(bench: Bench, chosen: Settings, clusters: dict[str, Cluster], steps: Steps) -> Found:
    size = chosen.lengths
    steps.begin("warming up", total=len(clusters))
    for arm in clusters:
        warm = warmup_plan(chosen.seed, rate_rps=WARMUP_RPS, seconds=_WARMUP_SECONDS, shoppers=size.shoppers)
        bench.load.run([(arm, warm)])
        steps.advance()
    shopping = {arm: Shopping(chosen.seed, size.shoppers) for arm in clusters}

    def next_plan(arm: str, number: int, load_rps: float, seconds: float) -> Plan:
        return shopping[arm].plan(number, rate_rps=load_rps, seconds=seconds)

    return search(
        Stage(bench.lab, bench.load, clusters),
        list(clusters),
        next_plan,
        size.search,
        seed=chosen.seed,
        cpus=os.cpu_count() or 1,
        on_slice=lambda arm, load: steps.begin(f"{arm} at {load:,.0f} requests/s"),
    )


def _freeze(bench: Bench, chosen: Settings, steps: Steps) -> list[Frozen]:
    """Freeze one server under a schedule, and again under a closed loop with the same plan, in turns."""
    size = chosen.lengths
    spec = ClusterSpec(name=FROZEN, strategy=chosen.strategies[-1], servers=1, sweep_seconds=QUIET_SWEEP_SECONDS)
    shopping = Shopping(chosen.seed, FREEZE_TABS)
    seen = []
    with bench.clusters([spec]) as clusters:
        warm = warmup_plan(chosen.seed, rate_rps=FREEZE_RPS, seconds=_WARMUP_SECONDS, shoppers=FREEZE_TABS)
        bench.load.run([(FROZEN, warm)])
        bench.load.run([(FROZEN, warm.as_twin())])
        for turn in range(size.freezes):
            plan = shopping.plan(FREEZE_BLOCK + turn, rate_rps=FREEZE_RPS, seconds=size.freeze_seconds)
            twin = msgspec.structs.replace(plan.as_twin(), twin=False, closed=True)  # the same plan, other shoppers
            for one in (plan, twin) if turn % 2 == 0 else (twin, plan):
                steps.begin(f"a server stands still under a {'closed loop' if one.closed else 'schedule'}")
                seen.append(_look_on(bench, clusters[FROZEN], one, turn))
    return seen


def _look_on(bench: Bench, cluster: Cluster, plan: Plan, turn: int) -> Frozen:
    """Send a plan to a cluster, and stop its server for a second in the midst of it."""
    victim = cluster.servers[0].name
    with scenarios.in_background(bench.load) as pool:
        begun_ns = time.monotonic_ns()
        running = pool.submit(bench.load.run, [(FROZEN, plan)])
        time.sleep((plan.seconds - FREEZE_SECONDS) / 2)
        struck_ns = time.monotonic_ns()
        cluster.pause(victim)
        try:
            time.sleep(FREEZE_SECONDS)
        finally:
            cluster.resume(victim)
        thawed_ns = time.monotonic_ns()
        result = running.result()
    bench.lab.keeper.check()
    return Frozen(plan.closed, turn, result.operations, result.omitted, begun_ns, struck_ns, thawed_ns)


# --- the findings ----------------------------------------------------------------------------------------------------


def run(chosen: Settings, console: Console) -> None:
    """Carry out a saturation run, from its folder to its report."""
    conduct(
        "saturation", chosen, console, procedure, assemble, question=QUESTION, last_step="working out what was found"
    )
