"""`make hotspot`: few shoppers do most of the shopping; does one server get most of the work, and does a new one help?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.

Where the balancer binds shoppers to servers, which server gets the heaviest shopper is luck. So that no result hangs on
it, population after population logs in, is bound, and takes its turn; intervals are over populations.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec, Lab
from lab.experiments.hotspot.findings import assemble, busiest_server
from lab.measuring.bench import Bench
from lab.measuring.facts import Asked, Facts, conduct, in_order
from lab.measuring.scenarios import final_views, in_background
from lab.report.hotspot import QUESTION
from loadtests.client import Generator
from loadtests.recorder import Operation
from loadtests.uneven import Lengths, Story, uneven_story
from strategies import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rich.console import Console

    from lab.cluster import Cluster
    from lab.measuring.runs import Steps
    from loadtests.plans import Plan

# --- the question ----------------------------------------------------------------------------------------------------

# See `QUESTION`.

SHOPPERS = 40
"""Of each population, as many as in a comparison. The more shoppers, the less one weighs (`docs/hotspot.md`)."""

WAIT_SECONDS = 10.0
"""How long after a server was added its share counts."""

JOIN_SECONDS = 2.0
"""Load that is planned for the time that adding takes; should it take longer, the wait is still the full one."""

HASTE = 2
"""Shoppers log in at so many times the load that follows."""

_LEAD_SECONDS = 0.05

# --- the arms --------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """How many populations there are, and how long each part is, in seconds.

    Attributes:
        populations: each with shoppers, bindings and a turn of its own.
        turn: of each population, alone.
        before: steady load before the server is added.
        roll_call: all populations, one after another, when the server has been there for `WAIT_SECONDS`.
        newcomers: of a population that comes only then.
        undrained: steady load before a server is drained.
        drained: and after that.
        together: whether all arms run side by side and share the load.
    """

    populations: int
    turn: float
    before: float
    roll_call: float
    newcomers: float
    undrained: float
    drained: float
    together: bool


SIZES = {
    "quick": Size(
        populations=16, turn=1.0, before=3, roll_call=4, newcomers=1, undrained=1.5, drained=3, together=True
    ),
    "default": Size(
        populations=32, turn=0.8, before=4, roll_call=4, newcomers=1.5, undrained=2, drained=4, together=False
    ),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of this experiment; see `python -m lab hotspot --help`."""

    servers: int
    rate: int
    strategies: tuple[str, ...]

    @property
    def lengths(self) -> Size:
        """How long each part is."""
        return SIZES[self.size]

    @property
    def together(self) -> int:
        """How many arms run side by side."""
        return len(self.strategies) if self.lengths.together else 1


def arms(chosen: Settings) -> list[ClusterSpec]:
    """List the arms: the strategies as they are."""
    return [ClusterSpec(name=name, strategy=name, servers=chosen.servers) for name in chosen.strategies]


def story(chosen: Settings) -> Story:
    """Draw the plans that every arm replays."""
    size, rate_rps = chosen.lengths, chosen.rate / chosen.together
    lengths = Lengths(
        populations=size.populations,
        shoppers=SHOPPERS,
        turn=size.turn,
        stay=size.before + JOIN_SECONDS + WAIT_SECONDS,
        roll_call=size.roll_call,
        newcomers=size.newcomers,
        drain=size.undrained + size.drained,
    )
    return uneven_story(chosen.seed, lengths, rate_rps=rate_rps, login_rps=HASTE * rate_rps)


# --- the procedure ---------------------------------------------------------------------------------------------------


class Change(msgspec.Struct, frozen=True):
    """A change of a running cluster; all times are of the monotonic clock, in nanoseconds.

    Attributes:
        server: which one was added or drained.
        asked_ns: when it was asked for.
        done_ns: when it was done: no request goes by the old rule any more.
    """

    server: str
    asked_ns: int
    done_ns: int


