"""How many operations a second Redis carries out: prepared requests, so that the client is not what is measured.

A request of `depth` commands is packed once and sent again and again as it is; of its answer the length is known, and
its bytes are compared as a whole. Eight connections take turns, so that Redis has work while the client reads.
"""

from __future__ import annotations

import random
import shutil
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from lab.errors import LabError
from lab.experiments.redis_speed.wire import packed, wires
from lab.probes.cpu import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

    from lab.cluster import Lab
    from lab.experiments.redis_speed.wire import Wire

VALUE_BYTES = 100
KEYS = 1000
CONNECTIONS = 8
DEPTHS = (1, 16, 64, 128)
"""Commands sent together before an answer is waited for."""

_VALUE = b"x" * VALUE_BYTES
_REST_SECONDS = 0.001  # the kernel books a process's CPU time for certain when it goes to sleep

KEPT = ("GET", "SET")
UNKEPT = "SET, no log"
"""A SET while Redis keeps no append-only file, beside the usual one."""


class Load(msgspec.Struct, frozen=True):
    """One way of asking.

    Attributes:
        command: `GET`, `SET` or `UNKEPT`.
        depth: commands of a request.
        connections: that take turns; 1 with a depth of 1 is one operation at a time.
    """

    command: str
    depth: int
    connections: int


class Stretch(msgspec.Struct, frozen=True):
    """What one way of asking did in one block.

    Attributes:
        load: which one.
        block: from 0.
        operations: answered.
        seconds: by the clock.
        cpu_seconds: that the Redis process used; None where it is not the lab's own.
    """

    load: Load
    block: int
    operations: int
    seconds: float
    cpu_seconds: float | None


def loads(commands: Sequence[str]) -> list[Load]:
    """List the ways of asking: each command one at a time, then by depth."""
    return [
        load
        for command in commands
        for load in (Load(command, 1, 1), *(Load(command, depth, CONNECTIONS) for depth in DEPTHS))
    ]


def refusal(client: redis.Redis) -> str | None:
    """Say why keys cannot be sent to this server as they are, if so."""
    if client.info("cluster").get("cluster_enabled"):
        return "LAB_REDIS_URL leads to a Redis Cluster; this part asks a single server"
    return None


def measure(
    lab: Lab, *, blocks: int, seconds: float, seed: int, on_block: Callable[[], None] = lambda: None
) -> list[Stretch]:
    """Ask in every way in every block; the ways without a log only of a Redis that is the lab's own.

    Args:
        lab: with Redis.
        blocks: how often.
        seconds: of one stretch.
        seed: of keys and order.
        on_block: called after each block.
    """
    engine = lab.redis
    assert engine is not None  # noqa: S101 - the caller started it
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    found: list[Stretch] = []
    with engine.connect() as client, wires(client, CONNECTIONS) as lanes:
        asker = _Asker(lanes, _fill(lab, lanes[0]), draw, engine.pid)
        for block in range(blocks):
            groups = [KEPT] if engine.pid is None else [KEPT, (UNKEPT,)]
            for commands in groups if block % 2 else groups[::-1]:
                chosen = loads(commands)
                draw.shuffle(chosen)
                with engine.promising("none") if commands == (UNKEPT,) else nullcontext():
                    found += [asker.ask(load, block, seconds) for load in chosen]
            on_block()
    return found


def _fill(lab: Lab, wire: Wire) -> list[bytes]:
    keys = [f"{lab.namespace}speed:{number}".encode() for number in range(KEYS)]
    wire.ask(*(("SET", key, _VALUE) for key in keys))
    return keys


class _Asker:
    """Keeps prepared requests under way.

    Args:
        lanes: connections.
        keys: that exist.
        draw: which of them a request names.
        pid: the Redis process; None where it is not the lab's own.
    """

    def __init__(self, lanes: Sequence[Wire], keys: Sequence[bytes], draw: random.Random, pid: int | None) -> None:
        self._lanes = lanes
        self._keys = keys
        self._draw = draw
        self._pid = pid

    def ask(self, load: Load, block: int, seconds: float) -> Stretch:
        """Keep a request under way on every connection for a while, and wait for the last answers."""
        one_answer = b"$%d\r\n%s\r\n" % (VALUE_BYTES, _VALUE) if load.command == "GET" else b"+OK\r\n"
        expected = one_answer * load.depth
        used = [(lane, _request(load, self._draw.choices(self._keys, k=load.depth))) for lane in self._lanes]
        used = used[: load.connections]
        answer, operations = bytearray(len(expected)), 0
        cpu_before = self._cpu_seconds()
        begun = time.perf_counter()
        for lane, request in used:
            lane.send(request)
        while time.perf_counter() - begun < seconds:
            for lane, request in used:
                _take(lane, answer, expected)
                lane.send(request)
            operations += load.depth * len(used)
        for lane, _ in used:
            _take(lane, answer, expected)
        operations += load.depth * len(used)
        took = time.perf_counter() - begun
        time.sleep(_REST_SECONDS)
        cpu_after = self._cpu_seconds()
        cpu = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
        return Stretch(load, block, operations, took, cpu)

    def _cpu_seconds(self) -> float | None:
        return None if self._pid is None else cpu_seconds(self._pid)


def _request(load: Load, keys: Sequence[bytes]) -> bytes:
    if load.command == "GET":
        return b"".join(packed("GET", key) for key in keys)
    return b"".join(packed("SET", key, _VALUE) for key in keys)


def _take(lane: Wire, answer: bytearray, expected: bytes) -> None:
    lane.fill(answer)
    if answer != expected:
        raise LabError(f"Redis refuses what is measured: {bytes(answer[:80])!r}")


# --- redis-benchmark, where there is one -----------------------------------------------------------------------------

_ALONE, _TOGETHER = 20_000, 400_000
"""How many operations it is asked for: one at a time, and several at a time."""


def benchmark(lab: Lab) -> list[dict[str, Any]] | None:
    """Ask Redis's own benchmark the same, where it is on the PATH: the rates by the clock; None where it is not."""
    program = shutil.which("redis-benchmark")
    place = urlsplit(lab.redis.url if lab.redis else "")
    if program is None or place.scheme != "redis" or place.password:
        return None
    found: list[dict[str, Any]] = []
    for load in loads(KEPT[:1]):
        name = f"redis-benchmark-{load.connections}x{load.depth}"
        alike = ["-t", "get,set", "-d", VALUE_BYTES, "-c", load.connections, "-P", load.depth, "-r", KEYS, "--csv"]
        count = _ALONE if load.depth == 1 else _TOGETHER
        command = [program, "-h", place.hostname or "", "-p", place.port or 6379, *alike, "-n", count]
        process = lab.keeper.launch(name, [str(word) for word in command])
        if process.finish() != 0:
            raise process.failure("redis-benchmark failed")
        rates = rates_of(process.log.read_text(errors="replace"))
        found += [
            {"command": command, "depth": load.depth, "connections": load.connections, "per_second": rate}
            for command, rate in rates.items()
        ]
    return found


def rates_of(text: str) -> dict[str, float]:
    """Return operations a second by command from what `redis-benchmark --csv` printed: `"GET","98765.43",…`."""
    cells = [line.replace('"', "").split(",") for line in text.splitlines()]
    return {row[0]: float(row[1]) for row in cells if row[0] in KEPT and len(row) > 1}
