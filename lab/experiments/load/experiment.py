"""`make load`: more load than one process can send, from several workers, against one shop.

Four parts, as in every experiment: the question, the arms, the procedure, the findings.
"""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab.cluster import ClusterSpec, Lab
from lab.errors import LabError
from lab.experiments.load.findings import assemble
from lab.experiments.load.target import own_versions, target_at
from lab.measuring.bench import target_of
from lab.measuring.facts import Asked, Facts, conduct
from lab.measuring.timed import LATENESS_LIMIT_MS, REDO_SHARE, TRIES
from lab.probes.cpu import machine_time
from lab.report.load import QUESTION
from loadtests.fleet import HERE_SECONDS, HOST, ArmTarget, Fleet, Gathered, LoadError, WorkersLost
from loadtests.plans import Shopping, warmup_plan
from strategies import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from lab.cluster import Cluster
    from lab.measuring.runs import Steps

# --- the question ----------------------------------------------------------------------------------------------------

BLOCK_SECONDS = 1.0
"""Length of a block: all workers begin it together, and it is over when every request of it has been answered."""

START_LIMIT_MS = 50.0
"""A block whose workers may have begun further apart than this is measured again."""

LEAST_WARMUP_RPS = 100
"""At least so quickly shoppers log in and fill their carts, else at the run's own rate."""

SHOPPERS = (40, 1000)
"""Fewest and most; in between, one for each four requests a second, so that few are ever busy."""

ELSEWHERE_SECONDS = 600.0
"""How long the lab waits for workers that somebody has to start on another machine."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Where only this machine's workers find the lab."""

EVERYWHERE = ("0.0.0.0", "::", "*")
"""All of a machine's addresses: asked for by the user, such as in a container; nobody can call it by such a name."""

_WARMUP_SECONDS = 0.5

_log = logging.getLogger("lab.load")

# --- the arms --------------------------------------------------------------------------------------------------------

