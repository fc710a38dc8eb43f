"""The process behind an emulated link: it passes bytes on, each piece later by the same time; `delay.py` starts it.

Run as `python -I -S relay.py SECONDS FD=HOST:PORT ...`: how long each direction takes, and for each target a listening
socket that this process inherits. Standard library alone, so that it starts at once.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path

READY = "the link is up"

_END = b""
_RESET = None

_AT_ONCE = struct.pack("ii", 1, 0)


class PreciseSelector(selectors.DefaultSelector):
    """The system's selector, to the microsecond: epoll alone rounds every wait up to whole milliseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events; `timeout` in seconds, None for ever."""
        if timeout is None or timeout > 0:
            select.select([self.fileno()], [], [], timeout)
        return super().select(0)


class End(asyncio.Protocol):
    """One end of a connection: what arrives here leaves at the other end, later by the link's delay."""

    def __init__(self, seconds: float, other: End | None = None) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, bytes | None]] = deque()
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.other = other or End(seconds, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """This end is connected: what waited for it may leave."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP gives no other
        self.transport = transport
        self.other.deliver()

    def data_received(self, data: bytes) -> None:
        """Bytes: they are on their way from now on."""
        self._send(data)

    def eof_received(self) -> bool:
        """Nothing more comes from here; the way back stays open."""
        self._send(_END)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """This end is gone: if that was no good-bye, the other end will learn it, too."""
        if error is not None or not self.ended:
            self._send(_RESET)

    def pause_writing(self) -> None:
        """Who reads here is slow: the other end waits for it."""
        if self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Who reads here has caught up."""
        if self.other.transport:
            self.other.transport.resume_reading()

    def reset(self) -> None:
        """Cut the connection as a crash does: whoever reads here gets an error, not an end."""
        if self.transport:
            with suppress(OSError):  # it may have gone meanwhile
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()

    def deliver(self) -> None:
        """Hand over at the other end what has been under way for long enough; come again for the next."""
        there = self.other.transport
        while there and self._under_way:
            due, piece = self._under_way[0]
            if due > self._loop.time():
                self._loop.call_at(due, self.deliver)
                return
            self._under_way.popleft()
            self._hand_over(there, piece)

    def _hand_over(self, there: asyncio.Transport, piece: bytes | None) -> None:
        if piece is _RESET:
            self.other.reset()
        elif piece:
            there.write(piece)
        else:
            self.ended = True
            with suppress(OSError):  # it may have gone meanwhile
                there.write_eof()
            if self.other.ended and self.transport:
                self.transport.close()
                there.close()

    def _send(self, piece: bytes | None) -> None:
        self._under_way.append((self._loop.time() + self._seconds, piece))
        if len(self._under_way) == 1:
            self.deliver()


async def _accept(listener: socket.socket, host: str, port: int, seconds: float) -> None:
    """Connect whoever comes to the target, until this process ends."""
    loop = asyncio.get_running_loop()
    connecting = set()

    async def connect(near: End) -> None:
        try:
            await loop.create_connection(lambda: near.other, host, port)
        except OSError:
            near.reset()

    def arrived() -> End:
        near = End(seconds)
        task = loop.create_task(connect(near))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return near

    server = await loop.create_server(arrived, sock=listener)
    await server.serve_forever()


async def _relay(seconds: float, links: list[str]) -> None:
    serving = []
    for link in links:
        number, _, target = link.partition("=")
        host, _, port = target.rpartition(":")
        serving.append(_accept(socket.socket(fileno=int(number)), host, int(port), seconds))
    tasks = [asyncio.ensure_future(each) for each in serving]
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


def main() -> None:
    """Relay until somebody ends this process."""
    with suppress(OSError):  # elsewhere than on Linux there is no such file, and no need
        Path("/proc/self/timerslack_ns").write_text("1")  # the kernel may wake this process 50 us late otherwise
    loop_factory = partial(asyncio.SelectorEventLoop, PreciseSelector())
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_relay(float(sys.argv[1]), sys.argv[2:]))


if __name__ == "__main__":
    main()
