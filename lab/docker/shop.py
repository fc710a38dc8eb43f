"""The containers of one strategy, behind the project's balancer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import requests

from lab.cluster import Counters
from lab.containers.compose import docker
from lab.docker.stores import last_words
from lab.errors import EngineFailed, LabError, ServerFailed
from lab.probes import traffic
from lab.probes.containers import Use
from lab.probes.cpu import CpuMeter
from lab.servers.asking import ANSWER_SECONDS, ask
from strategies import find
from strategies.contract import Census

if TYPE_CHECKING:
    from lab.cluster import ClusterSpec
    from lab.docker.place import Containers

QUIET_SECONDS = 30.0
"""How long replication may take to come to rest."""

READY_SECONDS = 300.0
"""How long a container may take until it serves shoppers."""

INTERNAL_PORT, PUBLIC_PORT = 8001, 8000
REDIS_PORT, POSTGRESQL_PORT = 6379, 5432

_CENSUS = msgspec.json.Decoder(Census)
_COUNTERS = msgspec.json.Decoder(Counters)
_QUIET = msgspec.json.Decoder(dict[str, bool])

_Made = TypeVar("_Made")


class ContainedServer(msgspec.Struct):
    """A web server in a container.

    Attributes:
        name: what it calls itself: `web-2` is the second container of its service.
        container: the container's id.
        url: where it serves shoppers, past the balancer.
        internal_url: where it answers the lab.
        address: its own on the project's network.
        pid: its process as the engine's machine knows it.
        away: whether it was killed, frozen or cut off, and has not been put right again.
    """

    name: str
    container: str
    url: str
    internal_url: str
    address: str
    pid: int
    away: bool = False

    @property
    def log(self) -> str:
        """The command that shows what it says."""
        return f"docker logs {self.container[:12]}"


def service_of(strategy: str) -> str:
    """Return the compose file's service of a strategy."""
    return f"web-{strategy}"