SIZES = {"quick": 10, "default": 30}
"""Seconds of load, unless the user asks for others."""


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a load run; see `python -m lab load --help`.

    Attributes:
        workers: processes to start on this machine.
        elsewhere: workers that are to come from other machines.
        listen: where these find the lab; None where there are none.
        strategy: of the cluster to start; None where a shop runs already.
        target: address of that shop.
        rate: offered load in requests/s, of all workers together.
        seconds: of load, warm-up not counted.
        servers: of the cluster to start.
    """

    workers: int
    elsewhere: int
    listen: tuple[str, int] | None
    strategy: str | None
    target: str | None
    rate: int
    seconds: int
    servers: int

    @property
    def blocks(self) -> int:
        """How many blocks the load is sent in."""
        return max(1, round(self.seconds / BLOCK_SECONDS))

    @property
    def shoppers(self) -> int:
        """How many shoppers there are, each with one tab."""
        return min(max(self.rate // 4, SHOPPERS[0]), SHOPPERS[1])


def settings(*, size: str, seconds: int | None, **options: Any) -> Settings:
    """Complete what the user asked for.

    Raises:
        LabError: no worker is asked for, or workers elsewhere cannot find the lab.
    """
    chosen = Settings(size=size, seconds=seconds or SIZES[size], **options)
    if chosen.workers + chosen.elsewhere == 0:
        raise LabError("expected at least one worker, got WORKERS=0: who would send the load?")
    if chosen.elsewhere and chosen.listen is None:
        raise LabError(
            "workers of other machines must find this one: say where, such as LISTEN=192.168.1.5:5557, in a network "
            "that you trust (nothing there is encrypted)."
        )
    if not chosen.elsewhere and chosen.listen is not None:
        raise LabError("LISTEN is for workers of other machines: say how many come, such as ELSEWHERE=2.")
    if chosen.listen is not None and chosen.target is None and chosen.listen[0] not in LOOPBACK:
        raise LabError(
            "a cluster that the lab starts serves this machine alone: for workers of other machines, name a shop that "
            "they reach with TARGET=http://…"
        )
    return chosen


# --- the procedure ---------------------------------------------------------------------------------------------------


class Block(msgspec.Struct, frozen=True):
    """One block that counts.

    Attributes:
        gathered: what all workers did.
        seconds: for how long its plan sends.
        busy: share of this machine's CPU time in use meanwhile.
        cpu: CPU seconds by component of the lab's own cluster: `servers`, `store`, `balancer`; None for a target.
    """

    gathered: Gathered
    seconds: float
    busy: float
    cpu: dict[str, float] | None


class Loss(msgspec.Struct, frozen=True):
    """A worker that was lost.

    Attributes:
        worker: who.
        block: in which block, from 0; -1 while warming up.
        why: what became of it.
        left: how many workers went on.
    """

    worker: str
    block: int
    why: str
    left: int


@dataclass
class Measured(Facts):
    """Filled by the procedure, block by block.

    Attributes:
        settings: what the user asked for.
        target: where the shoppers went.
        blocks: those that count.
        redone: how many were measured again because a rule was broken.
        warnings: rules that stayed broken.
        lost: workers that went.
    """

    settings: Settings
    target: ArmTarget | None = None
    blocks: list[Block] = field(default_factory=list)
    redone: int = 0
    warnings: list[str] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)


@dataclass(frozen=True)
class Shop:
    """What the load is sent to.

    Attributes:
        target: where shoppers go.
        cpu: reads the CPU time since the last call by component; None where the shop is not the lab's.
        check: sees that it still stands, and waits until it has come to rest.
    """

    target: ArmTarget
    cpu: Callable[[], dict[str, float] | None] = lambda: None
    check: Callable[[], None] = lambda: None


def procedure(chosen: Settings, folder: Path, steps: Steps) -> Measured:
    """Start or find the shop, gather the workers, and send block after block."""
    measured = Measured(chosen)
    steps.begin("starting workers" if chosen.target else "starting engines, servers and workers")
    listen = chosen.listen or (HOST, 0)
    with (
        Fleet(folder / "load.log", chosen.workers, elsewhere=chosen.elsewhere, listen=listen) as fleet,
        _shop(measured, folder) as shop,
    ):
        measured.target = shop.target
        fleet.listening()
        steps.begin(f"waiting for {chosen.workers + chosen.elsewhere} workers")
        fleet.muster(ELSEWHERE_SECONDS if chosen.elsewhere else HERE_SECONDS)
        Sender(fleet, shop, measured, steps).send()
    measured.end()
    return measured


@contextmanager
def _shop(measured: Measured, folder: Path) -> Iterator[Shop]:
    """Give the shop that runs already, or one of the lab's own while the context lasts."""
    chosen = measured.settings
    if chosen.target is not None or chosen.strategy is None:
        measured.versions = own_versions()
        yield Shop(target_at(chosen.target or ""))
        return
    with Lab(folder, redis="redis" in find(chosen.strategy).needs, seed=chosen.seed) as lab:
        (cluster,) = lab.start(ClusterSpec(name=chosen.strategy, strategy=chosen.strategy, servers=chosen.servers))
        measured.learn(lab, cluster)
        yield Shop(target_of(chosen.strategy, cluster), cluster.cpu_meter().read, lambda: _rest(lab, cluster))


def _rest(lab: Lab, cluster: Cluster) -> None:
    lab.keeper.check()
    cluster.quiet()


