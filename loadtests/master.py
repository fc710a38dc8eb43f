"""The load's master: Locust's own, which passes plans on to the workers and brings their answers back.

It starts the workers of its machine, and ends them. Start it through `fleet.Fleet`: commands in on stdin, answers out
on stdout, as with `generator`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import gevent
import msgspec
from gevent.event import Event
from locust import runners
from locust.env import Environment
from locust.exception import RPCError

from loadtests import messages
from loadtests.messages import Answers, Listening, MasterCommand, MasterReply, Muster, Mustered, Orders, Refusal, Start
from loadtests.process import own_stdout
from loadtests.wire import read, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from locust.rpc.protocol import Message

SECOND_NS = 1_000_000_000

LEAD_SECONDS = 0.1
"""Between the first message that says when to begin and that moment, on top of the longest round trip."""

PINGS = 5
"""Round trips before each block, of which the shortest counts."""

LOOK_SECONDS = 0.05
"""How often the master looks whether a worker is lost while it waits for messages."""

LOCAL = "worker-"
"""Begins the names of the workers that the lab starts."""


class Crew:
    """The workers, as messages come and go.

    Args:
        host: address to listen at.
        port: 0 for any.
        silence_seconds: after so long without a heartbeat a worker is lost.

    Attributes:
        port: where it listens.
        known: the workers that came, by name.
        lost: worker to what became of it.

    Raises:
        RPCError: nobody can listen there.
    """

    def __init__(self, host: str, port: int, silence_seconds: int) -> None:
        runners.HEARTBEAT_LIVENESS = silence_seconds
        self._runner = Environment().create_master_runner(host, port)
        self.port = int(self._runner.server.port)
        self.known: dict[str, messages.Worker] = {}
        self.lost: dict[str, str] = {}
        self._silence_seconds = silence_seconds
        self._complete = False
        self._sent_away: list[str] = []
        self._ids: dict[str, str] = {}
        self._here: dict[str, subprocess.Popen[bytes]] = {}
        self._said: defaultdict[tuple[str, int], dict[str, tuple[int, Any]]] = defaultdict(dict)
        self._news = Event()
        self._runner.register_message(messages.HELLO, self._hello)
        for kind in (messages.PONG, messages.READY, messages.WENT, messages.ANSWER):
            self._runner.register_message(kind, self._heard)

    def start(self, workers: int, host: str) -> None:
        """Start workers on this machine; each ends when its stdin does."""
        for number in range(1, workers + 1):
            name = f"{LOCAL}{number}"
            command = [sys.executable, "-m", "loadtests.worker", "--master", f"{host}:{self.port}", "--name", name]
            self._here[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1]
            )

    def _hello(self, msg: Message, **_: Any) -> None:
        who = msgspec.convert(msg.data, messages.Worker)
        if who.code != messages.code():
            self._sent_away.append(who.host)
            self._dismiss(msg.node_id, "it has another version of the lab than the master")
            return
        if self._complete:
            self._dismiss(msg.node_id, "the run has begun without it")
            return
        if not who.here:
            same = sum(other.host == who.host and not other.here for other in self.known.values())
            who = msgspec.structs.replace(who, name=f"{who.host}-{same + 1}")
        self.known[who.name] = who
        self._ids[who.name] = msg.node_id
        self._news.set()

    def _heard(self, msg: Message, **_: Any) -> None:
        now_ns = time.monotonic_ns()
        name = next((name for name, node in self._ids.items() if node == msg.node_id), None)
        if name is not None:
            self._said[msg.type, msg.data["n"]][name] = (now_ns, msg.data)
            self._news.set()

    def send(self, name: str, kind: str, data: dict[str, Any]) -> None:
        """Send a message to one worker."""
        self._runner.send_message(kind, data, self._ids[name])

    def gather(self, kind: str, number: int, names: Iterable[str], seconds: float) -> dict[str, tuple[int, Any]]:
        """Wait until each of these has said something or is lost; give the monotonic time and what was said."""
        names, deadline = list(names), time.monotonic() + seconds
        while waiting := [name for name in names if name not in self._said[kind, number] and not self._is_lost(name)]:
            if time.monotonic() > deadline:
                for name in waiting:
                    self._lose(name, f"it said nothing of its part for {seconds:.0f} s")
            self._news.clear()
            self._news.wait(LOOK_SECONDS)
        return {name: said for name, said in self._said.pop((kind, number), {}).items() if name not in self.lost}

    def _is_lost(self, name: str) -> bool:
        if name in self.lost:
            return True
        process, node = self._here.get(name), self._runner.clients.get(self._ids.get(name))
        if process is not None and process.poll() is not None:
            self._lose(name, f"its process has ended (status {process.returncode})")
        elif name in self._ids and node is None:
            self._lose(name, "it has left")
        elif node is not None and node.state == runners.STATE_MISSING:
            self._lose(name, f"it was not heard of for {self._silence_seconds} s")
        return name in self.lost

    def _lose(self, name: str, why: str) -> None:
        """Count on a worker no longer, and see that it sends nothing more, should it come back."""
        self.lost[name] = why
        if name in self._here:
            self._here[name].kill()
        elif name in self._ids:
            self._dismiss(self._ids[name], "the master had given it up")

    def muster(self, workers: int, seconds: float) -> str | None:
        """Wait for so many workers in all; say why not if they do not come."""
        deadline = time.monotonic() + seconds
        while len(self.known) < workers:
            for name in self._here:
                if self._is_lost(name):
                    return f"{name} has ended before it began: {self.lost[name]}"
            if time.monotonic() > deadline:
                away = f"; sent away, with another version of the lab: {', '.join(self._sent_away)}"
                return f"{len(self.known)} of {workers} workers came within {seconds:.0f} s" + away * bool(
                    self._sent_away
                )
            self._news.clear()
            self._news.wait(LOOK_SECONDS)
        self._complete = True
        return None

    def _dismiss(self, node: str, why: str) -> None:
        self._runner.send_message(messages.DISMISS, {"why": why}, node)

    def end(self) -> None:
        """Send everybody home."""
        for node in self._ids.values():
            self._runner.send_message("quit", None, node)
        gevent.sleep(LOOK_SECONDS)  # what was sent must leave before the process ends
        for process in self._here.values():
            if process.poll() is None:
                process.kill()


class Master:
    """Does what the lab commands, with a crew."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._numbers = count(1)

    def do(self, command: MasterCommand) -> MasterReply:
        """Carry out one command."""
        match command:
            case Muster(workers, seconds):
                missing = self._crew.muster(workers, seconds)
                return Refusal(missing) if missing else Mustered(sorted(self._crew.known.values(), key=_place))
            case Orders():
                return self._give(command)

    def _give(self, orders: Orders) -> Answers:
        """Give everybody their order, and wait; where one is lost before the start, nobody begins."""
        crew, number, names = self._crew, next(self._numbers), list(orders.parts)
        cpu_seconds, zero_ns = time.process_time(), 0
        starts: dict[str, Start] = {}
        trips = self._round_trips(names, orders.seconds) if orders.timed else {}
        for name, packed in orders.parts.items():
            crew.send(name, messages.ORDER, {"n": number, "packed": packed})
        if orders.timed:
            ready = crew.gather(messages.READY, number, names, orders.seconds)
            if len(ready) == len(names):
                zero_ns, starts = self._begin(number, trips, orders.seconds)
            else:
                for name in ready:
                    crew.send(name, messages.GO, {"n": number, "in_seconds": None})
        said = crew.gather(messages.ANSWER, number, names, orders.seconds)
        return Answers(
            {name: data["packed"] for name, (_, data) in said.items()},
            {name: crew.lost[name] for name in names if name in crew.lost},
            starts,
            zero_ns,
            time.process_time() - cpu_seconds,
        )

    def _round_trips(self, names: list[str], seconds: float) -> dict[str, int]:
        """Return the shortest of some round trips to each worker, in nanoseconds."""
        shortest: dict[str, int] = {}
        for name in names:
            for _ in range(PINGS):
                number, sent_ns = next(self._numbers), time.monotonic_ns()
                self._crew.send(name, messages.PING, {"n": number})
                for back_ns, _ in self._crew.gather(messages.PONG, number, [name], seconds).values():
                    shortest[name] = min(shortest.get(name, back_ns - sent_ns), back_ns - sent_ns)
        return shortest

    def _begin(self, number: int, trips: dict[str, int], seconds: float) -> tuple[int, dict[str, Start]]:
        """Tell each worker when to begin, by its own clock; return the moment, and how near to it each can be."""
        zero_ns = time.monotonic_ns() + round(LEAD_SECONDS * SECOND_NS) + max(trips.values())
        sent = {}
        for name, trip_ns in trips.items():
            sent[name] = time.monotonic_ns()
            in_seconds = (zero_ns - sent[name] - trip_ns / 2) / SECOND_NS
            self._crew.send(name, messages.GO, {"n": number, "in_seconds": in_seconds})
        went = self._crew.gather(messages.WENT, number, trips, seconds)
        return zero_ns, {name: _start(back_ns - sent[name], trips[name]) for name, (back_ns, _) in went.items()}


