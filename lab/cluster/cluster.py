"""N servers of one strategy, wired to engines and a balancer."""

from __future__ import annotations

import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from psycopg.conninfo import make_conninfo

from lab.cluster.spec import safe_name
from lab.engines.nginx import Nginx
from lab.engines.ports import HOST, bound_socket
from lab.errors import ServerFailed
from lab.probes.sockets import SocketTotals
from lab.probes.traffic import SESSIONS_APPLICATION
from lab.servers import ServerPlan
from strategies import find
from strategies.contract import Census, Peer, StoreSettings

if TYPE_CHECKING:
    import socket

    from lab.cluster.lab import Lab
    from lab.cluster.spec import ClusterSpec
    from lab.servers import ServerProcess

_Made = TypeVar("_Made")

_STATIC = Path(__file__).parents[1] / "shop" / "static"

ANSWER_SECONDS = 10.0
"""How long a server may take to answer the lab."""

QUIET_SECONDS = 30.0
"""How long replication may take to come to rest."""


class Counters(msgspec.Struct, frozen=True):
    """What a server counts about itself.

    Attributes:
        cpu_seconds: CPU time since it was forked.
        sockets: totals of its connected sockets; None where the system cannot tell.
    """

    cpu_seconds: float
    sockets: list[SocketTotals] | None


class Server:
    """One web server of a cluster, by name; a new process may take its place (`Cluster.restart`)."""

    def __init__(self, name: str, public: int, internal: int) -> None:
        self.name = name
        self.url = f"http://{HOST}:{public}"
        self.internal_url = f"http://{HOST}:{internal}"
        self.process: ServerProcess

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.alive


