"""One web server of a cluster, and what it counts about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from lab.engines.ports import HOST
from lab.probes.sockets import SocketTotals

if TYPE_CHECKING:
    import socket

    from lab.servers import ServerProcess


class Counters(msgspec.Struct, frozen=True):
    """What a server counts about itself.

    Attributes:
        cpu_seconds: CPU time since it was forked.
        sockets: totals of its connected sockets; None where the system cannot tell.
        cookies_without_session: requests with a genuine cookie of a session that is not there (see `Losses`).
        sessions_replaced: sessions that began in such a request.
        origin_queries: how often its shop used a connection to the origin database.
        origin_seconds: for how long, all connections together.
    """

    cpu_seconds: float
    sockets: list[SocketTotals] | None
    cookies_without_session: int
    sessions_replaced: int
    origin_queries: int = 0
    origin_seconds: float = 0.0


class Server:
    """One web server of a cluster, by name; a new process may take its place (`Cluster.restart`).

    Attributes:
        name: `web-1` and so on.
        url: where it serves shoppers, past the balancer.
        internal_url: where it serves its peers and the lab.
        peer_url: where its peers reach it: the same, or an emulated link.
    """

    def __init__(self, name: str, public: socket.socket, internal: socket.socket) -> None:
        """Tell its addresses; it is started later.

        Args:
            name: `web-1` and so on.
            public: bound, to serve shoppers on.
            internal: bound, to serve its peers and the lab on.
        """
        self.name = name
        self.url = _url(public)
        self.internal_url = _url(internal)
        self.peer_url = self.internal_url
        self.process: ServerProcess

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.alive

    @property
    def log(self) -> str:
        """The path of its log."""
        return self.process.plan.log

    @property
    def address(self) -> str:
        """Where it serves shoppers, as the balancer writes it."""
        return urlsplit(self.url).netloc


def _url(bound: socket.socket) -> str:
    return f"http://{HOST}:{bound.getsockname()[1]}"
