"""Whether processes live, and what sockets they have."""

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


def sockets(pid, port):
    """Return the sockets of a process that serves on this port.

    A container may forbid root to look into a process of another user, such as PostgreSQL: then the port tells them.
    """
    try:
        return psutil.Process(pid).net_connections("all")
    except psutil.AccessDenied:
        everyones = psutil.net_connections("all")
        return [
            one for one in everyones if str(port) in (one.laddr if isinstance(one.laddr, str) else str(one.laddr[1:]))
        ]
