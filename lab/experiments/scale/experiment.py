"""`make scale`: what grows with the number of servers, and where does each strategy stop?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.

One number of servers runs at a time. The sizes are gone through up, and in a longer run down again, so that a slow
drift of the machine's speed does not look like growth.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec, Lab
from lab.experiments.scale.findings import assemble
from lab.measuring import scenarios
from lab.measuring.bench import Bench
from lab.measuring.facts import Asked, Facts, conduct
from lab.measuring.order import balanced_order
from lab.measuring.timed import Stage, TimedRun, measure_blocks
from lab.measuring.usage import StorageFinding, Usage, begin, end, storage_ladder
from lab.probes.cpu import CpuMeter
from lab.probes.visibility import Trial, watch
from lab.report.scale import QUESTION
from loadtests.client import Generator
from loadtests.plans import shopping_plans, warmup_plan
from strategies.contract import Replication

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from lab.cluster import Cluster
    from lab.measuring.runs import Steps

# --- the question ----------------------------------------------------------------------------------------------------

SHOPPERS = 40
WARMUP_HASTE = 3
"""The warm-up offers so many times the load of what is measured."""

WRITE_SHARE = 0.35
"""About this share of the load's requests write the session: as often do the visitors who look for stale reads."""

COPYING = "all-to-all"
"""The strategy that has copies: its links and its stale reads are looked at."""

WATCHED_SERVERS = 4
"""Servers of the clusters in which stale reads are counted."""

# --- the arms --------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """How long each part of a run is.

    Attributes:
        servers: how many servers, rising; 1 and at least one more.
        passes: how often these are gone through.
        blocks: timed blocks of each pass at each number of servers.
        slice_seconds: length of one slice of a block.
        warmup_seconds: walking through the pages, after the logins and the first adds.
        rungs: session counts of the storage ladder; strategies without copies climb it with fewest and most servers.
        trials: stale reads looked for at each gap.
        steps: gaps as multiples of the link's delay.
        loopback_ms: gaps without a delay, in ms.
        delays_ms: emulated delays between two servers, one way.
        affinity_seconds: shopping on all-to-all with bound shoppers.
    """

    servers: tuple[int, ...]
    passes: int
    blocks: int
    slice_seconds: float
    warmup_seconds: float
    rungs: tuple[int, ...]
    trials: int
    steps: tuple[float, ...]
    loopback_ms: tuple[float, ...]
    delays_ms: tuple[float, ...]
    affinity_seconds: float


SIZES = {
    "quick": Size(
        servers=(1, 2, 4, 8),
        passes=1,
        blocks=8,
        slice_seconds=0.12,
        warmup_seconds=0.2,
        rungs=(40, 80, 120, 160),
        trials=24,
        steps=(0, 0.5, 1.1, 2, 3.5),
        loopback_ms=(0, 0.5, 1, 3),
        delays_ms=(1, 5, 20),
        affinity_seconds=1,
    ),
    "default": Size(
        servers=(1, 2, 4, 8),
        passes=2,
        blocks=10,
        slice_seconds=0.3,
        warmup_seconds=0.5,
        rungs=(100, 200, 300, 400),
        trials=70,
        steps=(0, 0.5, 0.9, 1.1, 1.5, 2, 2.5, 3.5),
        loopback_ms=(0, 0.25, 0.5, 1, 2, 4),
        delays_ms=(1, 5, 20),
        affinity_seconds=3,
    ),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a scale run; see `python -m lab scale --help`."""

    rate: int

    @property
    def lengths(self) -> Size:
        """How long each part is."""
        return SIZES[self.size]


def settings(**options: Any) -> Settings:
    """Complete what the user asked for."""
    return Settings(**options)


TIMED = ("sticky", COPYING, "database", "redis")
"""The strategies; the control, which loses carts, is not among them."""


def arms(servers: int, stretch: int) -> list[ClusterSpec]:
    """List the arms of one number of servers; names are unique in a run, as clusters come and go."""
    return [
        ClusterSpec(name=f"{name} {servers} {stretch}", strategy=name, servers=servers, sweep_seconds=30)
        for name in TIMED
    ]


