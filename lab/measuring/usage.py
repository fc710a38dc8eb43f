"""What an arm used: operations on its store, bytes on its links, copies and bytes of its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql

from lab.probes import storage, traffic
from lab.probes.cpu import CpuMeter
from strategies import find
from strategies.contract import Census

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.cluster import Cluster, Lab

_STORE_NAMES = {"postgresql": "PostgreSQL", "redis": "Redis"}


class Usage(msgspec.Struct, frozen=True):
    """A reading of an arm's meters; the difference of two is what happened in between.

    Attributes:
        census: server to what its store counted.
        links: link to bytes and messages.
    """

    census: dict[str, Census]
    links: dict[str, traffic.Link]


def begin(lab: Lab, cluster: Cluster) -> Usage:
    """Read an arm's meters before a phase, after its servers have told each other everything."""
    cluster.quiet()
    census = cluster.census()
    return Usage(census, _links(lab, cluster, census))


def end(lab: Lab, cluster: Cluster) -> Usage:
    """Read them after it. A census talks to the store itself, so here it comes last, and in `begin` first."""
    cluster.quiet()
    links = _links(lab, cluster, {})
    census = cluster.census()
    messages = traffic.Link(links["server_server"].bytes, 2 * _peer_requests(census))
    return Usage(census, {**links, "server_server": messages})


def _peer_requests(census: Mapping[str, Census]) -> int:
    return int(sum(taken.details.get("requests_sent", 0) for taken in census.values()))


def _links(lab: Lab, cluster: Cluster, census: Mapping[str, Census]) -> traffic.Links:
    sockets, balancer = cluster.sockets(), cluster.balancer.traffic()
    ports = traffic.store_ports(lab.postgresql.url, lab.redis.url if lab.redis else None)
    internal = frozenset(traffic.port_of(server.internal_url) for server in cluster.servers)
    return {
        **traffic.balancer_links(
            balancer.requests,
            balancer.client_received_bytes + balancer.client_sent_bytes,
            balancer.server_sent_bytes + balancer.server_received_bytes,
        ),
        **traffic.server_links(sockets, _peer_requests(census), ports, internal),
    }


def per_request(before: Usage, after: Usage, requests: int) -> dict[str, dict[str, float | None]]:
    """Return store operations, bytes and messages per request between two readings, by name."""
    links = traffic.since(after.links, before.links)
    operations = {
        name: sum(getattr(after.census[server], name) - getattr(before.census[server], name) for server in after.census)
        for name in ("creates", "loads", "saves", "touches", "deletes")
    }
    return {
        "operations": {name: count / requests for name, count in operations.items()},
        "bytes": {name: _over(link.bytes, requests) for name, link in links.items()},
        "messages": {name: _over(link.messages, requests) for name, link in links.items()},
    }


def _over(total: int | None, requests: int) -> float | None:
    return None if total is None else total / requests


def cpu_meter(lab: Lab, cluster: Cluster) -> CpuMeter:
    """Return a meter of the CPU time of all that serves an arm: `servers`, `store` (both engines), `balancer`."""
    every = (lab.postgresql, lab.redis, lab.cache)
    engines = [engine.pid for engine in every if engine is not None and engine.pid is not None]
    servers = [server.pid for server in cluster.servers]
    return CpuMeter({"servers": servers, "store": engines, "balancer": [cluster.balancer.pid]})


def detail(usage: Usage, name: str) -> int:
    """Add up one of the store's own counts over all servers; 0 where there is none."""
    return int(sum(census.details.get(name, 0) for census in usage.census.values()))


def shared_store(strategy: str) -> str | None:
    """Return the name of the engine that holds a strategy's sessions, None where servers hold them."""
    return next((_STORE_NAMES[engine] for engine in find(strategy).needs), None)


class StorageFinding(msgspec.Struct, frozen=True):
    """What the storage ladder of an arm gave.

    Attributes:
        holding: which sessions stand where, on the highest rung.
        ladder: bytes that the holders occupied at each rung.
        engine: what else PostgreSQL says: live and dead rows, bytes of its log (WAL); empty for other holders.
    """

    holding: storage.Holding
    ladder: storage.Ladder
    engine: dict[str, float]


def storage_ladder(lab: Lab, cluster: Cluster, rungs: Sequence[int]) -> StorageFinding:
    """Fill a fresh cluster rung by rung, through its balancer, and see what its sessions occupy."""
    filled: list[int] = []

    def fill(sessions: int) -> None:
        storage.fill(cluster.url, sessions, f"r{len(filled)}")
        filled.append(sessions)
        cluster.quiet()

    log = Wal(lab.postgresql.url)
    ladder = storage.climb(rungs, fill, _occupied(lab, cluster))
    engine = {}
    if "postgresql" in find(cluster.spec.strategy).needs:
        engine = {**_table_size(lab, cluster), "wal_bytes": float(log.bytes())}
    return StorageFinding(storage.holding(cluster.census(), shared_store(cluster.spec.strategy)), ladder, engine)


def _occupied(lab: Lab, cluster: Cluster) -> Callable[[], int]:
    needs = find(cluster.spec.strategy).needs
    if "redis" in needs and lab.redis is not None:
        client = lab.redis.connect()
        return lambda: _used_by_data(client.info("memory"))
    if "postgresql" in needs:
        return lambda: int(_table_size(lab, cluster)["relation_bytes"])
    return lambda: storage.memory_of([server.pid for server in cluster.servers])


def _used_by_data(memory: dict[str, Any]) -> int:
    """Return Redis's `used_memory` without the buffers of its connections and of its log, which come and go."""
    buffers = ("mem_clients_normal", "mem_aof_buffer", "mem_total_replication_buffers")
    return int(memory["used_memory"]) - sum(int(memory.get(name, 0)) for name in buffers)


def _table_size(lab: Lab, cluster: Cluster) -> dict[str, float]:
    """Return what PostgreSQL says of the table with the sessions: bytes with indexes and TOAST, live and dead rows."""
    table = cluster.namespace
    query = """
        SELECT pg_total_relation_size(c.oid), s.n_live_tup, s.n_dead_tup
        FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.relname = %s
    """
    with psycopg.connect(lab.postgresql.url) as connection:
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))  # counts live and dead rows
        row = connection.execute(query, [table]).fetchone()
        if row is None:
            return {}
        return dict(zip(("relation_bytes", "live_rows", "dead_rows"), map(float, row), strict=True))


class Wal:
    """Counts the bytes that PostgreSQL appends to its log (WAL) from now on.

    Args:
        database_url: where PostgreSQL answers.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._start = self._ask("SELECT pg_current_wal_lsn()::text")

    def bytes(self) -> int:
        """Return how many bytes were appended since."""
        return int(self._ask(sql.SQL("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), {}::pg_lsn)").format(self._start)))

    def _ask(self, query: Any) -> Any:
        with psycopg.connect(self._url) as connection:
            row = connection.execute(query).fetchone()
        return row[0] if row else None
