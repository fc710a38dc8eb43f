"""Connections to one Redis server, used without the client's command layer.

`redis.Redis.hgetall` costs several times the work of what it does: it looks up policies, prepares retries, takes a
connection out of a pool under a lock, measures itself and converts the answer. What is left here is redis-py's own
connection, which packs a command, sends it and reads the answer. Everything that a URL can ask for stays redis-py's
work: TLS, passwords and users, databases, Unix sockets.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import redis

try:
    import hiredis
except ImportError:  # redis-py does without it, more slowly
    hiredis = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Word = str | bytes | int
"""One word of a command."""


_pack = cast("Callable[[tuple[Word, ...]], bytes] | None", getattr(hiredis, "pack_command", None))


class Connection(Protocol):
    """What is used of redis-py's connections here."""

    pid: int

    def connect(self) -> None:
        """Connect, log in and choose the database."""

    def disconnect(self) -> None:
        """Close the socket; a process that only inherited it does not disturb its owner by that."""

    def can_read(self) -> bool:
        """Whether something has arrived; raises where that is the end of the connection."""

    def pack_command(self, *words: Word) -> Sequence[bytes]:
        """Return a command as it goes over the network."""

    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> None:
        """Send it."""

    def read_response(self) -> Any:
        """Wait for an answer and return it, or raise it where it is a refusal."""


class Connections:
    """Connections to one server; safe to use from several threads, and after a fork.

    A call takes the connection that was used last, or makes one where all are in use, so that there are never more than
    calls at once, whatever threads come and go. A connection on which anything went wrong is closed, and never used
    again: its next answer could be another call's. Nothing is retried.

    Args:
        pool: knows the server and how to connect to it; its own connections are not used.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._idle: deque[Connection] = deque()

    def call(self, *words: Word) -> Any:
        """Send a command and return its answer, as it stands in the protocol: bytes, numbers and lists.

        Raises:
            redis.RedisError: no answer in time, or a refusal. Unless it is a `ResponseError`, it is unknown whether the
                command was carried out.
        """
        connection = self._take()
        try:
            command = [_pack(words)] if _pack else connection.pack_command(*words)
            connection.send_packed_command(command, check_health=False)
            answer = connection.read_response()
        except redis.ReadOnlyError:
            # A failover has made a replica of it. The address may lead to the new primary by now: connect anew.
            connection.disconnect()
            self.close()
            raise
        except redis.ResponseError:
            self._idle.append(connection)  # a refusal is a whole answer: the next one is the next call's
            raise
        except BaseException:
            connection.disconnect()
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the connections that no call uses at this moment."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().disconnect()

    def _take(self) -> Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect()
            if _is_good(connection):
                return connection
            connection.disconnect()

    def _connect(self) -> Connection:
        connection = cast("Connection", self._pool.connection_class(**self._pool.connection_kwargs))
        connection.connect()
        return connection


def _is_good(connection: Connection) -> bool:
    """Whether an idle connection can be used: it is this process's, and the server has not closed it."""
    if connection.pid != os.getpid():
        return False
    try:
        return not connection.can_read()  # between two commands a server has nothing to say but goodbye
    except redis.ConnectionError:
        return False
