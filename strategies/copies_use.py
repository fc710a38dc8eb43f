"""Whether the copies that other servers send are ever of use."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strategies.replica import Copy


class CopiesUse:
    """Counts how much of what other servers have sent here is read here; its owner holds a lock.

    A *foreign copy* is a session held here that another server has saved; a *change* is one that arrived. Each session
    counts once among the foreign copies, and once among those read, if a shopper was served it here while another
    server was the last to have saved it.

    Args:
        server: the server it counts on.
    """

    def __init__(self, server: str) -> None:
        self.counts: Counter[str] = Counter(foreign_copies=0, foreign_copies_read=0, changes_received=0, changes_read=0)
        self._server = server
        self._unread: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._read: set[str] = set()

    def delivered(self, before: Copy | None, after: Copy) -> None:
        """Something from another server has been merged."""
        if after.ended:
            self.forget(after.handle)
        elif before is None or (before.version, before.fields) != (after.version, after.fields):
            self._count(after)

    def _count(self, after: Copy) -> None:
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