def _start(trip_ns: int, allowed_ns: int) -> Start:
    """Work out between which moments a worker began whose message took an unknown part of its round trip."""
    return Start(-allowed_ns / 2e6, (trip_ns - allowed_ns / 2) / 1e6, trip_ns / 1e6)


def _place(who: messages.Worker) -> tuple[bool, int, str]:
    """Sort those of this machine first, and 10 after 9."""
    return not who.here, len(who.name), who.name


def main() -> None:
    """Serve commands until stdin ends: `master HOST PORT WORKERS SILENCE_SECONDS`."""
    host, port, workers, silence_seconds = sys.argv[1], *map(int, sys.argv[2:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the lab's to handle
    answers = own_stdout()
    try:
        crew = Crew(host, port, silence_seconds)
    except (RPCError, SystemExit) as error:
        write(answers, Refusal(f"cannot listen at {host}:{port} ({error})"))
        return
    crew.start(workers, host)
    write(answers, Listening(crew.port))
    master, decoder = Master(crew), msgspec.msgpack.Decoder(MasterCommand)
    threads = gevent.get_hub().threadpool  # a read in a thread: heartbeats go on meanwhile
    while (packed := threads.apply(read, (sys.stdin.buffer,))) is not None:
        gevent.spawn(_carry_out, master, decoder.decode(packed), answers)  # and the end of stdin is seen in its midst
    crew.end()
    os._exit(0)


def _carry_out(master: Master, command: MasterCommand, answers: IO[bytes]) -> None:
    try:
        reply = master.do(command)
    except Exception as error:  # noqa: BLE001 - whatever it is, the lab must hear of it
        sys.excepthook(*sys.exc_info())
        reply = Refusal(f"{type(error).__name__}: {error}")
    write(answers, reply)


if __name__ == "__main__":
    main()
