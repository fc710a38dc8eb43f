"""What a session costs a request, side by side: `python -m benchmarks.session_cost [--quick] [--json FILE]`.

One Flask view, one web server for each way to keep its session, the lab's own engines. Every round visits every
combination of way, operation and size for a moment, in an order drawn anew, so that what the machine does to one it
does to all. A way's *added* time is what a request takes more than on a server that keeps no session; what is compared
are ratios of added times, with 95 % intervals over resampled rounds.

The floor (`bare`) makes the same two round trips on a socket and does nothing else. flask-session 0.8 runs with its own
defaults, which write the session after every request; `changes` tells it to write only what has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from benchmarks._session_client import Arm, Client, Slice, start, wait_for
from benchmarks._session_servers import FIELDS, SIZES_KB
from lab.engines.keeper import Keeper
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis
from lab.statistics import Interval, paired_ratio, resample_blocks, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

OPERATIONS = ("untouched", "read", "write")
SLICE_SECONDS = 0.05
SEED = 1
PEERS = 4
"""How many servers the all-to-all cluster has."""


ARMS = (
    Arm("no session", "none"),
    Arm("no session, again", "none"),
    Arm("own memory", "local"),
    Arm("all-to-all, 4 servers", "all-to-all", servers=PEERS),
    Arm("bare Redis", "bare redis"),
    Arm("redis", "redis"),
    Arm("flask-session Redis", "flask-session redis"),
    Arm("flask-session Redis, changes", "flask-session redis, changes"),
    Arm("bare PostgreSQL", "bare postgresql"),
    Arm("database", "database"),
    Arm("flask-session SQLAlchemy", "flask-session sqlalchemy"),
    Arm("flask-session SQLAlchemy, changes", "flask-session sqlalchemy, changes"),
    Arm("bare PostgreSQL, unlogged", "bare postgresql", unlogged=True),
    Arm("database, unlogged", "database", unlogged=True),
    Arm("flask-session SQLAlchemy, unlogged", "flask-session sqlalchemy", unlogged=True),
)


class Target(NamedTuple):
    """A ratio of added times to reach.

    Attributes:
        ours: the arm whose added time is divided.
        other: the arm by whose added time it is divided.
        at_most: what was set out to be reached.
        operations: for which requests.
        sizes_kb: for which sessions.
        beyond: what ours is compared with before: another arm than `no session` leaves out what that one adds.
    """

    ours: str
    other: str
    at_most: float
    operations: tuple[str, ...] = ("read", "write")
    sizes_kb: tuple[int, ...] = SIZES_KB
    beyond: str = "no session"


TARGETS = (
    Target("redis", "flask-session Redis", 0.6),
    Target("redis", "flask-session Redis, changes", 0.6),
    Target("database", "flask-session SQLAlchemy", 0.25),
    Target("database", "flask-session SQLAlchemy, changes", 0.25),
    Target("database, unlogged", "flask-session SQLAlchemy, unlogged", 0.15),
    Target("redis", "bare Redis", 1.6, sizes_kb=(1,)),
    Target("database", "bare PostgreSQL", 1.6, sizes_kb=(1,)),
    Target("database, unlogged", "bare PostgreSQL, unlogged", 1.6, sizes_kb=(1,)),
    Target("redis", "bare Redis", 1.6, sizes_kb=(1,), beyond="own memory"),
    Target("database", "bare PostgreSQL", 1.6, sizes_kb=(1,), beyond="own memory"),
    Target("database, unlogged", "bare PostgreSQL, unlogged", 1.6, sizes_kb=(1,), beyond="own memory"),
)
CONTROLS = ("no session, again", "own memory", "redis", "database")
"""Whose untouched sessions are compared with no session at all."""

Cell = tuple[str, str, int]
"""An arm, an operation and a size."""


@contextlib.contextmanager
def servers(redis_url: str, database_url: str) -> Iterator[dict[str, Client]]:
    """Start a server, or a cluster of them, for every arm; give a client for each."""
    with contextlib.ExitStack() as stack:
        started = {arm.name: start(number, arm, redis_url, database_url, stack) for number, arm in enumerate(ARMS)}
        yield {name: wait_for(servers) for name, servers in started.items()}


def measure(
    clients: dict[str, Client], sizes_kb: tuple[int, ...], rounds: int, slice_seconds: float = SLICE_SECONDS
) -> dict[Cell, list[Slice]]:
    """Visit every cell once a round; the first round warms up and does not count."""
    for client in clients.values():
        for size_kb in sizes_kb:
            client.fill(size_kb)
    cells = [(name, operation, size_kb) for name in clients for operation in OPERATIONS for size_kb in sizes_kb]
    found: dict[Cell, list[Slice]] = {cell: [] for cell in cells}
    order = random.Random(SEED)  # noqa: S311 - no secret
    for number in range(rounds + 1):
        order.shuffle(cells)
        for name, operation, size_kb in cells:
            slice_ = clients[name].measure(operation, size_kb, slice_seconds)
            if number:
                found[name, operation, size_kb].append(slice_)
    return found


class Added(NamedTuple):
    """By how much a request of one cell is longer than without a session: the estimate, and resampled estimates."""

    estimate: float
    resampled: NDArray[np.float64]


def added(found: dict[Cell, list[Slice]], cell: Cell, kind: str, beyond: str = "no session") -> Added:
    """Return the difference of two lower quartiles over the rounds, in microseconds.

    Disturbances only ever lengthen a slice, and on a machine that does other things they are most of a mean.
    """
    _, operation, size_kb = cell
    this, plain = (
        np.array([getattr(slice_, kind) for slice_ in found[which]], dtype=np.float64)
        for which in (cell, (beyond, operation, size_kb))
    )
    draws = resample_blocks(len(this))
    resampled = _quartile(this[draws]) - _quartile(plain[draws])
    return Added(float(_quartile(this) - _quartile(plain)), resampled)


def _quartile(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.quantile(values, 0.25, axis=-1))


def around(added: Added) -> Interval:
    """Return an added time with its interval."""
    return _interval(added.estimate, added.resampled)


def ratio(ours: Added, other: Added) -> Interval:
    """Return the ratio of two added times, resampled over the same rounds."""
    return _interval(ours.estimate / other.estimate, ours.resampled / other.resampled)


def _interval(estimate: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def shown(interval: Interval, digits: int) -> str:
    """Return a number with its interval."""
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def print_costs(found: dict[Cell, list[Slice]], size_kb: int) -> None:
    """Print what each arm adds to a request, in microseconds: by the clock, and of the servers' CPU."""
    print(f"\n{size_kb} KB in {FIELDS} fields: µs added to a request, wall and (CPU of the web servers)")
    print(f"{'':36}" + "".join(f"{operation:>34}" for operation in OPERATIONS))
    for arm in ARMS[1:]:
        row = ""
        for operation in OPERATIONS:
            cell = (arm.name, operation, size_kb)
            wall, cpu = (around(added(found, cell, kind)) for kind in ("wall_us", "cpu_us"))
            row += f"{shown(wall, 0) + f' ({cpu.estimate:.0f})':>34}"
        print(f"{arm.name:36}{row}")
    for operation in OPERATIONS:
        slices = found["no session", operation, size_kb]
        plain_us, plain_cpu_us = (_quartile(np.array(values)) for values in zip(*slices, strict=True))
        print(f"a request without a session ({operation}): {plain_us:.0f} µs ({plain_cpu_us:.0f})")


