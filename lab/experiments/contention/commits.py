"""How long one writer alone waits for a write to be acknowledged, under each promise: is this machine's disk quick?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np
import psycopg

from lab.cluster import Promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.cluster import Lab

WRITES = 80
"""For each promise."""

_BYTES = 1000


class Commits(msgspec.Struct, frozen=True):
    """The median of one writer's waits, in ms.

    Attributes:
        postgresql: by `on`, `off`, `unlogged`.
        redis: by `always`, `everysec`, `none`; empty for a Redis that is not the lab's own.
    """

    postgresql: dict[str, float]
    redis: dict[str, float]


def commit_times(lab: Lab) -> Commits:
    """Write one value of 1 kB again and again under each promise."""
    return Commits(_postgresql(lab), _redis(lab))


def _postgresql(lab: Lab) -> dict[str, float]:
    found = {}
    value = "x" * _BYTES
    with psycopg.connect(lab.postgresql.url, autocommit=True, prepare_threshold=0) as connection:
        for commit in ("on", "off", "unlogged"):
            kind = "UNLOGGED " if commit == "unlogged" else ""
            connection.execute(f"CREATE {kind}TABLE lab_commits (id integer PRIMARY KEY, value text)".encode())
            connection.execute("INSERT INTO lab_commits VALUES (1, '')")
            connection.execute(f"SET synchronous_commit = {'off' if commit == 'off' else 'on'}".encode())
            found[commit] = _median_ms(lambda: connection.execute("UPDATE lab_commits SET value = %s", [value]))
            connection.execute("DROP TABLE lab_commits")
    return found


def _redis(lab: Lab) -> dict[str, float]:
    if lab.redis is None or lab.redis.pid is None:
        return {}
    found = {}
    key, value = f"{lab.namespace}commits", "x" * _BYTES
    with lab.redis.connect() as client:
        for promise in get_args(Promise):
            with lab.redis.promising(promise):
                found[str(promise)] = _median_ms(lambda: client.set(key, value))
        client.delete(key)
    return found


def _median_ms(write: Callable[[], object]) -> float:
    seconds = []
    for _ in range(WRITES):
        began = time.perf_counter()
        write()
        seconds.append(time.perf_counter() - began)
    return float(1000 * np.median(seconds))
