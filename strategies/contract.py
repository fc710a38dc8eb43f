"""The contract of a session store: read this page, and you can write a strategy of your own.

A store keeps *records*. It never sees a cookie, a request or a Python value: handles, hashes and packed bytes
come in, and the same come out. Cookies, signing, lifetimes on the wire and write policies are the glue's work
(`session_interface.py`), written once for every store.

Six operations, each of them atomic: `create`, `load`, `save`, `touch`, `delete`, `census`. Besides them a store is
opened from `StoreSettings` and closed. Where servers hold copies, `load` is told more: see `ReplicatedStore`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import msgspec

WritePolicy = Literal["fields", "blob", "versioned"]
"""`fields` saves what a request set or deleted, `blob` the whole session, `versioned` refuses an outdated base."""

Replication = Literal["async", "sync"]
"""`async` answers the shopper, then replicates; `sync` answers when every live peer has applied the write.

The end of a session is waited for under both.
"""

MAX_SESSION_BYTES = 64 * 1024
"""Largest session that is accepted, in logical bytes (see `logical_bytes`)."""


class SessionError(Exception):
    """Something about a session could not be done."""


class SessionExists(SessionError):
    """A session with this handle exists already."""


class SessionGone(SessionError):
    """The session was logged out or has expired: a late request must not bring it back."""


class SessionConflict(SessionError):
    """Another request saved this session first, and the write policy is `versioned`."""


class SessionTooLarge(SessionError):
    """The session would grow past `MAX_SESSION_BYTES`."""


class StoreUnavailable(SessionError):
    """The store did not answer in time or refused: answer 503, and never treat it as a logout."""


class UnsupportedPolicy(SessionError):
    """This store cannot keep the promise that a write policy makes."""


class Peer(msgspec.Struct, frozen=True):
    """Another server of the same cluster.

    Attributes:
        name: its name, such as `web-2`.
        url: where its peer routes answer, such as `http://127.0.0.1:40123`.
    """

    name: str
    url: str


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is opened with; each store takes what it needs.

    Attributes:
        server: the name of the server that opens it, written as the origin of its saves.
        namespace: keeps clusters apart in one engine: the table's name, or the keys' prefix. Letters, digits, `_`.
        idle_seconds: a session ends this long after its last save or touch.
        absolute_seconds: and this long after its creation at the latest.
        sweep_seconds: how often a store that must remove expired sessions by itself looks for them.
        timeout_seconds: the longest that one store operation may take before it is `StoreUnavailable`.
        redis_url: where Redis answers.
        database_url: where PostgreSQL answers.
        database_connections: how many connections this server opens to it at most: as many as it has threads.
        peers: the other servers of an all-to-all cluster.
        peer_secret: what servers of one cluster show each other on the peer routes.
        replication: when an all-to-all save is answered.

    Raises:
        ValueError: a time is no number above 0, such as a `timedelta`, or there is no connection.
    """

    server: str = "web-1"
    namespace: str = "sessions"
    idle_seconds: float = 30 * 60
    absolute_seconds: float = 8 * 60 * 60
    sweep_seconds: float = 30.0
    timeout_seconds: float = 2.0
    redis_url: str | None = None
    database_url: str | None = None
    database_connections: int = 4
    peers: tuple[Peer, ...] = ()
    peer_secret: str = ""
    replication: Replication = "async"

    def __post_init__(self) -> None:
        """Refuse what would end every session at once, or wait for ever."""
        for name in ("idle_seconds", "absolute_seconds", "sweep_seconds", "timeout_seconds"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}: expected a number of seconds above 0, such as 1800")
        if self.database_connections < 1:
            raise ValueError(f"database_connections is {self.database_connections}: expected 1 or more")


class NewSession(msgspec.Struct, frozen=True):
    """A session that does not exist yet.

    Attributes:
        secret_hash: SHA-256 of the secret in the shopper's cookie, in hex.
        fields: field name to packed JSON value.
    """

    secret_hash: str
    fields: Mapping[str, bytes]


class SessionRecord(msgspec.Struct, frozen=True):
    """A session as it stands in a store.

    Attributes:
        secret_hash: SHA-256 of the secret in the shopper's cookie, in hex.
        fields: field name to packed JSON value.
        version: changes with every save; opaque to all but the store.
        origin: the server that saved it last.
        idle_deadline: when it ends if nothing saves or touches it, in seconds since the epoch.
        absolute_deadline: when it ends in any case, in seconds since the epoch.
    """

    secret_hash: str
    fields: Mapping[str, bytes]
    version: str
    origin: str
    idle_deadline: float
    absolute_deadline: float