def print_targets(found: dict[Cell, list[Slice]], sizes_kb: tuple[int, ...]) -> None:
    """Print each ratio that was to be reached, and whether it was."""
    print("\nRatios of added times, wall and CPU; the target is for wall")
    for target in TARGETS:
        for operation in target.operations:
            for size_kb in (size for size in sizes_kb if size in target.sizes_kb):
                print_target(found, target, operation, size_kb)
    for name in CONTROLS:
        for size_kb in sizes_kb:
            walls = [
                {n: slice_.wall_us for n, slice_ in enumerate(found[arm, "untouched", size_kb])}
                for arm in (name, "no session")
            ]
            whole = paired_ratio(walls[0], [walls[1]])
            text = f"{name}: an untouched session, whole request against no session, {size_kb} KB"
            print(f"{text:92} {shown(whole, 3) if whole and whole.low else whole}  {verdict(whole)}")


def print_target(found: dict[Cell, list[Slice]], target: Target, operation: str, size_kb: int) -> None:
    """Print one line."""
    ours, other = (target.ours, operation, size_kb), (target.other, operation, size_kb)
    wall, cpu = (
        ratio(added(found, ours, kind, target.beyond), added(found, other, kind)) for kind in ("wall_us", "cpu_us")
    )
    word = "reached" if wall.estimate <= target.at_most else "NOT reached"
    sure = "" if (wall.high or 0) <= target.at_most or (wall.low or 0) > target.at_most else ", the interval has both"
    what = target.ours if target.beyond == "no session" else f"{target.ours} beyond {target.beyond}"
    text = f"{what} / {target.other}, {operation} {size_kb} KB"
    print(f"{text:72} {shown(wall, 2):20} CPU {shown(cpu, 2):20} at most {target.at_most}: {word}{sure}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="1 KB only, fewer rounds")
    parser.add_argument("--rounds", type=int, help="how many rounds, 15 if not given; docs/session-cost.md has 40")
    parser.add_argument("--slice-seconds", type=float, default=SLICE_SECONDS, help="how long a visit lasts")
    parser.add_argument("--json", type=Path, help="write every slice to this file")
    options = parser.parse_args()
    sizes_kb = SIZES_KB[:1] if options.quick else SIZES_KB
    rounds = options.rounds or (10 if options.quick else 15)
    with tempfile.TemporaryDirectory() as logs, Keeper(Path(logs)) as keeper:
        redis, postgresql = Redis.start(keeper), PostgreSQL.start(keeper)
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
        print(f"{machine}; Python {platform.python_version()}, Redis {redis.version}, PostgreSQL {postgresql.version}")
        print(f"PostgreSQL: {postgresql.durability}. Redis: {redis.durability}")
        began = time.monotonic()
        with servers(redis.url, postgresql.url) as clients:
            found = measure(clients, sizes_kb, rounds, options.slice_seconds)
        print(f"{rounds} rounds in {time.monotonic() - began:.0f} s")
        postgresql.stop()
        redis.stop()
    for size_kb in sizes_kb:
        print_costs(found, size_kb)
    print_targets(found, sizes_kb)
    if options.json:
        rows = [[*cell, number, *slice_] for cell, slices in found.items() for number, slice_ in enumerate(slices)]
        options.json.write_bytes(msgspec.json.encode(rows))


if __name__ == "__main__":
    main()
