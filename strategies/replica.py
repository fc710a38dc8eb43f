"""One server's copy of a session, and how two copies become one.

A change travels as a copy that holds only what changed, so that there is one shape and one rule for everything that
arrives: a save, a logout, the whole state of a peer. `merge` is commutative, associative and idempotent (a join
semilattice), so servers that have received the same copies, in any order and any number of times, hold the same.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from strategies.clock import NEVER, Stamp, server_of
from strategies.contract import MAX_SESSION_BYTES, Changes, NewSession, SessionRecord

Handle = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Deadline = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Field = tuple[Stamp, bytes | None]
"""When a field was written, and its packed value; None is the tombstone of a deleted field."""

MAX_FIELD_TOMBSTONES = 256
"""Deleted fields that a copy remembers before the older half of them is folded into `Copy.cleared`."""

MAX_TOMBSTONE_CHARACTERS = MAX_SESSION_BYTES
"""Characters in the names of these, likewise: a copy that outgrew a message could be sent to no peer any more."""


class Copy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session as far as somebody knows it: all of it, or one change.

    Attributes:
        handle: which session.
        absolute_deadline: when it ends in any case, and its tombstone with it, in seconds since the epoch.
        idle_deadline: when it ends unless extended; the later one wins.
        version: stamp of the latest save, or of the deletion.
        fields: per field the latest write; by `cleared` all older ones are dropped.
        secret: when the secret was last set, and its hash.
        cleared: every field written before this stamp is gone: what a save of the whole session leaves behind.
        created: the session's beginning is in here; without it, other fields may be missing.
        ended: the session was deleted: a tombstone, which beats everything.
    """

    handle: Handle
    absolute_deadline: Deadline
    idle_deadline: Deadline = 0.0
    version: Stamp = NEVER
    fields: dict[str, Field] = {}
    secret: tuple[Stamp, str] | None = None
    cleared: Stamp = NEVER
    created: bool = False
    ended: bool = False

    def live(self, now: float) -> bool:
        """Tell whether this is a whole session that has not ended, at `now` in seconds since the epoch."""
        return self.created and not self.ended and now < self.idle_deadline and now < self.absolute_deadline

    def over(self, now: float) -> bool:
        """Tell whether this may be forgotten, at `now` in seconds since the epoch."""
        return now >= self.absolute_deadline or (not self.ended and now >= self.idle_deadline)

    @property
    def origin(self) -> str:
        """The server that saved it last."""
        return server_of(self.version)

    def written_by(self, server: str, since: Stamp) -> bool:
        """Tell whether a server has changed this session, not before a stamp."""
        stamps = [self.version, *(stamp for stamp, _ in self.fields.values())]
        return any(stamp >= since and server_of(stamp) == server for stamp in stamps)

    def values(self) -> dict[str, bytes]:
        """Return the fields that are there, by name."""
        return {name: value for name, (_, value) in self.fields.items() if value is not None}

    def record(self) -> SessionRecord:
        """Return the session in the form that the contract asks for."""
        secret_hash = self.secret[1] if self.secret else ""
        return SessionRecord(
            secret_hash, self.values(), self.version, self.origin, self.idle_deadline, self.absolute_deadline
        )


def tombstone(handle: str, absolute_deadline: float, version: Stamp) -> Copy:
    """Return what remains of a deleted session."""
    return Copy(handle, absolute_deadline, version=version, ended=True)


def beginning(handle: str, session: NewSession, stamp: Stamp, idle_deadline: float, absolute_deadline: float) -> Copy:
    """Return a new session. Deadlines are in seconds since the epoch."""
    fields: dict[str, Field] = {name: (stamp, value) for name, value in session.fields.items()}
    secret = (stamp, session.secret_hash)
    return Copy(handle, absolute_deadline, idle_deadline, stamp, fields, secret, created=True)


def change(copy: Copy, changes: Changes, stamp: Stamp, idle_deadline: float) -> Copy:
    """Return what one save changes in a session, to be merged wherever it is held."""
    fields: dict[str, Field] = {}
    cleared = stamp
    if not changes.whole:
        fields.update((name, (stamp, None)) for name in changes.deleted)
        cleared = _fold_tombstones(copy, fields, stamp)
    fields.update((name, (stamp, value)) for name, value in changes.set.items())
    secret = None if changes.secret_hash is None else (stamp, changes.secret_hash)
    idle_deadline = min(idle_deadline, copy.absolute_deadline)
    return Copy(copy.handle, copy.absolute_deadline, idle_deadline, stamp, fields, secret, cleared)


def _fold_tombstones(copy: Copy, fields: dict[str, Field], stamp: Stamp) -> Stamp:
    """Forget the older half of too many tombstones: return `cleared` and write older values anew into `fields`.

    Fields that a shopper adds and removes would pile up else. A write elsewhere that is older than `cleared` and has
    still not arrived is lost by this.
    """
    deleted = sorted((written, len(name)) for name, (written, value) in copy.fields.items() if value is None)
    if len(deleted) <= MAX_FIELD_TOMBSTONES and sum(size for _, size in deleted) <= MAX_TOMBSTONE_CHARACTERS:
        return NEVER
    cleared, _ = deleted[len(deleted) // 2]
    for name, (written, value) in copy.fields.items():
        if written < cleared and value is not None:
            fields.setdefault(name, (stamp, value))
    return cleared


def merge(one: Copy, other: Copy) -> Copy:
    """Return everything that two copies of one session know, the later write of each field winning."""
    absolute_deadline = max(one.absolute_deadline, other.absolute_deadline)
    version = max(one.version, other.version)
    if one.ended or other.ended:
        return tombstone(one.handle, absolute_deadline, version)
    cleared = max(one.cleared, other.cleared)
    return Copy(
        one.handle,
        absolute_deadline,
        max(one.idle_deadline, other.idle_deadline),
        version,
        _merge_fields(one.fields, other.fields, cleared),
        max(one.secret, other.secret) if one.secret and other.secret else one.secret or other.secret,
        cleared,
        one.created or other.created,
    )


def _merge_fields(one: dict[str, Field], other: dict[str, Field], cleared: Stamp) -> dict[str, Field]:
    merged = dict(one)
    for name, field in other.items():
        mine = merged.get(name)
        if mine is None or _order(field) > _order(mine):
            merged[name] = field
    if cleared != NEVER:
        return {name: field for name, field in merged.items() if field[0] >= cleared}
    return merged


def _order(field: Field) -> tuple[Stamp, bool, bytes]:
    stamp, value = field
    return stamp, value is not None, value or b""
