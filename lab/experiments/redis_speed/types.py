"""A cart, a list of pages and a set of categories: as Redis's own types, against one serialized value.

One value: a change reads the session, unpacks it, changes it, packs it, and writes it back; between the read and the
write another writer can do the same, and the later write erases the earlier. Redis's own types: a change names what it
changes, and Redis applies it at once. Each of the three keys has an expiry of its own, which every change extends, as
the one value's is.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from lab.experiments.redis_speed.wire import Wire, wires

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.cluster import Lab

SESSION_BYTES = 8 * 1024
"""Of the one value, and so of what the three types hold."""

KINDS = ("cart", "recent", "categories")
"""What a change concerns: a line of the cart (hash), a page looked at (list), a category (set)."""

WRITERS = 4
CHANGES = 6
"""Changes that each writer makes to one session, two of each kind."""

PATIENCE_SECONDS = 30.0
_REPEATS = 4
_IDLE_MS = 30 * 60 * 1000
_MOST_RECENT = 1000
_ITEM = "{kind}-{number:05d}-{who:>04}"


class Content(msgspec.Struct):
    """What a session holds.

    Attributes:
        cart: product to quantity.
        recent: pages looked at, newest first.
        categories: of what was looked at, each once.
    """

    cart: dict[str, int]
    recent: list[str]
    categories: list[str]

    def add(self, kind: str, item: str) -> None:
        """Change one thing."""
        if kind == "cart":
            self.cart[item] = 1
        elif kind == "recent":
            self.recent = [item, *self.recent][:_MOST_RECENT]
        elif item not in self.categories:
            self.categories.append(item)

    def has(self, kind: str, item: str) -> bool:
        """Whether a change is there."""
        return item in getattr(self, kind)


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Content).decode


def content() -> Content:
    """Make up a session of exactly `SESSION_BYTES` as JSON, a third of it in each of the three."""
    made = Content({}, [], [])
    number = 0
    while len(_ENCODE(made)) < SESSION_BYTES - 100:
        made.add(KINDS[number % 3], item_of(KINDS[number % 3], number, "old"))
        number += 1
    made.recent.append("/" + "p" * (SESSION_BYTES - len(_ENCODE(made)) - 4))
    return made


def item_of(kind: str, number: int, who: str) -> str:
    """Name a product, a page or a category; names are equally long."""
    return _ITEM.format(kind=kind[:4], number=number, who=who)


class Way(Protocol):
    """A way of keeping such a session in Redis."""

    name: str

    def put(self, wire: Wire, key: str, session: Content) -> None:
        """Store a whole session, in place of what was there."""

    def change(self, wire: Wire, key: str, kind: str, item: str) -> None:
        """Change one thing, as an application would."""

    def read(self, wire: Wire, key: str) -> Content:
        """Read a whole session."""


class OneValue:
    """The whole session as one JSON value under one key."""

    name = "one value"

    def put(self, wire: Wire, key: str, session: Content) -> None:
        """SET."""
        wire.ask(("SET", key, _ENCODE(session), "PX", _IDLE_MS))

    def change(self, wire: Wire, key: str, kind: str, item: str) -> None:
        """GET, unpack, change, pack, SET."""
        session = self.read(wire, key)
        session.add(kind, item)
        self.put(wire, key, session)

    def read(self, wire: Wire, key: str) -> Content:
        """GET and unpack."""
        return _DECODE(wire.ask(("GET", key))[0])


class NativeTypes:
    """A hash, a list and a set under three keys."""

    name = "native types"

    def put(self, wire: Wire, key: str, session: Content) -> None:
        """HSET, RPUSH and SADD onto nothing."""
        lines: list[Any] = [word for line in session.cart.items() for word in line]
        wire.ask(
            ("DEL", *self._keys(key)),
            ("HSET", f"{key}:cart", *lines),
            ("RPUSH", f"{key}:recent", *session.recent),
            ("SADD", f"{key}:categories", *session.categories),
            *self._extend(key),
        )

    def change(self, wire: Wire, key: str, kind: str, item: str) -> None:
        """HSET, or LPUSH and LTRIM, or SADD, with the three expiries in the same round trip."""
        place = f"{key}:{kind}"
        commands: dict[str, list[tuple[Any, ...]]] = {
            "cart": [("HSET", place, item, 1)],
            "recent": [("LPUSH", place, item), ("LTRIM", place, 0, _MOST_RECENT - 1)],
            "categories": [("SADD", place, item)],
        }
        wire.ask(*commands[kind], *self._extend(key))

    def read(self, wire: Wire, key: str) -> Content:
        """HGETALL, LRANGE and SMEMBERS."""
        cart, recent, categories = wire.ask(
            ("HGETALL", f"{key}:cart"), ("LRANGE", f"{key}:recent", 0, -1), ("SMEMBERS", f"{key}:categories")
        )
        lines = dict(zip(cart[::2], cart[1::2], strict=True))
        return Content(
            {item.decode(): int(count) for item, count in lines.items()},
            [page.decode() for page in recent],
            [name.decode() for name in categories],
        )

    def _keys(self, key: str) -> list[str]:
        return [f"{key}:{kind}" for kind in KINDS]

    def _extend(self, key: str) -> list[tuple[Any, ...]]:
        return [("PEXPIRE", each, _IDLE_MS) for each in self._keys(key)]


WAYS: tuple[Way, ...] = (OneValue(), NativeTypes())


class Change(msgspec.Struct, frozen=True):
    """One change by a writer who is alone.

    Attributes:
        way: how the session is kept.
        kind: of the change.
        block: from 0.
        sent: bytes to Redis.
        received: bytes from Redis.
        taken_ms: from the application's wish to the answer.
    """

    way: str
    kind: str
    block: int
    sent: int
    received: int
    taken_ms: float


class Race(msgspec.Struct):
    """What became of changes by several writers at once.

    Attributes:
        way: how the session is kept.
        confirmed: changes that Redis has answered.
        lost: those of them that the session does not show in the end, by kind.
    """

    way: str
    confirmed: int
    lost: dict[str, int]


def alone(lab: Lab, *, blocks: int, on_block: Callable[[], None] = lambda: None) -> list[Change]:
    """Make changes of each kind in both ways, block by block, each block from a fresh session."""
    assert lab.redis is not None  # noqa: S101 - the caller started it
    session, found = content(), []
    with lab.redis.connect() as client, wires(client, 1) as (wire,):
        for block in range(blocks):
            for way in WAYS if block % 2 else WAYS[::-1]:
                key = f"{lab.namespace}alone:{way.name.replace(' ', '-')}"
                way.put(wire, key, session)
                for number, kind in enumerate(KINDS * _REPEATS):
                    change = partial(way.change, wire, key, kind, item_of(kind, number, "new"))
                    sent, received, taken_ms = _watched(wire, change)
                    found.append(Change(way.name, kind, block, sent, received, taken_ms))
            on_block()
    return found


def _watched(wire: Wire, change: Callable[[], None]) -> tuple[int, int, float]:
    """Return bytes sent, bytes received and milliseconds of a change."""
    sent, received, begun = wire.sent, wire.received, time.perf_counter()
    change()
    return wire.sent - sent, wire.received - received, 1000 * (time.perf_counter() - begun)


def race(lab: Lab, *, rounds: int) -> list[Race]:
    """Let several writers, each with a connection of its own, change one session at once; again and again.

    Args:
        lab: with Redis.
        rounds: sessions in each way; each takes `WRITERS` times `CHANGES` changes.
    """
    assert lab.redis is not None  # noqa: S101 - the caller started it
    session = content()
    races = [Race(way.name, 0, dict.fromkeys(KINDS, 0)) for way in WAYS]
    with lab.redis.connect() as client, wires(client, WRITERS) as lanes, ThreadPoolExecutor(WRITERS) as pool:
        for number in range(rounds):
            for way, found in zip(WAYS, races, strict=True):
                key = f"{lab.namespace}race:{way.name.replace(' ', '-')}:{number}"
                way.put(lanes[0], key, session)
                made = _together(pool, lanes, way, key)
                shown = way.read(lanes[0], key)
                found.confirmed += len(made)
                for kind, item in made:
                    found.lost[kind] += not shown.has(kind, item)
                lanes[0].ask(("DEL", key, *(f"{key}:{kind}" for kind in KINDS)))
    return races


def _together(pool: ThreadPoolExecutor, lanes: Sequence[Wire], way: Way, key: str) -> list[tuple[str, str]]:
    """Let every writer make its changes; return all of them, each answered by Redis."""
    start = threading.Barrier(len(lanes))

    def write(writer: int) -> list[tuple[str, str]]:
        made = []
        start.wait(PATIENCE_SECONDS)
        for number in range(CHANGES):
            kind = KINDS[number % len(KINDS)]
            item = item_of(kind, number, f"w{writer}")
            way.change(lanes[writer], key, kind, item)
            made.append((kind, item))
        return made

    return [change for made in pool.map(write, range(len(lanes))) for change in made]
