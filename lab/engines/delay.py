"""An emulated link: what goes through it arrives later, as if the servers stood further apart.

The relay takes time itself. On a Linux machine with two cores, a round trip of 100 bytes took, beyond twice the delay
asked for (median; one in ten took longer by another half of it):

| delay asked for, each way | 0 | 0.1 ms | 0.25 ms | 1 ms | 5 ms | 20 ms |
|---|---|---|---|---|---|---|
| round trip beyond it | 0.1 ms | 0.15 ms | 0.2 ms | 0.4 ms | 0.5 ms | 0.6 ms |

So measure the round trip where it matters, and say that one. Opening a connection is not delayed: only bytes are.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from lab.engines import relay
from lab.engines.ports import bound_socket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.engines.keeper import Keeper, Process

_BACKLOG = 128


class DelayedLink:
    """Relays on 127.0.0.1, one for each target: every piece of bytes arrives later by the same time, each way.

    Attributes:
        ports: where to connect to instead of the targets, in their order.
        pid: its process, for CPU accounting.
    """

    def __init__(self, process: Process, ports: tuple[int, ...]) -> None:
        """Use `DelayedLink.start`."""
        self._process = process
        self.ports = ports
        self.pid = process.pid

    @classmethod
    def start(cls, keeper: Keeper, name: str, targets: Sequence[tuple[str, int]], one_way_seconds: float) -> Self:
        """Start one relay process for these targets; the keeper ends it when the lab ends, however that is.

        Args:
            keeper: keeps the process.
            name: what to call it; the log's name.
            targets: host and port of each; nobody needs to listen there yet.
            one_way_seconds: how long each direction takes.

        Raises:
            LabError: no port is free, or the process does not start.
        """
        with ExitStack() as stack:
            listeners = [stack.enter_context(bound_socket()) for _ in targets]
            for listener in listeners:
                listener.listen(_BACKLOG)
            numbers = [listener.fileno() for listener in listeners]
            links = [f"{number}={host}:{port}" for number, (host, port) in zip(numbers, targets, strict=True)]
            command = [sys.executable, "-I", "-S", relay.__file__, str(one_way_seconds), *links]
            process = keeper.launch(name, command, pass_fds=numbers)
            ports = tuple(listener.getsockname()[1] for listener in listeners)
        # From here on the process alone holds the sockets: they end with it.
        if not process.wait_until(lambda: process.said(relay.READY)):
            raise process.failure("The emulated link did not start")
        return cls(process, ports)

    def stop(self) -> None:
        """End it: connections through it are cut, and its ports refuse. Ending it twice is no error."""
        self._process.stop()
