"""Cache-aside in Redis: look there first, else ask the origin and leave the answer there for the next.

What a shop needs of it beyond `GET` and `SET`:

- an entry lives for a while, give or take a little, so that what was cached together does not expire together;
- on a miss one request fills, on whichever server it runs; the others wait for it a moment, and no longer;
- a write deletes every entry that shows what it changed, and no slower reader can put the old answer back;
- a cache that does not answer is left alone: the origin answers instead, and nobody sees an error.

The size is bounded by Redis itself (`maxmemory` with `allkeys-lru`), so the cache is a Redis of its own: one that
keeps sessions must refuse, never forget.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lab.shop.breaker import Breaker

if TYPE_CHECKING:
    from collections.abc import Callable

Outcome = Literal["hit", "miss", "waited", "bypass"]
"""`hit`: from the cache. `miss`: from the origin, and cached. `waited`: another request fetched it meanwhile. `bypass`:
from the origin, because the cache did not answer, or whoever was to fill it took too long."""

_Answer = TypeVar("_Answer")

REST_SECONDS = 1.0
"""How long a cache that did not answer is left alone."""

LEASE_SECONDS = 3.0
"""How long nobody else fills, if whoever was to do so has died: longer than the origin may take."""

WRITING_SECONDS = 5.0
"""How long nothing is cached of a product whose writer has died in the midst of it."""

WRITTEN_SECONDS = 10.0
"""How long a write is remembered: longer than any reader that began before it takes to fill."""

_POLL_SECONDS = (0.002, 0.02)

_FILL = """
-- KEYS: the entry, its lease, then of each product that it shows: the version, the list of entries
-- ARGV: the lease's token, the life in ms, the value, whether to list it, then of each product: the version read
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
for i = 3, #KEYS, 2 do
  local written = redis.call('GET', KEYS[i])
  if written and (written == 'writing' or tonumber(written) > tonumber(ARGV[4 + (i - 1) / 2])) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
if ARGV[4] == '0' then return 1 end
for i = 4, #KEYS, 2 do
  redis.call('SADD', KEYS[i], KEYS[1])
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
return 1
"""

_WRITE = """
-- KEYS: the product's version, the list of entries that show it, its own entry
-- ARGV: 'writing' or the version that was written, how long to remember that in ms
local known = tonumber(redis.call('GET', KEYS[1]) or '')
if not (known and tonumber(ARGV[1]) and known > tonumber(ARGV[1])) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
for _, entry in ipairs(redis.call('SMEMBERS', KEYS[2])) do redis.call('DEL', entry) end
redis.call('DEL', KEYS[2], KEYS[3])
"""


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a shop's cache behaves.

    Attributes:
        url: the Redis that is the cache.
        prefix: begins all keys.
        ttl_seconds: how long an entry lives.
        jitter: share of that by which lives differ, either way.
        unknown_seconds: how long it is remembered that there is no such product.
        single_flight: on a miss, one request fills and the others wait for it.
        wait_seconds: how long they wait at most before they ask the origin themselves.
        delete_on_write: a write deletes what shows it; without, only time does.
        timeout_seconds: the longest that one question to the cache may take.
    """

    url: str = ""
    prefix: str = "cache:"
    ttl_seconds: float = 60.0
    jitter: float = 0.1
    unknown_seconds: float = 5.0
    single_flight: bool = True
    wait_seconds: float = 0.5
    delete_on_write: bool = True
    timeout_seconds: float = 0.25


class Fresh(msgspec.Struct, frozen=True):
    """What the origin gave.

    Attributes:
        value: as it is to be cached.
        shows: the products it shows, each with the version that was read.
        listed: whether to list it among the entries that show them; a product's own entry is found without.
        seconds: how long it may be cached; None for the usual time.
    """

    value: bytes
    shows: Mapping[int, int]
    listed: bool = True
    seconds: float | None = None


class CacheDown(Exception):
    """The cache does not answer, or did not a moment ago."""


