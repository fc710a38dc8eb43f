"""What every store needs beside its engine: counting its calls, and sweeping where the engine does not expire."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, TypedDict

from strategies.contract import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable


_BREATH_SECONDS = 0.1
"""Mean pause between two batches of one round: many times as long as a batch takes, so that shoppers go first."""


class CallTotals(TypedDict):
    """Calls of each operation since the store was opened, by the names of `Census`."""

    creates: int
    loads: int
    saves: int
    touches: int
    deletes: int


class Calls:
    """Counts the calls of a store's operations; safe to use from several threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, operation: str) -> None:
        """Count one call of an operation, named as in `Census`: `creates`, `loads` and so on."""
        with self._lock:
            self._counts[operation] += 1

    def totals(self) -> CallTotals:
        """Return the calls so far, by the names of `Census`."""
        with self._lock:
            counts = self._counts
            return {
                "creates": counts["creates"],
                "loads": counts["loads"],
                "saves": counts["saves"],
                "touches": counts["touches"],
                "deletes": counts["deletes"],
            }


class Sweeper:
    """A daemon thread that sweeps again and again until it is stopped.

    One call of `sweep` removes one small batch. As long as it says that there is more, the next follows after a
    breath; then comes a pause. Breaths and pauses vary by a quarter either way, so that the servers of a cluster do
    not all sweep at the same moment.

    Args:
        sweep: removes some of what has expired, and returns whether there is more. `StoreUnavailable` is logged, and
            the next round tries again.
        every_seconds: the mean pause between two rounds.
    """

    def __init__(self, sweep: Callable[[], bool | None], every_seconds: float) -> None:
        self._sweep = sweep
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._random = random.Random()  # noqa: S311 - no secret; its own, as a program may have seeded the common one
        self._thread = threading.Thread(target=self._run, name="session-sweeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for a batch that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        more: bool | None = False
        while not self._stopping.wait(self._pause_seconds(more)):
            try:
                more = self._sweep()
            except StoreUnavailable as error:
                more = False
                logging.getLogger(__name__).warning("expired sessions were not swept: %s", error)

    def _pause_seconds(self, more: bool | None) -> float:
        mean_seconds = min(_BREATH_SECONDS, self._every_seconds) if more else self._every_seconds
        return mean_seconds * self._random.uniform(0.75, 1.25)
