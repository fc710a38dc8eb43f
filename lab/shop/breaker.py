"""A circuit breaker: nobody waits for what is known not to answer."""

from __future__ import annotations

import threading
import time


class Breaker:
    """After a failure, lets one caller try in each `rest_seconds` until one succeeds; the others need not wait.

    See M. Nygard, "Release It!" (2007), chapter 5.

    Args:
        rest_seconds: time between two tries.
    """

    def __init__(self, rest_seconds: float) -> None:
        self._rest_seconds = rest_seconds
        self._next_try: float | None = None
        self._lock = threading.Lock()

    def lets_through(self) -> bool:
        """Whether the caller may try; say afterwards whether it `worked` or `failed`."""
        with self._lock:
            now = time.monotonic()
            if self._next_try is not None:
                if now < self._next_try:
                    return False
                self._next_try = now + self._rest_seconds
            return True

    def worked(self) -> None:
        """Everybody may try again."""
        if self._next_try is not None:
            with self._lock:
                self._next_try = None

    def failed(self) -> None:
        """Nobody tries for `rest_seconds`."""
        with self._lock:
            self._next_try = time.monotonic() + self._rest_seconds
