"""What can go wrong in the lab: one small tree, each error one clear line for the command line to print."""

from __future__ import annotations

import errno

__all__ = ["DiskFull", "EngineFailed", "EngineMissing", "LabError", "PortsExhausted", "ServerFailed", "from_os_error"]


class LabError(Exception):
    """The lab cannot do what it was asked to; its text is one line for the person who asked."""


class EngineMissing(LabError):
    """No usable program for an engine on this machine; the text says how to get one."""


class EngineFailed(LabError):
    """An engine did not start, or died; the text ends with the last line of its log."""


class ServerFailed(LabError):
    """A web server of a cluster did not start, or died, or does not answer the lab."""


class PortsExhausted(LabError):
    """The machine has no free port left on 127.0.0.1."""


class DiskFull(LabError):
    """There is no room left for the run's folder or the engines' data."""


_TEXTS: dict[int | None, tuple[type[LabError], str]] = {
    errno.ENOSPC: (DiskFull, "the disk is full"),
    errno.EDQUOT: (DiskFull, "your disk quota is used up"),
    errno.EADDRINUSE: (PortsExhausted, "no free port is left on 127.0.0.1"),
    errno.EADDRNOTAVAIL: (PortsExhausted, "no free port is left on 127.0.0.1"),
    errno.EMFILE: (LabError, "too many open files: raise the limit with `ulimit -n 4096`"),
}


def from_os_error(error: OSError) -> LabError:
    """Return the lab's error for an operating system's, naming the file it is about."""
    kind, text = _TEXTS.get(error.errno, (LabError, error.strerror or str(error)))
    return kind(f"{text} ({error.filename})" if error.filename else text)
