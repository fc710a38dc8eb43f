"""How long one session operation takes, as a strategy issues it: through its store, on one connection, in turn.

Every block times a slice of each cell in a balanced order, so that what the machine does over seconds falls on all of
them alike. A slice ends after some milliseconds or some calls, whichever comes first; its first call is not counted,
since it pays for its neighbour's traces in the caches.
"""

from __future__ import annotations

import itertools
import random
import string
import time
from contextlib import ExitStack, closing
from functools import partial
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis.connection import parse_url

from lab.errors import LabError
from lab.measuring.order import balanced_order
from strategies import load_store_class
from strategies.contract import Changes, NewSession, StoreSettings, logical_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lab.cluster import Lab
    from strategies.contract import SessionStore

Operation = Literal["read", "write", "write all"]
"""A load; a save of one field, which is the default policy `fields`; a save of every field (`blob`)."""

OPERATIONS: tuple[Operation, ...] = ("read", "write", "write all")

FIELDS = 8
"""Fields of a session, all of about the same size."""

STORES = ("sticky", "database", "redis")
"""Strategies whose stores are timed: the server's own memory, PostgreSQL, Redis."""

SIZES_BYTES = (100, 1024, 8 * 1024, 48 * 1024)
"""Logical sizes of the sessions."""

SETTLED_BYTES = 1024
"""The size that the claim is about, and that goes through the emulated links."""

LEAST_CALLS, MOST_CALLS = 4, 200
"""Calls of a slice."""

_LETTERS = string.ascii_letters + string.digits
_NEVER_SECONDS = 24 * 60 * 60.0


class Cell(msgspec.Struct, frozen=True):
    """What is timed.

    Attributes:
        store: the strategy whose store it is.
        operation: what is done to a session.
        size: of the session, in logical bytes.
        round_trip_ms: of the emulated link in between; None where there is none.
    """

    store: str
    operation: Operation
    size: int
    round_trip_ms: float | None = None

    @property
    def name(self) -> str:
        """A name for orders and samples."""
        away = "" if self.round_trip_ms is None else f" {self.round_trip_ms:g} ms away"
        return f"{self.store}{away} {self.operation} {self.size}"


class Slice(msgspec.Struct):
    """The calls of one cell in one block.

    Attributes:
        cell: which one.
        block: from 0.
        position: place within the block, from 0.
        taken_ms: what each call took.
    """

    cell: Cell
    block: int
    position: int
    taken_ms: NDArray[np.float64]


