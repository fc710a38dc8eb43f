"""Whether shoppers notice that 10,000 expired sessions are removed from PostgreSQL.

Four web servers save sessions of 1 KB at a moderate pace, while nothing has expired, while the four sweep, and, for
comparison, while one statement deletes all.

    python -m benchmarks.database_sweeps [--quick]
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._sessions_in_postgresql import SERVERS, Table, postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strategies.database import DatabaseStore

EXPIRED = 10_000
_EXPIRE = """
    INSERT INTO "{table}"
    SELECT 'old-' || i, 1, '', '', jsonb_build_object('a', repeat('x', 1000)), now() - interval '1 s', now()
    FROM generate_series(1, %d) AS i
"""


def nothing(_: Table) -> None:
    """Nothing has expired; watch for a second."""
    time.sleep(1)


def batches(table: Table) -> None:
    """All servers sweep at once."""
    table.execute(_EXPIRE % EXPIRED)
    with table.servers(sweep_seconds=0.1):
        while table.expired():
            time.sleep(0.05)


def one_statement(table: Table) -> None:
    """One statement deletes all."""
    table.execute(_EXPIRE % EXPIRED)
    table.execute('DELETE FROM "{table}" WHERE idle_deadline <= now()')


EVENTS: dict[str, Callable[[Table], None]] = {
    "nothing expired": nothing,
    "swept in batches": batches,
    "one DELETE": one_statement,
}


def saves_during(event: Callable[[Table], None], table: Table, stores: Sequence[DatabaseStore]) -> list[float]:
    """Return the latencies in ms of the saves that one shopper of each server makes meanwhile."""
    done = threading.Event()

    def shop(store: DatabaseStore) -> list[float]:
        rng = random.Random()  # noqa: S311 - nothing secret
        sample = []
        while not done.wait(rng.uniform(0.002, 0.006)):
            began = time.perf_counter()
            table.save(store, rng)
            sample.append(1000 * (time.perf_counter() - began))
        return sample

    with ThreadPoolExecutor(len(stores)) as pool:
        shoppers = [pool.submit(shop, store) for store in stores]
        try:
            event(table)
        finally:
            done.set()
        return [latency for shopper in shoppers for latency in shopper.result()]


def main() -> None:
    """Print a line for each event."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 20")
    rounds = 2 if parser.parse_args().quick else 20
    with postgresql() as engine:
        table = Table(engine, 1)
        latencies: dict[str, list[float]] = {name: [] for name in EVENTS}
        with table.servers() as stores:
            for _ in range(rounds):
                for name, event in EVENTS.items():
                    latencies[name] += saves_during(event, table, stores)
    print(f"{EXPIRED:,} expired sessions, {SERVERS} servers, {rounds} rounds; saves of shoppers meanwhile:")
    for name, sample in latencies.items():
        p50, p99 = np.percentile(sample, [50, 99])
        print(f"{name:<17} {len(sample):6,} saves  p50 {p50:5.2f} ms  p99 {p99:6.2f} ms  slowest {max(sample):6.1f} ms")


if __name__ == "__main__":
    main()
