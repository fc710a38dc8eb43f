"""`make compare`: five strategies side by side. Where should the session live?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec
from lab.experiments.compare.findings import assemble
from lab.experiments.compare.measured import Measured
from lab.experiments.compare.sizes import FEW, SIZES, Size
from lab.measuring import scenarios
from lab.measuring.bench import PlaceBench
from lab.measuring.facts import CONTROL, Asked, conduct, in_order
from lab.measuring.order import balanced_order
from lab.measuring.places import Where, opened
from lab.measuring.timed import TWIN, Stage, measure_blocks
from lab.measuring.usage import begin, end, storage_ladder
from lab.probes import containers
from lab.probes.pace import Pacemaker
from lab.report.compare import QUESTION
from lab.report.results import BASELINE
from lab.target import read
from loadtests.client import Generator
from loadtests.plans import Shopping, warmup_plan
from strategies import find
from strategies.contract import Replication, UnsupportedPolicy, WritePolicy

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from lab.measuring.place import Place, Shop
    from lab.measuring.places import Engine
    from lab.measuring.runs import Steps
    from lab.target import Target
    from loadtests.plans import Plan
    from loadtests.recorder import Operation

    Bench = PlaceBench[Place[Shop], Shop]

# --- the question ----------------------------------------------------------------------------------------------------

SHOPPERS = 40
CONTROL_SHOPPERS = 80
"""More than elsewhere: under the control most of what a shopper puts in is lost for good, and shows nothing more."""

TWO_TAB_SHOPPERS = 12
QUIET_SWEEP_SECONDS = 30
"""The timed arms seldom look for expired sessions: there are none, and looking would land in another arm's slice."""

HASTE = 2
"""What is not timed offers so many times the load of what is."""

WARMUP_HASTE = 2.5
"""And the warm-up, which a student waits for, so many times."""

