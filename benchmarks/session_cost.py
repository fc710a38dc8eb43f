"""What a session costs a request, side by side: `python -m benchmarks.session_cost [--quick] [--json FILE]`.

One Flask view, one web server for each way to keep its session, the lab's own engines. Every round visits every
combination of way, operation and size for a moment, in an order drawn anew, so that what the machine does to one it
does to all. A way's *added* time is what a request takes more than on a server that keeps no session; what is compared
are ratios of added times, with 95 % intervals over resampled rounds.

The floor (`bare`) makes the same two round trips on a socket and does nothing else. flask-session 0.8 runs with its own
defaults, which write the session after every request; `changes` tells it to write only what has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import random
import secrets
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from benchmarks._session_servers import FIELDS, SIZES_KB, ServerPlan, contents, serve
from lab.engines.keeper import Keeper
from lab.engines.ports import HOST, bound_socket
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis
from lab.statistics import Interval, paired_ratio, resample_blocks, verdict
from strategies.contract import Peer, StoreSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

OPERATIONS = ("untouched", "read", "write")
SLICE_SECONDS = 0.05
LEAST_REQUESTS = 8
SEED = 1
PEERS = 4
"""How many servers the all-to-all cluster has."""


class Arm(NamedTuple):
    """One row of the table: a name, how the session is kept, whether its table is unlogged, and how many servers."""

    name: str
    way: str
    unlogged: bool = False
    servers: int = 1


ARMS = (
    Arm("no session", "none"),
    Arm("no session, again", "none"),
    Arm("own memory", "local"),
    Arm("all-to-all, 4 servers", "all-to-all", servers=PEERS),
    Arm("bare Redis", "bare redis"),
    Arm("redis", "redis"),
    Arm("flask-session Redis", "flask-session redis"),
    Arm("flask-session Redis, changes", "flask-session redis, changes"),
    Arm("bare PostgreSQL", "bare postgresql"),
    Arm("database", "database"),
    Arm("flask-session SQLAlchemy", "flask-session sqlalchemy"),
    Arm("flask-session SQLAlchemy, changes", "flask-session sqlalchemy, changes"),
    Arm("bare PostgreSQL, unlogged", "bare postgresql", unlogged=True),
    Arm("database, unlogged", "database", unlogged=True),
    Arm("flask-session SQLAlchemy, unlogged", "flask-session sqlalchemy", unlogged=True),
)


class Target(NamedTuple):
    """A ratio of added times to reach."""

    ours: str
    other: str
    at_most: float
    operations: tuple[str, ...] = ("read", "write")
    sizes_kb: tuple[int, ...] = SIZES_KB


TARGETS = (
    Target("redis", "flask-session Redis", 0.6),
    Target("redis", "flask-session Redis, changes", 0.6),
    Target("database", "flask-session SQLAlchemy", 0.25),
    Target("database", "flask-session SQLAlchemy, changes", 0.25),
    Target("database, unlogged", "flask-session SQLAlchemy, unlogged", 0.15),
    Target("redis", "bare Redis", 1.6, sizes_kb=(1,)),
    Target("database", "bare PostgreSQL", 1.6, sizes_kb=(1,)),
    Target("database, unlogged", "bare PostgreSQL, unlogged", 1.6, sizes_kb=(1,)),
)
CONTROLS = ("no session, again", "own memory", "redis", "database")
"""Whose untouched sessions are compared with no session at all."""

Cell = tuple[str, str, int]
"""An arm, an operation and a size."""


class Slice(NamedTuple):
    """What one moment of one cell cost, in microseconds a request.

    Attributes:
        wall_us: the lower quartile by the clock: a request that the machine did not interrupt.
        cpu_us: the mean of the CPU time of the web servers.
    """

    wall_us: float
    cpu_us: float


class Client:
    """One browser with a connection that stays open.

    Args:
        ports: of the server, and of its peers, whose CPU time counts too.
    """

    def __init__(self, ports: list[int]) -> None:
        self._sockets = [socket.create_connection((HOST, port)) for port in ports]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cookies: dict[int, bytes] = {}

    def fill(self, size_kb: int) -> None:
        """Begin a session of this size and keep its cookie; where there is none, one that looks alike."""
        head, body = self._ask(self._sockets[0], f"/fill/{size_kb}".encode(), b"")
        if body != b"filled":
            raise SystemExit(f"a server did not begin a session: {body[:200]!r}")
        set_cookie = [line[12:].split(b";")[0] for line in head.split(b"\r\n") if line.startswith(b"Set-Cookie: ")]
        self._cookies[size_kb] = set_cookie[0] if set_cookie else b"session=" + b"x" * 110

    def measure(self, operation: str, size_kb: int) -> Slice:
        """Repeat a request for a moment; the first does not count."""
        path = f"/{operation}/{size_kb}".encode()
        expected = str(size_kb if operation == "untouched" else sum(map(len, contents(size_kb).values()))).encode()
        cookie = self._cookies[size_kb]
        self._ask(self._sockets[0], path, cookie)
        walls: list[int] = []
        cpu = self._cpu_ns()
        end = time.monotonic() + SLICE_SECONDS
        while len(walls) < LEAST_REQUESTS or time.monotonic() < end:
            began = time.perf_counter_ns()
            _, body = self._ask(self._sockets[0], path, cookie)
            walls.append(time.perf_counter_ns() - began)
            if body != expected:
                raise SystemExit(f"{path!r} was answered {body[:200]!r} and not {expected!r}")
        return Slice(statistics.quantiles(walls)[0] / 1000, (self._cpu_ns() - cpu) / len(walls) / 1000)

    def _cpu_ns(self) -> int:
        return sum(int(self._ask(sock, b"/cpu", b"")[1]) for sock in self._sockets)

    @staticmethod
    def _ask(sock: socket.socket, path: bytes, cookie: bytes) -> tuple[bytes, bytes]:
        sock.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: shop\r\nCookie: " + cookie + b"\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(sock)
        head, _, body = received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < size:
            body += _some(sock)
        return head, body


def _some(sock: socket.socket) -> bytes:
    received = sock.recv(65536)
    if not received:
        raise SystemExit("a server closed its connection")
    return received


@contextlib.contextmanager
def servers(redis_url: str, database_url: str) -> Iterator[dict[str, Client]]:
    """Start a server, or a cluster of them, for every arm; give a client for each."""
    with contextlib.ExitStack() as stack:
        started = {arm.name: _start(number, arm, redis_url, database_url, stack) for number, arm in enumerate(ARMS)}
        for _, pipes in started.values():
            for pipe in pipes:
                if (error := pipe.recv()) is not None:
                    raise SystemExit(f"a server did not start: {error}")
        yield {name: Client(ports) for name, (ports, _) in started.items()}


def _start(
    number: int, arm: Arm, redis_url: str, database_url: str, stack: contextlib.ExitStack
) -> tuple[list[int], list[multiprocessing.connection.Connection]]:
    spawn = multiprocessing.get_context("spawn")
    publics = [bound_socket() for _ in range(arm.servers)]
    internals = [bound_socket() for _ in range(arm.servers)]
    peers = [Peer(f"web-{n + 1}", f"http://{HOST}:{sock.getsockname()[1]}") for n, sock in enumerate(internals)]
    pipes, secret = [], secrets.token_hex(16)
    for public, internal, own in zip(publics, internals, peers, strict=True):
        settings = StoreSettings(
            server=own.name,
            namespace=f"cost_{number}",
            redis_url=redis_url,
            database_url=database_url,
            peers=tuple(peer for peer in peers if peer is not own),
            peer_secret=secret,
        )
        ours, theirs = spawn.Pipe()
        plan = ServerPlan(arm.way, settings, arm.unlogged)
        process = spawn.Process(target=serve, args=(plan, public, internal, theirs), daemon=True)
        process.start()
        stack.callback(process.kill)
        pipes.append(ours)
    return [public.getsockname()[1] for public in publics], pipes


def measure(clients: dict[str, Client], sizes_kb: tuple[int, ...], rounds: int) -> dict[Cell, list[Slice]]:
    """Visit every cell once a round; the first round warms up and does not count."""
    for client in clients.values():
        for size_kb in sizes_kb:
            client.fill(size_kb)
    cells = [(name, operation, size_kb) for name in clients for operation in OPERATIONS for size_kb in sizes_kb]
    found: dict[Cell, list[Slice]] = {cell: [] for cell in cells}
    order = random.Random(SEED)  # noqa: S311 - no secret
    for number in range(rounds + 1):
        order.shuffle(cells)
        for name, operation, size_kb in cells:
            slice_ = clients[name].measure(operation, size_kb)
            if number:
                found[name, operation, size_kb].append(slice_)
    return found


class Added(NamedTuple):
    """By how much a request of one cell is longer than without a session: the estimate, and resampled estimates."""

    estimate: float
    resampled: NDArray[np.float64]


def added(found: dict[Cell, list[Slice]], cell: Cell, kind: str) -> Added:
    """Return the difference of two lower quartiles over the rounds, in microseconds.

    Disturbances only ever lengthen a slice, and on a machine that does other things they are most of a mean.
    """
    _, operation, size_kb = cell
    this, plain = (
        np.array([getattr(slice_, kind) for slice_ in found[which]], dtype=np.float64)
        for which in (cell, ("no session", operation, size_kb))
    )
    draws = resample_blocks(len(this))
    resampled = _quartile(this[draws]) - _quartile(plain[draws])
    return Added(float(_quartile(this) - _quartile(plain)), resampled)


def _quartile(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.quantile(values, 0.25, axis=-1))


def around(added: Added) -> Interval:
    """Return an added time with its interval."""
    return _interval(added.estimate, added.resampled)


def ratio(ours: Added, other: Added) -> Interval:
    """Return the ratio of two added times, resampled over the same rounds."""
    return _interval(ours.estimate / other.estimate, ours.resampled / other.resampled)


def _interval(estimate: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def shown(interval: Interval, digits: int) -> str:
    """Return a number with its interval."""
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def print_costs(found: dict[Cell, list[Slice]], size_kb: int) -> None:
    """Print what each arm adds to a request, in microseconds: by the clock, and of the servers' CPU."""
    print(f"\n{size_kb} KB in {FIELDS} fields: µs added to a request, wall and (CPU of the web servers)")
    print(f"{'':36}" + "".join(f"{operation:>34}" for operation in OPERATIONS))
    for arm in ARMS[1:]:
        row = ""
        for operation in OPERATIONS:
            cell = (arm.name, operation, size_kb)
            wall, cpu = (around(added(found, cell, kind)) for kind in ("wall_us", "cpu_us"))
            row += f"{shown(wall, 0) + f' ({cpu.estimate:.0f})':>34}"
        print(f"{arm.name:36}{row}")
    for operation in OPERATIONS:
        slices = found["no session", operation, size_kb]
        plain_us, plain_cpu_us = (_quartile(np.array(values)) for values in zip(*slices, strict=True))
        print(f"a request without a session ({operation}): {plain_us:.0f} µs ({plain_cpu_us:.0f})")