class Changes(msgspec.Struct, frozen=True):
    """What one request does to a session.

    Attributes:
        set: fields to set, name to packed JSON value.
        deleted: fields to delete; deleting what is not there is no error.
        whole: the session becomes exactly `set`, whatever it was (write policy `blob`, and `versioned`).
        secret_hash: the new secret's hash when the request rotates the session (login), else None.
    """

    set: Mapping[str, bytes] = {}
    deleted: frozenset[str] = frozenset()
    whole: bool = False
    secret_hash: str | None = None


class Census(msgspec.Struct, frozen=True):
    """What a store holds, seen from one server, and what this server did with it.

    Attributes:
        handles: the live sessions held here. For a shared store: all of them.
        logical_bytes: `logical_bytes` of every session in `handles`, added up.
        physical_bytes: what they occupy where the store can tell (relation size, keys' memory), else None.
        creates: calls of `create` since this store was opened, on this server.
        loads: calls of `load`, likewise.
        saves: calls of `save`, likewise.
        touches: calls of `touch`, likewise.
        deletes: calls of `delete`, likewise.
        details: what else is worth counting, such as messages between servers; name to number.
    """

    handles: tuple[str, ...]
    logical_bytes: int
    physical_bytes: int | None
    creates: int
    loads: int
    saves: int
    touches: int
    deletes: int
    details: Mapping[str, float] = {}


def logical_bytes(fields: Mapping[str, bytes]) -> int:
    """Return the size of a session in bytes, counted alike in every store: field names in UTF-8 and packed values."""
    return sum(len(name.encode()) + len(value) for name, value in fields.items())


class SessionStore(ABC):
    """Where sessions live. Implementations must be safe to call from several threads at once."""

    policies: ClassVar[frozenset[WritePolicy]]
    """The write policies whose promise this store can keep."""

    settings: StoreSettings
    """What it was opened with; the glue reads the lifetimes and the server's name here."""

    @classmethod
    @abstractmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Open the store for one server, ready to be used.

        Args:
            settings: where the engine or the peers are, lifetimes and names.

        Raises:
            StoreUnavailable: what it needs does not answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back connections and threads. Sessions stay where they live, if they can."""

    @abstractmethod
    def create(self, handle: str, session: NewSession) -> str:
        """Store a new session with both its deadlines.

        Args:
            handle: a fresh handle, made by the server.
            session: its first content.

        Returns:
            The version of what was stored.

        Raises:
            SessionExists: the handle is taken.
            StoreUnavailable: see there.
        """

    @abstractmethod
    def load(self, handle: str) -> SessionRecord | None:
        """Return a live session as one consistent whole, or None. Extends nothing.

        Raises:
            StoreUnavailable: see there.
        """

    @abstractmethod
    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """Apply changes to a live session and extend its idle deadline: all together, or nothing.

        Args:
            handle: which session.
            changes: what to set and delete.
            expected_version: apply only if this is still the session's version.

        Returns:
            The new version.

        Raises:
            SessionGone: there is no such live session.
            SessionConflict: the version is another one by now.
            StoreUnavailable: see there; whether the save was applied is then unknown.
        """

    @abstractmethod
    def touch(self, handle: str) -> None:
        """Extend the idle deadline of a live session, never past its absolute deadline. An ended one stays ended.

        Raises:
            StoreUnavailable: see there.
        """

    @abstractmethod
    def delete(self, handle: str) -> None:
        """End a session everywhere. Ending what is not there is no error.

        Raises:
            StoreUnavailable: see there.
        """

    @abstractmethod
    def census(self) -> Census:
        """Count what is held here. May take long: it is never called while shoppers are measured.

        Raises:
            StoreUnavailable: see there.
        """


class ReplicatedStore(SessionStore):
    """A store whose servers hold copies of their own, so that another server may know better.

    A version then orders saves across servers: of two, the greater text is the later one. The shopper's browser carries
    the version of its last save from server to server, in a cookie that the glue signs.
    """

    @abstractmethod
    def load(self, handle: str, *, ask_peers: bool = False, seen: str = "") -> SessionRecord | None:
        """Return a live session as one consistent whole, or None. Extends nothing.

        The peers are asked, once and bounded in time, where no live session is known here, and for these reasons.

        Args:
            handle: which session.
            ask_peers: the caller has reason to believe that another server knows better: the cookie is genuine, but its
                secret is not that of the copy here.
            seen: the version of the last save that the shopper's browser knows of. Whatever is saved here from now on
                is later; where the store promises shoppers their own writes, an older copy here has it ask the peers.

        Raises:
            StoreUnavailable: see there.
        """
