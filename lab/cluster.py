"""The lab, and the clusters in it: N servers of one strategy, wired to engines and a balancer."""

from __future__ import annotations

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests

from lab.engines.keeper import Keeper
from lab.engines.nginx import Nginx
from lab.engines.ports import HOST, bound_socket
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis
from lab.errors import LabError, ServerFailed, from_os_error
from lab.probes.sockets import SocketTotals
from lab.servers import ForkServer, ServerPlan, ServerProcess
from lab.shop import catalogue
from strategies import find
from strategies.contract import Census, Peer, Replication, StoreSettings, UnsupportedPolicy, WritePolicy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

_Made = TypeVar("_Made")

_STATIC = Path(__file__).parent / "shop" / "static"

ANSWER_SECONDS = 10.0
"""How long a server may take to answer the lab."""

QUIET_SECONDS = 30.0
"""How long replication may take to come to rest."""


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster is to be.

    Attributes:
        name: its arm's name, such as `redis`, `all-to-all sync` or `redis blob`; unique in a lab.
        strategy: where its sessions live.
        servers: how many servers it has.
        writes: what a request saves.
        replication: when an all-to-all save is answered.
        affinity: whether the balancer binds a shopper to a server by cookie; None for the strategy's own way.
        idle_seconds: a session ends this long after its last use.
        absolute_seconds: and this long after its creation at the latest.
        sweep_seconds: how often stores look for ended sessions.
        timeout_seconds: the longest that a store operation may take; under the balancer's own patience.
    """

    name: str
    strategy: str
    servers: int = 4
    writes: WritePolicy = "fields"
    replication: Replication = "async"
    affinity: bool | None = None
    idle_seconds: float = 30 * 60
    absolute_seconds: float = 8 * 60 * 60
    sweep_seconds: float = 1.0
    timeout_seconds: float = 2.0


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
        self._namespace = safe_name(spec.name)
        # Equally long for all, and another one for every cluster: cookies do not know ports.
        self.cookie_name = f"session_{sha256(f'{lab.id} {spec.name}'.encode()).hexdigest()[:8]}"
        self.servers: tuple[Server, ...] = ()
        self.balancer: Nginx

    @property
    def url(self) -> str:
        """Where shoppers go: the balancer."""
        return self.balancer.url

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
        """Wait until every copy has reached its peers; return how long that took, in seconds.

        Raises:
            ServerFailed: it took longer than `QUIET_SECONDS`, or a server does not answer.
        """
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
        spec = self.spec
        sticky = find(spec.strategy).balancer == "affinity" if spec.affinity is None else spec.affinity
        self.balancer = Nginx.start(
            self._lab.keeper,
            f"nginx-{self._namespace}",
            [urlsplit(server.url).netloc for server in self.servers],
            _STATIC,
            sticky_cookie=self.cookie_name.replace("session", "server") if sticky else None,
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
            log=str(self._lab.server_logs / f"{self._namespace}-{server.name}.log"),
        )

    def _settings(self, server: Server) -> StoreSettings:
        spec, redis = self.spec, self._lab.redis
        return StoreSettings(
            server=server.name,
            namespace=f"s{self._lab.id}_{self._namespace}",
            idle_seconds=spec.idle_seconds,
            absolute_seconds=spec.absolute_seconds,
            sweep_seconds=spec.sweep_seconds,
            timeout_seconds=spec.timeout_seconds,
            redis_url=redis.url if redis else None,
            database_url=self._lab.postgresql.url,
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


class Lab:
    """Engines, the shop's origin database and the clusters on them; a context manager that leaves nothing behind.

    Args:
        run_folder: an existing folder; logs go to `engines/` and `servers/` in it.
        redis: whether a strategy of this run needs Redis.
        seed: of the shop's catalogue.

    Attributes:
        postgresql: the database engine.
        redis: the Redis engine, None where it was not asked for.
        keeper: keeps processes and the temporary folder.
        fork_server: makes web servers.
        id: tells this lab from others on the same engines and the same host.
    """

    def __init__(self, run_folder: Path, *, redis: bool = True, seed: int = 1) -> None:
        self.id = token_hex(3)
        self.server_logs = run_folder / "servers"
        self._engine_logs = run_folder / "engines"
        self._with_redis = redis
        self._seed = seed
        self._stack = ExitStack()
        self._clusters: list[Cluster] = []
        self.postgresql: PostgreSQL
        self.redis: Redis | None = None
        self.fork_server: ForkServer

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                for folder in (self._engine_logs, self.server_logs):
                    folder.mkdir(exist_ok=True)
            except OSError as error:
                raise from_os_error(error) from error
            self.keeper = stack.enter_context(Keeper(self._engine_logs))
            stack.callback(self._stop_clusters)
            _together([self._start_database, self._start_redis, self._start_fork_server])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *specs: ClusterSpec) -> list[Cluster]:
        """Start clusters side by side; on a failure, none of them stays.

        Raises:
            UnknownStrategy: there is no such strategy.
            UnsupportedPolicy: a strategy cannot keep the promise of the writes asked for.
            LabError: one does not start.
        """
        for spec in specs:
            self._check(spec)
        clusters = [Cluster(spec, self) for spec in specs]
        self._clusters += clusters
        try:
            _together([cluster.launch for cluster in clusters])
        except BaseException:
            for cluster in clusters:
                self.stop(cluster)
            raise
        return clusters

    def stop(self, cluster: Cluster) -> None:
        """Stop a cluster. Its sessions in a shared store stay until the lab ends."""
        if cluster in self._clusters:
            self._clusters.remove(cluster)
            cluster.close()

    def engine_pids(self) -> tuple[int, ...]:
        """Return the processes of PostgreSQL and Redis, to count CPU time of; empty for those not the lab's own."""
        return (*self.postgresql.pids(), *(self.redis.pids() if self.redis else ()))

    def _check(self, spec: ClusterSpec) -> None:
        strategy = find(spec.strategy)
        if spec.writes not in strategy.policies:
            raise UnsupportedPolicy(
                f"{strategy.name} cannot promise {spec.writes!r} writes; it supports: {', '.join(strategy.policies)}"
            )
        if "redis" in strategy.needs and self.redis is None:
            raise LabError(f"{spec.name} needs Redis, which this lab was started without")

    def _start_database(self) -> None:
        self.postgresql = PostgreSQL.start(self.keeper)
        try:
            catalogue.prepare(self.postgresql.url, seed=self._seed)
        except catalogue.CatalogueUnavailable as error:
            raise LabError(str(error)) from error

    def _start_redis(self) -> None:
        if self._with_redis:
            self.redis = Redis.start(self.keeper)

    def _start_fork_server(self) -> None:
        self.fork_server = ForkServer.start(self.keeper)

    def _stop_clusters(self) -> None:
        # All at once: each may take a moment to finish its requests.
        _together([partial(self.stop, cluster) for cluster in self._clusters])
        for engine in (getattr(self, "fork_server", None), self.redis, getattr(self, "postgresql", None)):
            if engine is not None:
                engine.stop()


def safe_name(name: str) -> str:
    """Return a name as letters, digits and `_`, for files, tables and keys."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _together(tasks: Iterable[Callable[[], object]]) -> None:
    """Run tasks side by side, wait for all, then raise the first error there was."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        futures: list[Future[object]] = [pool.submit(task) for task in tasks]
        wait(futures)
    for future in futures:
        future.result()


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None  # noqa: S101 - the lab made this address
    return port
