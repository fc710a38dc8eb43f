"""The peers of an all-to-all server, taken together: telling them, asking them, and learning from them."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Protocol

from strategies.clock import stamp_at
from strategies.peer_http import Hello, PeerClient, PeerError, PeerSilent
from strategies.peer_link import Acknowledgements, Outgoing, PeerLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from strategies.contract import Peer, StoreSettings
    from strategies.peer_http import Kind
    from strategies.replica import Copy

SYNC_SHARE = 0.5
"""The part of `timeout_seconds` that a deletion, and under `sync` a save, waits for peers at most."""

ASK_SHARE = 0.25
"""The part of `timeout_seconds` that asking the peers takes at most."""

JOIN_SECONDS = 1.0
"""How long a server that starts waits for peers that neither answer nor refuse."""

RELAY_SECONDS = 10.0
"""When a peer is lost, what it saved in this time before is told to the others, for it may have reached only some."""

_ASKERS_PER_PEER = 4

_FEWEST_PEERS = 3  # to have askers for: peers may be met later


class PeersOwner(Protocol):
    """What the peers' links need of the store."""

    def greeting(self) -> Hello:
        """Return this server's greeting."""

    def snapshot(self) -> list[Copy]:
        """Return every copy held here."""

    def learn(self, copies: list[Copy]) -> None:
        """Merge what a peer has answered."""


