"""Whether processes live."""

from __future__ import annotations

import contextlib

import psutil


def alive(pids):
    """Return which of the processes live; a zombie does not, however long nobody reaps it."""
    living = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                living.append(pid)
    return living
