"""Bytes and messages on each link: shopper to balancer, balancer to server, server to server, server to store.

A message is an application's request or its reply. On the balancer's two links, bytes and requests come from its
access log. On the servers' own links bytes come from the kernel (`sockets.py`), read on the side that opened the
connection, so that nothing is counted twice. A store's driver sends a request in one write and gets the reply in one,
so there the segments with payload are the messages; servers talk HTTP to each other, whose client sends head and body
apart, so there the store's own count of requests is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from lab.probes.sockets import SocketTotals

LINKS = ("client_balancer", "balancer_server", "server_server", "server_store", "server_origin")
"""The links, in the order of a request. `server_origin` carries the catalogue's queries, alike in every strategy."""


SESSIONS_APPLICATION = "sessions"
"""The name under which the session store of `database` connects, so that the catalogue's queries are told apart."""

REDIS_PORT, POSTGRESQL_PORT = 6379, 5432
"""Where they listen if an address does not say otherwise."""


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


def together(one: Link, other: Link) -> Link:
    """Return what went over two links."""
    return Link(_more(one.bytes, other.bytes), _more(one.messages, other.messages))


def _more(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


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


def store_ports(database_url: str, redis_url: str | None) -> StorePorts:
    """Ask PostgreSQL which of its connections carry sessions: they were opened under a name of their own.

    Args:
        database_url: where PostgreSQL answers, as a URL or as `name=value` pairs.
        redis_url: where Redis answers; None if there is none.
    """
    query = "SELECT client_port FROM pg_stat_activity WHERE application_name = %s AND client_port > 0"
    with psycopg.connect(database_url) as connection:
        sessions = frozenset(port for (port,) in connection.execute(query, [SESSIONS_APPLICATION]))
    redis = (urlsplit(redis_url).port or REDIS_PORT) if redis_url else None
    return StorePorts(redis, int(conninfo_to_dict(database_url).get("port") or POSTGRESQL_PORT), sessions)


def port_of(url: str) -> int:
    """Return the port of an address that names one."""
    port = urlsplit(url).port
    assert port is not None  # noqa: S101 - the lab's engines and servers are reached by a port
    return port


def balancer_links(requests: int, client_bytes: int, server_bytes: int) -> Links:
    """Return the balancer's two links from the totals of its access log."""
    return {
        "client_balancer": Link(client_bytes, 2 * requests),
        "balancer_server": Link(server_bytes, 2 * requests),
    }


def server_links(
    sockets: list[SocketTotals] | None, peer_requests: int, ports: StorePorts, internal: frozenset[int]
) -> Links:
    """Return the servers' own links.

    Args:
        sockets: all connected sockets of all servers; None where the system cannot tell.
        peer_requests: how many requests servers have sent each other.
        ports: which remote ends are engines.
        internal: the ports on which servers listen to each other.
    """
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
