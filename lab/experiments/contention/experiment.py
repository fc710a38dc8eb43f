"""`make contention`: pages that touch no session, while the sessions lie in the same PostgreSQL. Are they slowed down?

Four parts, as in every experiment: the question, the arms, the procedure, the findings.
"""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from lab.cluster import ClusterSpec, Commit, Lab, Promise
from lab.experiments.contention.commits import Commits, commit_times
from lab.experiments.contention.findings import assemble
from lab.experiments.contention.report import Reports, remember_the_past
from lab.experiments.contention.watch import Counts, Looks, Reading, Waits, Watch
from lab.measuring.bench import Bench
from lab.measuring.facts import Asked, Facts, conduct
from lab.measuring.order import balanced_order
from lab.measuring.timed import TWIN, TimedRun, measure_blocks
from lab.report.contention import QUESTION
from loadtests.browsing import browsing
from loadtests.client import Generator
from loadtests.plans import Shopping, warmup_plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from lab.cluster import Cluster
    from lab.measuring.runs import Steps
    from loadtests.plans import Plan

# --- the question ----------------------------------------------------------------------------------------------------

SHOPPERS = 40
SHORTEST_SLICE, LONGEST_SLICE = 0.4, 0.9
"""In seconds; in between, a slice is as long as its number of requests takes."""

WARMUP_RPS = 250
"""On each arm, untimed."""

# --- the arms --------------------------------------------------------------------------------------------------------


class Pair(msgspec.Struct, frozen=True):
    """Two arms that promise the same about a save that was acknowledged.

    Attributes:
        promise: what a crash of the machine can take.
        commit: of the sessions in PostgreSQL.
        redis: of Redis.
    """

    promise: str
    commit: Commit
    redis: Promise


PAIRS = (
    Pair("nothing is lost", "on", "always"),
    Pair("about the last second is lost", "off", "everysec"),
    Pair("everything is lost", "unlogged", "none"),
)
"""The lab's usual arms promise unlike things: `database` loses nothing (on), `redis` about a second (everysec)."""


class Size(msgspec.Struct, frozen=True):
    """How long each part of a run is.

    Attributes:
        blocks: of each load; a block is one slice of each arm.
        pair_blocks: of each pair of equal promise.
        loads_rps: offered loads without the report.
        report_rps: offered loads while the report runs.
        pair_rps: offered load on the pairs, and where `redis` is compared with itself.
        slice_requests: about how many requests a slice has, within the limits of its length.
        twin: whether `redis` is compared with itself.
        look_seconds: how long each arm is looked at, untimed, at each load.
        orders: past orders that the report reads.
    """

    blocks: int
    pair_blocks: int
    loads_rps: tuple[int, ...]
    report_rps: tuple[int, ...]
    pair_rps: int
    slice_requests: int
    twin: bool
    look_seconds: float
    orders: int


