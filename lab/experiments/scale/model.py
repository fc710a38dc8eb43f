"""How far each strategy goes beyond this machine, by operational laws: modelled, from what was measured here.

Utilisation is rate times demand (Lazowska and others, "Quantitative System Performance", 1984, the utilisation law):
whatever is used to its limit first is what stops a strategy. Rate, traffic and memory all grow with the number of live
sessions, so everything is expressed as the most sessions that a resource carries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVERS = (1, 2, 4, 8, 10, 13, 18, 24, 32, 42, 56, 75, 100, 133, 178, 237, 316, 422, 562, 750, 1000)
"""Where the model is worked out: ten to a thousand web servers, and the measured sizes."""

SHARDS = 10
"""Of the Redis Cluster that stands beside one Redis."""


class Assumed(msgspec.Struct, frozen=True):
    """What the model assumes of machines and shoppers; none of it was measured.

    Attributes:
        think_seconds: a live session sends one request in so many seconds.
        busy_most: the largest share of a core that is used; beyond, queues grow.
        memory_bytes: memory for sessions of each machine.
        link_bytes: what a machine's network carries each way in a second: 10 Gbit/s.
        database_cores: of the database's machine. A web server and a Redis use one core each.
        log_bytes: what the database's disk writes in a second, for its log (WAL).
    """

    think_seconds: float = 30.0
    busy_most: float = 0.7
    memory_bytes: float = 16e9
    link_bytes: float = 1.25e9
    database_cores: int = 16
    log_bytes: float = 500e6


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy asks of each resource; None where it was not measured or does not matter.

    Attributes:
        web_ms: CPU of the web servers for one request with one server, in ms.
        web_ms_per_peer: and so much more for every further server; 0 but for all-to-all.
        web_bytes: what a session occupies in the memory of each server that holds it.
        everywhere: whether every server holds every session; otherwise one of them does.
        peer_bytes: bytes between servers for one request and each further server.
        store_ms: CPU of the store for one request, for the session alone.
        store_bytes: what a session occupies in the store's memory.
        store_link_bytes: bytes between servers and store for one request.
        log_bytes: bytes of the store's log for one request.
        store: `redis`, `database`, or empty.
    """

    web_ms: float | None = None
    web_ms_per_peer: float = 0.0
    web_bytes: float | None = None
    everywhere: bool = False
    peer_bytes: float | None = None
    store_ms: float | None = None
    store_bytes: float | None = None
    store_link_bytes: float | None = None
    log_bytes: float | None = None
    store: str = ""


def carried(demand: Demand, servers: int, assumed: Assumed, shards: int = 1) -> dict[str, float]:
    """Return the most live sessions that each resource carries, by the resource's name.

    Args:
        demand: of the strategy.
        servers: web servers.
        assumed: of machines and shoppers.
        shards: of the Redis Cluster; sessions spread evenly over them.
    """
    think, core_ms = assumed.think_seconds, 1000 * assumed.busy_most
    cores = assumed.database_cores if demand.store == "database" else shards
    web_ms = None if demand.web_ms is None else demand.web_ms + max(demand.web_ms_per_peer, 0.0) * (servers - 1)
    peers = None if demand.peer_bytes is None or servers == 1 else demand.peer_bytes * (servers - 1)
    limits = {
        "web CPU": _over(think * servers * core_ms, web_ms),
        "web memory": _over(assumed.memory_bytes * (1 if demand.everywhere else servers), demand.web_bytes),
        "web network": _over(think * servers * assumed.link_bytes, peers),
        f"{demand.store} CPU": _over(think * cores * core_ms, demand.store_ms),
        f"{demand.store} memory": _over(assumed.memory_bytes * shards, demand.store_bytes),
        f"{demand.store} network": _over(think * assumed.link_bytes * shards, demand.store_link_bytes),
        f"{demand.store} log": _over(think * assumed.log_bytes, demand.log_bytes),
    }
    return {name: sessions for name, sessions in limits.items() if sessions is not None}


def _over(capacity: float, demand: float | None) -> float | None:
    return capacity / demand if demand is not None and demand > 0 else None


def curve(demand: Demand, assumed: Assumed, shards: int = 1, servers: Sequence[int] = SERVERS) -> list[dict[str, Any]]:
    """Return, for each number of servers, the most sessions and what stops there.

    Empty where the web servers' CPU time was not measured, or that of a store: nobody knows what would stop first.
    """
    points: list[dict[str, Any]] = []
    if demand.store and not demand.store_ms:
        return points
    for number in servers:
        limits = carried(demand, number, assumed, shards)
        if "web CPU" in limits:
            stops = min(limits, key=lambda name: limits[name])
            points.append({"servers": number, "sessions": limits[stops], "by": stops})
    return points
