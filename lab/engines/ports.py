"""Free ports on 127.0.0.1."""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING

from lab.errors import PortsExhausted, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.engines.keeper import Process

_ATTEMPTS = 5
_TAKEN = "in use"  # "Address already in use", or "Address in use" in nginx's static build

HOST = "127.0.0.1"
"""Everything in the lab listens here and nowhere else."""


def bound_socket(port: int = 0) -> socket.socket:
    """Return a TCP socket bound to `HOST`, not yet listening.

    Never with SO_REUSEPORT: two labs would silently share a port. SO_REUSEADDR lets a server come back to the port
    of the one before it while old connections linger.

    Args:
        port: which port; 0 for any that is free.

    Raises:
        PortsExhausted: none is free, or this one is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        if port and error.errno == errno.EADDRINUSE:
            raise PortsExhausted(f"port {port} of {HOST} is taken by another program") from error
        raise from_os_error(error) from error
    return sock


def on_free_port(
    engine: str, launch: Callable[[int], Process], ready: Callable[[Process, int], bool]
) -> tuple[Process, int]:
    """Start an engine that binds by itself, on another port if somebody else was faster to bind the first.

    Args:
        engine: its name, for errors.
        launch: starts it on a port.
        ready: whether this very process answers on the port.

    Returns:
        The process, ready, and its port.

    Raises:
        PortsExhausted: no port is free.
        EngineFailed: it did not start, for another reason than its port.
    """
    for _ in range(_ATTEMPTS):
        port = free_port()
        process = launch(port)
        if process.wait_until(partial(ready, process, port), unless=_TAKEN):
            return process, port
        process.stop()
        if not process.said(_TAKEN):
            raise process.failure(f"{engine} did not start")
    raise PortsExhausted(f"{engine} found {_ATTEMPTS} ports taken, one after the other. {process.last_words()}")


def free_port() -> int:
    """Return a port that is free now, for an engine that binds by itself; it must be ready to try another.

    Raises:
        PortsExhausted: none is free.
    """
    with bound_socket() as sock:
        return int(sock.getsockname()[1])
