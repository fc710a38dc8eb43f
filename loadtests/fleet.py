"""Many workers as one load generator, as the lab sees them.

One plan is split between them by shopper, all begin at the same moment, and every raw record comes back. See
docs/load.md for what is agreed on and how exactly.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from loadtests.client import ArmTarget, LoadError, Result
from loadtests.messages import Answers, Listening, MasterCommand, MasterReply, Muster, Mustered, Orders, Refusal, Start
from loadtests.piped import PipedProcess
from loadtests.shares import Seats
from loadtests.wire import Command, Failure, Open, Reply, Report, Run, read, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from loadtests.messages import Worker
    from loadtests.plans import Plan
    from loadtests.recorder import Operation

__all__ = ["ArmTarget", "Fleet", "Gathered", "LoadError", "Part", "WorkersLost"]

HOST = "127.0.0.1"
"""Where the master listens unless it is told otherwise: for workers of this machine alone."""

SILENCE_SECONDS = 10
"""Without a heartbeat (Locust's, one a second) for so long, a worker is lost. The end of one that the lab has started
is seen at once."""

HERE_SECONDS = 120.0
"""How long the workers of this machine may take to come."""

GRACE_SECONDS = 30.0
"""How long a worker may take for its part, beyond its length and the longest request: to read it, and to answer."""

_Reply = TypeVar("_Reply", Listening, Mustered, Answers)


class WorkersLost(LoadError):
    """A worker has gone in the midst of a plan: nobody knows what it sent. The others are still there.

    Attributes:
        lost: worker to what became of it.
    """

    def __init__(self, lost: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name} was lost: {why}" for name, why in lost.items()))
        self.lost = lost


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one worker did of a plan.

    Attributes:
        worker: who.
        shoppers: how many shoppers it has been dealt.
        operations: every request that it sent.
        lateness_ms: how late requests left whose tab was idle: this worker's own error.
        cpu_seconds: of its process meanwhile.
        wall_seconds: from its start to its last answer, by its own clock.
        start: between which moments it began; see there.
    """

    worker: Worker
    shoppers: int
    operations: list[Operation]
    lateness_ms: list[float]
    cpu_seconds: float
    wall_seconds: float
    start: Start


@dataclass(frozen=True)
class Gathered(Result):
    """What a run of plans did, all workers together.

    Times of the operations are placed on the lab's clock by the agreed moment; between workers they are as uncertain
    as `Part.start` says. Durations are those of each worker's own clock.

    Attributes:
        parts: what each worker did.
        zero_ns: the moment that was agreed on, by the lab's monotonic clock.
        master_cpu_seconds: CPU time of the master's process meanwhile.
    """

    parts: list[Part]
    zero_ns: int
    master_cpu_seconds: float

    @property
    def apart_ms(self) -> float:
        """How far apart the workers may have begun, at the most."""
        starts = [part.start for part in self.parts]
        if len(starts) == 1:
            return 0.0
        return max(start.latest_ms for start in starts) - min(start.earliest_ms for start in starts)


class Fleet(PipedProcess):
    """The load's master, its workers here, and those that come from elsewhere; a context manager.

    Starting does not wait: the processes import Locust while the caller starts its servers. Then `muster`.

    Args:
        log_path: file for whatever master and workers of this machine say on stderr.
        here: workers to start on this machine.
        elsewhere: workers that are to come from other machines.
        listen: host and port to listen at; port 0 for any. Whoever reaches it can give orders to the load: nothing
            there is encrypted, and nobody is asked for a name.
        silence_seconds: without a heartbeat for so long, a worker is lost.
    """

    def __init__(
        self,
        log_path: Path,
        here: int,
        *,
        elsewhere: int = 0,
        listen: tuple[str, int] = (HOST, 0),
        silence_seconds: int = SILENCE_SECONDS,
    ) -> None:
        self._count = here + elsewhere
        self._decoder: msgspec.msgpack.Decoder[MasterReply] = msgspec.msgpack.Decoder(MasterReply)
        self._reports: msgspec.msgpack.Decoder[Report | Failure] = msgspec.msgpack.Decoder(Reply)
        self._encoder = msgspec.msgpack.Encoder()
        self._targets: dict[str, ArmTarget] = {}
        self._seats: Seats
        self.workers: dict[str, Worker] = {}
        super().__init__(log_path, "loadtests.master", *listen, here, silence_seconds)

    def listening(self) -> int:
        """Return the port that the master listens at, once it does.

        Raises:
            LoadError: it cannot.
        """
        return self._expect(self._hear(), Listening).port

    def muster(self, seconds: float = HERE_SECONDS) -> None:
        """Wait until all workers have come.

        Raises:
            LoadError: one has ended, or not all came in time.
        """
        came = self._expect(self._ask(Muster(self._count, seconds)), Mustered).workers
        self._keep({worker.name: worker for worker in came})

    def open(self, target: ArmTarget) -> None:
        """Make an arm known to all workers; its shoppers and their cookies live until it is opened again.

        Raises:
            WorkersLost: a worker has gone.
        """
        self._order(dict.fromkeys(self.workers, Open(target)), timed=False, seconds=GRACE_SECONDS)
        self._targets[target.arm] = target

    def run(self, plans: list[tuple[str, Plan]]) -> Gathered:
        """Replay each plan on its arm, all at the same time, and wait until every request has ended.

        Args:
            plans: pairs of an arm's name and a plan. Each is split between the workers by shopper.

        Raises:
            WorkersLost: a worker has gone. The others have ended what they had, and are dealt all shoppers anew: open
                the arms again.
            LoadError: if anything could not be sent or recorded as planned.
        """
        split = [(arm, self._seats.split(plan)) for arm, plan in plans]
        commands: dict[str, Command] = {
            name: Run([(arm, parts[name]) for arm, parts in split]) for name in self.workers
        }
        patience = max((self._targets[arm].timeout_seconds for arm, _ in plans if arm in self._targets), default=0.0)
        seconds = max((plan.seconds for _, plan in plans), default=0.0) + patience + GRACE_SECONDS
        answers, reports = self._order(commands, timed=True, seconds=seconds)
        parts = [self._part(reports[name], self.workers[name], answers) for name in self.workers]
        return _gathered(plans, list(reports.values()), parts, answers)

    def _part(self, report: Report, worker: Worker, answers: Answers) -> Part:
        report.move(answers.zero_ns)  # they came as times since the moment that was agreed on
        return Part(
            worker=worker,
            shoppers=len(self._seats.shoppers(worker.name)),
            operations=report.operations,
            lateness_ms=report.lateness_ms,
            cpu_seconds=report.process_cpu_seconds,
            wall_seconds=report.wall_seconds,
            start=answers.starts[worker.name],
        )

    def _keep(self, workers: dict[str, Worker]) -> None:
        """Count on these workers, and deal all shoppers anew."""
        self.workers = workers
        if workers:
            self._seats = Seats(list(workers))

    def _order(
        self, commands: Mapping[str, Command], *, timed: bool, seconds: float
    ) -> tuple[Answers, dict[str, Report]]:
        if not commands:
            raise LoadError("no worker is left to send the load")
        packed = {name: self._encoder.encode(command) for name, command in commands.items()}
        answers = self._expect(self._ask(Orders(packed, timed, seconds)), Answers)
        if answers.lost:
            self._keep({name: worker for name, worker in self.workers.items() if name not in answers.lost})
            raise WorkersLost(answers.lost)
        reports = {}
        for name, answer in answers.answers.items():
            reply = self._reports.decode(answer)
            if isinstance(reply, Failure):
                raise LoadError(f"{name} failed: {reply.text}")
            reports[name] = reply
        return answers, reports

    def _ask(self, command: MasterCommand) -> MasterReply:
        with suppress(BrokenPipeError):
            write(self._input, command)
        return self._hear()

    def _hear(self) -> MasterReply:
        packed = read(self._output)
        if packed is None:
            raise LoadError(f"the load's master has ended (status {self._process.wait()}); see {self._log_path}")
        return self._decoder.decode(packed)

    def _expect(self, reply: MasterReply, kind: type[_Reply]) -> _Reply:
        if isinstance(reply, Refusal):
            raise LoadError(f"the load cannot be sent: {reply.text}; see {self._log_path}")
        assert isinstance(reply, kind)  # noqa: S101 - each command has one reply
        return reply


def _gathered(plans: list[tuple[str, Plan]], reports: list[Report], parts: list[Part], answers: Answers) -> Gathered:
    """Put the parts together, and see that they are the whole.

    Raises:
        LoadError: a request was sent by nobody, or by two.
    """
    operations = sorted((one for part in parts for one in part.operations), key=lambda one: one.t0_ns)
    for number, operation in enumerate(operations):
        operation.i = number
    retries, omitted = sum(report.retries for report in reports), sum(report.omitted for report in reports)
    gathered = Gathered(
        operations=operations,
        process_cpu_seconds=sum(part.cpu_seconds for part in parts),
        wall_seconds=max(part.wall_seconds for part in parts),
        lateness_ms=np.concatenate([part.lateness_ms for part in parts]),
        scheduled=sum(plan.scheduled for _, plan in plans) + retries - omitted,
        sent=sum(report.sent for report in reports),
        recorded=len(operations),
        retries=retries,
        omitted=omitted,
        parts=parts,
        zero_ns=answers.zero_ns,
        master_cpu_seconds=answers.cpu_seconds,
    )
    if not gathered.scheduled == gathered.sent == gathered.recorded:
        raise LoadError(
            f"{gathered.scheduled} requests were scheduled, {gathered.sent} sent by all workers together, "
            f"{gathered.recorded} recorded"
        )
    return gathered
