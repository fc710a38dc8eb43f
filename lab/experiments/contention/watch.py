"""What the engines do while the shop is busy: CPU time and log slice by slice, rows and checkpoints, who waits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import psycopg

from lab.errors import LabError
from lab.measuring.timed import Slice, Stage
from lab.probes.cpu import CpuMeter, machine_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.cluster import Cluster, Lab
    from loadtests.client import Generator
    from loadtests.plans import Plan

LOOK_SECONDS = 0.02
"""PostgreSQL is asked so often who waits for what."""

WAITS = ("CPU", "disk", "row lock", "inner lock", "other")
"""What a connection that has something to do may be waiting for: a processor (or it has one), the disk, another
transaction's row, one of PostgreSQL's own short locks, something else."""

_WAITS = {"CPU": "CPU", "IO": "disk", "Lock": "row lock", "LWLock": "inner lock"}

_ACTIVE = """
    SELECT coalesce(wait_event_type, 'CPU'), count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND state = 'active'
        AND pid <> pg_backend_pid() AND application_name <> 'report'
    GROUP BY 1
"""
_ROWS = """
    SELECT n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE relname = %s
"""
_CHECKPOINTS = """
    SELECT num_timed + num_requested FROM pg_stat_checkpointer
"""
_CHECKPOINTS_BEFORE_17 = """
    SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter
"""
_SINCE_17 = 170000


class Reading(msgspec.Struct, frozen=True):
    """What one slice took of the machine and the engines.

    Attributes:
        postgresql: CPU seconds of PostgreSQL with all its children, the report included.
        redis: CPU seconds of Redis.
        wal_bytes: what PostgreSQL appended to its log.
        busy: CPU seconds of the whole machine.
        total: CPU seconds that the machine had.
        seconds: how long it took.
    """

    postgresql: float
    redis: float
    wal_bytes: int
    busy: float
    total: float
    seconds: float


class Counts(msgspec.Struct, frozen=True):
    """PostgreSQL's own counts since it was started, of the table with the sessions but for the last one.

    Attributes:
        updates: rows written anew.
        hot_updates: those of them that stayed on their page, so that no index had to learn of them.
        dead_rows: old versions that nobody has cleaned up yet.
        autovacuums: how often autovacuum came by.
        checkpoints: of the whole server.
    """

    updates: int = 0
    hot_updates: int = 0
    dead_rows: int = 0
    autovacuums: int = 0
    checkpoints: int = 0


class Waits(msgspec.Struct, frozen=True):
    """Who waited in PostgreSQL.

    Attributes:
        looks: how often it was asked.
        seen: connections with something to do, by what they waited for, added up over all looks.
    """

    looks: int
    seen: dict[str, int]


class Watch(Stage):
    """Measures slices as a `Stage` does, and what the engines did meanwhile; close it in the end.

    Args:
        lab: the engines.
        generator: the load.
        clusters: arm to the cluster that serves it.

    Attributes:
        readings: of each slice, by arm (as in an order) and block; of a block that was measured again, the last one.
    """

    def __init__(self, lab: Lab, generator: Generator, clusters: dict[str, Cluster]) -> None:
        super().__init__(lab, generator, clusters)
        self._connection = psycopg.connect(lab.postgresql.url, autocommit=True, connect_timeout=5)
        engines = {"postgresql": lab.postgresql.pid, "redis": lab.redis.pid if lab.redis else None}
        self._engines = CpuMeter({name: () if pid is None else (pid,) for name, pid in engines.items()})
        self._table = next((c.namespace for c in clusters.values() if c.spec.strategy == "database"), "")
        self.readings: dict[tuple[str, int], Reading] = {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def measure(self, slot: str, plan: Plan, block: int, position: int) -> Slice:
        """Send one plan to one arm, and read every meter before and after."""
        self._engines.read()
        log, before, began = self._log(), machine_time(), time.monotonic()
        piece = super().measure(slot, plan, block, position)
        seconds, after = time.monotonic() - began, machine_time()
        self.readings[slot, block] = Reading(
            **self._engines.read(),
            wal_bytes=self._log() - log,
            busy=after.busy - before.busy,
            total=after.total - before.total,
            seconds=seconds,
        )
        return piece

    def counts(self) -> Counts:
        """Ask PostgreSQL for its counts; what its connections have not handed in yet, about a second's, is missing."""
        recent = self._connection.info.server_version >= _SINCE_17
        rows = self._connection.execute(_ROWS, [self._table]).fetchone() or (0, 0, 0, 0)
        checkpoints = self._connection.execute(_CHECKPOINTS if recent else _CHECKPOINTS_BEFORE_17).fetchone() or (0,)
        return Counts(*map(int, (*rows, *checkpoints)))

    def _log(self) -> int:
        row = self._connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0]) if row else 0


class Looks:
    """Asks PostgreSQL again and again who waits for what; not while anything is timed, for asking costs CPU time.

    Args:
        database_url: where PostgreSQL answers.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._enough = threading.Event()
        self._seen: Counter[str] = Counter()
        self._looks = 0
        self._failure: psycopg.Error | None = None

    @property
    def waits(self) -> Waits:
        """What was seen."""
        return Waits(self._looks, {name: self._seen[name] for name in WAITS})

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look while the context lasts.

        Raises:
            LabError: PostgreSQL did not answer.
        """
        with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
            thread = threading.Thread(target=self._look, args=(connection,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._enough.set()
                thread.join()
        if self._failure is not None:
            text = " ".join(str(self._failure).split())
            raise LabError(f"PostgreSQL did not say who waits: {text}") from self._failure

    def _look(self, connection: psycopg.Connection) -> None:
        try:
            while not self._enough.wait(LOOK_SECONDS):
                for kind, count in connection.execute(_ACTIVE):
                    self._seen[_WAITS.get(kind, "other")] += count
                self._looks += 1
        except psycopg.Error as error:
            self._failure = error
