"""What can be done to the servers of a cluster that runs: strike them, renew them, send them no shoppers, add one."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lab.cluster.server import Server
from lab.cluster.wiring import Wiring
from lab.engines.ports import bound_socket
from lab.errors import LabError, PortsExhausted, ServerFailed
from lab.probes.traffic import port_of
from strategies import find
from strategies.contract import Peer
from strategies.peer_http import PeerError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from lab.cluster.lab import Lab
    from lab.cluster.spec import ClusterSpec
    from lab.engines.delay import DelayedLink
    from lab.engines.nginx import Nginx

PORT_SECONDS = 2.0
"""How long a killed server's port may stay taken."""


class Changeable:
    """Servers behind a balancer that can be changed while they serve: what `Cluster` is made from.

    Attributes:
        spec: what it was asked to be.
        servers: its servers; each has an address past the balancer, too.
        balancer: its nginx.
    """

    balancer: Nginx

    def __init__(self, spec: ClusterSpec, lab: Lab) -> None:
        """Wire nothing yet: see `Cluster.launch`."""
        self.spec = spec
        self.servers: tuple[Server, ...] = ()
        self._lab = lab
        self._wiring = Wiring(spec, lab)
        self._link: DelayedLink | None = None
        self._drained: set[Server] = set()
        self._out: set[Server] = set()

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
            server = Server(f"web-{len(self.servers) + 1}", public, internal)
            if find(self.spec.strategy).copies != "1":
                self._introduce(server)
            self._fork(server, (*self.servers, server), public, internal)
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

    def _fork(self, server: Server, servers: Sequence[Server], public: socket.socket, internal: socket.socket) -> None:
        # `servers` are all of the cluster; the sockets are bound for this one.
        server.process = self._lab.fork_server.fork(self._wiring.plan(server, servers), public, internal)

    def _begin_again(self, server: Server) -> None:
        with ExitStack() as stack:
            public = stack.enter_context(_bound_again(server.url))
            internal = stack.enter_context(_bound_again(server.internal_url))
            self._fork(server, self.servers, public, internal)
        server.process.wait_until_ready()

    def _introduce(self, newcomer: Server) -> None:
        for server in self.servers:
            if not server.process.serves:
                continue
            client = self._wiring.peer_client(server)
            try:
                client.meet(Peer(newcomer.name, newcomer.internal_url))
            except PeerError as error:
                text = f"{self.spec.name}: {server.name} could not be told of {newcomer.name}: {error}"
                raise ServerFailed(f"{text} (log: {server.log})") from error
            finally:
                client.close()

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


def _bound_again(url: str) -> socket.socket:
    """Return a socket bound to the port of a server that was killed: the kernel closes the old one a moment later."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return bound_socket(port_of(url))
        except PortsExhausted:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
