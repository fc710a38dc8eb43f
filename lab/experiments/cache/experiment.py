"""`make cache`: the shop's products and searches with a cache in front of their origin, and without. When does it pay?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.

Catalogue pages touch no session, so it does not matter where sessions live: here in the servers' own memory, so that no
store of theirs takes part in what is measured.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec, Lab
from lab.experiments.cache import direct as cache_direct
from lab.experiments.cache.findings import assemble
from lab.measuring import capacity, scenarios
from lab.measuring.bench import Bench
from lab.measuring.facts import Asked, Facts, conduct
from lab.measuring.order import balanced_order
from lab.measuring.timed import Slice, Stage, TimedRun, measure_blocks
from lab.report.cache import QUESTION
from lab.shop.cache import CacheSettings
from lab.shop.products import searches
from loadtests.catalogue import SHOP_MIX, Visitors
from loadtests.client import Generator
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from lab.cluster import Cluster
    from lab.measuring.runs import Steps
    from loadtests.plans import Plan

# --- the question ----------------------------------------------------------------------------------------------------

WITHOUT, WITH = "without cache", "with cache"
GUARDED, UNGUARDED = "one filler", "everybody fills"

KINDS: dict[str, tuple[dict[str, float], float]] = {
    "product": ({"product": 1.0}, 1.0),
    "search": ({"search": 1.0}, 1.0),
    "thorough": ({"thorough": 1.0}, 0.2),
    "shop": (SHOP_MIX, 1.0),
}
"""Kind of load to the shares of its operations, and its rate relative to the run's: a thorough search is dear."""

HOT_SEARCH = "smoked oolong"
HOT_TTL_SECONDS = 1.0
HOT_RATE = 2.0
"""The stampede's load relative to the run's."""

VISITS_SECONDS = 60.0
"""Before each kind of load the cache is as after so many seconds of visits: as long as an entry lives."""

OUTAGE_BYTES = 500_000
"""Room in the cache when the origin dies: for some of the products and searches, so that not all is a hit."""

_PATIENCE_SECONDS = 30.0

# --- the arms --------------------------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """How long each part of a run is.

    Attributes:
        blocks: timed blocks of each kind of load.
        slice_seconds: length of one slice of a block.
        warmup_seconds: visits before, at three times the load.
        search: how thoroughly capacity is searched for.
        reads: of each point of the sweep over popularity and size.
        points: exponents of popularity with shares of the products that the cache has room for.
        updates: updates per read, and whether a change deletes what shows it.
        updates_seconds: for each of them.
        stampede_seconds: for each of the two ways to fill.
        outage_seconds: before the origin is killed, until it is started again, and after that.
    """

    blocks: int
    slice_seconds: float
    warmup_seconds: float
    search: capacity.Search
    reads: int
    points: tuple[tuple[float, float], ...]
    updates: tuple[tuple[float, bool], ...]
    updates_seconds: float
    stampede_seconds: float
    outage_seconds: tuple[float, float, float]


SIZES = {
    "quick": Size(
        blocks=8,
        slice_seconds=0.2,
        warmup_seconds=1,
        search=capacity.Search(start_rps=500, factor=1.5, slice_seconds=0.7, passes=1, steps=2),
        reads=1600,
        points=((0.0, 0.05), (0.5, 0.05), (1.0, 0.05), (1.0, 0.2)),
        updates=((0.0, True), (0.1, True), (0.1, False)),
        updates_seconds=1.2,
        stampede_seconds=2.3,
        outage_seconds=(1.5, 1.5, 2.5),
    ),
    "default": Size(
        blocks=18,
        slice_seconds=0.4,
        warmup_seconds=4,
        search=capacity.Search(start_rps=400, factor=1.3, slice_seconds=1.0, passes=8, steps=2),
        reads=4800,
        points=tuple((exponent, share) for exponent in (0.0, 0.5, 1.0) for share in (0.02, 0.05, 0.2)),
        updates=((0.0, True), (0.01, True), (0.03, True), (0.1, True), (0.01, False), (0.03, False), (0.1, False)),
        updates_seconds=3.0,
        stampede_seconds=6.2,
        outage_seconds=(4.0, 4.0, 5.0),
    ),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of this experiment; see `python -m lab cache --help`."""

    servers: int
    rate: int

    @property
    def lengths(self) -> Size:
        """How long each part is."""
        return SIZES[self.size]

    @property
    def visitors(self) -> Visitors:
        """Who looks at what."""
        return Visitors(seed=self.seed, searches=searches())