class Lived(msgspec.Struct):
    """What one arm lived through.

    Attributes:
        arm: its name.
        servers: how many servers it had at first.
        entered: the logins.
        turns: each population's turn, in order.
        cpu: CPU seconds of each server during each turn, by name.
        stay: the first population's requests around the addition.
        added: the addition.
        roll_call: every population's requests, when the added server had been there for `WAIT_SECONDS`.
        roll_call_ns: when that began.
        newcomers: requests of those who came only then, logins included.
        drain: the first population's requests around the draining.
        drained: the draining.
        final: the first population's carts in the end, as each server that was there from the beginning shows them.
        lateness_ms: how late requests left though their tab was idle.
    """

    arm: str
    servers: int
    entered: list[Operation]
    turns: list[list[Operation]]
    cpu: list[dict[str, float]]
    stay: list[Operation]
    added: Change
    roll_call: list[Operation]
    roll_call_ns: int
    newcomers: list[Operation]
    drain: list[Operation]
    drained: Change
    final: list[Operation]
    lateness_ms: list[float]

    def operations(self) -> list[Operation]:
        """Return every request of the shoppers, stretch by stretch."""
        turns = [operation for turn in self.turns for operation in turn]
        return [*self.entered, *turns, *self.stay, *self.roll_call, *self.newcomers, *self.drain]

    def history(self) -> list[Operation]:
        """Return every request, the final looks at the carts included."""
        return [*self.operations(), *self.final]


@dataclass
class Measured(Facts):
    """Filled by the procedure, group of arms by group of arms.

    Attributes:
        settings: what the user asked for.
        lived: what every arm lived through.
    """

    settings: Settings
    lived: list[Lived] = field(default_factory=list)


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Let every arm's shoppers come, add a server, drain one."""
    measured = Measured(chosen)
    needs_redis = any("redis" in find(name).needs for name in chosen.strategies)
    plans, specs = story(chosen), arms(chosen)
    steps.begin("starting engines and servers")
    with Lab(folder, redis=needs_redis, seed=chosen.seed) as lab, Generator(folder / "generator.log") as load:
        for group in [specs] if chosen.lengths.together else [[spec] for spec in specs]:
            bench = Bench(lab, load)
            with bench.clusters(group) as clusters:
                measured.learn(lab, next(iter(clusters.values())))
                measured.lived += _Story(bench, clusters, chosen, plans).live(steps)
            lab.keeper.check()
    measured.end()
    return measured


