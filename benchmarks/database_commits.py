"""What `synchronous_commit` costs and buys, for sessions of 1 KB in the lab's own PostgreSQL.

Costs: saves by one connection, and by sixteen at once, whose commits then share a flush of the log to the disk. Buys:
PostgreSQL dies under load (`kill -9` of every process) and comes back; how many acknowledged saves are gone, and how
long before its death was the first of them acknowledged? PostgreSQL promises for `off`: three times `wal_writer_delay`
at most. The operating system lives on, so this is no power failure.

    python -m benchmarks.database_commits [--quick]
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import psycopg

from benchmarks._sessions_in_postgresql import Table, in_threads, postgresql, setting
from strategies.contract import Changes, NewSession, StoreUnavailable

if TYPE_CHECKING:
    from lab.engines.postgresql import PostgreSQL
    from strategies.database import DatabaseStore

WAYS = ("on", "off", "unlogged")
AT_ONCE = (1, 4, 16)
LOAD_SECONDS = 1.0


class Loss(NamedTuple):
    """What a crash took: how many saves were acknowledged, how many of them are gone, and how old the oldest was."""

    acknowledged: int
    lost: int
    oldest_ms: float


class Way:
    """A table of sessions, and the servers that save them with one way to commit.

    Args:
        engine: the server.
        name: `on` and `off` of `synchronous_commit`, or `unlogged`.
    """

    def __init__(self, engine: PostgreSQL, name: str) -> None:
        self.name = name
        self.table = Table(engine, 1, 'ALTER TABLE "{table}" SET UNLOGGED' if name == "unlogged" else "")
        commit = "off" if name == "off" else "on"
        url = psycopg.conninfo.make_conninfo(engine.url, options=f"-c synchronous_commit={commit}")
        self.settings: dict[str, Any] = {"database_url": url}
        self.latencies: dict[int, list[float]] = {threads: [] for threads in AT_ONCE}
        self.seconds = dict.fromkeys(AT_ONCE, 0.0)
        self.flushes = dict.fromkeys(AT_ONCE, 0)

    def measure(self, engine: PostgreSQL, threads: int, saves: int) -> None:
        """Save that often in so many threads, each with a connection of its own."""
        with self.table.servers(1, database_connections=threads, **self.settings) as stores:

            def work(store: DatabaseStore, rng: random.Random) -> None:
                for _ in range(saves // threads):
                    began = time.perf_counter()
                    self.table.save(store, rng)
                    self.latencies[threads].append(1000 * (time.perf_counter() - began))

            in_threads(stores, lambda store, _: store.touch("session-0"), threads)  # connects
            flushed, began = flushes(engine), time.perf_counter()
            in_threads(stores, work, threads)
            self.seconds[threads] += time.perf_counter() - began
        self.flushes[threads] += flushes(engine) - flushed

    def crash(self, engine: PostgreSQL, threads: int, pause_seconds: float) -> Loss:
        """Let PostgreSQL die while so many threads save, and count what it had acknowledged and does not know."""
        acknowledged: dict[str, list[float]] = {}
        with self.table.servers(1, database_connections=threads, **self.settings) as stores:

            def work(store: DatabaseStore, _: random.Random) -> None:
                handle = f"counts-{token_hex(8)}"
                store.create(handle, NewSession("0" * 64, {"n": b"0"}))
                times = acknowledged[handle] = []
                while True:
                    try:
                        store.save(handle, Changes(set={"n": msgspec.json.encode(len(times) + 1)}))
                    except StoreUnavailable:
                        return
                    times.append(time.perf_counter())
                    time.sleep(pause_seconds)

            load = threading.Thread(target=in_threads, args=(stores, work, threads))
            load.start()
            time.sleep(random.uniform(LOAD_SECONDS, 2 * LOAD_SECONDS))  # noqa: S311 - any moment
            died = time.perf_counter()
            engine.kill()
            load.join()
        engine.restart()
        lost, oldest_ms = 0, 0.0
        with self.table.servers(1) as (store,):
            for handle, times in acknowledged.items():
                record = store.load(handle)
                known = msgspec.json.decode(record.fields["n"], type=int) if record else 0
                if known < len(times):
                    lost += len(times) - known
                    oldest_ms = max(oldest_ms, 1000 * (died - times[known]))
        return Loss(sum(map(len, acknowledged.values())), lost, oldest_ms)


def flushes(engine: PostgreSQL) -> int:
    """Ask how often the log was flushed to the disk so far; PostgreSQL tells since version 18."""
    with psycopg.connect(engine.url) as connection:
        row = connection.execute("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'").fetchone()
    return int(row[0] or 0) if row else 0


def main() -> None:
    """Print what each way costs, then what it loses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 10, and 1 crash instead of 10")
    quick = parser.parse_args().quick
    with postgresql() as engine:
        ways = [Way(engine, name) for name in WAYS]
        delay = setting(engine, "wal_writer_delay")
        print(f"PostgreSQL {engine.version}, {engine.durability}; wal_writer_delay {delay}")
        for _ in range(2 if quick else 10):
            for threads in AT_ONCE:
                for way in ways:
                    way.measure(engine, threads, 800)
        for way in ways:
            for threads, sample in way.latencies.items():
                p50, p99 = np.percentile(sample, [50, 99])
                print(
                    f"{way.name:<9} {threads:2d} at once  {len(sample) / way.seconds[threads]:7,.0f} saves/s  "
                    f"p50 {p50:5.2f} ms  p99 {p99:6.2f} ms  {way.flushes[threads] / len(sample):5.3f} flushes a save"
                )
        crashes = 1 if quick else 10
        for threads, pause_seconds in ((max(AT_ONCE), 0.0), (1, 0.01)):
            print(f"{crashes} crashes under the load of {threads} threads that pause {1000 * pause_seconds:.0f} ms")
            for way in ways:
                losses = [way.crash(engine, threads, pause_seconds) for _ in range(crashes)]
                print(
                    f"{way.name:<9} {sum(loss.lost for loss in losses):,} lost of "
                    f"{sum(loss.acknowledged for loss in losses):,} acknowledged saves, "
                    f"the oldest acknowledged {max(loss.oldest_ms for loss in losses):.0f} ms before"
                )


if __name__ == "__main__":
    main()