class Sender:
    """Sends the blocks, and begins anew with those who are left when a worker is lost."""

    def __init__(self, fleet: Fleet, shop: Shop, measured: Measured, steps: Steps) -> None:
        self._fleet, self._shop, self._measured, self._steps = fleet, shop, measured, steps
        self._chosen = measured.settings
        self._shopping: Shopping | None = None
        self._attempts = 0

    def send(self) -> None:
        """Send every block, again where a worker was lost or a rule was broken.

        Raises:
            LoadError: no worker is left.
        """
        tries = 0
        while (number := len(self._measured.blocks)) < self._chosen.blocks:
            try:
                if self._shopping is None:
                    self._shopping = self._enter()
                block = self._block(self._shopping)
            except WorkersLost as loss:
                self._note(loss, number if self._shopping else -1)
                continue
            tries += 1
            if self._counts(block, tries):
                self._measured.blocks.append(block)
                self._steps.advance()
                tries = 0

    def _enter(self) -> Shopping:
        """Let every shopper log in and fill a cart, at whichever worker it is now."""
        chosen, target = self._chosen, self._shop.target
        self._steps.begin(f"warming up: {chosen.shoppers} shoppers come in")
        self._fleet.open(target)
        warm = warmup_plan(
            chosen.seed,
            rate_rps=max(chosen.rate, LEAST_WARMUP_RPS),
            seconds=_WARMUP_SECONDS,
            shoppers=chosen.shoppers,
        )
        self._fleet.run([(target.arm, warm)])
        self._shop.check()
        text = f"{len(self._fleet.workers)} workers send {chosen.rate:,} requests/s"
        self._steps.begin(text, total=chosen.blocks - len(self._measured.blocks))
        return Shopping(chosen.seed, chosen.shoppers)

    def _block(self, shopping: Shopping) -> Block:
        """Send one block, with a plan of its own: no order can be placed twice."""
        plan = shopping.plan(self._attempts, rate_rps=self._chosen.rate, seconds=BLOCK_SECONDS)
        self._attempts += 1
        self._shop.cpu()
        before = machine_time()
        gathered = self._fleet.run([(self._shop.target.arm, plan)])
        after = machine_time()
        cpu = self._shop.cpu()
        self._shop.check()
        for operation in gathered.operations:
            operation.block = len(self._measured.blocks)
        busy = (after.busy - before.busy) / max(after.total - before.total, 1e-9)
        return Block(gathered, plan.seconds, busy, cpu)

    def _counts(self, block: Block, tries: int) -> bool:
        """Say whether a block counts; no rule looks at latency."""
        measured, rule = self._measured, broken_rule(block.gathered)
        if rule is None:
            return True
        if tries < TRIES and measured.redone < np.ceil(REDO_SHARE * self._chosen.blocks):
            measured.redone += 1
            _log.info("block %d is measured again: %s", len(measured.blocks), rule)
            return False
        measured.warnings.append(f"block {len(measured.blocks)}: {rule}")
        return True

    def _note(self, loss: WorkersLost, block: int) -> None:
        left = len(self._fleet.workers)
        self._measured.lost += [Loss(worker, block, why, left) for worker, why in loss.lost.items()]
        _log.warning("%s; %d workers are left", loss, left)
        if not left:
            raise LoadError(
                f"no worker is left: {'; '.join(f'{one.worker}, {one.why}' for one in self._measured.lost)}"
            )
        self._shopping = None


def broken_rule(gathered: Gathered) -> str | None:
    """Return which rule a block broke, or None: a worker that was late, or workers that began too far apart."""
    for part in gathered.parts:
        late = float(np.percentile(part.lateness_ms, 95)) if part.lateness_ms else 0.0
        if late > LATENESS_LIMIT_MS:
            return f"{part.worker.name} was {late:.0f} ms late (limit {LATENESS_LIMIT_MS:.0f} ms)"
    if gathered.apart_ms > START_LIMIT_MS:
        return f"the workers began up to {gathered.apart_ms:.0f} ms apart (limit {START_LIMIT_MS:.0f} ms)"
    return None


# --- the findings ----------------------------------------------------------------------------------------------------


def run(chosen: Settings, console: Console) -> None:
    """Carry out a load run, from its folder to its report."""
    if chosen.target is not None:
        target_at(chosen.target)
    if chosen.listen is not None:
        host, port = chosen.listen
        host = socket.gethostname() if host in EVERYWHERE else host
        console.print(f"waits for {chosen.elsewhere} workers of the same version of the lab, each started with:")
        console.print(f"  .venv/bin/python -m loadtests.worker --master {host}:{port}", highlight=False, soft_wrap=True)
    conduct("load", chosen, console, procedure, assemble, question=QUESTION, last_step="working out what was found")
