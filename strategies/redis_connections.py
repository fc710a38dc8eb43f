"""Connections to one Redis server, used without the client's command layer.

`redis.Redis.hgetall` costs several times the work of what it does: it looks up policies, prepares retries, takes a
connection out of a pool under a lock, measures itself and converts the answer. Here redis-py makes the connection, and
with it everything that a URL can ask for: TLS, passwords and users, databases, Unix sockets. From then on its socket
carries what hiredis packs and reads.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import hiredis
import redis
from redis.connection import DefaultParser

if TYPE_CHECKING:
    from redis.connection import Connection

Word = str | bytes | int
"""One word of a command."""

_BUFFER_BYTES = 64 * 1024
_INCOMPLETE = object()


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
        self._idle: deque[_Line] = deque()

    def call(self, *words: Word) -> Any:
        """Send a command and return its answer, as it stands in the protocol: bytes, numbers and lists.

        Raises:
            redis.RedisError: no answer in time, or a refusal. Unless it is a `ResponseError`, it is unknown whether the
                command was carried out.
        """
        line = self._take()
        try:
            answer = line.ask(words)
        except redis.ReadOnlyError:
            # A failover has made a replica of it. The address may lead to the new primary by now: connect anew.
            line.close()
            self.close()
            raise
        except redis.ResponseError:
            self._idle.append(line)  # a refusal is a whole answer: the next one is the next call's
            raise
        except BaseException:
            line.close()
            raise
        self._idle.append(line)
        return answer

    def close(self) -> None:
        """Close the connections that no call uses at this moment."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> _Line:
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return self._connect()
            if line.is_good():
                return line
            line.close()

    def _connect(self) -> _Line:
        connection = cast("Connection", self._pool.connection_class(**self._pool.connection_kwargs))
        connection.connect()  # type: ignore[no-untyped-call]
        try:
            return _Line(connection)
        except OSError as error:  # macOS refuses to set up a socket that the server has just closed
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(str(error)) from error


class _Line:
    """One connection.

    Args:
        connection: has connected and logged in.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._socket = cast("Any", connection)._sock  # noqa: SLF001 - redis-py's readers take it just so
        _leave_waiting_to_the_kernel(self._socket)
        self._reader: Any = hiredis.Reader(
            protocolError=redis.InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_INCOMPLETE
        )
        self._buffer = bytearray(_BUFFER_BYTES)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._process = os.getpid()

    def is_good(self) -> bool:
        """Whether it can be used: it is this process's, and the server has not closed it.

        Between two commands a server has nothing to say but goodbye.
        """
        return self._process == os.getpid() and not self._poll.poll(0)

    def ask(self, words: tuple[Word, ...]) -> Any:
        """Send a command and wait for the answer; each wait has the time-out of the socket."""
        reader = self._reader
        try:
            self._socket.sendall(hiredis.pack_command(cast("Any", words)))
            while (answer := reader.gets()) is _INCOMPLETE:
                received = self._socket.recv_into(self._buffer)
                if received == 0:
                    raise redis.ConnectionError("the server has closed the connection")
                reader.feed(self._buffer, 0, received)
        except (TimeoutError, BlockingIOError) as error:
            raise redis.TimeoutError("no answer in time") from error
        except OSError as error:
            raise redis.ConnectionError(str(error)) from error
        if isinstance(answer, redis.RedisError):
            raise answer
        return answer

    def close(self) -> None:
        """Close it; a process that only inherited it does not disturb its owner by that."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]


def _leave_waiting_to_the_kernel(sock: socket.socket) -> None:
    """Give a socket's time-out to the kernel: Python polls before every send and receive to keep it itself.

    When it has passed, the call ends with `BlockingIOError`. A TLS socket needs Python's: it would wait on. So would
    one of gevent's, which never blocks in the kernel.
    """
    seconds = sock.gettimeout()
    if type(sock) is socket.socket and seconds:
        sock.settimeout(None)
        if not os.get_blocking(sock.fileno()):
            sock.settimeout(seconds)
            return
        microseconds = max(1, round(seconds * 1_000_000))
        limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