class ContainedShop:
    """The containers of one strategy. Made by `Containers.start`.

    Attributes:
        spec: what it was asked to be.
        url: where shoppers go: the balancer's port for this strategy.
        cookie_name: of its session cookie.
        servers: its servers.
    """

    def __init__(self, spec: ClusterSpec, place: Containers, url: str, cookie_name: str) -> None:
        self.spec = spec
        self.url = url
        self.cookie_name = cookie_name
        self.servers: tuple[ContainedServer, ...] = ()
        self._place = place
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["X-Lab-Secret"] = place.lab_secret
        self.find_servers()

    @property
    def namespace(self) -> str:
        """The table with its sessions, or the prefix of their keys."""
        return f"shop_{self.spec.strategy.replace('-', '_')}"

    @property
    def balancer_version(self) -> str | None:
        """Of its nginx."""
        return self._place.nginx_version

    def find_servers(self) -> None:
        """Ask the engine where the servers are; a container that was started again may be elsewhere."""
        found = self._place.compose.inspect(*self._place.compose.containers(service_of(self.spec.strategy)))
        self.servers = tuple(_server(fact) for fact in sorted(found, key=_number))

    def wait_until_ready(self) -> None:
        """Wait until every server serves shoppers.

        Raises:
            ServerFailed: one does not in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        for server in self.servers:
            while not self._is_ready(server):
                if time.monotonic() > deadline:
                    last = last_words(server.container)
                    text = f"{self.spec.name}: {server.name} does not serve after {READY_SECONDS:.0f} s"
                    raise ServerFailed(f"{text}. Its last words: {last}")
                time.sleep(0.1)

    def census(self) -> dict[str, Census]:
        """Return what each server holds that is not away; of a shared store, each sees all.

        Raises:
            ServerFailed: one does not answer.
        """
        return {server.name: self._ask(server, "census", _CENSUS) for server in self._present()}

    def quiet(self) -> float:
        """Wait until every copy has reached the peers that are not away; return how long that took, in seconds.

        Raises:
            ServerFailed: it took longer than `QUIET_SECONDS`, or a server does not answer.
        """
        if find(self.spec.strategy).copies == "1":
            return 0.0
        began = time.monotonic()
        while not all(self._ask(server, "quiet", _QUIET)["quiet"] for server in self._present()):
            if time.monotonic() - began > QUIET_SECONDS:
                raise ServerFailed(f"{self.spec.name}: replication did not come to rest within {QUIET_SECONDS:.0f} s")
            time.sleep(0.005)
        return time.monotonic() - began

    def links(self, peer_requests: int) -> traffic.Links:
        """Return what went over each link so far: the balancer's by its log, the servers' by their own sockets.

        Args:
            peer_requests: how many requests its servers have sent each other.

        Raises:
            LabError: a server or the balancer does not answer.
        """
        log = self._place.traffic(self.spec.strategy)
        found = traffic.balancer_links(
            log.requests,
            log.client_received_bytes + log.client_sent_bytes,
            log.server_sent_bytes + log.server_received_bytes,
        )
        sessions = self._place.session_connections()
        own: traffic.Links = {}
        for server in self._present():
            ports = traffic.StorePorts(REDIS_PORT, POSTGRESQL_PORT, sessions.get(server.address, frozenset()))
            counters = self._ask(server, "counters", _COUNTERS)
            links = traffic.server_links(counters.sockets, 0, ports, frozenset({INTERNAL_PORT}))
            own = {name: traffic.together(own[name], link) for name, link in links.items()} if own else links
        return {**found, **own, "server_server": traffic.Link(own["server_server"].bytes, 2 * peer_requests)}

    def cpu_meter(self) -> CpuMeter | None:
        """Return a meter of the CPU time of all that serves it, where the containers are processes of this machine.

        Beside what processes have, it counts the engine itself (`engine`), which carries every byte to and from a
        published port, and the containers of the other strategies (`idle`): neither is a stranger on this machine.
        """
        store, balancer = self._place.store_pids(), self._place.balancer_pid()
        servers = [(server.pid, server.container) for server in self.servers]
        if not all(_is_here(pid, container) for pid, container in [*store, balancer, *servers]):
            return None
        own = {"servers": [pid for pid, _ in servers], "store": [pid for pid, _ in store], "balancer": [balancer[0]]}
        counted = {pid for pids in own.values() for pid in pids}
        idle = [pid for pid in self._place.pids() if pid not in counted]
        return CpuMeter({**own, "idle": idle}, {"engine": self._place.engine_pids()})

    def container_use(self) -> dict[str, Use]:
        """Return what each container that serves it has used, by the engine's counters; that may take a second."""
        components = {server.container: (server.name, "servers") for server in self.servers}
        components |= self._place.shared_containers()
        counted = self._place.counters.read(list(components))
        return {
            name: Use(component, one.cpu_seconds, one.received_bytes, one.sent_bytes)
            for (name, component), one in zip(components.values(), counted, strict=True)
        }

    def memory_bytes(self) -> int | None:
        """Return the memory that its servers have to themselves, by the engine's counters; None where they lack it."""
        parts = [one.memory_bytes for one in self._place.counters.read([s.container for s in self.servers])]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """Kill a server as a crash would: its memory is gone, and the engine does not start it again by itself."""
        server = self._server(name)
        server.away = True
        docker("kill", "--signal", "KILL", server.container)

    def restart(self, name: str) -> None:
        """Start a server that was killed again; return when it serves.

        Raises:
            ServerFailed: it does not in time.
        """
        docker("start", self._server(name).container)
        self.find_servers()
        self.wait_until_ready()

    def pause(self, name: str) -> None:
        """Freeze a server: its connections stay open, and it answers nobody until `resume`."""
        server = self._server(name)
        docker("pause", server.container)
        server.away = True

    def resume(self, name: str) -> None:
        """Thaw a server. Thawing one that runs is no error."""
        server = self._server(name)
        if server.away:
            docker("unpause", server.container)
            server.away = False

    def take_out(self, name: str, *, put_back: str | None = None) -> None:
        """Do nothing: the balancer finds servers by DNS, and passes over one that refuses."""

    def put_back(self, name: str) -> None:
        """Do nothing, likewise."""

    def renew(self, name: str) -> None:
        """End a server in good order, requests under way included, and start it afresh; return when shoppers reach it.

        Raises:
            ServerFailed: it does not in time.
        """
        server = self._server(name)
        server.away = True
        docker("stop", server.container)
        self.restart(name)
        self._wait_until_reached(name)

    def cut(self, name: str) -> None:
        """Cut a server off from the network: packets to and from it go nowhere, and nobody is told."""
        server = self._server(name)
        docker("network", "disconnect", self._place.network, server.container)
        server.away = True

    def mend(self, name: str) -> None:
        """Connect a server that was cut off again, under its service's name; return when it can be reached.

        Raises:
            ServerFailed: it cannot in time.
        """
        server = self._server(name)
        if not server.away:
            return
        alias = service_of(self.spec.strategy)
        docker("network", "connect", "--alias", alias, self._place.network, server.container)
        self.find_servers()
        self.wait_until_ready()

    def _present(self) -> list[ContainedServer]:
        return [server for server in self.servers if not server.away]

    def _server(self, name: str) -> ContainedServer:
        named = {server.name: server for server in self.servers}
        if name not in named:
            raise LabError(f"{self.spec.name} has no server {name!r}; it has: {', '.join(named)}")
        return named[name]

    def _wait_until_reached(self, name: str) -> None:
        """Wait until the balancer has found a server again: it asks DNS once a second, and avoids who has just refused.

        Whoever goes on to the next server before that takes the last one that the balancer knows.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_served_by(name):
            if time.monotonic() > deadline:
                text = f"{self.spec.name}: {name} serves, but the balancer has not found it in {READY_SECONDS:.0f} s"
                raise ServerFailed(text)
            time.sleep(0.05)

    def _is_served_by(self, name: str) -> bool:
        with requests.Session() as nobody:
            nobody.trust_env = False
            try:
                answer = nobody.get(f"{self.url}/api/cart", timeout=ANSWER_SECONDS)
            except requests.RequestException:
                return False
            return answer.headers.get("X-Served-By") == name

    def _is_ready(self, server: ContainedServer) -> bool:
        try:
            return self._http.get(f"{server.internal_url}/_lab/ready", timeout=2.0).ok
        except requests.RequestException:
            return False

    def _ask(self, server: ContainedServer, what: str, answer: msgspec.json.Decoder[_Made]) -> _Made:
        try:
            return ask(self._http, f"{server.internal_url}/_lab/{what}", answer)
        except (requests.RequestException, msgspec.DecodeError) as error:
            text = f"{self.spec.name}: {server.name} does not answer the lab about its {what}: {error}"
            raise ServerFailed(text) from error


def _number(fact: dict[str, Any]) -> int:
    return int(fact["Config"]["Labels"]["com.docker.compose.container-number"])


def _server(fact: dict[str, Any]) -> ContainedServer:
    """Read what the engine says of a container."""
    return ContainedServer(
        name=f"web-{_number(fact)}",
        container=str(fact["Id"]),
        url=published(fact, PUBLIC_PORT),
        internal_url=published(fact, INTERNAL_PORT),
        address=next((str(one["IPAddress"]) for one in fact["NetworkSettings"]["Networks"].values()), ""),
        pid=int(fact["State"]["Pid"]),
    )


def published(fact: dict[str, Any], port: int) -> str:
    """Return the address on this machine under which a container's port is published.

    Raises:
        EngineFailed: it is not.
    """
    bound = fact["NetworkSettings"]["Ports"].get(f"{port}/tcp")
    if not bound:
        raise EngineFailed(f"the engine does not publish port {port} of {str(fact['Name']).lstrip('/')}")
    return f"http://127.0.0.1:{bound[0]['HostPort']}"


def _is_here(pid: int, container: str) -> bool:
    """Whether a process of this machine is that container's: elsewhere the engine runs in a virtual machine."""
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
