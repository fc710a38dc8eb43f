"""`make failover`: what does a failure cost, and whom?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.

Each fault has clusters of its own, fresh ones, so that what is lost in the end was lost by that fault. A fault of an
engine hits all clusters at once, since they share it, and all are restarted at once; a fault of a server hits one
cluster after another, each alone under the whole load, or all at once in a quick run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import requests

from lab.cluster import ClusterSpec
from lab.errors import LabError
from lab.experiments.failover.faults import FAULTS, Fault, known_to
from lab.experiments.failover.findings import assemble
from lab.experiments.failover.story import Marks
from lab.measuring import scenarios
from lab.measuring.bench import PlaceBench
from lab.measuring.facts import Asked, Facts, conduct, in_order
from lab.measuring.places import Where, opened
from loadtests.client import Generator
from loadtests.plans import Plan, shopping_plan, warmup_plan
from loadtests.recorder import Operation
from strategies import find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from lab.measuring.place import Place, Shop
    from lab.measuring.places import Engine
    from lab.measuring.runs import Steps

# --- the question ----------------------------------------------------------------------------------------------------

QUESTION = "A server dies, an engine dies: who notices, what is gone, and for how long?"

HASTE = 2
"""Shoppers log in at so many times the load that follows."""

SETTLED_SECONDS = 30.0
"""How long a shop may take, after everything was repaired and the load has ended, until every server serves again."""

_LEAD_SECONDS = 0.05
_PATIENCE_SECONDS = 4.0
_PROBES: tuple[tuple[str, str, dict[str, str] | None], ...] = (
    ("GET", "/api/products/1", None),
    ("POST", "/api/login", {"user": "lab"}),
    ("POST", "/api/logout", {}),
)
_WARMUP_SECONDS = 0.3

# --- the arms --------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """How long each part of a fault's story is, in seconds, and how many shoppers see it.

    Attributes:
        before: steady load before the stroke.
        hold: from the stroke to the repair, where the fault does not say how long.
        after: from then to the end of the load, the repair included.
        shoppers: of each cluster.
        together: whether a fault of a server hits all clusters at once.
    """

    before: float
    hold: float
    after: float
    shoppers: int
    together: bool


SIZES = {
    "quick": Size(before=1, hold=2, after=3, shoppers=30, together=True),
    "default": Size(before=3, hold=3, after=6, shoppers=60, together=False),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a failover run; see `python -m lab failover --help`."""

    where: Where = Where()
    servers: int
    rate: int
    strategies: tuple[str, ...]

    @property
    def lengths(self) -> Size:
        """How long each part is."""
        return SIZES[self.size]


def arms(chosen: Settings, fault: Fault) -> list[ClusterSpec]:
    """List the arms that live through a fault: each strategy, and all-to-all also as one that waits for its peers.

    Containers of one strategy are all alike: there all-to-all does not stand beside itself.
    """
    kinds: list[tuple[str, str, dict[str, Any]]] = []
    for name in chosen.strategies:
        kinds.append((name, name, {}))
        if name == "all-to-all" and chosen.where.engine == "local":
            kinds.append((f"{name} sync", name, {"replication": "sync"}))
    return [
        ClusterSpec(name=f"{arm} {fault.name}", strategy=strategy, servers=chosen.servers, **more)
        for arm, strategy, more in kinds
    ]


def faults(chosen: Settings) -> list[Fault]:
    """List the faults to strike: those of Redis only where a strategy needs it."""
    needed = {engine for name in chosen.strategies for engine in find(name).needs} | {"server", "servers", "postgresql"}
    return [fault for fault in known_to(chosen.where.engine, FAULTS).values() if fault.target in needed]


# --- the procedure ---------------------------------------------------------------------------------------------------


class Struck(msgspec.Struct):
    """What one cluster lived through.

    Attributes:
        arm: without the fault.
        strategy: of the arm.
        fault: its name.
        together: how many clusters lived through it at the same time.
        operations: every request, warm-up and final views included.
        marks: when things happened.
        peer_timeouts: how often a server took a peer for down because it did not answer; None where there are none.
        lateness_ms: how late requests left though their tab was idle.
    """

    arm: str
    strategy: str
    fault: str
    together: int
    operations: list[Operation]
    marks: Marks
    peer_timeouts: int | None
    lateness_ms: list[float]