class _Story:
    """What some arms live through side by side.

    Args:
        bench: engines and load.
        clusters: arm to its cluster.
        chosen: what the user asked for.
        plans: what the shoppers do.
    """

    def __init__(self, bench: Bench, clusters: Mapping[str, Cluster], chosen: Settings, plans: Story) -> None:
        self._bench = bench
        self._clusters = clusters
        self._chosen = chosen
        self._plans = plans
        self._lateness: list[float] = []

    def live(self, steps: Steps) -> list[Lived]:
        """Carry it out."""
        who = ", ".join(self._clusters)
        steps.begin(f"{who}: shoppers log in")
        entered = self._run(self._plans.enter)
        turns, cpu = self._take_turns(steps, who)
        steps.begin(f"{who}: a server is added under load")
        stay, added = self._change(self._plans.stay, self._chosen.lengths.before, self._add)
        self._wait(max(change.done_ns for change in added.values()))
        steps.begin(f"{who}: everybody again, then newcomers")
        roll_call_ns = time.monotonic_ns()
        roll_call, newcomers = self._run(self._plans.roll_call), self._run(self._plans.newcomers)
        steps.begin(f"{who}: a server is drained under load")
        hot = {arm: busiest_server(operations) for arm, operations in turns[0].items()}
        drain, drained = self._change(
            self._plans.drain, self._chosen.lengths.undrained, lambda cluster: self._drain(cluster, hot)
        )
        steps.begin(f"{who}: what became of the carts")
        final = self._final_carts()
        return [
            Lived(
                arm=arm,
                servers=self._chosen.servers,
                entered=entered[arm],
                turns=[turn[arm] for turn in turns],
                cpu=[used[arm] for used in cpu],
                stay=stay[arm],
                added=added[arm],
                roll_call=roll_call[arm],
                roll_call_ns=roll_call_ns,
                newcomers=newcomers[arm],
                drain=drain[arm],
                drained=drained[arm],
                final=final[arm],
                lateness_ms=self._lateness,
            )
            for arm in self._clusters
        ]

    def _take_turns(
        self, steps: Steps, who: str
    ) -> tuple[list[dict[str, list[Operation]]], list[dict[str, dict[str, float]]]]:
        plans = self._plans.turns
        steps.begin(f"{who}: {len(plans)} populations take turns", total=len(plans))
        turns, cpu = [], []
        before = self._cpu()
        for plan in plans:
            turns.append(self._run(plan))
            after = self._cpu()
            cpu.append({arm: _less(after[arm], before[arm]) for arm in after})
            before = after
            steps.advance()
        return turns, cpu

    def _run(self, plan: Plan) -> dict[str, list[Operation]]:
        """Let shoppers of every arm follow a plan, at the same time."""
        result = self._bench.load.run([(arm, plan) for arm in self._clusters])
        self._lateness += [float(late) for late in result.lateness_ms]
        for cluster in self._clusters.values():
            cluster.quiet()
        by_arm: dict[str, list[Operation]] = {arm: [] for arm in self._clusters}
        for operation in result.operations:
            by_arm[operation.arm].append(operation)
        return by_arm

    def _cpu(self) -> dict[str, dict[str, float]]:
        return {
            arm: {name: counters.cpu_seconds for name, counters in cluster.counters().items()}
            for arm, cluster in self._clusters.items()
        }

    def _change(
        self, plan: Plan, after_seconds: float, change: Callable[[Cluster], Change]
    ) -> tuple[dict[str, list[Operation]], dict[str, Change]]:
        """Change every cluster while its shoppers follow a plan, so many seconds after they have begun."""
        with in_background(self._bench.load) as pool, ThreadPoolExecutor(len(self._clusters)) as changers:
            running = pool.submit(self._run, plan)
            time.sleep(_LEAD_SECONDS + after_seconds)
            changing = {arm: changers.submit(change, cluster) for arm, cluster in self._clusters.items()}
            changes = {arm: future.result() for arm, future in changing.items()}
            return running.result(), changes

    def _add(self, cluster: Cluster) -> Change:
        asked_ns = time.monotonic_ns()
        name = cluster.add_server()
        return Change(name, asked_ns, time.monotonic_ns())

    def _drain(self, cluster: Cluster, hot: Mapping[str, str]) -> Change:
        name = hot[cluster.spec.name] or cluster.servers[0].name
        asked_ns = time.monotonic_ns()
        cluster.drain(name)
        return Change(name, asked_ns, time.monotonic_ns())

    def _final_carts(self) -> dict[str, list[Operation]]:
        """Look at the carts of those who shopped while a server was added, and while one was drained."""
        shoppers = sorted({planned.shopper for planned in self._plans.stay.requests})
        views = final_views(self._bench.load, self._clusters, shoppers)
        return {arm: [view for view in views if view.arm == arm] for arm in self._clusters}

    def _wait(self, since_ns: int) -> None:
        time.sleep(max(0.0, since_ns / 1e9 + WAIT_SECONDS - time.monotonic()))


def _less(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: used - before[name] for name, used in after.items()}


# --- the findings ----------------------------------------------------------------------------------------------------


def settings(**options: Any) -> Settings:
    """Complete what the user asked for: strategies in the registry's order."""
    return Settings(strategies=in_order(options.pop("strategies")), **options)


def run(chosen: Settings, console: Console) -> None:
    """Carry out a run, from its folder to its report."""
    conduct("hotspot", chosen, console, procedure, assemble, question=QUESTION, last_step="counting who served whom")
