"""What the load's master says to its workers and to the lab.

Between master and workers these are custom messages of Locust's own runners; plans and answers travel in them packed,
so that the master passes on what it need not read. Nobody sends a time of day, nor a time of any clock: only durations
mean the same on two machines.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

HELLO = "lab_hello"
"""Worker to master: who I am, in the fields of `Worker`."""

PING, PONG = "lab_ping", "lab_pong"
"""There and back at once: how long a round trip takes."""

ORDER, READY, ANSWER = "lab_order", "lab_ready", "lab_answer"
"""Master to worker: a `Command`, packed. Back: all is prepared; and when it is done: a `Reply`, packed."""

GO, WENT = "lab_go", "lab_went"
"""Master to worker: your time zero is in so many seconds; None: there will be none. Back at once: heard."""

DISMISS = "lab_dismiss"
"""Master to worker: why you are not needed."""


class Worker(msgspec.Struct, frozen=True):
    """Who a worker is.

    Attributes:
        name: unique in a run.
        host: its machine's name.
        pid: its process there.
        here: whether the lab started it, on its own machine.
        code: the fingerprint of its `loadtests`.
    """

    name: str
    host: str
    pid: int
    here: bool
    code: str


class Start(msgspec.Struct, frozen=True):
    """When a worker began a block, against the moment that was agreed on; as far as anybody can know.

    The message that says "in so many seconds" takes an unknown part of its round trip to arrive. The master allows for
    half of the shortest round trip seen before; so the start lies between these two.

    Attributes:
        earliest_ms: had the message taken no time at all. Negative: before the agreed moment.
        latest_ms: had it taken the whole round trip.
        round_trip_ms: of that very message and what came back.
    """

    earliest_ms: float
    latest_ms: float
    round_trip_ms: float


class Muster(msgspec.Struct, tag=True):
    """Wait for so many workers, in all, for so many seconds."""

    workers: int
    seconds: float


class Orders(msgspec.Struct, tag=True):
    """Give each worker named its packed command, and wait for all answers.

    Attributes:
        parts: worker to command.
        timed: all begin at the same moment.
        seconds: how long a worker that is heard of may take.
    """

    parts: dict[str, bytes]
    timed: bool
    seconds: float


class Listening(msgspec.Struct, tag=True):
    """Where the master listens."""

    port: int


class Mustered(msgspec.Struct, tag=True):
    """Who came."""

    workers: list[Worker]


class Answers(msgspec.Struct, tag=True):
    """What came back.

    Attributes:
        answers: worker to packed reply, of those who are still there.
        lost: worker to what became of it.
        starts: worker to when it began; empty for an order without a time.
        zero_ns: the agreed moment by the monotonic clock of the master, whose machine is the lab's.
        cpu_seconds: of the master's process meanwhile.
    """

    answers: dict[str, bytes]
    lost: dict[str, str]
    starts: dict[str, Start] = {}
    zero_ns: int = 0
    cpu_seconds: float = 0.0


class Refusal(msgspec.Struct, tag=True):
    """Why the master could not do it."""

    text: str


MasterCommand = Muster | Orders
MasterReply = Listening | Mustered | Answers | Refusal


@cache
def code() -> str:
    """Return the fingerprint of this folder's code: workers elsewhere must play a plan as those here do."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
