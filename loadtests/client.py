"""The load generator, as the lab sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadtests.piped import PipedProcess
from loadtests.wire import ArmTarget, Command, Failure, FinalViews, LoadError, Open, Reply, Report, Run, read, write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from loadtests.plans import Plan
    from loadtests.recorder import Operation

__all__ = ["ArmTarget", "Generator", "LoadError", "Result"]


@dataclass(frozen=True)
class Result:
    """What a run of plans did.

    Attributes:
        operations: every request, in the order in which they were sent.
        process_cpu_seconds: CPU time of the generator's process, from first to last.
        wall_seconds: how long it took, drain included.
        lateness_ms: how late each request went out whose tab was idle at its time: the generator's own error.
        scheduled: requests that the plans asked for, with follow-ups and retries, without those omitted.
        sent: requests that went out.
        recorded: requests in `operations`. Never differs from `scheduled` and `sent`: that is a `LoadError`.
        retries: requests sent again after a conflict (409).
        omitted: requests that closed plans never got to. An open plan omits none.
    """

    operations: list[Operation]
    process_cpu_seconds: float
    wall_seconds: float
    lateness_ms: NDArray[np.float64]
    scheduled: int
    sent: int
    recorded: int
    retries: int
    omitted: int


class Generator(PipedProcess):
    """The load generator's process; a context manager.

    Starting does not wait: the process imports Locust while the caller starts its servers.

    Args:
        log_path: file for whatever the process says on stderr.
        exact: keep time four times as exactly, for latencies. It costs CPU for each open connection at each wake-up,
            so that a crowd of hundreds of tabs does without.
    """

    def __init__(self, log_path: Path, *, exact: bool = True) -> None:
        self._decoder: msgspec.msgpack.Decoder[Report | Failure] = msgspec.msgpack.Decoder(Reply)
        super().__init__(log_path, "loadtests.generator", environment={"GEVENT_BACKEND": "select"} if exact else None)

    def open(self, target: ArmTarget) -> None:
        """Make an arm known.

        Raises:
            LoadError: if the generator could not.
        """
        self._ask(Open(target))

    def run(self, plans: list[tuple[str, Plan]]) -> Result:
        """Replay each plan on its arm, all at the same time, and wait until every request has ended.

        Args:
            plans: pairs of an arm's name and a plan.

        Raises:
            LoadError: if anything could not be sent or recorded as planned.
        """
        report = self._ask(Run(plans))
        return Result(
            operations=report.operations,
            process_cpu_seconds=report.process_cpu_seconds,
            wall_seconds=report.wall_seconds,
            lateness_ms=np.array(report.lateness_ms),
            scheduled=report.scheduled,
            sent=report.sent,
            recorded=len(report.operations),
            retries=report.retries,
            omitted=report.omitted,
        )

    def final_views(self, arm: str, shoppers: list[str] | None = None) -> list[Operation]:
        """Ask every server of an arm, past the balancer, for the carts of its shoppers (or of some of them).

        Raises:
            LoadError: if the arm or a shopper is unknown.
        """
        return self._ask(FinalViews(arm, shoppers)).operations

    def _ask(self, command: Command) -> Report:
        try:
            write(self._input, command)
            packed = read(self._output)
        except BrokenPipeError:
            packed = None
        if packed is None:
            raise LoadError(f"the load generator has ended (status {self._process.wait()}); see {self._log_path}")
        reply = self._decoder.decode(packed)
        if isinstance(reply, Failure):
            raise LoadError(f"the load generator failed: {reply.text}")
        return reply
