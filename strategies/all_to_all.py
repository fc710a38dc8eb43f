"""All-to-all: every server holds every session in its own memory, and tells all others what it changes.

How copies become one is in `replica.py`, how servers reach each other in `peers.py` and `peer_http.py`; what is
promised, and what not, in `docs/all-to-all.md`.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, ClassVar, Self

from strategies.clock import HybridClock
from strategies.contract import (
    MAX_SESSION_BYTES,
    Census,
    Changes,
    NewSession,
    SessionExists,
    SessionGone,
    SessionRecord,
    SessionStore,
    SessionTooLarge,
    StoreSettings,
    UnsupportedPolicy,
    WritePolicy,
    logical_bytes,
)
from strategies.peer_http import Hello, Message, PeerClient, PeerError, PeerRoutes, PeerSilent
from strategies.peers import Acknowledgements, Outgoing, PeerLink
from strategies.replica import Copy, beginning, change, merge, tombstone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strategies.contract import Peer
    from strategies.peer_http import Kind

SYNC_SHARE = 0.5
"""The part of `timeout_seconds` that a `sync` save waits for peers at most."""

ASK_SHARE = 0.25
"""The part of `timeout_seconds` that asking the peers takes at most."""

JOIN_SECONDS = 1.0
"""How long a server that starts waits for peers that neither answer nor refuse."""

_ASKERS_PER_PEER = 4


class AllToAllStore(SessionStore):
    """Sessions in the memory of every server of a cluster.

    Open it, serve `peer_app` to the peers, `join()`, and only then serve shoppers.

    Warning:
        Two servers can accept writes to one session at the same time and learn of each other later. Writes to different
        fields both survive, of two to one field the later wins, and `versioned` cannot be promised. What was saved on
        a server that dies before it has told anyone is lost under `async`.

    Attributes:
        settings: what it was opened with.
        peer_app: the WSGI application for the peers; to be served where they, and only they, reach it.
        ready: it has what its peers have, as far as any could be reached, and may serve shoppers.
    """

    policies: ClassVar[frozenset[WritePolicy]] = frozenset({"fields", "blob"})
    replicated: ClassVar[bool] = True

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self.ready = not settings.peers
        self.peer_app = PeerRoutes(self, settings.peer_secret)
        self._incarnation = secrets.token_hex(8)
        self._clock = HybridClock(settings.server)
        self._copies: dict[str, Copy] = {}
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._use = CopiesUse(settings.server)
        self._contacts: queue.SimpleQueue[tuple[PeerLink, Hello | None]] = queue.SimpleQueue()
        self._links = {
            peer.name: PeerLink(peer, settings, self._greeting, self.snapshot, self._contacted)
            for peer in settings.peers
        }
        ask_seconds = settings.timeout_seconds * ASK_SHARE
        self._ask_seconds = ask_seconds
        self._askers = {peer.name: PeerClient(peer, settings.peer_secret, ask_seconds) for peer in settings.peers}
        self._ask_pool = ThreadPoolExecutor(_ASKERS_PER_PEER * max(1, len(settings.peers)), "ask peers")
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="session sweeper", daemon=True)

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Open the store, empty. With peers it has to `join` before it may serve shoppers.

        Raises:
            ValueError: there are peers, but no secret that tells them from strangers.
        """
        if settings.peers and not settings.peer_secret:
            raise ValueError("all-to-all needs a peer_secret: whoever reaches the peer routes can write any session")
        store = cls(settings)
        store._sweeper.start()
        return store

    def join(self) -> None:
        """Contact the peers and fetch the state from the first that has it; then be `ready`.

        `peer_app` must be served by now. Where nobody has the state, this server is the first one up. Peers that do not
        answer are tried again in the background for as long as the store is open.
        """
        for link in self._links.values():
            link.start()
        deadline = time.monotonic() + JOIN_SECONDS
        for _ in self._links:
            try:
                link, hello = self._contacts.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if hello and hello.ready and self._fetch_state(link.peer):
                break
        else:
            self._counts["first_up"] = 1
        self.ready = True

    def close(self) -> None:
        """Send what is queued, for as long as one operation may take at most, and stop."""
        self._closing.set()
        deadline = time.monotonic() + self.settings.timeout_seconds
        for link in self._links.values():
            link.close(max(0.0, deadline - time.monotonic()))
        self._ask_pool.shutdown(wait=False, cancel_futures=True)
        for asker in self._askers.values():
            asker.close()
        if self._sweeper.is_alive():
            self._sweeper.join(self.settings.timeout_seconds)

    def create(self, handle: str, session: NewSession) -> str:
        """See `SessionStore.create`. The peers are not asked whether they know the handle: it is random."""
        now = time.time()
        idle, absolute = now + self.settings.idle_seconds, now + self.settings.absolute_seconds
        _check_size(session.fields)
        with self._lock:
            self._counts["creates"] += 1
            if handle in self._copies:
                raise SessionExists("this handle is taken")
            copy = beginning(handle, session, self._clock.next(), min(idle, absolute), absolute)
            self._copies[handle] = copy
        self._tell("create", copy)
        return copy.version

    def load(self, handle: str, *, ask_peers: bool = False) -> SessionRecord | None:
        """See `SessionStore.load`. Asks the peers when told to, or when it knows of no live session."""
        with self._lock:
            self._counts["loads"] += 1
            copy = self._copies.get(handle)
        if ask_peers or copy is None or not copy.live(time.time()):
            copy = self._ask(handle)
        if copy is None or not copy.live(time.time()):
            return None
        with self._lock:
            self._use.read(copy)
        return copy.record()

    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """See `SessionStore.save`.

        Raises:
            UnsupportedPolicy: a version was expected; another server may have accepted the same at the same time.
        """
        if expected_version is not None:
            raise UnsupportedPolicy("all-to-all cannot promise `versioned`: two servers can accept the same version")
        copy = self._copies.get(handle)
        if copy is None or not copy.live(time.time()):
            self._ask(handle)
        with self._lock:
            self._counts["saves"] += 1
            now = time.time()
            copy = self._copies.get(handle)
            if copy is None or not copy.live(now):
                raise SessionGone("this session has ended")
            delta = change(copy, changes, self._clock.next(), now + self.settings.idle_seconds)
            merged = merge(copy, delta)
            _check_size(merged.values())
            self._copies[handle] = merged
        self._tell("save", delta)
        return delta.version

    def touch(self, handle: str) -> None:
        """See `SessionStore.touch`. Peers learn of it, but nobody waits for them."""
        with self._lock:
            self._counts["touches"] += 1
            now = time.time()
            copy = self._copies.get(handle)
            if copy is None or not copy.live(now):
                return
            idle_deadline = min(now + self.settings.idle_seconds, copy.absolute_deadline)
            delta = Copy(handle, copy.absolute_deadline, idle_deadline)
            self._copies[handle] = merge(copy, delta)
        self._tell("touch", delta)

    def delete(self, handle: str) -> None:
        """See `SessionStore.delete`. Leaves a tombstone on every server until the absolute deadline."""
        with self._lock:
            self._counts["deletes"] += 1
            copy = self._copies.get(handle)
            absolute = copy.absolute_deadline if copy else time.time() + self.settings.absolute_seconds
            delta = tombstone(handle, absolute)
            self._copies[handle] = delta
        self._tell("delete", delta)

    def census(self) -> Census:
        """Count what is held here. `details` has the counters of links, questions and use of copies."""
        now = time.time()
        live = [copy for copy in self.snapshot() if copy.live(now)]
        with self._lock:
            counts = Counter(self._counts)
            details = Counter(self._use.counts)
        for link in self._links.values():
            details.update(link.counts)
        calls = {name: counts.pop(name, 0) for name in ("creates", "loads", "saves", "touches", "deletes")}
        details.update(counts)
        return Census(
            handles=tuple(copy.handle for copy in live),
            logical_bytes=sum(logical_bytes(copy.values()) for copy in live),
            physical_bytes=None,
            details=dict(details),
            **calls,
        )

    def queues_empty(self) -> bool:
        """Tell whether every peer that is there has received all that was saved here."""
        return all(link.idle() for link in self._links.values())

    def snapshot(self) -> list[Copy]:
        """Return every copy held, tombstones included. Copies never change: a merge replaces them."""
        with self._lock:
            return list(self._copies.values())

    def known(self, handles: list[str]) -> list[Copy]:
        """Return the copies held of these sessions, tombstones included."""
        with self._lock:
            self._counts["asked"] += len(handles)
            return [self._copies[handle] for handle in handles if handle in self._copies]

    def greeted(self, hello: Hello) -> Hello:
        """Take note that a peer is up, and return a greeting."""
        link = self._links.get(hello.server)
        if link:
            link.greeted(hello)
        return self._greeting()

    def received(self, messages: list[Message], size_bytes: int) -> None:
        """Merge what a peer has sent."""
        with self._lock:
            self._counts["batches_received"] += 1
            self._counts["bytes_received"] += size_bytes
            for message in messages:
                self._counts[f"received_{message.kind}"] += 1
                self._merge(message.copy, time.time())

    def _greeting(self) -> Hello:
        return Hello(self.settings.server, self._incarnation, self.ready)

    def _contacted(self, link: PeerLink, hello: Hello | None) -> None:
        self._contacts.put((link, hello))

    def _fetch_state(self, peer: Peer) -> bool:
        client = PeerClient(peer, self.settings.peer_secret, self.settings.timeout_seconds)
        try:
            for copies in client.state():
                with self._lock:
                    for copy in copies:
                        self._counts["received_state"] += 1
                        self._merge(copy, time.time())
        except PeerError:
            return False
        finally:
            client.close()
        return True

    def _tell(self, kind: Kind, copy: Copy) -> None:
        if not self._links:
            return
        waits = self.settings.replication == "sync" and kind != "touch"
        acknowledgements = Acknowledgements() if waits else None
        message = Outgoing.pack(kind, copy, acknowledgements)
        for link in self._links.values():
            link.send(message)
        if acknowledgements:
            for link in acknowledgements.wait(self.settings.timeout_seconds * SYNC_SHARE):
                link.late()

    def _ask(self, handle: str) -> Copy | None:
        """Ask all peers that are up for a session, merge what they say, and return the copy; known tombstones stand."""
        before = self._copies.get(handle)
        peers = [name for name, link in self._links.items() if link.open]
        if not peers or (before and before.ended):
            return before
        answers = {self._ask_pool.submit(self._ask_peer, name, handle) for name in peers}
        done, _ = wait(answers, self._ask_seconds)
        now = time.time()
        with self._lock:
            self._counts["asks"] += 1
            for answer in done:
                for copy in answer.result():
                    self._merge(copy, now)
            after = self._copies.get(handle)
            known = before.version if before and before.live(now) else ""
            self._counts["asks_saved"] += bool(after and after.live(now) and after.version > known)
        return after

    def _ask_peer(self, name: str, handle: str) -> list[Copy]:
        try:
            return self._askers[name].ask([handle])
        except PeerSilent:
            self._links[name].doubt()
        except PeerError:
            pass
        return []

    def _merge(self, theirs: Copy, now: float) -> None:
        if now >= theirs.absolute_deadline:
            return
        mine = self._copies.get(theirs.handle)
        merged = merge(mine or theirs, theirs)
        if merged == mine:
            return
        self._copies[theirs.handle] = merged
        self._clock.observe(merged.version)
        self._use.delivered(mine, merged)

    def _sweep(self) -> None:
        while not self._closing.wait(self.settings.sweep_seconds):
            now = time.time()
            for copy in self.snapshot():
                if copy.over(now):
                    self._forget(copy)

    def _forget(self, copy: Copy) -> None:
        with self._lock:
            if self._copies.get(copy.handle) is copy:
                del self._copies[copy.handle]
                self._use.forget(copy.handle)


