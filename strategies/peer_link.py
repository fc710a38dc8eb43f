"""The link to one peer of an all-to-all server: a queue, and a thread that empties it.

A link sends at once and batches only what gathers while the last batch is under way. What it cannot deliver it does
not keep: a peer that was away, and a queue that overflowed, are repaired by sending everything that is held here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from strategies.peer_http import Hello, Message, PeerClient, PeerError, PeerSilent, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from strategies.contract import Peer, StoreSettings
    from strategies.peer_http import Kind
    from strategies.replica import Copy

MAX_QUEUED_MESSAGES = 10_000
MAX_QUEUED_BYTES = 16 * 1024 * 1024
MAX_BATCH_MESSAGES = 500
MAX_BATCH_BYTES = 256 * 1024
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Acknowledgements:
    """Which peers have yet to apply one message."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._awaited: set[PeerLink] = set()

    def expect(self, link: PeerLink) -> None:
        """Wait for this link, too."""
        with self._changed:
            self._awaited.add(link)

    def done(self, link: PeerLink) -> None:
        """Wait for this link no longer: its peer has applied the message, or is down."""
        with self._changed:
            self._awaited.discard(link)
            if not self._awaited:
                self._changed.notify_all()

    def wait(self, seconds: float) -> set[PeerLink]:
        """Wait until all are done and return the links that were not in time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._awaited, seconds)
            return set(self._awaited)


class Outgoing(NamedTuple):
    """A message in a queue: what it is for, its encoded bytes, and who waits for it."""

    kind: Kind
    body: bytes
    acknowledgements: Acknowledgements | None

    @classmethod
    def pack(cls, kind: Kind, copy: Copy, acknowledgements: Acknowledgements | None = None) -> Outgoing:
        """Encode a message once for all peers."""
        return cls(kind, encode(Message(kind, copy)), acknowledgements)


class LinkOwner(Protocol):
    """What a link needs of the server that it belongs to."""

    def greeting(self) -> Hello:
        """Return the server's greeting."""

    def snapshot(self) -> list[Copy]:
        """Return every copy held here."""

    def contacted(self, link: PeerLink, hello: Hello | None) -> None:
        """Take note of the first attempt to reach a peer, and of its greeting, if it gave one."""

    def lost(self, link: PeerLink) -> None:
        """Take note that a peer that was up is down."""


