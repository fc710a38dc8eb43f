"""Connections to PostgreSQL on which every answer has a deadline.

A `statement_timeout` and TCP's own timers do not help against a server that is *paused*: its kernel still
acknowledges every packet, and nothing in the server runs that could cancel a statement. So the waiting is done here,
on libpq's non-blocking calls (`psycopg.pq`), which also saves the cursor layer's 0.1 ms per statement.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from psycopg import OperationalError, pq

from strategies.contract import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg.pq.abc import PGconn, PGresult

Row = tuple[bytes | None, ...]

_SUCCESS = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Connections:
    """A bounded set of connections that share prepared statements; safe to use from several threads.

    A connection is made when one is needed and none is idle. One that failed, timed out or was closed by the server is
    thrown away, so that a server that comes back is found by the next call. Nothing is retried.

    Args:
        url: where the server answers, as libpq understands it.
        statements: SQL to prepare on every connection, by name.
        most: how many connections there may be; further callers wait for one, within their deadline.
        timeout_seconds: the longest that one call may take, connecting and waiting for a free connection included.
    """

    def __init__(self, url: str, statements: Mapping[str, str], most: int, timeout_seconds: float) -> None:
        self._url = url
        self._statements = statements
        self._timeout_seconds = timeout_seconds
        self._idle: deque[PGconn] = deque()
        self._free = threading.BoundedSemaphore(most)

    def run(self, name: str, *parameters: bytes | None) -> list[Row]:
        """Run a prepared statement in a transaction of its own and return its rows, in PostgreSQL's text format.

        Raises:
            StoreUnavailable: no answer in time, or a refusal. Whether a write was applied is then unknown.
        """
        deadline = time.monotonic() + self._timeout_seconds
        with self._one(deadline) as connection:
            connection.send_query_prepared(name.encode(), parameters)
            return _rows(_finish(connection, deadline))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().finish()

    @contextlib.contextmanager
    def _one(self, deadline: float) -> Iterator[PGconn]:
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StoreUnavailable("PostgreSQL: every connection is busy")
        connection = None
        try:
            connection = self._idle_one() or self._connect(deadline)
            yield connection
            self._idle.append(connection)
        except (OperationalError, StoreUnavailable) as error:
            if connection is not None:
                connection.finish()
            raise StoreUnavailable(f"PostgreSQL: {' '.join(str(error).split())}") from error
        finally:
            self._free.release()

    def _idle_one(self) -> PGconn | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not _readable(connection):
                return connection
            connection.finish()  # between two statements a server has nothing to say but goodbye

    def _connect(self, deadline: float) -> PGconn:
        connection = pq.PGconn.connect_start(self._url.encode())
        try:
            _finish_connecting(connection, deadline)
            connection.nonblocking = 1
            milliseconds = max(1, round(self._timeout_seconds * 1000))
            connection.send_query(f"SET client_encoding = 'UTF8'; SET statement_timeout = {milliseconds}".encode())
            _finish(connection, deadline)
            for name, statement in self._statements.items():
                connection.send_prepare(name.encode(), statement.encode())
                _finish(connection, deadline)
        except BaseException:
            connection.finish()
            raise
        return connection


def _readable(connection: PGconn) -> bool:
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    return bool(poll.poll(0))


def _wait(connection: PGconn, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(connection.socket, events)
    left_seconds = deadline - time.monotonic()
    if left_seconds <= 0 or not poll.poll(left_seconds * 1000):
        raise StoreUnavailable("no answer in time")


def _finish_connecting(connection: PGconn, deadline: float) -> None:
    while True:
        status = connection.connect_poll()
        if status == pq.PollingStatus.OK:
            return
        if status == pq.PollingStatus.FAILED:
            raise StoreUnavailable(connection.get_error_message())
        _wait(connection, select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT, deadline)


def _finish(connection: PGconn, deadline: float) -> PGresult:
    """Wait for all results of what was sent and return the last."""
    while connection.flush():
        _wait(connection, select.POLLIN | select.POLLOUT, deadline)
        connection.consume_input()
    last = None
    while True:
        while connection.is_busy():
            _wait(connection, select.POLLIN, deadline)
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            break
        if result.status not in _SUCCESS:
            raise _refusal(result)
        last = result
    if last is None:
        raise StoreUnavailable("no result")
    return last


def _refusal(result: PGresult) -> StoreUnavailable:
    """Return what PostgreSQL refused, without its details and context: they repeat the session's values."""
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    if message is None or state is None:  # libpq's own: the connection was lost
        return StoreUnavailable(result.get_error_message())
    return StoreUnavailable(f"{message.decode(errors='replace')} (SQLSTATE {state.decode()})")


def _rows(result: PGresult) -> list[Row]:
    columns: Sequence[int] = range(result.nfields)
    return [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]
