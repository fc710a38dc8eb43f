"""`make cache`: the shop's products and searches with a cache in front of their origin, and without. When does it pay?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.

Catalogue pages touch no session, so it does not matter where sessions live: here in the servers' own memory, so that no
store of theirs takes part in what is measured.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec, Lab
from lab.experiments.cache import direct as cache_direct
from lab.experiments.cache.findings import assemble
from lab.experiments.cache.measured import Measured, OriginUse, Outage
from lab.experiments.cache.sizes import SIZES, Size
from lab.measuring import capacity, scenarios
from lab.measuring.bench import Bench
from lab.measuring.facts import Asked, conduct
from lab.measuring.order import balanced_order
from lab.measuring.timed import Slice, Stage, measure_blocks
from lab.report.cache import QUESTION
from lab.shop.cache import CacheSettings
from lab.shop.products import searches
from loadtests.catalogue import SHOP_MIX, Visitors
from loadtests.client import Generator

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

OUTAGE_RATE = 1.5
"""The load while the origin dies, relative to the run's: a share is told from another one by thousands of reads."""

OUTAGE_BYTES = 500_000
"""Room in the cache when the origin dies: for some of the products and searches, so that not all is a hit."""

_PATIENCE_SECONDS = 30.0

# --- the arms --------------------------------------------------------------------------------------------------------


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
        blocks = size.thorough_blocks if kind == "thorough" else size.blocks
        steps.begin(f"measuring {blocks} blocks: {kind}", total=blocks)
        # Thorough searches are few, or the warm-up would take minutes without a cache.
        who = few if kind == "thorough" else visitors
        rate_rps = chosen.rate * rate
        plans = _plans(who, rate_rps=rate_rps, seconds=size.slice_seconds / rate**0.5, mix=mix, first=1000)
        _visit(bench.lab, chosen, stage.of(WITH))
        if kind == "thorough":
            bench.load.run([(WITH, who.plan(1, rate_rps=rate_rps, seconds=2 * size.warmup_seconds, mix=mix))])
        order = balanced_order([WITHOUT, WITH], blocks, chosen.seed)
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
        rate_rps = OUTAGE_RATE * chosen.rate
        plan = chosen.visitors.plan(2, rate_rps=rate_rps, seconds=before + down + after)
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
    measured.outage = Outage(operations, start_ns, struck_ns, dead_ns, repaired_ns, rate_rps)


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