class PeerLink:
    """Delivers to one peer what is saved here.

    The link is *open* while the peer is taken to be up. While it is not, nothing is queued: the link is *behind*, and
    sends everything when the peer is back. A peer is *timely* unless somebody waited for it in vain.

    Args:
        peer: to whom.
        settings: the cluster's secret, and `timeout_seconds`, after which a peer that does not answer is down.
        owner: whose sessions it delivers.

    Attributes:
        open: the peer is taken to be up.
        counts: what became of the messages.
        client: speaks to the peer.
    """

    def __init__(self, peer: Peer, settings: StoreSettings, owner: LinkOwner) -> None:
        self.peer = peer
        self.open = False
        self.counts: Counter[str] = Counter()
        self._owner = owner
        self.client = PeerClient(peer, settings.peer_secret, settings.timeout_seconds)
        self._changed = threading.Condition()
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._under_way: list[Outgoing] = []
        self._behind = False
        self._pushing = False
        self._timely = True
        self._doubted = False
        self._absent = False
        self._closing = False
        self._incarnation: str | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"link to {peer.name}", daemon=True)

    def start(self, *, behind: bool = False) -> None:
        """Contact the peer, and keep trying; one that is `behind` is sent everything first."""
        self._behind = behind
        self._thread.start()

    def send(self, message: Outgoing) -> None:
        """Queue a message, or take note that the peer will need everything. Never waits for the peer."""
        with self._changed:
            if not self.open:
                self._miss([message])
                return
            if len(self._queue) >= MAX_QUEUED_MESSAGES or self._queued_bytes >= MAX_QUEUED_BYTES:
                self.counts["queue_overflows"] += 1
                self._timely = False
                self._miss([*self._drop_queue(), message])
                self._changed.notify()
                return
            if message.acknowledgements and self._timely:
                message.acknowledgements.expect(self)
            self._queue.append(message)
            self._queued_bytes += len(message.body)
            self._changed.notify()

    def late(self) -> None:
        """Somebody waited for the peer in vain: nobody does any more until it has caught up."""
        with self._changed:
            self._count_timeout()

    def doubt(self) -> None:
        """The peer did not answer a question: see whether it is there."""
        with self._changed:
            self._doubted = True
            self._changed.notify()

    def greeted(self, hello: Hello) -> None:
        """The peer has said that it is there."""
        with self._changed:
            restarted = self._incarnation not in (None, hello.incarnation)
            joins = not hello.ready and self._incarnation != hello.incarnation
            self._behind = self._behind or restarted or joins
            self._timely = self._timely or joins
            self._incarnation = hello.incarnation
            self._open()
            self._changed.notify()

    def idle(self) -> bool:
        """Tell whether nothing is left to do for this peer, or nobody is there to do it for."""
        with self._changed:
            busy = self._queue or self._under_way or self._behind or self._pushing
            return self._absent if not self.open else not busy

    def close(self, seconds: float) -> None:
        """Send what is queued, but take no longer than this, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)
        self.client.close()

    def _run(self) -> None:
        hello = self._attempt(self._contact)
        self._owner.contacted(self, hello)
        while step := self._next_step():
            self._attempt(step)

    def _attempt(self, step: Callable[[], Hello | None]) -> Hello | None:
        try:
            return step()
        except PeerError as error:
            self._lose(error)
            return None

    def _next_step(self) -> Callable[[], Hello | None] | None:
        with self._changed:
            while True:
                if self._closing and not (self.open and self._queue):
                    return None
                if self.open and self._doubted:
                    return self._contact
                if self.open and self._behind:
                    return self._push
                if self.open and self._queue:
                    return self._deliver
                wait_seconds = None if self.open else self._retry_at - time.monotonic()
                if wait_seconds is not None and wait_seconds <= 0:
                    return self._contact
                self._changed.wait(wait_seconds)

    def _contact(self) -> Hello:
        hello = self.client.hello(self._owner.greeting())
        with self._changed:
            self._doubted = False
            self._behind = self._behind or self._incarnation not in (None, hello.incarnation)
            self._incarnation = hello.incarnation
            self._open()
        return hello

    def _push(self) -> None:
        with self._changed:
            self._behind = False
            self._pushing = True
        batch: list[Outgoing] = []
        size = 0
        copies = self._owner.snapshot()
        for copy in copies:
            batch.append(Outgoing.pack("state", copy))
            size += len(batch[-1].body)
            if size >= MAX_BATCH_BYTES or len(batch) >= MAX_BATCH_MESSAGES:
                self._post(batch)
                batch, size = [], 0
        if batch:
            self._post(batch)
        with self._changed:
            self.counts["transfers"] += bool(copies)
            self._pushing = False
            self._delivered()

    def _deliver(self) -> None:
        with self._changed:
            size = 0
            while self._queue and size < MAX_BATCH_BYTES and len(self._under_way) < MAX_BATCH_MESSAGES:
                message = self._queue.popleft()
                self._under_way.append(message)
                size += len(message.body)
            self._queued_bytes -= size
        self._post(self._under_way)
        with self._changed:
            self._acknowledge(self._under_way)
            self._under_way = []
            self._delivered()

    def _post(self, batch: list[Outgoing]) -> None:
        body = encode([msgspec.Raw(message.body) for message in batch])
        self.client.apply(body)
        with self._changed:
            self.counts["batches_sent"] += 1
            self.counts["bytes_sent"] += len(body)
            for message in batch:
                self.counts[f"sent_{message.kind}"] += 1
                self.counts[f"sent_{message.kind}_bytes"] += len(message.body)

    def _open(self) -> None:
        self.open = True
        self._absent = False

    def _delivered(self) -> None:
        self._timely = self._timely or not self._queue
        self._retry_seconds = FIRST_RETRY_SECONDS

    def _lose(self, error: PeerError) -> None:
        with self._changed:
            was_open = self.open
            if isinstance(error, PeerSilent):
                self._count_timeout()
            self._absent = not isinstance(error, PeerSilent)
            self.open = self._doubted = self._pushing = False
            self._miss([*self._under_way, *self._drop_queue()])
            self._under_way = []
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
            self.counts["absences"] += was_open
        if was_open:
            _log.warning("peer %s is down: %s", self.peer.name, error)
            self._owner.lost(self)

    def _count_timeout(self) -> None:
        if self._timely:
            self._timely = False
            self.counts["peer_timeouts"] += 1

    def _drop_queue(self) -> list[Outgoing]:
        dropped = list(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        return dropped

    def _miss(self, messages: list[Outgoing]) -> None:
        self._behind = True
        self.counts["messages_missed"] += len(messages)
        self._acknowledge(messages)

    def _acknowledge(self, messages: list[Outgoing]) -> None:
        for message in messages:
            if message.acknowledgements:
                message.acknowledgements.done(self)