class Link(msgspec.Struct, frozen=True):
    """One arm in which stale reads are counted: how far its servers stand apart, and when a save is answered."""

    delay_ms: float
    replication: Replication

    @property
    def spec(self) -> ClusterSpec:
        """Its cluster."""
        return ClusterSpec(
            name=f"{COPYING} {self.replication} {self.delay_ms:g} ms apart",
            strategy=COPYING,
            servers=WATCHED_SERVERS,
            replication=self.replication,
            peer_delay_seconds=self.delay_ms / 1000,
        )


def links(size: Size) -> list[Link]:
    """List them: every delay under `async`, and one under `sync`."""
    middle = sorted(size.delays_ms)[len(size.delays_ms) // 2]
    return [*(Link(delay, "async") for delay in (0.0, *size.delays_ms)), Link(middle, "sync")]


def gaps_ms(size: Size, link: Link) -> list[float]:
    """Return at which gaps between write and read an arm is watched, in ms."""
    if not link.delay_ms:
        return list(size.loopback_ms)
    return [step * link.delay_ms + (1 if step > 1 else 0) for step in size.steps]


# --- the procedure ---------------------------------------------------------------------------------------------------


class Stretch(msgspec.Struct):
    """What all strategies did with one number of servers in one pass.

    Attributes:
        servers: how many.
        timed: the blocks; arms are named by strategy.
        storage: strategy to its storage ladder, for those that climbed it.
        usage: strategy to its meters before and after the blocks.
        steps: the meters of all-to-all before the first block and after each.
        use: the meters of all-to-all before the warm-up and after the blocks, for what became of the copies.
    """

    servers: int
    timed: TimedRun
    storage: dict[str, StorageFinding]
    usage: dict[str, tuple[Usage, Usage]]
    steps: list[Usage]
    use: tuple[Usage, Usage]


class Watched(msgspec.Struct):
    """Stale reads of one arm."""

    link: Link
    gaps_ms: list[float]
    trials: list[Trial]


@dataclass
class Measured(Facts):
    """Filled by the procedure.

    Attributes:
        settings: what the user asked for.
        stretches: one for each number of servers and pass.
        watched: stale reads.
        bound: the meters of all-to-all with bound shoppers, before its load and after; None until measured.
    """

    settings: Settings
    stretches: list[Stretch] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    bound: tuple[Usage, Usage] | None = None


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Measure every number of servers, then look for stale reads."""
    size = chosen.lengths
    measured = Measured(chosen)
    steps.begin("starting engines")
    with ExitStack() as stack:
        loads: list[Generator] = []

        def next_load() -> None:
            """Start a generator for the next stretch: the sockets of clusters that are gone slow the old one down."""
            loads.append(stack.enter_context(Generator(folder / "generator.log")))

        next_load()
        lab = stack.enter_context(Lab(folder, seed=chosen.seed))
        for number, servers in enumerate(_itinerary(size)):
            measured.stretches.append(_stretch(Bench(lab, loads[-1]), number, servers, measured, steps, next_load))
            loads.pop(0).close()
        for link in links(size):
            steps.begin(f"looking for stale reads: {link.spec.name}")
            (cluster,) = lab.start(link.spec)
            measured.watched.append(_watch(cluster, chosen, link))
            lab.stop(cluster)
        steps.begin("all-to-all with bound shoppers")
        measured.bound = _bound(Bench(lab, loads[-1]), chosen)
        lab.keeper.check()
    measured.end()
    return measured


def _itinerary(size: Size) -> list[int]:
    """Return the numbers of servers in the order of the run: up, then down."""
    return [each for turn in range(size.passes) for each in (size.servers[::-1] if turn % 2 else size.servers)]


def _stretch(  # noqa: PLR0917 - one call, in the order of what it needs
    bench: Bench, number: int, servers: int, measured: Measured, steps: Steps, when_timed: Callable[[], None]
) -> Stretch:
    """Measure one number of servers: the timed blocks, then storage, when the servers' memory has come to rest."""
    chosen, size = measured.settings, measured.settings.lengths
    title = f"{servers} server{'s' if servers > 1 else ''} of each strategy"
    steps.begin(f"{title}: starting")
    with bench.clusters(arms(servers, number)) as running:
        clusters = {cluster.spec.strategy: cluster for cluster in running.values()}
        measured.learn(bench.lab, clusters[COPYING])
        fresh = begin(clusters[COPYING])
        seed = chosen.seed + 1000 * number  # other shoppers in each pass
        rate_rps = WARMUP_HASTE * chosen.rate / len(running)
        warm = warmup_plan(seed, rate_rps=rate_rps, seconds=size.warmup_seconds, shoppers=SHOPPERS)
        bench.load.run([(arm, warm) for arm in running])
        before = {name: begin(cluster) for name, cluster in clusters.items()}
        readings = [before[COPYING]]

        def on_block() -> None:
            readings.append(end(clusters[COPYING]))
            steps.advance()

        steps.begin(f"{title}: {size.blocks} blocks", total=size.blocks)
        plans = shopping_plans(seed, rate_rps=chosen.rate, seconds=size.slice_seconds, shoppers=SHOPPERS)
        stage = Stage(bench.lab, bench.load, running, meter_by_engine)
        timed = measure_blocks(stage, balanced_order(list(running), size.blocks, seed), plans.__next__, on_block)
        after = {name: end(cluster) for name, cluster in clusters.items()}
        when_timed()
        steps.begin(f"{title}: storage")
        ends = servers in {size.servers[0], size.servers[-1]}
        storage = {
            name: storage_ladder(bench.lab, cluster, size.rungs)
            for name, cluster in clusters.items()
            if ends or name == COPYING
        }
    for piece in [*timed.slices, *timed.discarded]:
        piece.arm = running[piece.arm].spec.strategy
    usage = {name: (before[name], after[name]) for name in clusters}
    return Stretch(servers, timed, storage, usage, readings, (fresh, after[COPYING]))


def meter_by_engine(lab: Lab, cluster: Cluster) -> CpuMeter:
    """Return a meter of the CPU time of web servers, each engine that is the lab's own, and the balancer."""
    engines = {"redis": lab.redis.pid if lab.redis else None, "postgresql": lab.postgresql.pid}
    return CpuMeter(
        {
            "servers": [server.pid for server in cluster.servers],
            **{name: [pid] for name, pid in engines.items() if pid is not None},
            "balancer": [cluster.balancer.pid],
        }
    )


def _watch(cluster: Cluster, chosen: Settings, link: Link) -> Watched:
    size = chosen.lengths
    gaps = gaps_ms(size, link) if link.replication == "async" else [0.0]
    trials = watch(
        [server.url for server in cluster.servers],
        [gap / 1000 for gap in gaps],
        size.trials,
        seed=chosen.seed,
        writes_rps=WRITE_SHARE * chosen.rate,
        settle_seconds=0.1 + 4 * link.delay_ms / 1000,
    )
    return Watched(link, gaps, trials)


def _bound(bench: Bench, chosen: Settings) -> tuple[Usage, Usage]:
    """Shop on all-to-all with shoppers who stay with their server: who reads the copies then?"""
    spec = ClusterSpec(name=f"{COPYING} with affinity", strategy=COPYING, servers=WATCHED_SERVERS, affinity=True)
    load: dict[str, Any] = {"seed": chosen.seed, "shoppers": SHOPPERS}
    with bench.clusters([spec]) as clusters:
        before = begin(clusters[spec.name])
        scenarios.enter(bench.load, spec.name, rate_rps=2 * chosen.rate, **load)
        scenarios.shop(bench.load, spec.name, rate_rps=chosen.rate, seconds=chosen.lengths.affinity_seconds, **load)
        return before, end(clusters[spec.name])


# --- the findings ----------------------------------------------------------------------------------------------------


def run(chosen: Settings, console: Console) -> None:
    """Carry out a scale run, from its folder to its report."""
    conduct("scale", chosen, console, procedure, assemble, question=QUESTION, last_step="working out the findings")
