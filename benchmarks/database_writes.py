"""What sessions in PostgreSQL leave behind, on the lab's own server with its own settings.

Four web servers with four threads each save one field of twenty in sessions of 1, 8 and 48 KB, as fast as they can.
Fields are random text, which cannot be compressed: the worst case.

    python -m benchmarks.database_writes [--quick] [--alternatives]
"""

from __future__ import annotations

import argparse
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from benchmarks._sessions_in_postgresql import (
    SERVERS,
    SESSIONS,
    THREADS,
    Counts,
    Sizes,
    Table,
    change_setting,
    in_threads,
    postgresql,
    setting,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from lab.engines.postgresql import PostgreSQL
    from strategies.database import DatabaseStore

SIZES_KB = (1, 8, 48)
AIM_HOT = 0.9
ENOUGH_SAVES = 100_000

OWN = "the store's own"
ALTERNATIVES = {
    1: {
        "fillfactor 100": 'ALTER TABLE "{table}" SET (fillfactor = 100)',
        "index on deadline": 'CREATE INDEX ON "{table}" (idle_deadline)',
    },
    8: {
        "vacuum by default": 'ALTER TABLE "{table}" RESET (toast.autovacuum_vacuum_threshold, '
        "toast.autovacuum_vacuum_scale_factor, toast.autovacuum_vacuum_cost_delay)",
    },
}
ALTERNATIVES[48] = ALTERNATIVES[8]
"""What else the table could be like: size in KB to name to the statement that makes it so."""


class Growth(NamedTuple):
    """What a number of saves did to a table."""

    saves: int
    seconds: float
    before: Sizes
    most: Sizes
    wal_bytes: int
    heap: Counts
    toast: Counts

    @property
    def hot(self) -> float:
        """Share of updates that stayed on their page."""
        return self.heap.hot_updates / self.heap.updates

    @property
    def growth_seconds(self) -> float:
        """For how many seconds of writing the TOAST relation had room at its largest, beside what is alive."""
        page_bytes, pieces_on_a_page = 8192, 4
        written_bytes = self.toast.deletes * page_bytes / pieces_on_a_page
        return (self.most.toast - self.before.toast) / (written_bytes / self.seconds) if written_bytes else 0.0


@contextmanager
def largest(table: Table) -> Iterator[list[Sizes]]:
    """Look at the sizes twice a second; the list holds the largest of each in the end."""
    seen = [table.sizes()]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            seen.append(table.sizes())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        done.set()
        looker.join()
        seen[:] = [Sizes(*map(max, zip(*seen, table.sizes(), strict=True)))]


def measure(engine: PostgreSQL, kilobytes: int, saves: int, change: str = "") -> Growth:
    """Save that often, and see what it left behind."""
    table = Table(engine, kilobytes, change)
    before, wal = table.sizes(), table.wal()
    each = saves // (SERVERS * THREADS)

    def work(store: DatabaseStore, rng: random.Random) -> None:
        for _ in range(each):
            table.save(store, rng)

    with largest(table) as most:
        began = time.perf_counter()
        with table.servers() as stores:
            in_threads(stores, work)
        seconds = time.perf_counter() - began
    time.sleep(1.5)  # PostgreSQL gathers its counts once a second
    saves = each * SERVERS * THREADS
    wal_bytes = table.wal() - wal
    growth = Growth(saves, seconds, before, most[0], wal_bytes, table.counts("oid"), table.counts("reltoastrelid"))
    table.drop()
    return growth


def show(name: str, growth: Growth) -> None:
    """Print one line of figures."""
    dead = growth.heap.updates + growth.toast.deletes
    left = growth.heap.dead + growth.toast.dead
    mib = [
        f"{start / 2**20:6.1f} to {most / 2**20:7.1f}" for start, most in zip(growth.before, growth.most, strict=True)
    ]
    print(
        f"{name:<24} {growth.saves / growth.seconds:6,.0f} {growth.hot:6.1%} {growth.wal_bytes / growth.saves:8,.0f} "
        f"{dead / growth.saves:6.1f} {left / growth.saves:7.3f}  {mib[0]}  {mib[1]}  {mib[2]}  "
        f"{growth.heap.vacuums:3d} {growth.toast.vacuums:3d} {growth.growth_seconds:6.1f} of {growth.seconds:5.1f}",
        flush=True,
    )


def header() -> None:
    """Print what the columns are."""
    print(
        f"{'session':<24} {'saves':>6} {'HOT':>6} {'log per':>8} {'dead rows':>14}  {'heap, MiB':>17}  "
        f"{'TOAST, MiB':>17}  {'indexes, MiB':>17}  {'vacuums':>7} {'TOAST grew by'}\n"
        f"{'':<24} {'per s':>6} {'':>6} {'save, B':>8} {'made':>6} {'left':>7}  {'from to at most':>17}  {'':>17}  "
        f"{'':>17}  {'':>7} {'s of writing':>15}"
    )


def main() -> None:
    """Print a line for each size of session."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="5,000 saves of each size")
    parser.add_argument("--saves", type=int, default=20_000, help="how many of each size; docs/database.md has 100000")
    parser.add_argument("--alternatives", action="store_true", help="other settings of the table beside the store's")
    parser.add_argument("--naptime", help="how often autovacuum looks, such as 5s, instead of the lab's setting")
    chosen = parser.parse_args()
    saves = 5_000 if chosen.quick else chosen.saves
    hot = {}
    with postgresql() as engine:
        if chosen.naptime:
            change_setting(engine, "autovacuum_naptime", chosen.naptime)
        naptime = setting(engine, "autovacuum_naptime")
        print(f"PostgreSQL {engine.version}, {engine.durability}; autovacuum_naptime {naptime}")
        print(f"{saves:,} saves in {SESSIONS:,} sessions, by {SERVERS} servers with {THREADS} threads each")
        header()
        for kilobytes in SIZES_KB:
            for name, change in ({OWN: ""} | (ALTERNATIVES[kilobytes] if chosen.alternatives else {})).items():
                growth = measure(engine, kilobytes, saves, change)
                hot[kilobytes, name] = growth.hot
                show(f"{kilobytes:2d} KB, {name}", growth)
    print(f"HOT updates at 1 KB are {'above' if hot[1, OWN] > AIM_HOT else 'NOT above'} {AIM_HOT:.0%}")
    if saves < ENOUGH_SAVES:
        print(
            f"too few saves for autovacuum to come by often: how far the pieces grow shows with --saves {ENOUGH_SAVES}"
        )


if __name__ == "__main__":
    main()