# A load is judged from 600 catalogue pages on each arm on (`lab.claim_rules.contention.PAGES`): the default size has
# them at every load, the quick one at none.
SIZES = {
    "quick": Size(
        blocks=8,
        pair_blocks=3,
        loads_rps=(100, 300),
        report_rps=(100,),
        pair_rps=300,
        slice_requests=75,
        twin=False,
        look_seconds=0.5,
        orders=5_000,
    ),
    "default": Size(
        blocks=18,
        pair_blocks=17,
        loads_rps=(100, 250, 500, 750),
        report_rps=(100, 200, 400),
        pair_rps=250,
        slice_requests=100,
        twin=True,
        look_seconds=1.0,
        orders=20_000,
    ),
}


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a contention run; see `python -m lab contention --help`.

    Attributes:
        servers: of each arm.
        loads: offered loads in requests/s, with and without the report; None for those of the size.
    """

    servers: int
    loads: tuple[int, ...] | None = None

    @property
    def lengths(self) -> Size:
        """How long each part is, with the loads that were asked for."""
        size = SIZES[self.size]
        if not self.loads:
            return size
        usual = self.loads[(len(self.loads) - 1) // 2]
        return msgspec.structs.replace(size, loads_rps=self.loads, report_rps=self.loads, pair_rps=usual)


class Case(msgspec.Struct, frozen=True):
    """One offered load under one circumstance: what a pair of arms is measured at.

    Attributes:
        load_rps: offered load in requests/s.
        report: whether the report runs meanwhile.
        seconds: length of a slice.
        blocks: how many.
        twin: whether `redis` is measured twice in each block.
        pair: of equal promise; None for the arms as the lab usually has them.
    """

    load_rps: int
    report: bool
    seconds: float
    blocks: int
    twin: bool = False
    pair: Pair | None = None

    @property
    def title(self) -> str:
        """Name it, for the log, the progress display and the samples."""
        extra = ", report" if self.report else f", {self.pair.commit} and {self.pair.redis}" if self.pair else ""
        return f"{self.load_rps} requests/s{extra}"


def cases(chosen: Settings) -> list[Case]:
    """List what is measured: loads without the report, loads with it, pairs of equal promise."""
    size = chosen.lengths

    def case(load_rps: int, blocks: int, **more: Any) -> Case:
        seconds = min(max(size.slice_requests / load_rps, SHORTEST_SLICE), LONGEST_SLICE)
        return Case(load_rps=load_rps, seconds=seconds, blocks=blocks, **{"report": False, **more})

    plain = [case(load, size.blocks, twin=size.twin and load == size.pair_rps) for load in size.loads_rps]
    busy = [case(load, size.blocks, report=True) for load in size.report_rps]
    return [*plain, *busy, *(case(size.pair_rps, size.pair_blocks, pair=pair) for pair in PAIRS)]


def arms(chosen: Settings, pair: Pair | None = None) -> list[ClusterSpec]:
    """List the two arms, as the lab usually has them or with an equal promise: everything else is alike."""
    alike: dict[str, Any] = {"servers": chosen.servers, "sweep_seconds": 30.0}
    named = f" {pair.commit}" if pair else ""
    commit: dict[str, Any] = {"commit": pair.commit} if pair else {}
    return [
        ClusterSpec(name=f"database{named}", strategy="database", **alike, **commit),
        ClusterSpec(name=f"redis{f' {pair.redis}' if pair else ''}", strategy="redis", **alike),
    ]


# --- the procedure ---------------------------------------------------------------------------------------------------


class Lived(msgspec.Struct):
    """What was measured in one case.

    Attributes:
        case: which one.
        names: of its arms: `database` and `redis`, or what a pair calls them.
        timed: its slices.
        readings: arm and block to what that slice took.
        counts: of PostgreSQL, before and after.
        waits: strategy to who waited in PostgreSQL; none for pairs.
        reports: seconds of each report that ended meanwhile.
    """

    case: Case
    names: tuple[str, str]
    timed: TimedRun
    readings: dict[tuple[str, int], Reading]
    counts: tuple[Counts, Counts]
    waits: dict[str, Waits]
    reports: list[float]


@dataclass(kw_only=True)
class Measured(Facts):
    """Filled by the procedure, case by case.

    Attributes:
        settings: what the user asked for.
        own: engine (`postgresql`, `redis`) to whether it is the lab's own, so that its CPU time is known.
        lived: what each case gave.
        left_out: why pairs of equal promise were not measured; empty if they were.
        commits: what a commit waits for.
    """

    settings: Settings
    own: dict[str, bool] = field(default_factory=dict)
    lived: list[Lived] = field(default_factory=list)
    left_out: str = ""
    commits: Commits | None = None


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Measure the loads, without the report and with it, and the pairs of equal promise."""
    measured = Measured(settings=chosen)
    planned = cases(chosen)
    steps.begin("starting engines and servers")
    with Lab(folder, seed=chosen.seed) as lab, Generator(folder / "generator.log") as load:
        measured.own = {"postgresql": lab.postgresql.pid is not None, "redis": bool(lab.redis and lab.redis.pid)}
        measured.left_out = _cannot_promise(measured.own)
        steps.begin("giving the shop a past, and timing commits")
        remember_the_past(lab.postgresql.url, chosen.lengths.orders)
        measured.commits = commit_times(lab)
        bench = Bench(lab, load)
        _loads(bench, chosen, [case for case in planned if case.pair is None], measured, steps)
        for case in planned:
            if case.pair is not None and not measured.left_out:
                _pair(bench, chosen, case, measured, steps)
    measured.end()
    return measured


def _cannot_promise(own: dict[str, bool]) -> str:
    """Return why engines are not told to keep other promises, if so: nobody changes those that serve others, too."""
    names = {"postgresql": "LAB_DATABASE_URL names a PostgreSQL", "redis": "LAB_REDIS_URL names a Redis"}
    strange = [text for name, text in names.items() if not own[name]]
    return f"{' and '.join(strange)}: not the lab's own" if strange else ""