class Cluster:
    """N servers of one strategy behind one balancer.

    Attributes:
        spec: what it was asked to be.
        url: where shoppers go: the balancer.
        servers: its servers; each has an address past the balancer, too.
        cookie_name: of its session cookie.
        balancer: its nginx.
    """

    def __init__(self, spec: ClusterSpec, lab: Lab) -> None:
        """Use `Lab.start`."""
        self.spec = spec
        self._lab = lab
        self._http = requests.Session()
        self._http.trust_env = False
        self._secret_key, self._peer_secret = token_hex(32), token_hex(32)
        self._name = safe_name(spec.name)
        # Equally long for all, and another one for every cluster: cookies do not know ports.
        self.cookie_name = f"session_{sha256(f'{lab.id} {spec.name}'.encode()).hexdigest()[:8]}"
        self.servers: tuple[Server, ...] = ()
        self.balancer: Nginx

    @property
    def url(self) -> str:
        """Where shoppers go: the balancer."""
        return self.balancer.url

    @property
    def namespace(self) -> str:
        """What its sessions are kept under in a shared store: the table's name, or the keys' prefix."""
        return f"{self._lab.namespace}{self._name}"

    @property
    def access_log(self) -> Path:
        """The balancer's access log; `balancer.flush()` brings it up to date."""
        return self.balancer.access_log

    def launch(self) -> None:
        """Start the servers, the balancer and wait until they are ready.

        Raises:
            LabError: one of them does not start.
        """
        with ExitStack() as stack:
            sockets = [
                (stack.enter_context(bound_socket()), stack.enter_context(bound_socket()))
                for _ in range(self.spec.servers)
            ]
            self.servers = tuple(
                Server(f"web-{number}", _port(public), _port(internal))
                for number, (public, internal) in enumerate(sockets, start=1)
            )
            for server, (public, internal) in zip(self.servers, sockets, strict=True):
                server.process = self._lab.fork_server.fork(self._plan(server), public, internal)
        self._balance()
        for server in self.servers:
            server.process.wait_until_ready()

    def census(self) -> dict[str, Census]:
        """Return what each server that lives holds; of a shared store, each sees all.

        Raises:
            ServerFailed: one does not answer.
        """
        return {server.name: self._ask(server, "census", Census) for server in self._alive()}

    def counters(self) -> dict[str, Counters]:
        """Return each living server's own counters.

        Raises:
            ServerFailed: one does not answer.
        """
        return {server.name: self._ask(server, "counters", Counters) for server in self._alive()}

    def sockets(self) -> list[SocketTotals] | None:
        """Return the totals of all the living servers' connected sockets; None where the system cannot tell.

        Raises:
            ServerFailed: one does not answer.
        """
        totals = [counters.sockets for counters in self.counters().values()]
        return None if None in totals else [total for of_one in totals for total in of_one or ()]

    def quiet(self) -> float:
        """Wait until every copy has reached its peers; return how long that took, in seconds: 0 without copies.

        Raises:
            ServerFailed: it took longer than `QUIET_SECONDS`, or a server does not answer.
        """
        if find(self.spec.strategy).copies == "1":
            return 0.0
        began = time.monotonic()
        while not all(self._ask(server, "quiet", dict[str, bool])["quiet"] for server in self._alive()):
            if time.monotonic() - began > QUIET_SECONDS:
                raise ServerFailed(f"{self.spec.name}: replication did not come to rest within {QUIET_SECONDS:.0f} s")
            time.sleep(0.001)
        return time.monotonic() - began

    def kill(self, name: str) -> None:
        """Kill a server as a crash would: its memory is gone, its port refuses."""
        self._server(name).process.kill()

    def restart(self, name: str) -> None:
        """Put a fresh server in the place of a dead one: same name and ports, empty memory.

        Raises:
            LabError: its port is taken meanwhile, or it does not start.
        """
        server = self._server(name)
        server.process.kill()
        public, internal = bound_socket(_port_of(server.url)), bound_socket(_port_of(server.internal_url))
        server.process = self._lab.fork_server.fork(self._plan(server), public, internal)
        server.process.wait_until_ready()

    def close(self) -> None:
        """Stop the balancer and the servers, letting requests under way finish."""
        self._http.close()
        if hasattr(self, "balancer"):
            self.balancer.stop()
        started = [server.process for server in self.servers if hasattr(server, "process")]
        for process in started:
            process.terminate()
        for process in started:
            process.close()

    def _balance(self) -> None:
        self.balancer = Nginx.start(
            self._lab.keeper,
            f"nginx-{self._name}",
            [urlsplit(server.url).netloc for server in self.servers],
            _STATIC,
            sticky_cookie=self.cookie_name.replace("session", "server") if self.spec.sticky else None,
        )

    def _plan(self, server: Server) -> ServerPlan:
        return ServerPlan(
            server=server.name,
            servers=tuple(each.name for each in self.servers),
            strategy=self.spec.strategy,
            writes=self.spec.writes,
            settings=self._settings(server),
            secret_key=self._secret_key,
            cookie_name=self.cookie_name,
            shop_database_url=self._lab.postgresql.url,
            log=str(self._lab.server_logs / f"{self._name}-{server.name}.log"),
        )

    def _settings(self, server: Server) -> StoreSettings:
        spec, redis = self.spec, self._lab.redis
        return StoreSettings(
            server=server.name,
            namespace=self.namespace,
            idle_seconds=spec.idle_seconds,
            absolute_seconds=spec.absolute_seconds,
            sweep_seconds=spec.sweep_seconds,
            timeout_seconds=spec.timeout_seconds,
            redis_url=redis.url if redis else None,
            database_url=make_conninfo(self._lab.postgresql.url, application_name=SESSIONS_APPLICATION),
            peers=tuple(Peer(each.name, each.internal_url) for each in self.servers if each is not server),
            peer_secret=self._peer_secret,
            replication=spec.replication,
        )

    def _server(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    def _alive(self) -> list[Server]:
        return [server for server in self.servers if server.alive]

    def _ask(self, server: Server, what: str, answer: type[_Made]) -> _Made:
        try:
            response = self._http.get(f"{server.internal_url}/_lab/{what}", timeout=ANSWER_SECONDS)
            response.raise_for_status()
            return msgspec.json.decode(response.content, type=answer)
        except (requests.RequestException, msgspec.DecodeError) as error:
            text = f"{self.spec.name}: {server.name} does not answer the lab about its {what}: {error}"
            raise ServerFailed(f"{text} (log: {server.process.plan.log})") from error


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None  # noqa: S101 - the lab made this address
    return port
