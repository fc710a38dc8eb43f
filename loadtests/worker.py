"""A worker of the load: Locust's own, with shoppers who keep to a plan.

The lab starts those on its own machine. On another machine, with the same version of the lab:

    .venv/bin/python -m loadtests.worker --master HOST:PORT [--stay]
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import gevent
import msgspec
from gevent.event import AsyncResult
from locust.env import Environment

from loadtests import messages
from loadtests.generator import Generator, replay, undisturbed
from loadtests.process import allow_connections, end_with_parent
from loadtests.shoppers import SECOND_NS
from loadtests.wire import Command, Failure, LoadError, Report, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from locust.rpc.protocol import Message
    from locust.runners import WorkerRunner

GO_SECONDS = 60.0
"""How long a worker that is ready waits for the others."""

NAME_SECONDS = 20.0
"""How long the master's name may take to be known."""

PAUSE_SECONDS = 2.0
"""A worker that stays waits so long before it looks for the next master."""

INTERRUPTED = 130
"""What shells report for a command that ended by Ctrl-C."""

_decoder = msgspec.msgpack.Decoder(Command)
_encoder = msgspec.msgpack.Encoder()


class Worker:
    """Does what the master orders, by a clock of its own.

    Args:
        runner: connected to the master.
        name: what the lab calls it, if the lab has started it.
        leave: ends the process at once, with a status.
    """

    def __init__(self, runner: WorkerRunner, name: str | None, leave: Callable[[int], NoReturn]) -> None:
        self._runner = runner
        self._leave = leave
        self._generator = Generator()
        self._start: AsyncResult[int] = AsyncResult()
        for kind, listener, concurrent in (
            (messages.PING, self._pong, False),
            (messages.ORDER, self._order, True),
            (messages.GO, self._go, False),
            (messages.DISMISS, self._dismissed, True),
        ):
            runner.register_message(kind, listener, concurrent)
        host = socket.gethostname()
        who = messages.Worker(name or host, host, os.getpid(), name is not None, messages.code())
        runner.send_message(messages.HELLO, msgspec.to_builtins(who))

    def _pong(self, msg: Message, **_: Any) -> None:
        self._runner.send_message(messages.PONG, msg.data)

    def _go(self, msg: Message, **_: Any) -> None:
        if msg.data["in_seconds"] is None:
            self._start.set_exception(LoadError("another worker was lost before this block began"))
            return
        start_ns = time.monotonic_ns() + round(msg.data["in_seconds"] * SECOND_NS)
        self._runner.send_message(messages.WENT, {"n": msg.data["n"]})
        self._start.set(start_ns)

    def _dismissed(self, msg: Message, **_: Any) -> None:
        print(f"this worker is not needed: {msg.data['why']}", file=sys.stderr, flush=True)  # noqa: T201
        self._leave(1)  # at once, with whatever it is sending

    def _order(self, msg: Message, **_: Any) -> None:
        number = msg.data["n"]
        try:
            reply: Report | Failure = self._do(number, _decoder.decode(msg.data["packed"]))
        except Exception as error:  # noqa: BLE001 - whatever it is, the lab must hear of it
            sys.excepthook(*sys.exc_info())
            reply = Failure(str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}")
        self._runner.send_message(messages.ANSWER, {"n": number, "packed": _encoder.encode(reply)})

    def _do(self, number: int, command: Command) -> Report:
        if not isinstance(command, Run):
            return self._generator.do(command)
        walks = self._generator.walks(command.plans)
        with undisturbed():
            self._start = AsyncResult()
            self._runner.send_message(messages.READY, {"n": number})
            start_ns = self._start.get(timeout=GO_SECONDS)
            cpu_seconds, wall_seconds = replay(walks, start_ns)
        report = self._generator.report(command.plans, walks, cpu_seconds, wall_seconds)
        return report.move(-start_ns)  # since the plan's time zero: only durations mean something elsewhere


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}: the lab prints it when it waits")
    return host, int(port)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.worker", description="A worker of `make load`.")
    parser.add_argument("--master", type=_address, required=True, metavar="HOST:PORT", help="where the lab listens")
    parser.add_argument("--stay", action="store_true", help="wait for the next run when one is over, until Ctrl-C")
    parser.add_argument("--name", help=argparse.SUPPRESS)  # given by the lab to those that it starts
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Work until the master ends or is not heard of any more."""
    arguments = _arguments(given)
    host, port = arguments.master
    allow_connections()
    if arguments.name:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the lab's to handle
        end_with_parent()
    else:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # wherever it is: it has nothing to put away
    return _work(host, port, arguments)


def _work(host: str, port: int, arguments: argparse.Namespace) -> int:
    """Work for one master, and return the exit status."""
    status = 0
    try:
        _wait_for_name(host, port)
        runner = Environment().create_worker_runner(host, port)
        Worker(runner, arguments.name, _again if arguments.stay else os._exit)
        runner.greenlet.join()
    except ConnectionError:
        print(f"nobody answered at {host}:{port}: is the lab waiting there?", file=sys.stderr)  # noqa: T201
        status = 1
    except socket.gaierror as error:
        print(f"nobody knows the address of {host} ({error.strerror}): correct --master", file=sys.stderr)  # noqa: T201
        status = 1
    if arguments.stay:
        _again(status)
    return status


def _wait_for_name(host: str, port: int) -> None:
    """Wait until the host's name is known: a container's is, soon after it has started, and Locust asks only once."""
    deadline = time.monotonic() + NAME_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, port)
        except socket.gaierror:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _again(_status: int) -> NoReturn:
    """Begin anew in the same process, with nothing left of the last run, once its master has had time to end."""
    time.sleep(PAUSE_SECONDS)
    os.execv(sys.executable, [sys.executable, "-m", "loadtests.worker", *sys.argv[1:]])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    status = main()
    gevent.get_hub().destroy()
    os._exit(status)