def fields_of(size: int, seed: int) -> dict[str, bytes]:
    """Make up a session of exactly `size` logical bytes: letters that no store can compress away."""
    draw = random.Random(f"{seed} {size}")  # noqa: S311 - content, not a secret
    shares = [size // FIELDS] * (FIELDS - 1)
    shares.append(size - sum(shares))
    made = {}
    for index, share in enumerate(shares):
        name = f"f{index}"
        made[name] = b'"' + "".join(draw.choices(_LETTERS, k=share - len(name) - 2)).encode() + b'"'
    return made


class Sessions:
    """One session of each size in every store, each store with one connection; a context manager.

    Args:
        lab: the engines.
        seed: of the sessions' content.
        round_trips_ms: emulated links to open as well, to Redis and to PostgreSQL.

    Attributes:
        left_out: strategy to why no link leads to its engine.
    """

    def __init__(self, lab: Lab, seed: int, round_trips_ms: Sequence[float] = ()) -> None:
        self._lab = lab
        self._seed = seed
        self._round_trips_ms = round_trips_ms
        self._stack = ExitStack()
        self._stores: dict[tuple[str, float | None], SessionStore] = {}
        self._handles: dict[int, str] = {}
        self.left_out: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            urls = {"redis_url": _redis_url(self._lab), "database_url": self._lab.postgresql.url}
            for name in STORES:
                self._stores[name, None] = self._open(stack, name, urls)
            self._fill()
            targets = _targets(urls, self.left_out)
            for number, round_trip_ms in enumerate(self._round_trips_ms if targets else ()):
                one_way_seconds = round_trip_ms / 2000
                ports = stack.enter_context(
                    self._lab.link(f"link-{number}", [target for target, _ in targets.values()], one_way_seconds)
                )
                for (name, (_, through)), port in zip(targets.items(), ports, strict=True):
                    self._stores[name, round_trip_ms] = self._open(stack, name, through(port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def has(self, cell: Cell) -> bool:
        """Whether a cell can be timed here."""
        return (cell.store, cell.round_trip_ms) in self._stores

    def job(self, cell: Cell) -> Callable[[], object]:
        """Return what a cell does once."""
        store, handle = self._stores[cell.store, cell.round_trip_ms], self._handles[cell.size]
        if cell.operation == "read":
            return partial(store.load, handle)
        changes = itertools.cycle(_changes(cell, self._seed))
        return lambda: store.save(handle, next(changes))

    def check(self) -> None:
        """See that every session is there, and has the size that it is to have.

        Raises:
            LabError: one is not.
        """
        for (name, round_trip_ms), store in self._stores.items():
            for size in SIZES_BYTES:
                found = store.load(self._handles[size])
                if found is None or logical_bytes(found.fields) != size:
                    raise LabError(f"{name} lost the session of {size} B that was measured ({round_trip_ms} ms away)")

    def _open(self, stack: ExitStack, name: str, urls: Mapping[str, str]) -> SessionStore:
        settings = StoreSettings(
            server="speed",
            namespace=f"{self._lab.namespace}speed",
            idle_seconds=_NEVER_SECONDS,
            absolute_seconds=_NEVER_SECONDS,
            sweep_seconds=_NEVER_SECONDS,
            timeout_seconds=5.0,
            database_connections=1,
            redis_url=urls.get("redis_url"),
            database_url=urls.get("database_url"),
        )
        return stack.enter_context(closing(load_store_class(name).open(settings)))

    def _fill(self) -> None:
        for size in SIZES_BYTES:
            self._handles[size] = token_urlsafe(16)
            session = NewSession("0" * 64, fields_of(size, self._seed))
            for store in self._stores.values():
                store.create(self._handles[size], session)


def _changes(cell: Cell, seed: int) -> Iterator[Changes]:
    """Give two contents in turn, so that every save changes something."""
    for fields in (fields_of(cell.size, seed + 1), fields_of(cell.size, seed)):
        if cell.operation == "write":
            yield Changes(set={"f0": fields["f0"]})
        else:
            yield Changes(set=fields, whole=True)


def _redis_url(lab: Lab) -> str:
    if lab.redis is None:
        raise LabError("redis-speed needs Redis, which this lab was started without")
    return lab.redis.url


Target = tuple[tuple[str, int], "Callable[[int], dict[str, str]]"]


def _targets(urls: Mapping[str, str], left_out: dict[str, str]) -> dict[str, Target]:
    """Return what links lead to, by strategy: host and port, and the settings for a store at a link's port."""
    found: dict[str, Target] = {}
    url = urls["redis_url"]
    redis = parse_url(url)  # type: ignore[no-untyped-call]
    if url.startswith("redis://"):
        host, port = str(redis.get("host", "localhost")), int(redis.get("port", 6379))
        found["redis"] = ((host, port), lambda there: {"redis_url": _moved(url, there)})
    else:
        left_out["redis"] = "LAB_REDIS_URL is not a plain TCP address, which alone a link can lead to"
    database = conninfo_to_dict(urls["database_url"])
    host = str(database.get("host") or "")
    if host and not host.startswith("/") and database.get("sslmode") not in {"verify-full", "verify-ca"}:
        target = (str(database.get("hostaddr") or host), int(str(database.get("port") or 5432)))
        moved = partial(make_conninfo, urls["database_url"], host="127.0.0.1", hostaddr="127.0.0.1")
        found["database"] = (target, lambda there: {"database_url": moved(port=there)})
    else:
        left_out["database"] = "LAB_DATABASE_URL is not a plain TCP address, which alone a link can lead to"
    return found


def _moved(url: str, port: int) -> str:
    """Return a Redis URL that leads to a link's port; user, password, database and options stay."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    login, at, _ = place.rpartition("@")
    return f"{scheme}://{login}{at}127.0.0.1:{port}{slash}{path}"


def session_cells() -> list[Cell]:
    """List what is timed without a link: every store, size and operation."""
    return [Cell(store, operation, size) for store in STORES for operation in OPERATIONS for size in SIZES_BYTES]


def network_cells(round_trips_ms: Sequence[float]) -> list[Cell]:
    """List what is timed with links: a read and a write of one size, beside the same without a link."""
    return [
        Cell(store, operation, SETTLED_BYTES, away)
        for store in ("redis", "database")
        for operation in OPERATIONS[:2]
        for away in (None, *round_trips_ms)
    ]


def measure(
    sessions: Sessions,
    cells: Sequence[Cell],
    *,
    blocks: int,
    seconds: float,
    seed: int,
    on_block: Callable[[], None],
) -> list[Slice]:
    """Time every cell in every block.

    Args:
        sessions: where.
        cells: what; those that cannot be timed here are left out.
        blocks: how often.
        seconds: the longest that a slice takes, unless `LEAST_CALLS` take longer.
        seed: of the order.
        on_block: called after each block.
    """
    jobs = {cell.name: (cell, sessions.job(cell)) for cell in cells if sessions.has(cell)}
    slices = []
    for block, names in enumerate(balanced_order(list(jobs), blocks, seed)):
        for position, name in enumerate(names):
            cell, job = jobs[name]
            slices.append(Slice(cell, block, position, timed(job, seconds)))
        on_block()
    return slices


def timed(job: Callable[[], object], seconds: float) -> NDArray[np.float64]:
    """Do something again and again; return what each time took, in ms, without the first."""
    clock = time.perf_counter_ns
    taken_ns: list[int] = []
    job()
    end = clock() + seconds * 1e9
    while len(taken_ns) < LEAST_CALLS or (len(taken_ns) < MOST_CALLS and clock() < end):
        begun = clock()
        job()
        taken_ns.append(clock() - begun)
    return np.array(taken_ns, dtype=np.float64) / 1e6
