"""N servers of one strategy, wired to engines and a balancer: started, asked what they hold and have used, stopped."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import msgspec
import psycopg
import requests
from psycopg import sql

from lab.cluster.changes import Changeable
from lab.cluster.server import Counters, Server
from lab.engines.ports import bound_socket
from lab.errors import ServerFailed
from lab.probes import traffic
from lab.probes.cpu import CpuMeter
from lab.probes.storage import memory_of
from lab.servers.asking import ask
from strategies import find
from strategies.contract import Census

if TYPE_CHECKING:
    from pathlib import Path

    from lab.cluster.lab import Lab
    from lab.cluster.spec import ClusterSpec
    from lab.probes.containers import Use
    from lab.probes.sockets import SocketTotals

DEATH_SECONDS = 0.5
"""How long a server that no longer answers may take to be known as dead."""

QUIET_SECONDS = 30.0
"""How long replication may take to come to rest."""

_Made = TypeVar("_Made")

# Made before there are threads: msgspec crashes where two of them use a type for the first time together.
_CENSUS = msgspec.json.Decoder(Census)
_COUNTERS = msgspec.json.Decoder(Counters)
_QUIET = msgspec.json.Decoder(dict[str, bool])


class Cluster(Changeable):
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
        super().__init__(spec, lab)
        self._http = requests.Session()
        self._http.trust_env = False

    @property
    def url(self) -> str:
        """Where shoppers go: the balancer."""
        return self.balancer.url

    @property
    def cookie_name(self) -> str:
        """The name of its session cookie."""
        return self._wiring.cookie_name

    @property
    def namespace(self) -> str:
        """What its sessions are kept under in a shared store: the table's name, or the keys' prefix."""
        return self._wiring.namespace

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
            self.servers = tuple(Server(f"web-{number}", *pair) for number, pair in enumerate(sockets, start=1))
            self._link = self._wiring.move_apart(self.servers)
            for server, pair in zip(self.servers, sockets, strict=True):
                self._fork(server, self.servers, *pair)
        self.balancer = self._wiring.balance(self.servers)
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

    def _forget_the_log(self) -> None:
        with psycopg.connect(self._lab.postgresql.url, connect_timeout=5) as connection:
            connection.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(sql.Identifier(self.namespace)))

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
            return ask(self._http, f"{server.internal_url}/_lab/{what}", answer)
        except (requests.RequestException, msgspec.DecodeError) as error:
            text = f"{self.spec.name}: {server.name} does not answer the lab about its {what}: {error}"
            raise ServerFailed(f"{text} (log: {server.log})") from error
