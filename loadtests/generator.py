"""The load generator's process: commands in on stdin, what happened out on stdout.

Locust patches the standard library for gevent, which the lab's own process must be spared; and a process of its own is
what makes the generator's CPU time a figure. Start it through `client.Generator`.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import gevent
import msgspec

from loadtests.answers import Exchange, operation
from loadtests.shoppers import SECOND_NS, Arm, Walk
from loadtests.wire import Command, Failure, FinalViews, LoadError, Open, Report, Run, read, write

if TYPE_CHECKING:
    from loadtests.plans import Plan
    from loadtests.recorder import Operation

LEAD_SECONDS = 0.02
"""Time between spawning the shoppers and the plan's time zero, so that the first of them is not late."""

MOST_FILES = 10_000
"""Open files that the generator asks for; more than any experiment has tabs."""


class Generator:
    """Holds the arms, and does what the lab commands."""

    def __init__(self) -> None:
        self.arms: dict[str, Arm] = {}
        self.operations = 0

    def do(self, command: Command) -> Report:
        """Carry out one command.

        Raises:
            LoadError: if something could not be sent or recorded as planned.
        """
        match command:
            case Open(target):
                self.arms[target.arm] = Arm(target, len(self.arms))
                return Report()
            case Run(plans):
                return self._run(plans)
            case FinalViews(arm, shoppers):
                return self._final_views(self._arm(arm), shoppers)

    def _arm(self, name: str) -> Arm:
        if name not in self.arms:
            raise LoadError(f"arm {name!r} is not open")
        return self.arms[name]

    def _run(self, plans: list[tuple[str, Plan]]) -> Report:
        walks = [walk for arm, plan in plans for walk in self._arm(arm).walks(plan)]
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            began_ns, cpu_seconds = time.monotonic_ns(), time.process_time()
            start_ns = began_ns + round(LEAD_SECONDS * SECOND_NS)
            _join([gevent.spawn(walk.run, start_ns) for walk in walks])
            cpu_seconds = time.process_time() - cpu_seconds
            wall_seconds = (time.monotonic_ns() - began_ns) / SECOND_NS
        finally:
            gc.enable()
            gc.unfreeze()
        return self._report(plans, walks, cpu_seconds, wall_seconds)

    def _report(
        self, plans: list[tuple[str, Plan]], walks: list[Walk], cpu_seconds: float, wall_seconds: float
    ) -> Report:
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


def _join(greenlets: list[gevent.Greenlet]) -> None:
    try:
        gevent.joinall(greenlets, raise_error=True)
    finally:
        gevent.killall(greenlets)


def _own_stdout() -> IO[bytes]:
    """Keep stdout for answers alone: whatever prints from now on goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _end_with_parent() -> None:
    """End in the midst of a run if the lab is gone: until it has its answer, only its end makes stdin readable."""
    gevent.get_hub().loop.io(0, 1, ref=False).start(os._exit, 1)


def _allow_connections() -> None:
    """Raise the limit of open files as far as it goes: some systems start with 256, and each tab holds a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 < hard < MOST_FILES else MOST_FILES, hard))


def main() -> None:
    """Serve commands until stdin ends."""
    _allow_connections()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the lab's to handle
    answers = _own_stdout()
    decoder = msgspec.msgpack.Decoder(Command)
    generator = Generator()
    _end_with_parent()
    while (packed := read(sys.stdin.buffer)) is not None:
        try:
            reply: Report | Failure = generator.do(decoder.decode(packed))
        except Exception as error:  # noqa: BLE001 - whatever it is, the lab must hear of it
            sys.excepthook(*sys.exc_info())
            reply = Failure(str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}")
        write(answers, reply)


if __name__ == "__main__":
    main()
