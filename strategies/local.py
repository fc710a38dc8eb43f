"""Sessions in the server's own memory: behind `isolated` and `sticky`, which differ in the balancer alone.

Warning:
    Everything is lost with the process, and no other server can see it. Without affinity (`isolated`) a shopper has as
    many sessions as there are servers; with it (`sticky`) a server that dies takes its shoppers' sessions along.
"""

from __future__ import annotations

import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Self, cast

import msgspec

from strategies.contract import (
    Census,
    Changes,
    NewSession,
    SessionConflict,
    SessionExists,
    SessionGone,
    SessionRecord,
    SessionStore,
    StoreSettings,
    WritePolicy,
    logical_bytes,
)
from strategies.upkeep import Calls, Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable


class LocalStore(SessionStore):
    """A dict from handle to record, behind one lock.

    Records are never changed, only replaced: what `load` returns stays as it was.

    Args:
        settings: lifetimes and the server's name.
        clock: tells the time, in seconds since the epoch.
    """

    policies: ClassVar[frozenset[WritePolicy]] = frozenset({"fields", "blob", "versioned"})

    def __init__(self, settings: StoreSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self._records: dict[str, SessionRecord] = {}
        self._lock = threading.Lock()
        self._calls = Calls()
        self._sweeper = Sweeper(self._sweep, settings.sweep_seconds)

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Return an empty store."""
        return cls(settings)

    def close(self) -> None:
        """End the sweeper; the sessions end with this object."""
        self._sweeper.stop()

    def create(self, handle: str, session: NewSession) -> str:
        """Store a new session."""
        self._calls.add("creates")
        now = self._clock()
        absolute_deadline = now + self.settings.absolute_seconds
        with self._lock:
            if handle in self._records:
                raise SessionExists(handle)
            self._records[handle] = SessionRecord(
                secret_hash=session.secret_hash,
                fields=MappingProxyType(dict(session.fields)),
                version="1",
                origin=self.settings.server,
                idle_deadline=min(now + self.settings.idle_seconds, absolute_deadline),
                absolute_deadline=absolute_deadline,
            )
        return "1"

    def load(self, handle: str) -> SessionRecord | None:
        """Return the record as it stands."""
        self._calls.add("loads")
        with self._lock:
            return self._live(handle)

    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """Replace the record by one with the changes."""
        self._calls.add("saves")
        with self._lock:
            record = self._live(handle)
            if record is None:
                raise SessionGone(handle)
            if expected_version not in (None, record.version):
                raise SessionConflict(handle)
            fields = {} if changes.whole else cast("MappingProxyType[str, bytes]", record.fields).copy()
            for name in changes.deleted:
                fields.pop(name, None)
            fields.update(changes.set)
            version = str(int(record.version) + 1)
            self._records[handle] = SessionRecord(
                secret_hash=changes.secret_hash or record.secret_hash,
                fields=MappingProxyType(fields),
                version=version,
                origin=self.settings.server,
                idle_deadline=self._extended(record),
                absolute_deadline=record.absolute_deadline,
            )
        return version

    def touch(self, handle: str) -> None:
        """Extend the idle deadline and nothing else."""
        self._calls.add("touches")
        with self._lock:
            record = self._live(handle)
            if record is not None:
                self._records[handle] = msgspec.structs.replace(record, idle_deadline=self._extended(record))

    def delete(self, handle: str) -> None:
        """Forget the record."""
        self._calls.add("deletes")
        with self._lock:
            self._records.pop(handle, None)

    def census(self) -> Census:
        """Count the live records; what they occupy in memory is not known from inside."""
        now = self._clock()
        with self._lock:
            live = {handle: record for handle, record in self._records.items() if now < record.idle_deadline}
        return Census(
            handles=tuple(live),
            logical_bytes=sum(logical_bytes(record.fields) for record in live.values()),
            physical_bytes=None,
            **self._calls.totals(),
        )

    def _live(self, handle: str) -> SessionRecord | None:
        record = self._records.get(handle)
        return record if record is not None and self._clock() < record.idle_deadline else None

    def _extended(self, record: SessionRecord) -> float:
        return min(self._clock() + self.settings.idle_seconds, record.absolute_deadline)

    def _sweep(self) -> None:
        now = self._clock()
        with self._lock:
            for handle in [handle for handle, record in self._records.items() if record.idle_deadline <= now]:
                del self._records[handle]