def print_targets(found: dict[Cell, list[Slice]], sizes_kb: tuple[int, ...]) -> None:
    """Print each ratio that was to be reached, and whether it was."""
    print("\nRatios of added times, wall and CPU; the target is for wall")
    for target in TARGETS:
        for operation in target.operations:
            for size_kb in (size for size in sizes_kb if size in target.sizes_kb):
                print_target(found, target, operation, size_kb)
    for name in CONTROLS:
        for size_kb in sizes_kb:
            walls = [
                {n: slice_.wall_us for n, slice_ in enumerate(found[arm, "untouched", size_kb])}
                for arm in (name, "no session")
            ]
            whole = paired_ratio(walls[0], [walls[1]])
            text = f"{name}: an untouched session, whole request against no session, {size_kb} KB"
            print(f"{text:92} {shown(whole, 3) if whole and whole.low else whole}  {verdict(whole)}")


def print_target(found: dict[Cell, list[Slice]], target: Target, operation: str, size_kb: int) -> None:
    """Print one line."""
    ours, other = (target.ours, operation, size_kb), (target.other, operation, size_kb)
    wall, cpu = (ratio(added(found, ours, kind), added(found, other, kind)) for kind in ("wall_us", "cpu_us"))
    word = "reached" if wall.estimate <= target.at_most else "NOT reached"
    sure = "" if (wall.high or 0) <= target.at_most or (wall.low or 0) > target.at_most else ", the interval has both"
    text = f"{target.ours} / {target.other}, {operation} {size_kb} KB"
    print(f"{text:72} {shown(wall, 2):20} CPU {shown(cpu, 2):20} at most {target.at_most}: {word}{sure}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="1 KB only, fewer rounds")
    parser.add_argument("--rounds", type=int, help="how many rounds, 30 if not given")
    parser.add_argument("--json", type=Path, help="write every slice to this file")
    options = parser.parse_args()
    sizes_kb = SIZES_KB[:1] if options.quick else SIZES_KB
    rounds = options.rounds or (10 if options.quick else 30)
    with tempfile.TemporaryDirectory() as logs, Keeper(Path(logs)) as keeper:
        redis, postgresql = Redis.start(keeper), PostgreSQL.start(keeper)
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
        print(f"{machine}; Python {platform.python_version()}, Redis {redis.version}, PostgreSQL {postgresql.version}")
        print(f"PostgreSQL: {postgresql.durability}. Redis: {redis.durability}")
        began = time.monotonic()
        with servers(redis.url, postgresql.url) as clients:
            found = measure(clients, sizes_kb, rounds)
        print(f"{rounds} rounds in {time.monotonic() - began:.0f} s")
        postgresql.stop()
        redis.stop()
    for size_kb in sizes_kb:
        print_costs(found, size_kb)
    print_targets(found, sizes_kb)
    if options.json:
        rows = [[*cell, number, *slice_] for cell, slices in found.items() for number, slice_ in enumerate(slices)]
        options.json.write_bytes(msgspec.json.encode(rows))


if __name__ == "__main__":
    main()
