"""What the benchmarks of sessions in PostgreSQL share: tables of sessions, servers that save, PostgreSQL's counts."""

from __future__ import annotations

import base64
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from lab.engines.keeper import Keeper
from lab.engines.postgresql import PostgreSQL
from strategies.contract import Changes, NewSession, StoreSettings
from strategies.database import DatabaseStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SERVERS = 4
THREADS = 4
SESSIONS = 1_000
FIELDS = 20
NEVER_SECONDS = 3600.0


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run the lab's own PostgreSQL, with its own settings."""
    with tempfile.TemporaryDirectory() as logs, Keeper(Path(logs)) as keeper:
        yield PostgreSQL.start(keeper)


def setting(engine: PostgreSQL, name: str) -> str:
    """Ask the server for one of its settings, with its unit."""
    with psycopg.connect(engine.url) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def change_setting(engine: PostgreSQL, name: str, value: str) -> None:
    """Change a setting of the server while it runs."""
    with psycopg.connect(engine.url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value))
        connection.execute("SELECT pg_reload_conf()")


class Sizes(NamedTuple):
    """Bytes of the table, of its pieces (TOAST), and of the indexes of both."""

    heap: int
    toast: int
    indexes: int


class Counts(NamedTuple):
    """PostgreSQL's own counts of one relation, see `pg_stat_all_tables`."""

    inserts: int
    updates: int
    hot_updates: int
    deletes: int
    dead: int
    vacuums: int


class Table:
    """A table of the benchmark's own with sessions of one size, and the servers that save them.

    Args:
        engine: the server.
        kilobytes: size of a session.
        change: a statement that makes the table different from the store's own.
    """

    _names = count()

    def __init__(self, engine: PostgreSQL, kilobytes: int, change: str = "") -> None:
        self.name = f"sessions_{next(self._names)}"
        self._connection = psycopg.connect(engine.url, autocommit=True)
        self._settings = StoreSettings(database_url=engine.url, namespace=self.name, sweep_seconds=NEVER_SECONDS)
        self._rng = random.Random(1)  # noqa: S311 - nothing secret
        self._values = [packed_field(self._rng, kilobytes) for _ in range(64)]
        with self.servers(1) as (store,):
            if change:
                self.execute(change)
            for number in range(SESSIONS):
                fields = {f"field-{i:02}": packed_field(self._rng, kilobytes) for i in range(FIELDS)}
                store.create(f"session-{number}", NewSession("0" * 64, fields))

    @contextmanager
    def servers(self, number: int = SERVERS, **settings: Any) -> Iterator[list[DatabaseStore]]:
        """Open the stores of some web servers; closing them hands their counts to PostgreSQL."""
        changed = msgspec.structs.replace(self._settings, **({"timeout_seconds": 60.0} | settings))
        stores = [DatabaseStore.open(changed) for _ in range(number)]
        try:
            yield stores
        finally:
            for store in stores:
                store.close()

    def save(self, store: DatabaseStore, rng: random.Random) -> None:
        """Save one field of one session."""
        field = f"field-{rng.randrange(FIELDS):02}"
        store.save(f"session-{rng.randrange(SESSIONS)}", Changes(set={field: rng.choice(self._values)}))

    def execute(self, statement: str) -> None:
        """Run a statement on this table."""
        self._connection.execute(statement.format(table=self.name).encode())

    def one(self, query: str, **parameters: int) -> tuple[int, ...]:
        """Return the one row of a query about this table: `%(table)s` is its name."""
        row = self._connection.execute(query.encode(), {"table": self.name, **parameters}).fetchone()
        if row is None:
            raise SystemExit(f"no row: {query}")
        return tuple(int(value) for value in row)

    def sizes(self) -> Sizes:
        """Ask for the sizes now."""
        return Sizes(
            *self.one(
                "SELECT pg_relation_size(oid), pg_relation_size(reltoastrelid), "
                "pg_indexes_size(oid) + pg_indexes_size(reltoastrelid) FROM pg_class WHERE oid = %(table)s::regclass"
            )
        )

    def counts(self, relation: Literal["oid", "reltoastrelid"]) -> Counts:
        """Ask for the counts of the table (`oid`), or of its pieces (`reltoastrelid`)."""
        (of_which,) = self.one(f"SELECT {relation} FROM pg_class WHERE oid = %(table)s::regclass")  # noqa: S608 - ours
        return Counts(
            *self.one(
                "SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, n_dead_tup, autovacuum_count "
                "FROM pg_stat_all_tables WHERE relid = %(oid)s",
                oid=of_which,
            )
        )

    def expired(self) -> int:
        """Ask how many expired sessions there still are."""
        return self.one(f'SELECT count(*) FROM "{self.name}" WHERE idle_deadline <= now()')[0]  # noqa: S608 - ours

    def wal(self) -> int:
        """Ask how many bytes the log has had so far."""
        return self.one("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0]

    def drop(self) -> None:
        """Remove the table."""
        self.execute('DROP TABLE "{table}"')
        self._connection.close()


def packed_field(rng: random.Random, kilobytes: int) -> bytes:
    """Return one of 20 fields of a session of this size, packed."""
    length = kilobytes * 1024 // FIELDS - len("field-00")
    return b'"' + base64.b64encode(rng.randbytes(length))[: length - 2] + b'"'


def in_threads(
    stores: Sequence[DatabaseStore], work: Callable[[DatabaseStore, random.Random], None], threads: int = THREADS
) -> None:
    """Do the same in several threads of each server at once."""
    with ThreadPoolExecutor(len(stores) * threads) as pool:
        jobs = [
            pool.submit(work, store, random.Random(100 * i + j))  # noqa: S311 - nothing secret
            for i, store in enumerate(stores)
            for j in range(threads)
        ]
        for job in jobs:
            job.result()