class Peers:
    """All links of one server.

    Args:
        settings: the peers, the cluster's secret, `timeout_seconds` and `replication`.
        owner: the store.
    """

    def __init__(self, settings: StoreSettings, owner: PeersOwner) -> None:
        self._settings = settings
        self._owner = owner
        self._counts: Counter[str] = Counter()
        self._contacts: queue.SimpleQueue[tuple[PeerLink, Hello | None]] = queue.SimpleQueue()
        self._links = {peer.name: PeerLink(peer, settings, self) for peer in settings.peers}
        self._meeting = threading.Lock()
        self._ask_seconds = settings.timeout_seconds * ASK_SHARE
        self._askers = {peer.name: PeerClient(peer, settings.peer_secret, self._ask_seconds) for peer in settings.peers}
        self._pool = ThreadPoolExecutor(_ASKERS_PER_PEER * max(_FEWEST_PEERS, len(settings.peers)), "ask-peers")

    def join(self) -> bool:
        """Contact all peers, then learn the state from one that is ready; return whether there was one.

        The greetings come first: a peer that was greeted tells this server of every save from then on, and what was
        answered before is in the state. Peers that cannot be reached are tried again in the background.
        """
        for link in self._links.values():
            link.start()
        return any(hello.ready and self._fetch_state(link.peer) for link, hello in self._first_contacts())

    def tell(self, kind: Kind, copy: Copy, *, bars: bool = False) -> None:
        """Send a change to all peers; under `sync`, wait until those that are up have applied it, or time is up.

        Args:
            kind: what the receivers count it as.
            copy: what has changed.
            bars: whether a cookie that was good is so no longer, after a logout or a login: that is waited for under
                `async`, too.
        """
        if not self._links:
            return
        waits = bars or (self._settings.replication == "sync" and kind != "touch")
        acknowledgements = Acknowledgements() if waits else None
        message = Outgoing.pack(kind, copy, acknowledgements)
        for link in self._links.values():
            link.send(message)
        if acknowledgements:
            for link in acknowledgements.wait(self._settings.timeout_seconds * SYNC_SHARE):
                link.late()

    def ask(self, handle: str, enough: Callable[[], bool] = lambda: False, first: str = "") -> bool:
        """Have the peers that are up tell what they know of a session, within a bounded time.

        Args:
            handle: which session.
            enough: looked at after each answer: whether no more are needed.
            first: a server that should know; the others are asked if its answer is not enough, or late.

        Returns:
            Whether there was anyone to ask.
        """
        begin = time.monotonic()
        names = {name for name, link in self._links.items() if link.open}
        preferred = names & {first}
        self._ask_all(preferred, handle, enough, begin + self._ask_seconds / 2)
        if not (preferred and enough()):
            self._ask_all(names - preferred, handle, enough, begin + self._ask_seconds)
        return bool(names)

    def meet(self, newcomer: Peer) -> None:
        """Tell one more peer of every change from its first greeting on. Meeting one that is known is no error.

        It is sent everything that is held here, too: two servers may have served for a while without knowing of each
        other. Whoever was at the newcomer's address before is forgotten, and so is where the newcomer was before. The
        tables are replaced, never changed: others are going through them.
        """
        with self._meeting:
            known = self._links.get(newcomer.name)
            if newcomer.name == self._settings.server or (known and known.peer.url == newcomer.url):
                return
            for link in [link for link in self._links.values() if link is known or link.peer.url == newcomer.url]:
                self._drop(link.peer.name)
            link = PeerLink(newcomer, self._settings, self)
            asker = PeerClient(newcomer, self._settings.peer_secret, self._ask_seconds)
            self._askers = {**self._askers, newcomer.name: asker}
            self._links = {**self._links, newcomer.name: link}
        link.start(behind=True)

    def forget(self, name: str) -> None:
        """Tell a peer nothing any more, as it is gone for good. Forgetting one that is not known is no error."""
        with self._meeting:
            if name in self._links:
                self._drop(name)

    def _drop(self, name: str) -> None:
        link, asker = self._links[name], self._askers[name]
        self._links = {other: each for other, each in self._links.items() if other != name}
        link.close(0.0)
        asker.close()
        self._counts.update(link.counts)
        self._counts["requests_sent"] += link.client.requests_sent + asker.requests_sent
        self._askers = {other: each for other, each in self._askers.items() if other != name}

    def greeted(self, hello: Hello) -> None:
        """Take note that a peer is up."""
        link = self._links.get(hello.server)
        if link:
            link.greeted(hello)

    def idle(self) -> bool:
        """Tell whether every peer that is there has received all that was saved here."""
        return all(link.idle() for link in self._links.values())

    def counts(self) -> Counter[str]:
        """Return what the links have counted, added up, and `requests_sent`, whatever for."""
        counts = sum((link.counts for link in self._links.values()), Counter(self._counts))
        for client in (*self._askers.values(), *(link.client for link in self._links.values())):
            counts["requests_sent"] += client.requests_sent
        return counts

    def close(self) -> None:
        """Send what is queued, for as long as one operation may take at most, and stop."""
        deadline = time.monotonic() + self._settings.timeout_seconds
        for link in self._links.values():
            link.close(max(0.0, deadline - time.monotonic()))
        self._pool.shutdown(wait=False, cancel_futures=True)
        for asker in self._askers.values():
            asker.close()

    def greeting(self) -> Hello:
        """Return this server's greeting."""
        return self._owner.greeting()

    def snapshot(self) -> list[Copy]:
        """Return every copy held here."""
        return self._owner.snapshot()

    def contacted(self, link: PeerLink, hello: Hello | None) -> None:
        """Let `join` know of the first attempt to reach a peer."""
        self._contacts.put((link, hello))

    def lost(self, link: PeerLink) -> None:
        """Tell the other peers what a lost one saved last: it may not have reached them all."""
        since = stamp_at(time.time() - RELAY_SECONDS)
        for copy in self._owner.snapshot():
            if copy.written_by(link.peer.name, since):
                message = Outgoing.pack("relay", copy)
                for other in self._links.values():
                    if other is not link and other.open:
                        other.send(message)

    def _first_contacts(self) -> list[tuple[PeerLink, Hello]]:
        deadline = time.monotonic() + JOIN_SECONDS
        greeted = []
        for _ in self._links:
            try:
                link, hello = self._contacts.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if hello is not None:
                greeted.append((link, hello))
        return greeted

    def _fetch_state(self, peer: Peer) -> bool:
        client = PeerClient(peer, self._settings.peer_secret, self._settings.timeout_seconds)
        try:
            for copies in client.state():
                self._owner.learn(copies)
        except PeerError:
            return False
        finally:
            self._counts["requests_sent"] += client.requests_sent
            client.close()
        return True

    def _ask_all(self, names: set[str], handle: str, enough: Callable[[], bool], deadline: float) -> None:
        answers = {self._pool.submit(self._ask, name, handle) for name in names}
        while answers and not enough() and (seconds := deadline - time.monotonic()) > 0:
            _, answers = wait(answers, seconds, FIRST_COMPLETED)

    def _ask(self, name: str, handle: str) -> None:
        asker, link = self._askers.get(name), self._links.get(name)
        if asker is None or link is None:
            return  # forgotten meanwhile
        try:
            self._owner.learn(asker.ask([handle]))
        except PeerSilent:
            link.doubt()
        except PeerError:
            pass  # the link notices by itself
