"""All-to-all: every server holds every session in its own memory, and tells all others what it changes.

How two copies of a session become one is in `replica.py`; how servers reach each other in `peers.py`, `peer_link.py`
and `peer_http.py`; what is promised, and what is not, in `docs/all-to-all.md`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Self, get_args

from strategies.clock import NEVER, HybridClock, Stamp, is_stamp, server_of
from strategies.contract import (
    Census,
    Changes,
    NewSession,
    Peer,
    ReplicatedStore,
    SessionExists,
    SessionGone,
    SessionRecord,
    StoreSettings,
    UnsupportedPolicy,
    WritePolicy,
    logical_bytes,
)
from strategies.copies_use import CopiesUse
from strategies.peer_http import Hello, Kind, Message, PeerRoutes
from strategies.peers import Peers
from strategies.replica import Copy, beginning, change, merge, tombstone
from strategies.upkeep import Calls, Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COUNTED = (
    *(f"{way}_{kind}{of}" for way in ("sent", "received") for kind in get_args(Kind) for of in ("", "_bytes")),
    *(
        "requests_sent",
        "batches_sent",
        "batches_received",
        "bytes_sent",
        "bytes_received",
        "messages_missed",
        "queue_overflows",
    ),
    *("absences", "peer_timeouts", "transfers", "first_up", "received_answers"),
    *("asked", "asks", "asks_saved", "catch_ups", "catch_ups_in_vain"),
)
"""What `Census.details` has beside the counts of `CopiesUse`, from zero on."""


class AllToAllStore(ReplicatedStore):
    """Sessions in the memory of every server of a cluster.

    Open it, serve `peer_app` to the peers, `join()`, and only then serve shoppers.

    Warning:
        Two servers can accept writes to one session at the same time and learn of each other later. Writes to different
        fields both survive, of two to one field the later wins, and `versioned` cannot be promised. Under `async`, what
        was saved on a server that dies before it has told anyone is lost.

    Args:
        settings: names, lifetimes, peers and how to reach them.
        clock: tells the time, in seconds since the epoch.

    Attributes:
        peer_app: the WSGI application for the peers; to be served where they, and only they, reach it.
        ready: it has what its peers have, as far as any could be reached, and may serve shoppers.
    """

    policies: ClassVar[frozenset[WritePolicy]] = frozenset({"fields", "blob"})

    def __init__(self, settings: StoreSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.ready = not settings.peers
        self.peer_app = PeerRoutes(self, settings.peer_secret)
        self._promises_reads = settings.replication == "sync"
        self._incarnation = secrets.token_hex(8)
        self._now = clock
        self._stamps = HybridClock(settings.server, clock)
        self._copies: dict[str, Copy] = {}
        self._missed: dict[str, Stamp] = {}  # per session the shopper's last save, where no peer knew of it
        self._lock = threading.Lock()
        self._calls = Calls()
        self._counts = Counter(dict.fromkeys(COUNTED, 0))
        self._use = CopiesUse(settings.server)
        self._peers = Peers(settings, self)
        self._sweeper = Sweeper(self._sweep, settings.sweep_seconds)

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Open the store, empty. With peers it has to `join` before it may serve shoppers.

        Raises:
            ValueError: there are peers, but no secret that tells them from strangers.
        """
        if settings.peers and not settings.peer_secret:
            raise ValueError("all-to-all needs a peer_secret: whoever reaches the peer routes can write any session")
        return cls(settings)

    def join(self) -> None:
        """Fetch the state from the first peer that has it, and be `ready`; call it once, when `peer_app` is served.

        Where no peer has the state, this server is the first one up: `first_up` in the census' details.
        """
        self._counts["first_up"] = int(not self._peers.join())
        self.ready = True

    def close(self) -> None:
        """Send what is queued, for as long as one operation may take at most, and stop."""
        self._peers.close()
        self._sweeper.stop()

    def create(self, handle: str, session: NewSession) -> str:
        """Store a new session. The peers are not asked whether they know the handle: it is random."""
        self._calls.add("creates")
        now = self._now()
        absolute = now + self.settings.absolute_seconds
        idle = min(now + self.settings.idle_seconds, absolute)
        with self._lock:
            if handle in self._copies:
                raise SessionExists(handle)
            copy = beginning(handle, session, self._stamps.next(), idle, absolute)
            self._copies[handle] = copy
        self._peers.tell("create", copy)
        return copy.version

    def load(self, handle: str, *, ask_peers: bool = False, seen: str = "") -> SessionRecord | None:
        """Return the session as known here, or as the peers know it: see `ReplicatedStore`."""
        self._calls.add("loads")
        copy = self._find(handle, ask_peers=ask_peers, seen=seen if is_stamp(seen) else NEVER)
        if copy is None:
            return None
        with self._lock:
            self._use.read(copy)
        return copy.record()

    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """Apply changes here and tell the peers.

        Raises:
            UnsupportedPolicy: a version was expected; another server may have accepted the same at the same time.
        """
        if expected_version is not None:
            raise UnsupportedPolicy("all-to-all cannot promise 'versioned': two servers can accept the same version")
        self._calls.add("saves")
        self._find(handle)
        with self._lock:
            now = self._now()
            copy = self._copies.get(handle)
            if copy is None or not copy.live(now):
                raise SessionGone(handle)
            delta = change(copy, changes, self._stamps.next(), now + self.settings.idle_seconds)
            self._copies[handle] = merge(copy, delta)
        self._peers.tell("save", delta, bars=changes.secret_hash is not None)
        return delta.version

    def touch(self, handle: str) -> None:
        """Extend the idle deadline here; the peers learn of it, but nobody waits for them."""
        self._calls.add("touches")
        with self._lock:
            now = self._now()
            copy = self._copies.get(handle)
            if copy is None or not copy.live(now):
                return
            idle = min(now + self.settings.idle_seconds, copy.absolute_deadline)
            delta = Copy(handle, copy.absolute_deadline, idle)
            self._copies[handle] = merge(copy, delta)
        self._peers.tell("touch", delta)

    def delete(self, handle: str) -> None:
        """Leave a tombstone on every server, until the session's absolute deadline.

        Under `async`, too, it returns when every peer that is up has it, or when time is up: nobody who has logged out
        is still known elsewhere.
        """
        self._calls.add("deletes")
        with self._lock:
            copy = self._copies.get(handle)
            absolute = copy.absolute_deadline if copy else self._now() + self.settings.absolute_seconds
            delta = tombstone(handle, absolute, self._stamps.next())
            self._copies[handle] = delta
            self._use.forget(handle)
        self._peers.tell("delete", delta, bars=True)

    def census(self) -> Census:
        """Count what is held here. `details`: messages by kind, links, questions to peers, and use of the copies."""
        now = self._now()
        live = [copy for copy in self.snapshot() if copy.live(now)]
        details = self._peers.counts()
        with self._lock:
            details.update(self._counts)
            details.update(self._use.counts)
        return Census(
            handles=tuple(copy.handle for copy in live),
            logical_bytes=sum(logical_bytes(copy.values()) for copy in live),
            physical_bytes=None,
            details=details,
            **self._calls.totals(),
        )

    def queues_empty(self) -> bool:
        """Tell whether every peer that is there has received all that was saved here."""
        return self._peers.idle()

    def snapshot(self) -> list[Copy]:
        """Return every copy held, tombstones included. Copies never change: a merge replaces them."""
        with self._lock:
            return list(self._copies.values())

    def greeting(self) -> Hello:
        """Return what this server says of itself to its peers."""
        return Hello(self.settings.server, self._incarnation, self.ready)

    def greeted(self, hello: Hello) -> Hello:
        """Take note that a peer is up, and greet it."""
        self._peers.greeted(hello)
        return self.greeting()

    def meet(self, newcomer: Peer) -> None:
        """Expect one more server; to be told to every server before the new one starts."""
        self._peers.meet(newcomer)

    def forget(self, name: str) -> None:
        """Tell a server that is gone for good nothing any more; what it saved stays."""
        self._peers.forget(name)

    def received(self, messages: list[Message], counts: Mapping[str, int]) -> None:
        """Merge what a peer has sent, and add what it amounts to."""
        with self._lock:
            self._counts.update(counts)
            for message in messages:
                self._merge(message.copy)

    def learn(self, copies: list[Copy]) -> None:
        """Merge what a peer has answered."""
        with self._lock:
            self._counts["received_answers"] += len(copies)
            for copy in copies:
                self._merge(copy)

    def known(self, handles: list[str]) -> list[Copy]:
        """Return the copies held of these sessions, tombstones included: an answer to a peer."""
        with self._lock:
            self._counts["asked"] += 1
            return [self._copies[handle] for handle in handles if handle in self._copies]

    def _find(self, handle: str, *, ask_peers: bool = False, seen: Stamp = NEVER) -> Copy | None:
        """Return the live copy, after asking the peers if it is not good enough; a tombstone here is final."""
        if seen != NEVER:
            with self._lock:
                self._stamps.observe(seen)
        before = self._live(handle)
        if before is None or ask_peers:
            return self._ask(handle, before)
        if self._promises_reads and seen > before.version and seen > self._missed.get(handle, NEVER):
            return self._catch_up(handle, seen)
        return before

    def _live(self, handle: str) -> Copy | None:
        copy = self._copies.get(handle)
        return copy if copy is not None and copy.live(self._now()) else None

    def _ask(self, handle: str, before: Copy | None) -> Copy | None:
        """Ask the peers about a session that is not known here, or whose secret is another one by now."""
        here = self._copies.get(handle)
        if (here is not None and here.ended) or not self._peers.ask(handle):
            return before
        after = self._live(handle)
        with self._lock:
            self._counts["asks"] += 1
            self._counts["asks_saved"] += after is not None and after != before
        return after

    def _catch_up(self, handle: str, seen: Stamp) -> Copy | None:
        """Ask the peers about a session that the shopper has saved later than the copy here tells."""

        def caught_up() -> bool:
            copy = self._live(handle)
            return copy is None or copy.version >= seen

        if self._peers.ask(handle, caught_up, first=server_of(seen)):
            in_vain = not caught_up()
            with self._lock:
                self._counts["catch_ups"] += 1
                self._counts["catch_ups_in_vain"] += in_vain
                if in_vain:
                    self._missed[handle] = seen
        return self._live(handle)

    def _merge(self, theirs: Copy) -> None:
        if self._now() >= theirs.absolute_deadline:
            return
        mine = self._copies.get(theirs.handle)
        merged = merge(mine or theirs, theirs)
        if merged == mine:
            return
        self._copies[theirs.handle] = merged
        self._stamps.observe(merged.version)
        self._use.delivered(mine, merged)

    def _sweep(self) -> None:
        now = self._now()
        for copy in self.snapshot():
            if copy.over(now):
                self._forget(copy)

    def _forget(self, copy: Copy) -> None:
        with self._lock:
            if self._copies.get(copy.handle) is copy:
                del self._copies[copy.handle]
                self._missed.pop(copy.handle, None)
                self._use.forget(copy.handle)
