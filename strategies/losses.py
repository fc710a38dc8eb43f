"""What shoppers lose: cookies that name a session which is not there."""

from __future__ import annotations

import threading


class Losses:
    """Counts, on one server, what came of genuine cookies whose session is not found; safe to use from several threads.

    A server cannot know why a session is not there: it died with another server, it ended by itself, or somebody
    logged out and the cookie came late. A cookie that nobody signed, or whose secret is an old one, does not count.

    Attributes:
        cookies_without_session: requests that looked at their session, came with such a cookie, and saw an empty one.
        sessions_replaced: sessions that began in such a request: a shopper who had one has a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.cookies_without_session = 0
        self.sessions_replaced = 0

    def count_cookie(self) -> None:
        """A request came with such a cookie."""
        with self._lock:
            self.cookies_without_session += 1

    def count_session(self) -> None:
        """A session began in such a request."""
        with self._lock:
            self.sessions_replaced += 1
