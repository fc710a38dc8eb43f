"""What the lab and the load generator say to each other: length-prefixed msgpack over two pipes."""

from __future__ import annotations

import struct
from typing import IO

import msgspec

from loadtests.plans import Plan
from loadtests.recorder import Operation

_LENGTH = struct.Struct(">I")


class LoadError(Exception):
    """The load could not be generated or recorded as planned; nothing measured with it can be trusted."""


class ArmTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where an arm's shoppers go.

    Attributes:
        arm: the strategy with its settings, such as `redis blob`.
        strategy: the strategy alone.
        url: the balancer.
        server_urls: name to URL of each server, past the balancer.
        cookie_name: the session cookie's name.
        timeout_seconds: the longest that one request may take.
    """

    arm: str
    strategy: str
    url: str
    server_urls: dict[str, str]
    cookie_name: str
    timeout_seconds: float = 5.0


class Open(msgspec.Struct, tag=True):
    """Make an arm known; its shoppers and their cookies live until the generator ends."""

    target: ArmTarget


class Run(msgspec.Struct, tag=True):
    """Replay plans, each on one arm, all at the same time."""

    plans: list[tuple[str, Plan]]


class FinalViews(msgspec.Struct, tag=True):
    """Ask every server, past the balancer, for every shopper's cart (or for that of some)."""

    arm: str
    shoppers: list[str] | None


class Report(msgspec.Struct, tag=True):
    """What a command did; see `client.Result`."""

    operations: list[Operation] = []
    process_cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    lateness_ms: list[float] = []
    scheduled: int = 0
    sent: int = 0
    retries: int = 0
    omitted: int = 0

    def move(self, by_ns: int) -> Report:
        """Move every time by so much, onto another clock; durations stay what they are."""
        for operation in self.operations:
            operation.intended_ns += by_ns
            operation.t0_ns += by_ns
            operation.t1_ns += by_ns
        return self


class Failure(msgspec.Struct, tag=True):
    """Why a command could not be done."""

    text: str


Command = Open | Run | FinalViews
Reply = Report | Failure

_encoder = msgspec.msgpack.Encoder()


def write(stream: IO[bytes], message: msgspec.Struct) -> None:
    """Send one message."""
    packed = _encoder.encode(message)
    stream.write(_LENGTH.pack(len(packed)) + packed)
    stream.flush()


def read(stream: IO[bytes]) -> bytes | None:
    """Receive one message's bytes; None where the other side has ended."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    packed = stream.read(length)
    return packed if len(packed) == length else None