# --- the arms --------------------------------------------------------------------------------------------------------


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a comparison; see `python -m lab compare --help`."""

    where: Where = Where()
    servers: int | None
    rate: int
    blocks: int
    strategies: tuple[str, ...]
    added: tuple[str, ...]
    writes: WritePolicy
    replication: Replication

    @property
    def lengths(self) -> Size:
        """How long each part is."""
        return SIZES[self.size]


def settings(
    *,
    size: str,
    blocks: int | None,
    strategies: tuple[str, ...],
    engine: Engine = "local",
    target: Path | None = None,
    **options: Any,
) -> Settings:
    """Complete what the user asked for: the baseline is always there.

    Raises:
        UnsupportedPolicy: a strategy cannot promise the writes that are asked for.
        LabError: the target's file is not as it should be.
    """
    if target is not None:
        return _settings_of(read(target, needed=BASELINE), size, blocks, strategies, options)
    chosen = in_order({*strategies, BASELINE})
    for name in chosen:
        if options["writes"] not in find(name).policies:
            others = " ".join(other for other in chosen if options["writes"] in find(other).policies)
            raise UnsupportedPolicy(
                f"{name} cannot promise {options['writes']!r} writes: two servers could accept the same version. "
                f'Leave it out: STRATEGIES="{others}"'
            )
    added = tuple(name for name in chosen if name not in strategies)
    where = Where(engine=engine, servers=options["servers"])
    blocks = blocks or SIZES[size].blocks
    return Settings(size=size, blocks=blocks, strategies=chosen, added=added, where=where, **options)


def _settings_of(
    target: Target, size: str, blocks: int | None, strategies: tuple[str, ...], options: dict[str, Any]
) -> Settings:
    """Complete what the user asked of a deployment, which settles what it writes, and how many servers it has."""
    chosen = in_order({*strategies, BASELINE} & set(target.strategies))
    servers = max(len(shop.servers) for shop in target.strategies.values()) or None
    own = {"servers": servers, "writes": target.writes, "replication": target.replication}
    return Settings(
        size=size,
        blocks=blocks or SIZES[size].blocks,
        strategies=chosen,
        added=tuple(name for name in chosen if name not in strategies),
        where=Where(target=target),
        **{**options, **own},
    )


class Arms(msgspec.Struct, frozen=True):
    """All arms of a run, by scenario; the untimed ones each with its seconds of shopping.

    Attributes:
        left_out: those that cannot be measured where this run is, and why.
    """

    timed: list[ClusterSpec]
    untimed: list[tuple[ClusterSpec, float]]
    two_tabs: dict[str, list[ClusterSpec]]
    lifecycle: list[ClusterSpec]
    storage: list[ClusterSpec]
    left_out: dict[str, str] = {}

    def offered(self, place: Place[Any]) -> Arms:
        """Return these arms without those that cannot be had in a place."""
        every = [*self.timed, *self.lifecycle, *self.storage, *(spec for spec, _ in self.untimed)]
        every += [spec for specs in self.two_tabs.values() for spec in specs]
        refused = {spec.name: reason for spec in every if (reason := place.refusal(spec))}

        def kept(specs: list[ClusterSpec]) -> list[ClusterSpec]:
            return [spec for spec in specs if spec.name not in refused]

        return Arms(
            timed=kept(self.timed),
            untimed=[(spec, seconds) for spec, seconds in self.untimed if spec.name not in refused],
            two_tabs={policy: own for policy, specs in self.two_tabs.items() if (own := kept(specs))},
            lifecycle=kept(self.lifecycle),
            storage=kept(self.storage),
            left_out=refused,
        )


def arms(chosen: Settings) -> Arms:
    """List the arms: everything that can be alike is alike."""

    def spec(strategy: str, name: str | None = None, **more: Any) -> ClusterSpec:
        alike = {"servers": chosen.servers or 0, "writes": chosen.writes, "replication": chosen.replication}
        return ClusterSpec(name=name or strategy, strategy=strategy, **{**alike, **more})

    size = chosen.lengths
    untimed = [(spec(CONTROL), size.control_seconds)] if CONTROL in chosen.strategies else []
    if "all-to-all" in chosen.strategies:
        untimed += [
            (spec("all-to-all", "all-to-all sync", replication="sync"), size.sync_seconds),
            (spec("all-to-all", "all-to-all with affinity", affinity=True), size.affinity_seconds),
        ]
    idle, absolute = size.lifetimes
    return Arms(
        timed=[spec(name, sweep_seconds=QUIET_SWEEP_SECONDS) for name in chosen.strategies if name != CONTROL],
        untimed=untimed,
        two_tabs={
            policy: [
                spec(name, f"{name} {policy}", writes=policy)
                for name in chosen.strategies
                if policy in find(name).policies
            ]
            for policy in ("fields", "blob", "versioned")
        },
        lifecycle=[
            spec(name, f"{name} lifecycle", idle_seconds=idle, absolute_seconds=absolute, sweep_seconds=0.5)
            for name in chosen.strategies
        ],
        storage=[spec(name, f"{name} storage") for name in chosen.strategies],
    )


# --- the procedure ---------------------------------------------------------------------------------------------------


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Measure: first the timed blocks, then everything that is not timed, each scenario on servers of its own."""
    steps.begin("starting engines and servers")
    with (
        opened(chosen.where, folder, redis=_needs_redis(chosen), seed=chosen.seed) as lab,
        Generator(folder / "generator.log") as load,
    ):
        bench: Bench = PlaceBench(lab, load)
        planned = arms(chosen).offered(lab)
        measured = Measured(chosen, planned)
        _timed(bench, chosen, planned.timed, measured, steps)
        for spec, seconds in planned.untimed:
            steps.begin(f"shopping, {spec.name}")
            _untimed(bench, chosen, spec, seconds, measured)
        for policy, specs in planned.two_tabs.items():
            steps.begin(f"two tabs, {policy}")
            measured.history += _two_tabs(bench, chosen, specs)
        if planned.lifecycle:
            steps.begin("lives of sessions: login to logout, and to expiry")
            with Generator(folder / "generator.log", exact=False) as crowd:
                _lifecycle(PlaceBench(lab, crowd), chosen, planned.lifecycle, measured)
        steps.begin("storage: what a session occupies", total=len(planned.storage))
        with bench.clusters(planned.storage) as clusters:
            for cluster in clusters.values():
                measured.storage[cluster.spec.strategy] = storage_ladder(lab, cluster, chosen.lengths.rungs)
                steps.advance()
    measured.end()
    return measured


def _needs_redis(chosen: Settings) -> bool:
    return any("redis" in find(name).needs for name in chosen.strategies)


