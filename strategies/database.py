"""Sessions in PostgreSQL: one row per session, its fields together in one `jsonb` object that SQL can look into.

A load is one SELECT, a save one UPDATE that merges what the request changed: `(data - deleted) || set`. Each runs as a
prepared statement in a transaction of its own, so that it costs one round trip.

Expired rows answer no statement and are swept in small batches. The deadlines carry no index, on purpose: an update
that touches no indexed column can stay on its page (HOT), and `fillfactor` leaves it the room. A sweep therefore walks
through the table, a stretch of pages at a time.

Warning:
    Every save leaves a dead row version behind, and waits for the log to reach the disk. Sessions beyond 2 kB are kept
    in pieces in the table's TOAST relation, and every save writes all their pieces anew; what that leaves behind only
    vacuum removes. `docs/database.md` has the figures.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Self, cast

import psycopg

from strategies.contract import (
    Census,
    Changes,
    NewSession,
    SessionConflict,
    SessionExists,
    SessionGone,
    SessionRecord,
    SessionStore,
    StoreSettings,
    StoreUnavailable,
    WritePolicy,
    logical_bytes,
)
from strategies.jsonb import from_jsonb, to_jsonb, to_names
from strategies.postgresql import Connections
from strategies.upkeep import Calls, Sweeper

if TYPE_CHECKING:
    from strategies.postgresql import Row

_SWEEP_BATCH = 200
_SWEEP_PAGES = 1024  # 8 MiB: what one statement of a sweep reads at most
_TABLE_LOCK = 7_305_428_113  # any number, the same for all who create such tables
_NAMESPACE = re.compile(r"[A-Za-z0-9_]{1,63}")
_NO_ADDRESS = "database_url is no address that libpq understands, such as postgresql://user:password@host:5432/name"

_TABLE = """
CREATE TABLE IF NOT EXISTS "{table}" (
    handle text PRIMARY KEY,
    version bigint NOT NULL,
    origin text NOT NULL,
    secret_hash text NOT NULL,
    data jsonb NOT NULL,
    idle_deadline timestamptz NOT NULL,
    absolute_deadline timestamptz NOT NULL
) WITH (
    fillfactor = 80,
    toast.autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_scale_factor = 0.05,
    toast.autovacuum_vacuum_cost_delay = 0
)
"""
"""Without the last, PostgreSQL slows its vacuum down so much that it falls behind a load of large sessions."""

_LOOK = """
    SELECT handle, version, origin, secret_hash, data, idle_deadline, absolute_deadline FROM "{table}" LIMIT 0
"""

_STATEMENTS = {
    "create": """
        INSERT INTO "{table}" VALUES ($1::text, 1, $2::text, $3::text, $4::jsonb,
            now() + least({idle}, {absolute}), now() + {absolute})
        ON CONFLICT (handle) DO NOTHING RETURNING version
    """,
    "load": """
        SELECT secret_hash, data, version, origin,
            date_part('epoch', idle_deadline), date_part('epoch', absolute_deadline)
        FROM "{table}" WHERE handle = $1::text AND idle_deadline > now()
    """,
    "save": """
        UPDATE "{table}" SET
            version = version + 1,
            origin = $2::text,
            secret_hash = coalesce($3::text, secret_hash),
            data = CASE WHEN $4::boolean THEN '{{}}' ELSE data - $5::text[] END || $6::jsonb,
            idle_deadline = least(absolute_deadline, now() + {idle})
        WHERE handle = $1::text AND idle_deadline > now() AND version = coalesce($7::bigint, version)
        RETURNING version
    """,
    "touch": """
        UPDATE "{table}" SET idle_deadline = least(absolute_deadline, now() + {idle})
        WHERE handle = $1::text AND idle_deadline > now()
    """,
    "delete": """DELETE FROM "{table}" WHERE handle = $1::text""",
}

# Rows that another server is sweeping, or a shopper is saving, are skipped rather than waited for.
_SWEEP = """
    WITH swept AS (
        DELETE FROM "{table}" WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM "{table}" WHERE ctid >= $1::tid AND ctid < $2::tid AND idle_deadline <= now()
            LIMIT {batch} FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*), pg_relation_size('"{table}"') / current_setting('block_size')::bigint FROM swept
