"""What an arm used: operations on its store, bytes on its links, copies and bytes of its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql

from lab.probes import storage, traffic
from strategies import find
from strategies.contract import Census

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.measuring.place import Place, Shop

_OPERATIONS = ("creates", "loads", "saves", "touches", "deletes")
_STORE_NAMES = {"postgresql": "PostgreSQL", "redis": "Redis"}


class Usage(msgspec.Struct, frozen=True):
    """A reading of an arm's meters; the difference of two is what happened in between.

    Attributes:
        census: server to what its store counted; empty where servers cannot be asked.
        links: link to bytes and messages.
    """

    census: dict[str, Census]
    links: dict[str, traffic.Link]


def begin(cluster: Shop) -> Usage:
    """Read an arm's meters before a phase, after its servers have told each other everything."""
    cluster.quiet()
    census = dict(cluster.census())
    return Usage(census, cluster.links(_peer_requests(census)))


def end(cluster: Shop) -> Usage:
    """Read them after it. A census talks to the store itself, so here it comes last, and in `begin` first."""
    cluster.quiet()
    links = cluster.links(0)
    census = dict(cluster.census())
    messages = traffic.Link(links["server_server"].bytes, 2 * _peer_requests(census) if census else None)
    return Usage(census, {**links, "server_server": messages})


def _peer_requests(census: Mapping[str, Census]) -> int:
    return int(sum(taken.details.get("requests_sent", 0) for taken in census.values()))


def per_request(before: Usage, after: Usage, requests: int) -> dict[str, dict[str, float | None]]:
    """Return store operations, bytes and messages per request between two readings, by name."""
    links = traffic.since(after.links, before.links)
    return {
        "operations": {name: _over(_more(before, after, name), requests) for name in _OPERATIONS},
        "bytes": {name: _over(link.bytes, requests) for name, link in links.items()},
        "messages": {name: _over(link.messages, requests) for name, link in links.items()},
    }


def _more(before: Usage, after: Usage, name: str) -> int | None:
    """Return how many operations of a kind there were in between; None where the servers cannot be asked."""
    if not after.census:
        return None
    return sum(
        int(getattr(after.census[server], name) - getattr(before.census[server], name)) for server in after.census
    )


def _over(total: int | None, requests: int) -> float | None:
    return None if total is None else total / requests


def detail(usage: Usage, name: str) -> int:
    """Add up one of the store's own counts over all servers; 0 where there is none."""
    return int(sum(census.details.get(name, 0) for census in usage.census.values()))


def shared_store(strategy: str) -> str | None:
    """Return the name of the engine or other place that holds a strategy's sessions, None where servers hold them."""
    known = find(strategy)
    return next((_STORE_NAMES[engine] for engine in known.needs), known.shared or None)


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


def storage_ladder(lab: Place[Any], cluster: Shop, rungs: Sequence[int]) -> StorageFinding:
    """Fill a fresh cluster rung by rung, through its balancer, and see what its sessions occupy."""
    filled: list[int] = []

    def fill(sessions: int) -> None:
        storage.fill(cluster.url, sessions, f"r{len(filled)}")
        filled.append(sessions)
        cluster.quiet()

    table = cluster.namespace if "postgresql" in find(cluster.spec.strategy).needs else None
    log = Wal(lab.postgresql.url) if table and lab.postgresql else None
    ladder = storage.climb(rungs, fill, _occupied(lab, cluster))
    engine = {}
    if table and log and lab.postgresql:
        engine = {**_table_size(lab.postgresql.url, table), "wal_bytes": float(log.bytes())}
    return StorageFinding(storage.holding(cluster.census(), shared_store(cluster.spec.strategy)), ladder, engine)


def _occupied(lab: Place[Any], cluster: Shop) -> Callable[[], int | None]:
    needs, database, table = find(cluster.spec.strategy).needs, lab.postgresql, cluster.namespace
    if "redis" in needs or find(cluster.spec.strategy).shared:
        if (asked := next(iter(cluster.census()), None)) is not None:
            return lambda: cluster.census()[asked].physical_bytes
        if "redis" not in needs or lab.redis is None:
            return lambda: None
        client = lab.redis.connect()
        return lambda: _used_by_data(client.info("memory"))
    if "postgresql" in needs:
        if database is None or table is None:
            return lambda: None
        return lambda: int(_table_size(database.url, table)["relation_bytes"])
    return cluster.memory_bytes


def _used_by_data(memory: dict[str, Any]) -> int:
    """Return Redis's `used_memory` without the buffers of its connections and of its log, which come and go."""
    buffers = ("mem_clients_normal", "mem_aof_buffer", "mem_total_replication_buffers")
    return int(memory["used_memory"]) - sum(int(memory.get(name, 0)) for name in buffers)


def _table_size(database_url: str, table: str) -> dict[str, float]:
    """Return what PostgreSQL says of the table with the sessions: bytes with indexes and TOAST, live and dead rows."""
    query = """
        SELECT pg_total_relation_size(c.oid), s.n_live_tup, s.n_dead_tup
        FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.relname = %s
    """
    with psycopg.connect(database_url) as connection:
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