def _timed(bench: Bench, chosen: Settings, specs: list[ClusterSpec], measured: Measured, steps: Steps) -> None:
    """Warm up, measure the blocks, read every meter before and after, and look at every cart in the end."""
    size = chosen.lengths
    names = [spec.name for spec in specs]
    with bench.clusters(specs) as clusters:
        measured.learn(bench.lab, clusters[BASELINE])
        steps.begin("warming up")
        rate_rps = WARMUP_HASTE * chosen.rate / (len(names) + 1)
        warm = warmup_plan(chosen.seed, rate_rps=rate_rps, seconds=size.warmup_seconds, shoppers=SHOPPERS)
        everywhere = [(BASELINE, warm.as_twin()), *((name, warm) for name in names)]
        measured.history += bench.load.run(everywhere).operations
        before = {name: begin(cluster) for name, cluster in clusters.items()}
        steps.begin(f"measuring {chosen.blocks} blocks of {len(names) + 1} slices", total=chosen.blocks)
        shopping, number = Shopping(chosen.seed, SHOPPERS), count()

        def next_plan(seconds: float = size.slice_seconds) -> Plan:
            return shopping.plan(next(number), rate_rps=chosen.rate, seconds=seconds)

        order = balanced_order([*names, BASELINE + TWIN], chosen.blocks, chosen.seed)
        stage = Stage(bench.lab, bench.load, clusters)
        with Pacemaker() as pacemaker:
            measured.timed = measure_blocks(stage, order, next_plan, steps.advance)
        measured.pace = pacemaker.pace
        if any(cluster.container_use() for cluster in clusters.values()):
            steps.begin("what each container uses, one strategy after another")
            _alone(bench, next_plan(size.alone_seconds), clusters, measured)
        for name, cluster in clusters.items():
            measured.usage[name] = (before[name], end(cluster))
        pieces = [*measured.timed.slices, *measured.timed.discarded]
        measured.history += [operation for piece in pieces for operation in piece.operations]
        steps.begin("looking at every cart on every server")
        measured.history += scenarios.final_views(bench.load, clusters)


def _alone(bench: Bench, plan: Plan, clusters: dict[str, Shop], measured: Measured) -> None:
    """Shop on each arm alone for a while, and read what its containers used: engines count too slowly for a slice."""
    for name, cluster in clusters.items():
        before = cluster.container_use()
        operations = bench.load.run([(name, plan)]).operations
        cluster.quiet()
        used = containers.since(cluster.container_use(), before)
        measured.containers[name] = (used, len(operations))
        measured.history += operations


def _untimed(bench: Bench, chosen: Settings, spec: ClusterSpec, seconds: float, measured: Measured) -> None:
    """Shop on an arm that is not compared: alone, so that its latency can be shown, but in one stretch."""
    shoppers = CONTROL_SHOPPERS if spec.strategy == CONTROL else SHOPPERS
    load = {"seed": chosen.seed, "shoppers": shoppers}
    with bench.clusters([spec]) as clusters:
        cluster = clusters[spec.name]
        measured.history += scenarios.enter(bench.load, spec.name, rate_rps=HASTE * chosen.rate, **load)
        before = begin(cluster)
        measured.history += scenarios.shop(bench.load, spec.name, rate_rps=chosen.rate, seconds=seconds, **load)
        measured.usage[spec.name] = (before, end(cluster))
        measured.history += scenarios.final_views(bench.load, clusters)


def _two_tabs(bench: Bench, chosen: Settings, specs: list[ClusterSpec]) -> list[Operation]:
    with bench.clusters(specs) as clusters:
        return scenarios.two_tabs(
            bench.load,
            clusters,
            seed=chosen.seed,
            rate_rps=chosen.rate / len(specs),
            seconds=chosen.lengths.two_tabs_seconds,
            shoppers=TWO_TAB_SHOPPERS,
        )


def _lifecycle(bench: Bench, chosen: Settings, specs: list[ClusterSpec], measured: Measured) -> None:
    idle, absolute = chosen.lengths.lifetimes
    with bench.clusters(specs) as clusters:
        lives = scenarios.lifecycle(
            bench.load,
            clusters,
            seed=chosen.seed,
            idle_seconds=idle,
            absolute_seconds=absolute,
            begin_seconds=chosen.lengths.begin_seconds,
            roles={spec.name: FEW if spec.strategy == CONTROL else chosen.lengths.roles for spec in specs},
        )
    measured.history += lives.operations
    measured.held_up = {spec.strategy: lives.held_up[spec.name] for spec in specs}
    measured.left = {spec.strategy: lives.left[spec.name] for spec in specs}


# --- the findings ----------------------------------------------------------------------------------------------------


def run(chosen: Settings, console: Console) -> None:
    """Carry out a comparison, from its folder to its report."""
    added = (
        f" (Added {' '.join(chosen.added)}: the baseline that the others are compared with.)" if chosen.added else ""
    )
    conduct(
        "compare", chosen, console, procedure, assemble, question=QUESTION + added, last_step="checking the history"
    )
