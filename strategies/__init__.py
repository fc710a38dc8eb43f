"""Server-side sessions for Flask, in one of five places: the server's own memory, every server's, PostgreSQL or Redis.

    app.session_interface = ServerSideSessions(RedisStore.open(StoreSettings(redis_url="redis://127.0.0.1:6379")))

What is named here is the public interface. A store's module, and with it its driver, is imported when the store is
first asked for: whoever keeps sessions in Redis needs no PostgreSQL driver.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from strategies.contract import (
    MAX_SESSION_BYTES,
    Census,
    Changes,
    NewSession,
    Peer,
    ReplicatedStore,
    Replication,
    SessionConflict,
    SessionError,
    SessionExists,
    SessionGone,
    SessionRecord,
    SessionStore,
    SessionTooLarge,
    StoreSettings,
    StoreUnavailable,
    UnsupportedPolicy,
    WritePolicy,
)

if TYPE_CHECKING:
    from strategies.all_to_all import AllToAllStore
    from strategies.database import DatabaseStore
    from strategies.local import LocalStore
    from strategies.redis import RedisStore
    from strategies.session import StoredSession
    from strategies.session_interface import ServerSideSessions, short_hash

__all__ = [
    "MAX_SESSION_BYTES",
    "STRATEGIES",
    "AllToAllStore",
    "Census",
    "Changes",
    "DatabaseStore",
    "LocalStore",
    "NewSession",
    "Peer",
    "RedisStore",
    "ReplicatedStore",
    "Replication",
    "ServerSideSessions",
    "SessionConflict",
    "SessionError",
    "SessionExists",
    "SessionGone",
    "SessionRecord",
    "SessionStore",
    "SessionTooLarge",
    "StoreSettings",
    "StoreUnavailable",
    "StoredSession",
    "Strategy",
    "UnknownStrategy",
    "UnsupportedPolicy",
    "WritePolicy",
    "find",
    "load_store_class",
    "short_hash",
]

_IMPORTED_WHEN_USED = {
    "AllToAllStore": "strategies.all_to_all",
    "DatabaseStore": "strategies.database",
    "LocalStore": "strategies.local",
    "RedisStore": "strategies.redis",
    "ServerSideSessions": "strategies.session_interface",
    "StoredSession": "strategies.session",
    "short_hash": "strategies.session_interface",
}


_INSTALL = {"psycopg": "'psycopg[binary]'"}  # where the import's name is not what pip installs


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_IMPORTED_WHEN_USED[name])
    except ModuleNotFoundError as error:
        missing = str(error.name)
        install = _INSTALL.get(missing, missing)
        raise ModuleNotFoundError(f"{name} needs {missing}: pip install {install}", name=missing) from error
    return getattr(module, name)


class UnknownStrategy(ValueError):
    """No strategy has this name."""


class Strategy(msgspec.Struct, frozen=True):
    """What is to be known of a strategy without opening it.

    Attributes:
        name: as users type it.
        store: the store, as `module:Class`.
        lives_in: where the session lives, in a few words.
        balancer: how the balancer spreads requests: `round robin`, or `affinity` by cookie.
        policies: the write policies it supports, the default first.
        needs: engines that it needs beside the shop's own: `redis`, `postgresql`.
        copies: how many servers hold a session: `1`, or `N`.
        shared: the one place where all servers keep their sessions, where none of `needs` is that: the name that charts
            give it, such as `one file`. Each server's census then lists the same sessions, which count once.
    """

    name: str
    store: str
    lives_in: str
    balancer: Literal["round robin", "affinity"]
    policies: tuple[WritePolicy, ...]
    needs: tuple[str, ...] = ()
    copies: Literal["1", "N"] = "1"
    shared: str = ""


_ALL: tuple[WritePolicy, ...] = ("fields", "blob", "versioned")

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("isolated", "strategies.local:LocalStore", "each server's own memory", "round robin", _ALL),
        Strategy("sticky", "strategies.local:LocalStore", "one server's own memory", "affinity", _ALL),
        Strategy(
            "all-to-all",
            "strategies.all_to_all:AllToAllStore",
            "every server's memory",
            "round robin",
            ("fields", "blob"),
            copies="N",
        ),
        Strategy("database", "strategies.database:DatabaseStore", "PostgreSQL", "round robin", _ALL, ("postgresql",)),
        Strategy("redis", "strategies.redis:RedisStore", "Redis", "round robin", _ALL, ("redis",)),
    )
}


def find(name: str) -> Strategy:
    """Return the strategy of this name.

    Raises:
        UnknownStrategy: there is none; the text names the nearest.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    near = difflib.get_close_matches(name, STRATEGIES, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UnknownStrategy(f"unknown strategy {name!r}.{hint} There are: {', '.join(STRATEGIES)}.")


def load_store_class(name: str) -> type[SessionStore]:
    """Import and return the store of a strategy; its driver is imported only here."""
    module, _, attribute = find(name).store.partition(":")
    return cast("type[SessionStore]", getattr(importlib.import_module(module), attribute))