def settings(**options: Any) -> Settings:
    """Complete what the user asked for."""
    return Settings(**options)


def arms(chosen: Settings) -> list[ClusterSpec]:
    """List the arms: the same shop, without a cache and with one."""
    return [_spec(chosen, WITHOUT, None), _spec(chosen, WITH, CacheSettings())]


def stampede_arms(chosen: Settings) -> list[ClusterSpec]:
    """List the arms of the stampede: entries die on the second, and one filler or everybody fetches them again."""
    hot = CacheSettings(ttl_seconds=HOT_TTL_SECONDS, jitter=0.0)
    return [
        _spec(chosen, UNGUARDED, msgspec.structs.replace(hot, single_flight=False)),
        _spec(chosen, GUARDED, hot),
    ]


def _spec(chosen: Settings, name: str, cache: CacheSettings | None) -> ClusterSpec:
    return ClusterSpec(name=name, strategy="isolated", servers=chosen.servers, cache=cache, sweep_seconds=30)


# --- the procedure ---------------------------------------------------------------------------------------------------


class OriginUse(msgspec.Struct):
    """What a slice asked of PostgreSQL.

    Attributes:
        queries: how often a connection was used.
        seconds: for how long, all connections together.
    """

    queries: int
    seconds: float


class Outage(msgspec.Struct):
    """What visitors saw when the origin was killed, and when it was back.

    Attributes:
        operations: of both arms.
        start_ns: of the load.
        struck_ns: when PostgreSQL was about to be killed.
        dead_ns: when all its processes were gone.
        repaired_ns: when it answered again.
    """

    operations: list[Operation]
    start_ns: int
    struck_ns: int
    dead_ns: int
    repaired_ns: int


@dataclass
class Measured(Facts):
    """Filled by the procedure, part by part.

    Attributes:
        settings: what the user asked for.
        timed: kind of load to its slices.
        used: kind, arm and block to what the slice asked of PostgreSQL.
        found: the search for capacity.
        hits: the sweep over popularity and size.
        updates: the sweep over updates.
        stampede: way to fill to the requests for the hot search.
        outage: None where the origin is not the lab's to kill.
        left_out: part to why it was left out.
        cache: what the cache says about itself in the end.
    """

    settings: Settings
    timed: dict[str, TimedRun] = field(default_factory=dict)
    used: dict[tuple[str, str, int], OriginUse] = field(default_factory=dict)
    found: capacity.Found | None = None
    hits: list[cache_direct.Hits] = field(default_factory=list)
    updates: list[cache_direct.Updates] = field(default_factory=list)
    stampede: dict[str, list[Operation]] = field(default_factory=dict)
    outage: Outage | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)


class _Metered(Stage):
    """A stage that also reads what each slice asked of PostgreSQL."""

    def __init__(self, lab: Lab, load: Generator, clusters: dict[str, Cluster]) -> None:
        super().__init__(lab, load, clusters)
        self._asked = clusters
        self.used: dict[tuple[str, int], OriginUse] = {}

    def of(self, arm: str) -> Cluster:
        """Return the cluster of an arm."""
        return self._asked[arm]

    def measure(self, slot: str, plan: Plan, block: int, position: int) -> Slice:
        before = _used(self._asked[slot])
        piece = super().measure(slot, plan, block, position)
        after = _used(self._asked[slot])
        self.used[slot, block] = OriginUse(after.queries - before.queries, after.seconds - before.seconds)
        return piece


