"""What makes some web servers one cluster: names, secrets, the links between them, and what each of them is told."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import msgspec
from psycopg.conninfo import make_conninfo

from lab.cluster.spec import safe_name
from lab.engines.delay import DelayedLink
from lab.engines.nginx import Nginx
from lab.engines.ports import HOST
from lab.probes import traffic
from lab.servers import ServerPlan
from strategies.contract import Peer, StoreSettings
from strategies.peer_http import PeerClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.cluster.lab import Lab
    from lab.cluster.server import Server
    from lab.cluster.spec import ClusterSpec
    from lab.shop.cache import CacheSettings

_STATIC = Path(__file__).parents[1] / "shop" / "static"


class Wiring:
    """How the servers of one cluster are wired to engines, to each other and to their balancer.

    Attributes:
        namespace: what their sessions are kept under in a shared store: the table's name, or the keys' prefix.
        cookie_name: of their session cookie.
    """

    def __init__(self, spec: ClusterSpec, lab: Lab) -> None:
        """Choose names and secrets; nothing is started.

        Args:
            spec: what the cluster was asked to be.
            lab: where its engines are.
        """
        self._spec = spec
        self._lab = lab
        self._name = safe_name(spec.name)
        self._secret_key, self._peer_secret = token_hex(32), token_hex(32)
        self.namespace = f"{lab.namespace}{self._name}"
        # Equally long for all, and another one for every cluster: cookies do not know ports.
        self.cookie_name = f"session_{sha256(f'{lab.id} {spec.name}'.encode()).hexdigest()[:8]}"

    def plan(self, server: Server, servers: Sequence[Server]) -> ServerPlan:
        """Return what a server needs to know; `servers` are all of the cluster, itself among them."""
        return ServerPlan(
            server=server.name,
            servers=tuple(each.name for each in servers),
            strategy=self._spec.strategy,
            writes=self._spec.writes,
            settings=self._settings(server, servers),
            secret_key=self._secret_key,
            cookie_name=self.cookie_name,
            shop_database_url=self._lab.postgresql.url,
            log=str(self._lab.server_logs / f"{self._name}-{server.name}.log"),
            cache=self._cache(),
        )

    def of_sessions(self) -> dict[str, str]:
        """Return what connections for sessions are opened with; those of the catalogue stay as they are."""
        relaxed = {"options": "-c synchronous_commit=off"} if self._spec.commit == "off" else {}
        return {"application_name": traffic.SESSIONS_APPLICATION, **relaxed}

    def peer_client(self, server: Server) -> PeerClient:
        """Return a client of what a server offers its peers."""
        return PeerClient(Peer(server.name, server.internal_url), self._peer_secret, self._spec.timeout_seconds)

    def move_apart(self, servers: Sequence[Server]) -> DelayedLink | None:
        """Put an emulated link between servers: each is reached by its peers through a relay of its own.

        Returns:
            The link; None where none was asked for.

        Raises:
            LabError: it does not start.
        """
        if self._spec.peer_delay_seconds == 0:
            return None
        targets = [(HOST, traffic.port_of(server.internal_url)) for server in servers]
        link = DelayedLink.start(self._lab.keeper, f"link-{self._name}", targets, self._spec.peer_delay_seconds)
        for server, port in zip(servers, link.ports, strict=True):
            server.peer_url = f"http://{HOST}:{port}"
        return link

    def balance(self, servers: Sequence[Server]) -> Nginx:
        """Start a balancer in front of servers.

        Raises:
            LabError: it does not start.
        """
        return Nginx.start(
            self._lab.keeper,
            f"nginx-{self._name}",
            [server.address for server in servers],
            _STATIC,
            sticky_cookie=self.cookie_name.replace("session", "server") if self._spec.sticky else None,
        )

    def _cache(self) -> CacheSettings | None:
        cache, engine = self._spec.cache, self._lab.cache
        if cache is None or engine is None:
            return None
        return msgspec.structs.replace(cache, url=engine.url, prefix=f"{self.namespace}:")

    def _settings(self, server: Server, servers: Sequence[Server]) -> StoreSettings:
        spec, redis = self._spec, self._lab.redis
        return StoreSettings(
            server=server.name,
            namespace=self.namespace,
            idle_seconds=spec.idle_seconds,
            absolute_seconds=spec.absolute_seconds,
            sweep_seconds=spec.sweep_seconds,
            timeout_seconds=spec.timeout_seconds,
            redis_url=redis.url if redis else None,
            database_url=make_conninfo(self._lab.postgresql.url, **self.of_sessions()),
            peers=tuple(Peer(each.name, each.peer_url) for each in servers if each is not server),
            peer_secret=self._peer_secret,
            replication=spec.replication,
        )
