"""What a cluster is to be."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from lab.shop.cache import CacheSettings
from strategies import find
from strategies.contract import Replication, WritePolicy

Commit = Literal["on", "off", "unlogged"]
"""What PostgreSQL has done when it has acknowledged a save of a session: flushed its log to the disk, written the log
soon to be flushed, or kept no log at all."""


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
        cache: of the shop's catalogue, without address and prefix: the lab fills those in; None for a shop without.
        commit: how durable a save is under `database`; the shop's own orders stay as durable as they were.
        peer_delay_seconds: how long each direction between two servers takes: an emulated link. Bytes between servers
            are not to be counted then, and nobody can join.
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
    cache: CacheSettings | None = None
    commit: Commit = "on"
    peer_delay_seconds: float = 0.0

    @property
    def sticky(self) -> bool:
        """Whether the balancer binds a shopper to a server."""
        return find(self.strategy).balancer == "affinity" if self.affinity is None else self.affinity


def safe_name(name: str) -> str:
    """Return a name as letters, digits and `_`, for files, tables and keys."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