def _loads(bench: Bench, chosen: Settings, planned: list[Case], measured: Measured, steps: Steps) -> None:
    """Measure the usual arms at every load."""
    twin = any(case.twin for case in planned)
    with _contest(bench, chosen, arms(chosen), steps, twin=twin) as contest:
        measured.learn(bench.lab, contest.clusters["redis"])
        for busy in (False, True):
            own = [case for case in planned if case.report == busy]
            with contest.reports.running() if busy and own else nullcontext():
                measured.lived += [contest.live(case) for case in own]


def _pair(bench: Bench, chosen: Settings, case: Case, measured: Measured, steps: Steps) -> None:
    """Measure two arms of equal promise, on servers of their own."""
    assert case.pair is not None  # noqa: S101 - the caller looked
    assert bench.lab.redis is not None  # noqa: S101 - asked for
    with (
        bench.lab.redis.promising(case.pair.redis),
        _contest(bench, chosen, arms(chosen, case.pair), steps) as contest,
    ):
        measured.lived.append(contest.live(case))


@contextmanager
def _contest(
    bench: Bench, chosen: Settings, specs: list[ClusterSpec], steps: Steps, *, twin: bool = False
) -> Iterator[_Contest]:
    """Start two arms, log every shopper in and fill the carts; with `twin` also of those who repeat on `redis`."""
    steps.begin("warming up")
    warm = warmup_plan(chosen.seed, rate_rps=WARMUP_RPS, seconds=0.5, shoppers=SHOPPERS)
    with bench.clusters(specs) as clusters, closing(Watch(bench.lab, bench.load, clusters)) as watch:
        again = [("redis", warm.as_twin())] if twin else []
        bench.load.run([*((name, warm) for name in clusters), *again])
        yield _Contest(bench, chosen, clusters, watch, steps)


class _Contest:
    """Two arms with their shoppers, case after case."""

    def __init__(
        self, bench: Bench, chosen: Settings, clusters: dict[str, Cluster], watch: Watch, steps: Steps
    ) -> None:
        self.clusters = clusters
        self.reports = Reports(bench.lab.postgresql.url)
        self._bench, self._chosen, self._watch, self._steps = bench, chosen, watch, steps
        self._shopping = Shopping(chosen.seed, SHOPPERS)
        self._drawn = 0

    def live(self, case: Case) -> Lived:
        """Measure the blocks of a case; then look, untimed, at who waits in PostgreSQL."""
        names, watch = list(self.clusters), self._watch
        slots = [*names, *([names[1] + TWIN] if case.twin else [])]
        self._steps.begin(f"{case.title}: {case.blocks} blocks of {len(slots)} slices", total=case.blocks)
        self._bench.lab.keeper.check()
        watch.readings.clear()
        before, done = watch.counts(), len(self.reports.seconds)
        order = balanced_order(slots, case.blocks, self._chosen.seed)
        timed = measure_blocks(watch, order, lambda: self._plan(case, case.seconds), self._steps.advance)
        counts, ended = (before, watch.counts()), self.reports.seconds[done:]
        waits = {} if case.pair else self._look(case)
        return Lived(case, (names[0], names[1]), timed, dict(watch.readings), counts, waits, ended)

    def _look(self, case: Case) -> dict[str, Waits]:
        plan = self._plan(case, self._chosen.lengths.look_seconds)
        found = {}
        for name in self.clusters:
            looks = Looks(self._bench.lab.postgresql.url)
            with looks.looking():
                self._bench.load.run([(name, plan)])
            found[name] = looks.waits
        return found

    def _plan(self, case: Case, seconds: float) -> Plan:
        """Draw the next plan; every one has a number of its own."""
        self._drawn += 1
        plan = self._shopping.plan(self._drawn, rate_rps=case.load_rps, seconds=seconds)
        return browsing(plan, self._chosen.seed)


# --- the findings ----------------------------------------------------------------------------------------------------


def settings(**options: Any) -> Settings:
    """Complete what the user asked for: each load once, the lowest first."""
    loads = options.pop("loads", None)
    return Settings(loads=tuple(sorted(set(loads))) if loads else None, **options)


def run(chosen: Settings, console: Console) -> None:
    """Carry out a contention run, from its folder to its report."""
    conduct("contention", chosen, console, procedure, assemble, question=QUESTION, last_step="working out the ratios")
