"""Shoppers for the web servers of `_session_servers`: start a server, ask it for a moment, see what that cost."""

from __future__ import annotations

import multiprocessing
import secrets
import socket
import statistics
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

from benchmarks._session_servers import ServerPlan, contents, serve
from lab.engines.ports import HOST, bound_socket
from strategies.contract import Peer, StoreSettings

if TYPE_CHECKING:
    import contextlib
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

LEAST_REQUESTS = 8
SHOPPERS = 8
"""How many shoppers take turns: what a server remembers of the last one's cookie is of no use for the next one's."""


class Arm(NamedTuple):
    """One row of the table: a name, how the session is kept, whether its table is unlogged, and how many servers."""

    name: str
    way: str
    unlogged: bool = False
    servers: int = 1


class Slice(NamedTuple):
    """What one moment of one cell cost, in microseconds a request.

    Attributes:
        wall_us: the lower quartile by the clock: a request that the machine did not interrupt.
        cpu_us: the mean of the CPU time of the web servers.
    """

    wall_us: float
    cpu_us: float


class Server(NamedTuple):
    """A server process that was started.

    Attributes:
        port: where it will answer.
        ready: says None once it does, or what went wrong.
        process: serves until it is killed.
    """

    port: int
    ready: Connection
    process: BaseProcess


def start(number: int, arm: Arm, redis_url: str, database_url: str, stack: contextlib.ExitStack) -> list[Server]:
    """Start the servers of an arm; they are killed when the stack unwinds.

    Args:
        number: keeps the arms apart in the engines.
        arm: see there.
        redis_url: where Redis answers.
        database_url: where PostgreSQL answers.
        stack: unwinds when the servers are no longer needed.
    """
    spawn = multiprocessing.get_context("spawn")
    publics = [bound_socket() for _ in range(arm.servers)]
    internals = [bound_socket() for _ in range(arm.servers)]
    peers = [Peer(f"web-{n + 1}", f"http://{HOST}:{sock.getsockname()[1]}") for n, sock in enumerate(internals)]
    servers, secret = [], secrets.token_hex(16)
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
        servers.append(Server(public.getsockname()[1], ours, process))
    return servers


def wait_for(servers: list[Server]) -> Client:
    """Return shoppers for an arm whose servers are ready."""
    for server in servers:
        if (error := server.ready.recv()) is not None:
            raise SystemExit(f"a server did not start: {error}")
    return Client([server.port for server in servers])


class Client:
    """Some browsers, one after the other, on a connection that stays open.

    Args:
        ports: of the server, and of its peers, whose CPU time counts too.
    """

    def __init__(self, ports: list[int]) -> None:
        self._sockets = [socket.create_connection((HOST, port)) for port in ports]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._turns: dict[int, cycle[bytes]] = {}

    def fill(self, size_kb: int) -> None:
        """Begin a session of this size for each browser and keep its cookie; where there is none, one like it."""
        cookies = []
        for number in range(SHOPPERS):
            head, body = self._ask(self._sockets[0], f"/fill/{size_kb}".encode(), b"")
            if body != b"filled":
                raise SystemExit(f"a server did not begin a session: {body[:200]!r}")
            sent = [line[12:].split(b";")[0] for line in head.split(b"\r\n") if line.startswith(b"Set-Cookie: ")]
            cookies.append(b"; ".join(sent) or b"session=" + f"{number}{'x' * 109}".encode())
        self._turns[size_kb] = cycle(cookies)

    def measure(self, operation: str, size_kb: int, seconds: float) -> Slice:
        """Repeat a request for a moment; the first of each browser does not count."""
        path = f"/{operation}/{size_kb}".encode()
        expected = str(size_kb if operation == "untouched" else sum(map(len, contents(size_kb).values()))).encode()
        turns = self._turns[size_kb]
        for cookie in islice(turns, SHOPPERS):
            self._ask(self._sockets[0], path, cookie)
        walls: list[int] = []
        cpu = self._cpu_ns()
        end = time.monotonic() + seconds
        while len(walls) < LEAST_REQUESTS or time.monotonic() < end:
            cookie = next(turns)
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
