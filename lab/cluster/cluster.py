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
import psycopg
import requests
from psycopg import sql
from psycopg.conninfo import make_conninfo

from lab.cluster.spec import safe_name
from lab.engines.delay import DelayedLink
from lab.engines.nginx import Nginx
from lab.engines.ports import HOST, bound_socket
from lab.errors import LabError, PortsExhausted, ServerFailed
from lab.probes import traffic
from lab.probes.cpu import CpuMeter
from lab.probes.sockets import SocketTotals
from lab.probes.storage import memory_of
from lab.servers import ServerPlan
from strategies import find
from strategies.contract import Census, Peer, StoreSettings
from strategies.peer_http import PeerClient, PeerError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from lab.cluster.lab import Lab
    from lab.cluster.spec import ClusterSpec
    from lab.probes.containers import Use
    from lab.servers import ServerProcess
    from lab.shop.cache import CacheSettings

DEATH_SECONDS = 0.5
"""How long a server that no longer answers may take to be known as dead."""

PORT_SECONDS = 2.0
"""How long a killed server's port may stay taken."""

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


# Made before there are threads: msgspec crashes where two of them use a type for the first time together.
_CENSUS = msgspec.json.Decoder(Census)
_COUNTERS = msgspec.json.Decoder(Counters)
_QUIET = msgspec.json.Decoder(dict[str, bool])


