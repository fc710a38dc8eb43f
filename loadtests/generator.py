"""The load generator's process: commands in on stdin, what happened out on stdout.

Locust patches the standard library for gevent, which the lab's own process must be spared; and a process of its own is
what makes the generator's CPU time a figure. Start it through `client.Generator`.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import gevent
import msgspec

from loadtests.answers import Exchange, operation
from loadtests.process import allow_connections, end_with_parent, own_stdout
from loadtests.shoppers import SECOND_NS, Arm, Walk
from loadtests.wire import Command, Failure, FinalViews, LoadError, Open, Report, Run, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.plans import Plan
    from loadtests.recorder import Operation

LEAD_SECONDS = 0.02
"""Time between spawning the shoppers and the plan's time zero, so that the first of them is not late."""


class Generator:
    """Holds the arms, and does what the lab commands."""

    def __init__(self) -> None:
        self.arms: dict[str, Arm] = {}
        self.operations = 0
        self._opened = 0

    def do(self, command: Command) -> Report:
        """Carry out one command.

        Raises:
            LoadError: if something could not be sent or recorded as planned.
        """
        match command:
            case Open(target):
                self.arms[target.arm] = Arm(target, self._opened)
                self._opened += 1
                return Report()
            case Run(plans):
                return self._run(plans)
            case FinalViews(arm, shoppers):
                return self._final_views(self._arm(arm), shoppers)

    def _arm(self, name: str) -> Arm:
        if name not in self.arms:
            raise LoadError(f"arm {name!r} is not open")
        return self.arms[name]

    def walks(self, plans: Sequence[tuple[str, Plan]]) -> list[Walk]:
        """Share plans out among the tabs of their arms.

        Raises:
            LoadError: if an arm is unknown.
        """
        return [walk for arm, plan in plans for walk in self._arm(arm).walks(plan)]

    def _run(self, plans: list[tuple[str, Plan]]) -> Report:
        walks = self.walks(plans)
        with undisturbed():
            cpu_seconds, wall_seconds = replay(walks, time.monotonic_ns() + round(LEAD_SECONDS * SECOND_NS))
        return self.report(plans, walks, cpu_seconds, wall_seconds)

    def report(
        self, plans: Sequence[tuple[str, Plan]], walks: Sequence[Walk], cpu_seconds: float, wall_seconds: float
    ) -> Report:
        """Say what the walks did, and see that it is all that was planned.

        Raises:
            LoadError: if something was not sent or not recorded.
        """
        done = [(exchange, walk.arm, walk.plan) for walk in walks for exchange in walk.exchanges]
        retries = sum(walk.retries for walk in walks)
        omitted = sum(walk.omitted for walk in walks)
        report = Report(
            operations=self._record(done),
            process_cpu_seconds=cpu_seconds,
            wall_seconds=wall_seconds,
            lateness_ms=[(done.t0_ns - done.intended_ns) / 1e6 for done, _, _ in done if done.slept],
            scheduled=sum(plan.scheduled for _, plan in plans) + retries - omitted,
            sent=sum(walk.sent for walk in walks),
            retries=retries,
            omitted=omitted,
        )
        if not report.scheduled == report.sent == len(report.operations):
            raise LoadError(
                f"{report.scheduled} requests were scheduled, {report.sent} sent, {len(report.operations)} recorded"
            )
        return report

    def _record(self, done: list[tuple[Exchange, Arm, Plan]]) -> list[Operation]:
        done.sort(key=lambda one: one[0].t0_ns)
        first = self.operations
        self.operations += len(done)
        return [operation(first + n, exchange, arm.target, plan) for n, (exchange, arm, plan) in enumerate(done)]

    def _final_views(self, arm: Arm, shoppers: list[str] | None) -> Report:
        names = sorted(arm.shoppers) if shoppers is None else shoppers
        views = [gevent.spawn(lambda server: list(arm.final_views(server, names)), s) for s in arm.target.server_urls]
        _join(views)
        done = [
            (exchange, arm, msgspec.structs.replace(plan, phase="final", block=-1))
            for view in views
            for exchange in view.value
            if (plan := arm.shoppers[exchange.planned.shopper].plan) is not None
        ]
        if len(done) != len(names) * len(arm.target.server_urls):
            raise LoadError(f"final views were asked for shoppers that {arm.target.arm!r} has never seen")
        return Report(operations=self._record(done), scheduled=len(done), sent=len(done))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Collect garbage now, and none while the context lasts."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def replay(walks: Sequence[Walk], start_ns: int) -> tuple[float, float]:
    """Walk all walks from a time of the monotonic clock on; return the CPU time and the time that it took, in s."""
    began_ns, cpu_seconds = time.monotonic_ns(), time.process_time()
    _join([gevent.spawn(walk.run, start_ns) for walk in walks])
    return time.process_time() - cpu_seconds, (time.monotonic_ns() - began_ns) / SECOND_NS


def _join(greenlets: list[gevent.Greenlet]) -> None:
    try:
        gevent.joinall(greenlets, raise_error=True)
    finally:
        gevent.killall(greenlets)


def main() -> None:
    """Serve commands until stdin ends."""
    allow_connections()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the lab's to handle
    answers = own_stdout()
    decoder = msgspec.msgpack.Decoder(Command)
    generator = Generator()
    end_with_parent()
    while (packed := read(sys.stdin.buffer)) is not None:
        try:
            reply: Report | Failure = generator.do(decoder.decode(packed))
        except Exception as error:  # noqa: BLE001 - whatever it is, the lab must hear of it
            sys.excepthook(*sys.exc_info())
            reply = Failure(str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}")
        write(answers, reply)


if __name__ == "__main__":
    main()