class Cache:
    """The cache of a shop. Safe to use from several threads; make it after forking.

    Args:
        settings: see there.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self._redis: Any = redis.Redis.from_url(
            settings.url,
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._breaker = Breaker(REST_SECONDS)
        self._fill = self._redis.register_script(_FILL)
        self._write = self._redis.register_script(_WRITE)

    def close(self) -> None:
        """Give back the connections."""
        self._redis.close()

    def through(self, key: str, fetch: Callable[[], Fresh]) -> tuple[bytes, Outcome]:
        """Return what is cached under a key; else fetch it from the origin and cache it.

        Args:
            key: what is asked for.
            fetch: asks the origin. What it raises comes through, and is not cached.
        """
        entry, token = f"{self.settings.prefix}{key}", token_hex(8)
        try:
            found, outcome = self._look(entry, token)
        except CacheDown:
            found, outcome = None, "bypass"
        if found is not None or outcome == "bypass":
            return (fetch().value if found is None else found), outcome
        try:
            fresh = fetch()
        except BaseException:
            self._give_up(entry, token)
            raise
        self._keep(entry, token, fresh)
        return fresh.value, outcome

    def writing(self, product: int, key: str) -> None:
        """Delete what shows a product and cache nothing of it until it is `written`. Call it before the write.

        Args:
            product: its number.
            key: of its own entry.
        """
        self._note(product, key, "writing", WRITING_SECONDS)

    def written(self, product: int, key: str, version: int) -> None:
        """Delete what shows a product, and from now on cache this version of it or a newer one; see `writing`."""
        self._note(product, key, str(version), WRITTEN_SECONDS)

    def _look(self, entry: str, token: str) -> tuple[bytes | None, Outcome]:
        """Return the entry if it is there or comes while another fills; `miss` is the caller's leave to fill it."""
        found = self._ask(lambda: self._redis.get(entry))
        if found is not None:
            return found, "hit"
        if not self.settings.single_flight:
            return None, "miss"
        lease, began = _lease(entry), time.monotonic()
        pause_seconds, longest = _POLL_SECONDS
        while True:
            leads, found = self._ask(lambda: self._lead(entry, token))
            if found is not None:  # somebody filled it since the first look
                self._give_up(entry, token)
                return found, "waited"
            if leads:
                return None, "miss"
            while True:
                if time.monotonic() - began > self.settings.wait_seconds:
                    return None, "bypass"
                time.sleep(pause_seconds)
                pause_seconds = min(1.5 * pause_seconds, longest)
                found, filling = self._ask(lambda: self._redis.mget(entry, lease))
                if found is not None:
                    return found, "waited"
                if filling is None:
                    break

    def _lead(self, entry: str, token: str) -> tuple[bool | None, bytes | None]:
        """Try to take the lease, and look again, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(_lease(entry), token, nx=True, px=round(1000 * LEASE_SECONDS))
            pipeline.get(entry)
            leads, found = pipeline.execute()
        return leads, found

    def _keep(self, entry: str, token: str, fresh: Fresh) -> None:
        seconds = (fresh.seconds or self.settings.ttl_seconds) * random.uniform(*self._spread())  # noqa: S311
        shows = fresh.shows if self.settings.delete_on_write else {}
        keys = [entry, _lease(entry), *(name for product in shows for name in self._names(product))]
        arguments: list[Any] = [token, max(1, round(1000 * seconds)), fresh.value, int(fresh.listed), *shows.values()]
        with suppress(CacheDown):
            self._ask(lambda: self._fill(keys, arguments))

    def _spread(self) -> tuple[float, float]:
        return 1 - self.settings.jitter, 1 + self.settings.jitter

    def _give_up(self, entry: str, token: str) -> None:
        """Let another one try to fill, where this one could not."""
        with suppress(CacheDown):
            if self._ask(lambda: self._redis.get(_lease(entry))) == token.encode():
                self._ask(lambda: self._redis.delete(_lease(entry)))

    def _note(self, product: int, key: str, what: str, seconds: float) -> None:
        if self.settings.delete_on_write:
            keys = [*self._names(product), f"{self.settings.prefix}{key}"]
            with suppress(CacheDown):  # then time alone ends what is stale
                self._ask(lambda: self._write(keys, [what, round(1000 * seconds)]))

    def _names(self, product: int) -> tuple[str, str]:
        return f"{self.settings.prefix}version:{product}", f"{self.settings.prefix}entries:{product}"

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        if not self._breaker.lets_through():
            raise CacheDown
        try:
            answer = question()
        except redis.ResponseError as error:  # it answers: it has no room, say
            self._breaker.worked()
            raise CacheDown from error
        except redis.RedisError as error:
            self._breaker.failed()
            raise CacheDown from error
        self._breaker.worked()
        return answer


def _lease(entry: str) -> str:
    return f"{entry}:lease"