class Server:
    """One web server of a cluster, by name; a new process may take its place (`Cluster.restart`).

    Attributes:
        name: `web-1` and so on.
        url: where it serves shoppers, past the balancer.
        internal_url: where it serves its peers and the lab.
        peer_url: where its peers reach it: the same, or an emulated link.
    """

    def __init__(self, name: str, public: int, internal: int) -> None:
        self.name = name
        self.url = f"http://{HOST}:{public}"
        self.internal_url = f"http://{HOST}:{internal}"
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
        self._drained: set[Server] = set()
        self._out: set[Server] = set()
        self._link: DelayedLink | None = None
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
    def balancer_version(self) -> str:
        """Of its nginx."""
        return self.balancer.version

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
            self._move_apart()
            for server, (public, internal) in zip(self.servers, sockets, strict=True):
                server.process = self._lab.fork_server.fork(self._plan(server), public, internal)
        self._balance()
        for server in self.servers:
            server.process.wait_until_ready()
        if self.spec.commit == "unlogged":
            self._forget_the_log()

    def census(self) -> dict[str, Census]:
        """Return what each server holds that is neither dead nor paused; of a shared store, each sees all.

        Raises:
            ServerFailed: one does not answer.
        """
        return self._ask_all("census", _CENSUS)

    def counters(self) -> dict[str, Counters]:
        """Return the own counters of each server that is neither dead nor paused.

        Raises:
            ServerFailed: one does not answer.
        """
        return self._ask_all("counters", _COUNTERS)

    def sockets(self) -> list[SocketTotals] | None:
        """Return the totals of all those servers' connected sockets; None where the system cannot tell.

        Raises:
            ServerFailed: one does not answer.
        """
        totals = [counters.sockets for counters in self.counters().values()]
        return None if None in totals else [total for of_one in totals for total in of_one or ()]

    def links(self, peer_requests: int) -> traffic.Links:
        """Return what went over each link so far; see `lab.probes.traffic`.

        Args:
            peer_requests: how many requests its servers have sent each other.

        Raises:
            LabError: a server or the balancer does not answer.
        """
        sockets, balancer = self.sockets(), self.balancer.traffic()
        ports = traffic.store_ports(self._lab.postgresql.url, self._lab.redis.url if self._lab.redis else None)
        internal = frozenset(traffic.port_of(server.internal_url) for server in self.servers)
        return {
            **traffic.balancer_links(
                balancer.requests,
                balancer.client_received_bytes + balancer.client_sent_bytes,
                balancer.server_sent_bytes + balancer.server_received_bytes,
            ),
            **traffic.server_links(sockets, peer_requests, ports, internal),
        }

    def cpu_meter(self) -> CpuMeter:
        """Return a meter of the CPU time of all that serves it: `servers`, `store` (all engines), `balancer`."""
        every = (self._lab.postgresql, self._lab.redis, self._lab.cache)
        engines = [engine.pid for engine in every if engine is not None and engine.pid is not None]
        servers = [server.pid for server in self.servers]
        return CpuMeter({"servers": servers, "store": engines, "balancer": [self.balancer.pid]})

    def container_use(self) -> dict[str, Use]:
        """Return nothing: its servers are processes."""
        return {}

    def memory_bytes(self) -> int:
        """Return the memory that its servers have to themselves.

        Raises:
            LabError: a server has ended.
        """
        return memory_of([server.pid for server in self.servers])

    def quiet(self) -> float:
        """Wait until every copy has reached the peers that are neither dead nor paused.

        Returns:
            How long that took, in seconds: 0 without copies.

        Raises:
            ServerFailed: it took longer than `QUIET_SECONDS`, or a server does not answer.
        """
        if find(self.spec.strategy).copies == "1":
            return 0.0
        began = time.monotonic()
        while not all(quiet["quiet"] for quiet in self._ask_all("quiet", _QUIET).values()):
            if time.monotonic() - began > QUIET_SECONDS:
                raise ServerFailed(f"{self.spec.name}: replication did not come to rest within {QUIET_SECONDS:.0f} s")
            time.sleep(0.001)
        return time.monotonic() - began

    def kill(self, name: str) -> None:
        """Kill a server as a crash would: its memory is gone, its port refuses. Killing a dead one is no error.

        Raises:
            LabError: there is no such server.
        """
        self._server(name).process.kill()

    def restart(self, name: str) -> None:
        """Put a fresh server in the place of one, killed before if it lives: same name and ports, empty memory.

        Raises:
            LabError: there is no such server, its port is taken meanwhile, or it does not start.
        """
        server = self._server(name)
        server.process.kill()
        self._begin_again(server)

    def renew(self, name: str) -> None:
        """Put a fresh server in the place of one, as `restart` does, but let that finish first what it has begun.

        It answers the requests under way, and tells its peers what it has saved. Shoppers who are sent to it meanwhile
        are refused: `take_out` first.

        Raises:
            LabError: see `restart`.
        """
        server = self._server(name)
        server.process.terminate()
        server.process.close()
        self._begin_again(server)

    def add_server(self) -> str:
        """Start one more server, under load if need be; return its name when shoppers may come to it.

        Where servers hold copies, those that run are told of the new one first, and it has their sessions before it
        says that it serves. Then the balancer takes it in, as in `drain` without losing a request. A newcomer that
        fails to start is gone, and the balancer has never heard of it.

        Raises:
            LabError: it does not start, or another server or the balancer fails; or the link is an emulated one.
        """
        if self._link:
            raise LabError(f"{self.spec.name}: its servers talk through an emulated link, which no other one can join")
        with ExitStack() as stack:
            public, internal = (stack.enter_context(bound_socket()) for _ in range(2))
            server = Server(f"web-{len(self.servers) + 1}", _port(public), _port(internal))
            if find(self.spec.strategy).copies != "1":
                self._introduce(server)
            server.process = self._lab.fork_server.fork(self._plan(server, (*self.servers, server)), public, internal)
        try:
            server.process.wait_until_ready()
            self.balancer.add(server.address)
        except BaseException:
            server.process.kill()
            raise
        self.servers = (*self.servers, server)
        return server.name

    def pause(self, name: str) -> None:
        """Freeze a server: it holds on to all it has, and answers nobody until `resume`.

        Raises:
            LabError: there is no such server, or it is dead.
        """
        self._living(name, "paused").process.pause()

    def resume(self, name: str) -> None:
        """Thaw a server, which goes on as if no time had passed. Thawing one that runs is no error.

        Raises:
            LabError: there is no such server, or it is dead.
        """
        self._living(name, "resumed").process.resume()

    def drain(self, name: str) -> None:
        """Send a server no new shoppers, until `undrain`; return when the balancer has changed over.

        Those who are bound to it by cookie stay; without affinity nobody is, and it gets no requests at all. Neither
        loses a request.

        Raises:
            LabError: there is no such server, no other one is left for new shoppers, or the balancer fails.
        """
        server = self._server(name)
        if not set(self.servers) - self._drained - self._out - {server}:
            raise LabError(f"{self.spec.name}: {name} is the last one that takes new shoppers, so it is not drained")
        self.balancer.drain(server.address)
        self._drained.add(server)

    def undrain(self, name: str) -> None:
        """Let new shoppers come to a server again. It is no error if they did all the time.

        Raises:
            LabError: there is no such server, or the balancer fails.
        """
        server = self._server(name)
        self.balancer.undrain(server.address)
        self._drained.discard(server)

    def take_out(self, name: str, *, put_back: str | None = None) -> None:
        """Send a server nobody, until `put_back`; return when no request is under way to it.

        Those who were bound to it by cookie are bound to another one, which does not know their sessions.

        Args:
            name: of the server.
            put_back: one that was taken out, and that shoppers may come to again from then on.

        Raises:
            LabError: there is no such server, no other one is left for its shoppers, or the balancer fails.
        """
        server = self._server(name)
        back = self._server(put_back) if put_back else None
        out = self._out - {back} | {server}
        if not set(self.servers) - self._drained - out:
            raise LabError(f"{self.spec.name}: {name} is the last one that takes shoppers, so it is not taken out")
        self.balancer.take_out(server.address, put_back=back.address if back else None)
        self._out = out

    def put_back(self, name: str) -> None:
        """Let shoppers come again to a server that was taken out. It is no error if they did all the time.

        Raises:
            LabError: there is no such server, or the balancer fails.
        """
        server = self._server(name)
        self.balancer.put_back(server.address)
        self._out.discard(server)

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
        if self._link:
            self._link.stop()

    def _begin_again(self, server: Server) -> None:
        """Put a fresh process in the place of one that has ended."""
        with ExitStack() as stack:
            public = stack.enter_context(_bound_again(server.url))
            internal = stack.enter_context(_bound_again(server.internal_url))
            server.process = self._lab.fork_server.fork(self._plan(server), public, internal)
        server.process.wait_until_ready()

    def _move_apart(self) -> None:
        """Put an emulated link between the servers: each is reached by its peers through a relay of its own."""
        if self.spec.peer_delay_seconds > 0:
            targets = [(HOST, _port_of(server.internal_url)) for server in self.servers]
            self._link = DelayedLink.start(
                self._lab.keeper, f"link-{self._name}", targets, self.spec.peer_delay_seconds
            )
            for server, port in zip(self.servers, self._link.ports, strict=True):
                server.peer_url = f"http://{HOST}:{port}"

    def _balance(self) -> None:
        self.balancer = Nginx.start(
            self._lab.keeper,
            f"nginx-{self._name}",
            [server.address for server in self.servers],
            _STATIC,
            sticky_cookie=self.cookie_name.replace("session", "server") if self.spec.sticky else None,
        )

    def _introduce(self, newcomer: Server) -> None:
        """Tell every server that runs of one more."""
        for server in self.servers:
            if not server.process.serves:
                continue
            client = PeerClient(Peer(server.name, server.internal_url), self._peer_secret, self.spec.timeout_seconds)
            try:
                client.meet(Peer(newcomer.name, newcomer.internal_url))
            except PeerError as error:
                text = f"{self.spec.name}: {server.name} could not be told of {newcomer.name}: {error}"
                raise ServerFailed(f"{text} (log: {server.process.plan.log})") from error
            finally:
                client.close()

    def _plan(self, server: Server, servers: Sequence[Server] = ()) -> ServerPlan:
        """Return what a server needs to know; `servers` are all of the cluster, where not those that run already."""
        servers = servers or self.servers
        return ServerPlan(
            server=server.name,
            servers=tuple(each.name for each in servers),
            strategy=self.spec.strategy,
            writes=self.spec.writes,
            settings=self._settings(server, servers),
            secret_key=self._secret_key,
            cookie_name=self.cookie_name,
            shop_database_url=self._lab.postgresql.url,
            log=str(self._lab.server_logs / f"{self._name}-{server.name}.log"),
            cache=self._cache(),
        )

    def _cache(self) -> CacheSettings | None:
        cache, engine = self.spec.cache, self._lab.cache
        if cache is None or engine is None:
            return None
        return msgspec.structs.replace(cache, url=engine.url, prefix=f"{self.namespace}:")

    def _settings(self, server: Server, servers: Sequence[Server]) -> StoreSettings:
        spec, redis = self.spec, self._lab.redis
        return StoreSettings(
            server=server.name,
            namespace=self.namespace,
            idle_seconds=spec.idle_seconds,
            absolute_seconds=spec.absolute_seconds,
            sweep_seconds=spec.sweep_seconds,
            timeout_seconds=spec.timeout_seconds,
            redis_url=redis.url if redis else None,
            database_url=make_conninfo(self._lab.postgresql.url, **self._of_sessions()),
            peers=tuple(Peer(each.name, each.peer_url) for each in servers if each is not server),
            peer_secret=self._peer_secret,
            replication=spec.replication,
        )

    def _of_sessions(self) -> dict[str, str]:
        """Return what connections for sessions are opened with; those of the catalogue stay as they are."""
        relaxed = {"options": "-c synchronous_commit=off"} if self.spec.commit == "off" else {}
        return {"application_name": traffic.SESSIONS_APPLICATION, **relaxed}

    def _forget_the_log(self) -> None:
        with psycopg.connect(self._lab.postgresql.url, connect_timeout=5) as connection:
            connection.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(sql.Identifier(self.namespace)))

    def _server(self, name: str) -> Server:
        named = {server.name: server for server in self.servers}
        if name not in named:
            raise LabError(f"{self.spec.name} has no server {name!r}; it has: {', '.join(named)}")
        return named[name]

    def _living(self, name: str, what: str) -> Server:
        server = self._server(name)
        if not server.alive:
            raise ServerFailed(f"{self.spec.name}: {name} is dead, so it cannot be {what}")
        return server

    def _ask_all(self, what: str, answer: msgspec.json.Decoder[_Made]) -> dict[str, _Made]:
        """Ask every server that can answer; one that dies or is paused meanwhile is left out, too."""
        answers = {}
        for server in self.servers:
            try:
                if server.process.serves:
                    answers[server.name] = self._ask(server, what, answer)
            except ServerFailed:
                if server.process.serves and not server.process.ends_within(DEATH_SECONDS):
                    raise
        return answers

    def _ask(self, server: Server, what: str, answer: msgspec.json.Decoder[_Made]) -> _Made:
        try:
            response = self._http.get(f"{server.internal_url}/_lab/{what}", timeout=ANSWER_SECONDS)
            response.raise_for_status()
            return answer.decode(response.content)
        except (requests.RequestException, msgspec.DecodeError) as error:
            text = f"{self.spec.name}: {server.name} does not answer the lab about its {what}: {error}"
            raise ServerFailed(f"{text} (log: {server.process.plan.log})") from error


def _bound_again(url: str) -> socket.socket:
    """Return a socket bound to the port of a server that was killed: the kernel closes the old one a moment later."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return bound_socket(_port_of(url))
        except PortsExhausted:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None  # noqa: S101 - the lab made this address
    return port