@dataclass
class Measured(Facts):
    """Filled by the procedure, fault by fault.

    Attributes:
        settings: what the user asked for.
        struck: what every cluster lived through.
        left_out: fault to why it could not be struck.
    """

    settings: Settings
    struck: list[Struck] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Strike every fault, and see what becomes of the shoppers."""
    planned = faults(chosen)
    measured = Measured(chosen)
    needs_redis = any(fault.target == "redis" for fault in planned)
    steps.begin("starting engines and servers")
    with (
        opened(chosen.where, folder, redis=needs_redis, seed=chosen.seed) as lab,
        Generator(folder / "generator.log") as load,
    ):
        for fault in planned:
            reason = _cannot_strike(lab, fault)
            if reason:
                measured.left_out[fault.name] = reason
                continue
            specs = arms(chosen, fault)
            alone = fault.target == "server" and not chosen.lengths.together
            for group in [[spec] for spec in specs] if alone else [specs]:
                steps.begin(f"{fault.title}: {', '.join(_arm_of(spec, fault) for spec in group)}")
                measured.struck += _live_through(PlaceBench(lab, load), chosen, fault, group, measured)
                lab.check()
    measured.end()
    return measured


def _cannot_strike(lab: Place[Any], fault: Fault) -> str | None:
    """Return why a fault cannot be struck here, if so: the lab strikes no engine that is not its own."""
    if fault.target == "redis" and (lab.redis is None or not lab.redis.own):
        return "LAB_REDIS_URL names a Redis that is not the lab's own"
    if fault.target == "postgresql" and (lab.postgresql is None or not lab.postgresql.own):
        return "LAB_DATABASE_URL names a PostgreSQL that is not the lab's own"
    return None


def _arm_of(spec: ClusterSpec, fault: Fault) -> str:
    return spec.name.removesuffix(f" {fault.name}")


def _live_through(
    bench: PlaceBench[Place[Shop], Shop], chosen: Settings, fault: Fault, specs: list[ClusterSpec], measured: Measured
) -> list[Struck]:
    """Run clusters under steady load, strike, repair, and look at every cart when all is well again."""
    size = chosen.lengths
    each_rps = chosen.rate / len(specs)
    hold_seconds = size.hold if fault.hold_seconds is None else fault.hold_seconds
    seconds = size.before + fault.seconds_per_server * chosen.servers + hold_seconds + size.after
    with bench.clusters(specs) as clusters:
        measured.learn(bench.lab, next(iter(clusters.values())))
        shoppers = {"shoppers": size.shoppers, "seed": chosen.seed}
        warm = _of_failover(warmup_plan(rate_rps=HASTE * each_rps, seconds=_WARMUP_SECONDS, **shoppers))
        load = _of_failover(shopping_plan(block=0, rate_rps=each_rps, seconds=seconds, **shoppers))
        operations = list(bench.load.run([(arm, warm) for arm in clusters]).operations)
        for cluster in clusters.values():
            cluster.quiet()
        with scenarios.in_background(bench.load) as pool:
            start_ns = time.monotonic_ns()
            running = pool.submit(bench.load.run, [(arm, load) for arm in clusters])
            time.sleep(_LEAD_SECONDS + size.before)
            struck_ns = time.monotonic_ns()
            with fault.strike(bench.lab, list(clusters.values())):
                time.sleep(hold_seconds)
            repaired_ns = time.monotonic_ns()
            result = running.result()
        marks = Marks(start_ns, struck_ns, repaired_ns, start_ns + round(seconds * 1e9))
        settle(list(clusters.values()))
        operations += [*result.operations, *scenarios.final_views(bench.load, clusters)]
        timeouts = {arm: _peer_timeouts(cluster) for arm, cluster in clusters.items()}
    return [
        Struck(
            arm=_arm_of(spec, fault),
            strategy=spec.strategy,
            fault=fault.name,
            together=len(specs),
            operations=[operation for operation in operations if operation.arm == spec.name],
            marks=marks,
            peer_timeouts=timeouts[spec.name],
            lateness_ms=list(result.lateness_ms),
        )
        for spec in specs
    ]


def _of_failover(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, scenario="failover")


def settle(clusters: Sequence[Shop]) -> None:
    """Wait until every server serves again: its catalogue is there, and its store takes a session.

    Raises:
        LabError: one does not within `SETTLED_SECONDS`: it has not recovered, and its final views would show nothing.
    """
    deadline = time.monotonic() + SETTLED_SECONDS
    for cluster in clusters:
        for server in cluster.servers:
            while (ailing := _ailing(server.url)) is not None:
                if time.monotonic() > deadline:
                    text = f"{cluster.spec.name}: {server.name} does not serve again after the fault was repaired"
                    raise LabError(f"{text} (waited {SETTLED_SECONDS:.0f} s; {ailing}; log: {server.log})")
                time.sleep(0.05)


def _ailing(url: str) -> str | None:
    """Ask a server, past the balancer, for a product, and to begin a session and end it; say what fails, if so."""
    with requests.Session() as visitor:
        visitor.trust_env = False
        for method, path, body in _PROBES:
            try:
                answer = visitor.request(method, f"{url}{path}", json=body, timeout=_PATIENCE_SECONDS)
            except requests.RequestException as error:
                return f"{path}: {type(error).__name__}"
            if not answer.ok:
                return f"{path}: {answer.status_code} {answer.text.strip()}"
    return None


def _peer_timeouts(cluster: Shop) -> int | None:
    if find(cluster.spec.strategy).copies == "1":
        return None
    return sum(int(census.details.get("peer_timeouts", 0)) for census in cluster.census().values())


# --- the findings ----------------------------------------------------------------------------------------------------


def settings(*, engine: Engine = "local", **options: Any) -> Settings:
    """Complete what the user asked for: strategies in the registry's order."""
    where = Where(engine=engine, servers=options["servers"])
    return Settings(strategies=in_order(options.pop("strategies")), where=where, **options)


def run(chosen: Settings, console: Console) -> None:
    """Carry out a failover run, from its folder to its report."""
    conduct("failover", chosen, console, procedure, assemble, question=QUESTION, last_step="checking the history")
