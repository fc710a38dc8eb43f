"""Waiting for conditions, and doing things at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor


def wait_until(condition, seconds=5.0):
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def at_once(*actions):
    """Run actions in threads of their own, released together; return their results in order."""
    barrier = threading.Barrier(len(actions))

    def run(action):
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))
