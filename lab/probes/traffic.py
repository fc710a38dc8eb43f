"""Bytes and messages on each link: shopper to balancer, balancer to server, server to server, server to store.

A message is an application's request or its reply. On the balancer's two links, bytes and requests come from its
access log. On the servers' own links bytes come from the kernel (`sockets.py`), read on the side that opened the
connection, so that nothing is counted twice. A store's driver sends a request in one write and gets the reply in one,
so there the segments with payload are the messages; servers talk HTTP to each other, whose client sends head and body
apart, so there the store's own count of requests is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import psycopg

from lab.probes.sockets import SocketTotals, own_sockets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.cluster import Cluster
    from strategies.contract import Census

LINKS = ("client_balancer", "balancer_server", "server_server", "server_store", "server_origin")
"""The links, in the order of a request. `server_origin` carries the catalogue's queries, alike in every strategy."""


class Link(msgspec.Struct, frozen=True):
    """What went over one link, both ways together.

    Attributes:
        bytes: payload bytes; None where the system cannot tell.
        messages: requests and replies; None likewise.
    """

    bytes: int | None
    messages: int | None

    def __sub__(self, earlier: Link) -> Link:
        return Link(_less(self.bytes, earlier.bytes), _less(self.messages, earlier.messages))


Links = dict[str, Link]


def _less(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def since(now: Links, before: Links) -> Links:
    """Return what went over each link between two readings."""
    return {name: now[name] - before[name] for name in LINKS}


class StorePorts(msgspec.Struct, frozen=True):
    """Which remote ends belong to which link.

    Attributes:
        redis: Redis's port, None if there is none.
        postgresql: PostgreSQL's port.
        sessions: local ports of PostgreSQL connections that carry sessions; the others carry the catalogue.
    """

    redis: int | None
    postgresql: int
    sessions: frozenset[int]


def session_connections(database_url: str, application_name: str) -> frozenset[int]:
    """Return the client ports of the connections to PostgreSQL that were opened under a name."""
    query = "SELECT client_port FROM pg_stat_activity WHERE application_name = %s AND client_port > 0"
    with psycopg.connect(database_url) as connection:
        return frozenset(port for (port,) in connection.execute(query, [application_name]))


def read(cluster: Cluster, census: Mapping[str, Census], ports: StorePorts) -> Links:
    """Read every link of a cluster since its start.

    Args:
        cluster: whose.
        census: server to its census, for the count of requests between servers.
        ports: which remote ends are what.
    """
    balancer = cluster.balancer.traffic()
    messages = 2 * balancer.requests
    sockets = cluster.sockets()
    return {
        "client_balancer": Link(balancer.client_received_bytes + balancer.client_sent_bytes, messages),
        "balancer_server": Link(balancer.server_sent_bytes + balancer.server_received_bytes, messages),
        **_server_links(sockets, _peer_requests(census), ports, _internal_ports(cluster)),
    }


def _internal_ports(cluster: Cluster) -> frozenset[int]:
    return frozenset(int(server.internal_url.rsplit(":", 1)[1]) for server in cluster.servers)


def _peer_requests(census: Mapping[str, Census]) -> int:
    return int(sum(taken.details.get("requests_sent", 0) for taken in census.values()))


def _server_links(
    sockets: list[SocketTotals] | None, peer_requests: int, ports: StorePorts, internal: frozenset[int]
) -> Links:
    if sockets is None:
        unknown = Link(None, None)
        return {"server_server": Link(None, 2 * peer_requests), "server_store": unknown, "server_origin": unknown}
    peers = [one for one in sockets if one.remote_port in internal]
    database = [one for one in sockets if one.remote_port == ports.postgresql]
    store = [one for one in database if one.local_port in ports.sessions]
    store += [one for one in sockets if one.remote_port == ports.redis]
    origin = [one for one in database if one.local_port not in ports.sessions]
    return {
        "server_server": Link(_bytes(peers), 2 * peer_requests),
        "server_store": Link(_bytes(store), _segments(store)),
        "server_origin": Link(_bytes(origin), _segments(origin)),
    }


def _bytes(sockets: list[SocketTotals]) -> int:
    return sum(one.bytes_sent + one.bytes_received for one in sockets)


def _segments(sockets: list[SocketTotals]) -> int:
    return sum(one.segments_sent + one.segments_received for one in sockets)


def own_links(*_: object) -> dict[str, list[SocketTotals] | None]:
    """Return what a web server reports about its own sockets."""
    return {"sockets": own_sockets()}