"""


class DatabaseStore(SessionStore):
    """Rows of one table, named by the namespace.

    Args:
        settings: `database_url`, `database_connections` (sweeps have one more), namespace, lifetimes, timeout. The
            table must exist: `open` sees to it.
    """

    policies: ClassVar[frozenset[WritePolicy]] = frozenset({"fields", "blob", "versioned"})

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        statements = {name: _fill_in(sql, settings) for name, sql in _STATEMENTS.items()}
        url = settings.database_url or ""
        self._connections = Connections(url, statements, settings.database_connections, settings.timeout_seconds)
        self._for_sweeps = Connections(url, {"sweep": _fill_in(_SWEEP, settings)}, 1, settings.timeout_seconds)
        self._next_page = 0
        self._calls = Calls()
        self._sweeper = Sweeper(self._sweep, settings.sweep_seconds)

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Create the table unless it exists; several servers may do so at once.

        Where it exists, no right to create tables is needed.
        """
        if settings.database_url is None:
            raise StoreUnavailable("no database_url in the settings")
        if _NAMESPACE.fullmatch(settings.namespace) is None:
            raise StoreUnavailable(f"{settings.namespace!r} cannot name a table: up to 63 letters, digits and _")
        try:
            with psycopg.connect(settings.database_url, connect_timeout=_connect_seconds(settings)) as connection:
                # Without the lock, two servers that start together can both find no table, and one of them fails.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TABLE_LOCK,))
                _see_to_the_table(connection, settings)
        except psycopg.Error as error:
            raise _unavailable(error) from None
        return cls(settings)

    def close(self) -> None:
        """End the sweeper and close the connections; the rows stay."""
        self._sweeper.stop()
        self._connections.close()
        self._for_sweeps.close()

    def create(self, handle: str, session: NewSession) -> str:
        """Insert a row."""
        self._calls.add("creates")
        rows = self._connections.run(
            "create",
            handle.encode(),
            self.settings.server.encode(),
            session.secret_hash.encode(),
            to_jsonb(session.fields),
        )
        if not rows:
            raise SessionExists(handle)
        return _text(rows[0][0])

    def load(self, handle: str) -> SessionRecord | None:
        """Select a live row."""
        self._calls.add("loads")
        rows = self._connections.run("load", handle.encode())
        return _record(rows[0]) if rows else None

    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """Update a live row: fields, version and deadline in one statement."""
        self._calls.add("saves")
        rows = self._connections.run(
            "save",
            handle.encode(),
            self.settings.server.encode(),
            changes.secret_hash.encode() if changes.secret_hash else None,
            b"true" if changes.whole else b"false",
            to_names(changes.deleted),
            to_jsonb(changes.set),
            expected_version.encode() if expected_version else None,
        )
        if rows:
            return _text(rows[0][0])
        if expected_version is not None and self._connections.run("load", handle.encode()):
            raise SessionConflict(handle)
        raise SessionGone(handle)

    def touch(self, handle: str) -> None:
        """Move the idle deadline of a live row."""
        self._calls.add("touches")
        self._connections.run("touch", handle.encode())

    def delete(self, handle: str) -> None:
        """Delete the row."""
        self._calls.add("deletes")
        self._connections.run("delete", handle.encode())

    def census(self) -> Census:
        """Select all live rows; physical bytes are the table's, with its index, its TOAST and its dead rows."""
        select = """SELECT handle, data::text FROM "{table}" WHERE idle_deadline > now()"""
        size = """SELECT pg_total_relation_size('"{table}"')"""
        settings = self.settings
        url = cast("str", settings.database_url)
        try:
            with psycopg.connect(url, connect_timeout=_connect_seconds(settings), client_encoding="utf8") as connection:
                live = connection.execute(_fill_in(select, settings).encode()).fetchall()
                sizes = connection.execute(_fill_in(size, settings).encode()).fetchone()
        except psycopg.Error as error:
            raise _unavailable(error) from None
        return Census(
            handles=tuple(handle for handle, _ in live),
            logical_bytes=sum(logical_bytes(from_jsonb(data.encode())) for _, data in live),
            physical_bytes=sizes[0] if sizes else None,
            **self._calls.totals(),
        )

    def _sweep(self) -> bool:
        """Delete a batch of expired rows from a stretch of pages; return whether the table goes on."""
        first, end = self._next_page, self._next_page + _SWEEP_PAGES
        ((swept, pages),) = self._for_sweeps.run("sweep", _page_start(first), _page_start(end))
        if int(_text(swept)) < _SWEEP_BATCH:
            self._next_page = end if end < int(_text(pages)) else 0
        return self._next_page > 0 or int(_text(swept)) == _SWEEP_BATCH


def _see_to_the_table(connection: psycopg.Connection, settings: StoreSettings) -> None:
    """Create the table only where there is none: `IF NOT EXISTS` asks for the right to create it in any case."""
    found = connection.execute("SELECT to_regclass(%s)", (f'"{settings.namespace}"',)).fetchone()
    if found == (None,):
        connection.execute(_fill_in(_TABLE, settings).encode())
    try:
        connection.execute(_fill_in(_LOOK, settings).encode())
    except psycopg.errors.UndefinedColumn as error:
        raise StoreUnavailable(
            f"PostgreSQL: there is a table {settings.namespace!r}, but it is not one for these sessions "
            f"({error.diag.message_primary}): choose another namespace"
        ) from error


def _unavailable(error: psycopg.Error) -> StoreUnavailable:
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return StoreUnavailable(_NO_ADDRESS)  # libpq's text repeats the address, and the password in it
    return StoreUnavailable(f"PostgreSQL: {error.diag.message_primary or ' '.join(str(error).split())}")


def _fill_in(sql: str, settings: StoreSettings) -> str:
    return sql.format(
        table=settings.namespace,
        idle=f"interval '{settings.idle_seconds} seconds'",
        absolute=f"interval '{settings.absolute_seconds} seconds'",
        batch=_SWEEP_BATCH,
    )


def _connect_seconds(settings: StoreSettings) -> int:
    return max(2, round(settings.timeout_seconds))  # libpq takes whole seconds, from 2


def _page_start(page: int) -> bytes:
    return f"({page},0)".encode()


def _record(row: Row) -> SessionRecord:
    secret_hash, data, version, origin, idle_deadline, absolute_deadline = cast("tuple[bytes, ...]", row)
    return SessionRecord(
        secret_hash=secret_hash.decode(),
        fields=from_jsonb(data),
        version=version.decode(),
        origin=origin.decode(),
        idle_deadline=float(idle_deadline),
        absolute_deadline=float(absolute_deadline),
    )


def _text(value: bytes | None) -> str:
    return cast("bytes", value).decode()