def _used(cluster: Cluster) -> OriginUse:
    counters = cluster.counters().values()
    return OriginUse(sum(one.origin_queries for one in counters), sum(one.origin_seconds for one in counters))


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Measure each part, the death of the origin last."""
    measured = Measured(chosen)
    steps.begin("starting engines and servers")
    with (
        Lab(folder, redis=False, cache=True, seed=chosen.seed) as lab,
        Generator(folder / "generator.log") as load,
    ):
        bench = Bench(lab, load)
        _fillers(bench, chosen, measured, steps)
        with bench.clusters(arms(chosen)) as clusters:
            measured.learn(lab, next(iter(clusters.values())))
            engine = cache_direct.cache_of(lab)
            measured.versions["redis"] = engine.version
            stage = _Metered(lab, load, clusters)
            _latencies(stage, bench, chosen, measured, steps)
            _visit(lab, chosen, stage.of(WITH))
            _capacity(stage, chosen, measured, steps)
            with engine.connect() as client:
                measured.cache = _facts(client)
            _outage(bench, chosen, clusters, measured, steps)
        _sweeps(lab, chosen, measured, steps)
    measured.end()
    return measured


def _latencies(stage: _Metered, bench: Bench, chosen: Settings, measured: Measured, steps: Steps) -> None:
    """Measure every kind of load in blocks of a slice without the cache and one with it."""
    size, visitors = chosen.lengths, chosen.visitors
    steps.begin("warming up")
    _warm_up(bench, chosen, (WITHOUT, WITH), SHOP_MIX)
    few = msgspec.structs.replace(visitors, searches=visitors.searches[:: len(visitors.searches) // 60])
    for kind, (mix, rate) in KINDS.items():
        steps.begin(f"measuring {size.blocks} blocks: {kind}", total=size.blocks)
        # Thorough searches are few, or the warm-up would take minutes without a cache.
        who = few if kind == "thorough" else visitors
        rate_rps = chosen.rate * rate
        plans = _plans(who, rate_rps=rate_rps, seconds=size.slice_seconds / rate**0.5, mix=mix, first=1000)
        _visit(bench.lab, chosen, stage.of(WITH))
        if kind == "thorough":
            bench.load.run([(WITH, who.plan(1, rate_rps=rate_rps, seconds=2 * size.warmup_seconds, mix=mix))])
        order = balanced_order([WITHOUT, WITH], size.blocks, chosen.seed)
        measured.timed[kind] = measure_blocks(stage, order, plans.__next__, steps.advance)
        for (arm, block), used in stage.used.items():
            measured.used[kind, arm, block] = used
        stage.used.clear()


def _visit(lab: Lab, chosen: Settings, cluster: Cluster) -> None:
    """Leave the cache as the visits of `VISITS_SECONDS` would."""
    settings = CacheSettings()
    settings = msgspec.structs.replace(settings, url=cache_direct.cache_of(lab).url, prefix=f"{cluster.namespace}:")
    visits = VISITS_SECONDS * chosen.rate
    counts = {"products": round(visits * SHOP_MIX["product"]), "words": round(visits * SHOP_MIX["search"])}
    cache_direct.visit(lab, settings, seed=chosen.seed, **counts)


def _warm_up(bench: Bench, chosen: Settings, names: tuple[str, ...], mix: dict[str, float]) -> None:
    plan = chosen.visitors.plan(
        0, rate_rps=3 * chosen.rate / len(names), seconds=chosen.lengths.warmup_seconds, mix=mix, phase="warmup"
    )
    bench.load.run([(name, plan) for name in names])


def _plans(visitors: Visitors, *, rate_rps: float, seconds: float, mix: dict[str, float], first: int) -> Iterator[Plan]:
    """Draw the plans of blocks 0, 1, 2 …; random numbers from `first` on."""
    number = 0
    while True:
        plan = visitors.plan(first + number, rate_rps=rate_rps, seconds=seconds, mix=mix)
        yield msgspec.structs.replace(plan, block=number)
        number += 1


def _capacity(stage: Stage, chosen: Settings, measured: Measured, steps: Steps) -> None:
    """Search for the load that each arm carries with its 95th percentile below 50 ms."""
    how = chosen.lengths.search
    steps.begin("searching for capacity", total=capacity.slices_planned(how, 2))

    def plan(_: str, block: int, load_rps: float, seconds: float) -> Plan:
        drawn = chosen.visitors.plan(100_000 + block, rate_rps=load_rps, seconds=seconds)
        return msgspec.structs.replace(drawn, block=block)

    measured.found = capacity.search(
        stage,
        [WITHOUT, WITH],
        plan,
        how,
        seed=chosen.seed,
        cpus=os.cpu_count() or 1,
        on_slice=lambda *_: steps.advance(),
    )


def _outage(bench: Bench, chosen: Settings, clusters: dict[str, Cluster], measured: Measured, steps: Steps) -> None:
    """Kill PostgreSQL under load on both arms, and start it again."""
    engine = bench.lab.postgresql
    if engine.pid is None:
        measured.left_out["the death of the origin"] = "LAB_DATABASE_URL names a PostgreSQL that is not the lab's own"
        return
    steps.begin("the origin is killed under load, and comes back")
    before, down, after = chosen.lengths.outage_seconds
    with cache_direct.cache_of(bench.lab).connect() as client, _room(client):
        _warm_up(bench, chosen, (WITH,), SHOP_MIX)
        plan = chosen.visitors.plan(2, rate_rps=chosen.rate, seconds=before + down + after)
        with scenarios.in_background(bench.load) as pool:
            start_ns = time.monotonic_ns()
            running = pool.submit(bench.load.run, [(arm, plan) for arm in clusters])
            time.sleep(before)
            struck_ns = time.monotonic_ns()
            engine.kill()
            dead_ns = time.monotonic_ns()
            time.sleep(down)
            engine.restart()
            repaired_ns = time.monotonic_ns()
            operations = list(running.result().operations)
    measured.outage = Outage(operations, start_ns, struck_ns, dead_ns, repaired_ns)


@contextmanager
def _room(client: Any) -> Iterator[None]:
    """Leave the cache empty and with little room while the context lasts."""
    client.flushall()
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + OUTAGE_BYTES)
    try:
        yield
    finally:
        client.config_set("maxmemory", cache_direct.NO_LIMIT)


def _fillers(bench: Bench, chosen: Settings, measured: Measured, steps: Steps) -> None:
    """Let a hot entry die again and again under load, with one filler at a time and with as many as come."""
    size = chosen.lengths
    steps.begin("a hot entry dies: who fetches it again?")
    with bench.clusters(stampede_arms(chosen)) as clusters:
        for arm in clusters:
            warm = chosen.visitors.crowd(3, rate_rps=chosen.rate, seconds=0.4, search=HOT_SEARCH)
            load = chosen.visitors.crowd(
                4, rate_rps=HOT_RATE * chosen.rate, seconds=size.stampede_seconds, search=HOT_SEARCH
            )
            bench.load.run([(arm, warm)])
            measured.stampede[arm] = list(bench.load.run([(arm, load)]).operations)


def _sweeps(lab: Lab, chosen: Settings, measured: Measured, steps: Steps) -> None:
    """Read past the web servers: hit ratio by popularity and size, and what is stale while prices change."""
    size = chosen.lengths
    steps.begin("hit ratio by popularity and size", total=len(size.points))
    bytes_each = cache_direct.bytes_of_products(lab)
    for exponent, share in size.points:
        measured.hits.append(
            cache_direct.read_products(
                lab, seed=chosen.seed, exponent=exponent, share=share, bytes_each=bytes_each, reads=size.reads
            )
        )
        steps.advance()
    steps.begin("reads while prices change", total=len(size.updates))
    cache_direct.fill_cache(lab)
    for turn, (updates_per_read, delete_on_write) in enumerate(size.updates):
        measured.updates.append(
            cache_direct.read_while_prices_change(
                lab,
                seed=chosen.seed,
                updates_per_read=updates_per_read,
                delete_on_write=delete_on_write,
                seconds=size.updates_seconds,
                turn=turn,
            )
        )
        steps.advance()


def _facts(client: Any) -> dict[str, Any]:
    """Return what Redis says about itself as a cache."""
    stats, memory = client.info("stats"), client.info("memory")
    names = ("keyspace_hits", "keyspace_misses", "expired_keys", "evicted_keys")
    return {
        **{name: int(stats[name]) for name in names},
        "entries": int(client.dbsize()),
        "used_bytes": int(memory["used_memory"]),
        "policy": str(memory["maxmemory_policy"]),
    }


# --- the findings ----------------------------------------------------------------------------------------------------


def run(chosen: Settings, console: Console) -> None:
    """Carry out a run, from its folder to its report."""
    conduct("cache", chosen, console, procedure, assemble, question=QUESTION, last_step="working out the findings")
