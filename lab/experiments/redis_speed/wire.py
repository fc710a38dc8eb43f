"""A connection to Redis without a client's command layer: bytes go out and come in as they are, and are counted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import hiredis
import redis

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.connection import Connection

Word = str | bytes | int
"""One word of a command."""

_BUFFER_BYTES = 64 * 1024


def packed(*words: Word) -> bytes:
    """Return a command as Redis reads it."""
    return bytes(hiredis.pack_command(cast("Any", words)))


class Wire:
    """One connection; redis-py makes it, and with it whatever the URL asks for, such as TLS or a password.

    Args:
        client: knows the server and how to connect to it; its own connections are not used.

    Attributes:
        sent: bytes sent so far, without those of the login.
        received: bytes received so far, likewise.

    Raises:
        LabError: Redis does not let us in.
    """

    def __init__(self, client: redis.Redis) -> None:
        pool = client.connection_pool
        options = {**pool.connection_kwargs, "protocol": 2}
        self._connection = cast("Connection", pool.connection_class(**options))
        with _clear_errors():
            self._connection.connect()  # type: ignore[no-untyped-call]
        self._socket = cast("Any", self._connection)._sock  # noqa: SLF001 - redis-py's readers take it just so
        self._reader: Any = hiredis.Reader()
        self._buffer = bytearray(_BUFFER_BYTES)
        self.sent = self.received = 0

    def send(self, request: bytes) -> None:
        """Send bytes.

        Raises:
            LabError: the connection is gone.
        """
        with _clear_errors():
            self._socket.sendall(request)
        self.sent += len(request)

    def fill(self, answer: bytearray) -> None:
        """Read as many bytes as the buffer holds.

        Raises:
            LabError: they do not come in time, or the connection is gone.
        """
        view, got = memoryview(answer), 0
        with _clear_errors():
            while got < len(answer):
                got += self._arrived(self._socket.recv_into(view[got:]))
        self.received += got

    def ask(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send commands in one piece and return their answers.

        Raises:
            LabError: no answer in time, or Redis refuses one of them.
        """
        self.send(b"".join(packed(*command) for command in commands))
        answers: list[Any] = []
        with _clear_errors():
            while len(answers) < len(commands):
                got = self._arrived(self._socket.recv_into(self._buffer))
                self.received += got
                self._reader.feed(self._buffer, 0, got)
                while (answer := self._reader.gets()) is not False:
                    answers.append(answer)
        refused = next((answer for answer in answers if isinstance(answer, hiredis.ReplyError)), None)
        if refused is not None:
            raise LabError(f"Redis refuses what is measured: {refused}")
        return answers

    def close(self) -> None:
        """Close it."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]

    @staticmethod
    def _arrived(count: int) -> int:
        if count == 0:
            raise redis.ConnectionError("the server has closed the connection")
        return count


@contextmanager
def wires(client: redis.Redis, count: int) -> Iterator[list[Wire]]:
    """Open several connections while the context lasts."""
    opened: list[Wire] = []
    try:
        opened.extend(Wire(client) for _ in range(count))
        yield opened
    finally:
        for wire in opened:
            wire.close()


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise LabError(f"Redis does not answer while it is measured: {error}") from error