class CopiesUse:
    """Counts how much of what other servers have sent here is ever read here; for the lock of its owner.

    A *foreign copy* is a session held here that another server saved last. A *change* is a save that arrived.

    Args:
        server: the server it counts on.
    """

    def __init__(self, server: str) -> None:
        self.counts: Counter[str] = Counter(
            {"foreign_copies": 0, "foreign_copies_read": 0, "changes_received": 0, "changes_read": 0}
        )
        self._server = server
        self._unread: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._read: set[str] = set()

    def delivered(self, before: Copy | None, after: Copy) -> None:
        """Something from another server has been merged."""
        if after.ended or (before and before.version == after.version):
            return
        self.counts["changes_received"] += 1
        self._unread[after.handle] = self._unread.get(after.handle, 0) + 1
        if after.origin != self._server and after.handle not in self._foreign:
            self._foreign.add(after.handle)
            self.counts["foreign_copies"] += 1

    def read(self, copy: Copy) -> None:
        """A shopper has been served a session here."""
        self.counts["changes_read"] += self._unread.pop(copy.handle, 0)
        if copy.origin != self._server and copy.handle in self._foreign and copy.handle not in self._read:
            self._read.add(copy.handle)
            self.counts["foreign_copies_read"] += 1

    def forget(self, handle: str) -> None:
        """The session is over."""
        self._unread.pop(handle, None)
        self._foreign.discard(handle)
        self._read.discard(handle)


def _check_size(fields: Mapping[str, bytes]) -> None:
    size = logical_bytes(fields)
    if size > MAX_SESSION_BYTES:
        raise SessionTooLarge(f"a session may hold {MAX_SESSION_BYTES} bytes, this one would hold {size}")
