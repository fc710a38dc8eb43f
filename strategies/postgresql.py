"""Connections to PostgreSQL on which every answer has a deadline.

A `statement_timeout` and TCP's own timers do not help against a server that is *paused*: its kernel still
acknowledges every packet, and nothing in the server runs that could cancel a statement. So the waiting is done here,
on libpq's non-blocking calls (`psycopg.pq`), which also saves the cursor layer's 0.1 ms per statement.
"""

from __future__ import annotations

import contextlib
import queue
import select
import time
from collections import deque
from typing import TYPE_CHECKING

from psycopg import OperationalError, pq

from strategies.contract import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._idle: deque[_Line] = deque()
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()  # a semaphore with a time-out, at a tenth its price
        for _ in range(most):
            self._turns.put(None)

    def run(self, name: str, *parameters: bytes | None) -> list[Row]:
        """Run a prepared statement in a transaction of its own and return its rows, in PostgreSQL's text format.

        Raises:
            StoreUnavailable: no answer in time, or a refusal. Whether a write was applied is then unknown.
        """
        deadline = time.monotonic() + self._timeout_seconds
        try:
            self._turns.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise StoreUnavailable("PostgreSQL: every connection is busy") from None
        try:
            return self._run(name, parameters, deadline)
        except (OperationalError, StoreUnavailable) as error:
            raise StoreUnavailable(f"PostgreSQL: {' '.join(str(error).split())}") from error
        finally:
            self._turns.put(None)

    def close(self) -> None:
        """Close the idle connections."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _run(self, name: str, parameters: tuple[bytes | None, ...], deadline: float) -> list[Row]:
        line = self._idle_one() or self._connect(deadline)
        try:
            rows = line.run(name, parameters, deadline)
        except BaseException:
            line.close()
            raise
        self._idle.append(line)
        return rows

    def _idle_one(self) -> _Line | None:
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return None
            if line.is_good():
                return line
            line.close()

    def _connect(self, deadline: float) -> _Line:
        pgconn = pq.PGconn.connect_start(self._url.encode())
        try:
            _finish_connecting(pgconn, deadline)
            line = _Line(pgconn)
            milliseconds = max(1, round(self._timeout_seconds * 1000))
            pgconn.send_query(f"SET client_encoding = 'UTF8'; SET statement_timeout = {milliseconds}".encode())
            line.finish(deadline)
            for name, statement in self._statements.items():
                pgconn.send_prepare(name.encode(), statement.encode())
                line.finish(deadline)
        except BaseException:
            pgconn.finish()
            raise
        return line


class _Line:
    """One connection.

    Args:
        pgconn: has connected and logged in.
    """

    def __init__(self, pgconn: PGconn) -> None:
        pgconn.nonblocking = 1
        self._pgconn = pgconn
        self._readable = select.poll()
        self._readable.register(pgconn.socket, select.POLLIN)

    def is_good(self) -> bool:
        """Whether the server has not closed it: between two statements it has nothing to say but goodbye."""
        return not self._readable.poll(0)

    def run(self, name: str, parameters: tuple[bytes | None, ...], deadline: float) -> list[Row]:
        """Run a prepared statement and return its rows."""
        self._pgconn.send_query_prepared(name.encode(), parameters)
        result = self.finish(deadline)
        value, columns = result.get_value, range(result.nfields)
        return [tuple([value(row, column) for column in columns]) for row in range(result.ntuples)]

    def finish(self, deadline: float) -> PGresult:
        """Wait for all results of what was sent and return the last."""
        pgconn = self._pgconn
        while pgconn.flush():
            _wait(pgconn, select.POLLIN | select.POLLOUT, deadline)
            pgconn.consume_input()
        last = None
        while True:
            while pgconn.is_busy():
                _wait_for(self._readable, deadline)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            if result.status not in _SUCCESS:
                raise _refusal(result)
            last = result
        if last is None:
            raise StoreUnavailable("no result")
        return last

    def close(self) -> None:
        """Close it."""
        self._pgconn.finish()


def _wait(pgconn: PGconn, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pgconn.socket, events)
    _wait_for(poll, deadline)


def _wait_for(poll: select.poll, deadline: float) -> None:
    left_seconds = deadline - time.monotonic()
    if left_seconds <= 0 or not poll.poll(left_seconds * 1000):
        raise StoreUnavailable("no answer in time")


def _finish_connecting(pgconn: PGconn, deadline: float) -> None:
    while True:
        status = pgconn.connect_poll()
        if status == pq.PollingStatus.OK:
            return
        if status == pq.PollingStatus.FAILED:
            raise StoreUnavailable(pgconn.get_error_message())
        _wait(pgconn, select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT, deadline)


def _refusal(result: PGresult) -> StoreUnavailable:
    """Return what PostgreSQL refused, without its details and context: they repeat the session's values."""
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    if message is None or state is None:  # libpq's own: the connection was lost
        return StoreUnavailable(result.get_error_message())
    return StoreUnavailable(f"{message.decode(errors='replace')} (SQLSTATE {state.decode()})")
