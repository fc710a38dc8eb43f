"""Sessions in Redis: one hash per session, which `HGETALL <namespace>:<handle>` shows in plain text.

Layout: `_version`, `_secret` (its SHA-256), `_origin`, `_idle` and `_absolute` (deadlines, in milliseconds since the
epoch), and `f:<name>` for each field, as JSON. Redis itself removes the key at the idle deadline. A load is one
HGETALL; every write is one Lua script on one key, so that it is atomic, one round trip, and at home in a Redis Cluster.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException
from redis.retry import Retry

from strategies.contract import (
    Census,
    Changes,
    NewSession,
    SessionConflict,
    SessionExists,
    SessionGone,
    SessionRecord,
    SessionStore,
    StoreSettings,
    StoreUnavailable,
    WritePolicy,
    logical_bytes,
)
from strategies.redis_connections import Connections
from strategies.upkeep import Calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strategies.redis_connections import Word


class _Script(NamedTuple):
    text: str
    digest: str


def _script(text: str) -> _Script:
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())  # as Redis names scripts


# Fields and values go to Redis 1000 at a time, as Lua's stack has an end. Numbers that go there are written out, as
# Redis writes large round ones with an exponent.
_CREATE = _script("""
-- ARGV: idle ms, absolute ms, then field, value, field, value...
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local absolute = now + ARGV[2]
local idle = string.format('%.0f', math.min(now + ARGV[1], absolute))
redis.call('HSET', KEYS[1], '_version', '1', '_idle', idle, '_absolute', string.format('%.0f', absolute),
           unpack(ARGV, 3, math.min(1002, #ARGV)))
for i = 1003, #ARGV, 1000 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
redis.call('PEXPIREAT', KEYS[1], idle)
return 1
""")

_SAVE = _script("""
-- ARGV: idle ms, expected version or '', whole (1/0), n fields to delete, those fields, then field, value, field,
-- value... Returns the new version, 0 if the session is gone, -1 on a conflict.
local call, key = redis.call, KEYS[1]
local found = call('HMGET', key, '_version', '_absolute')
local version, absolute = found[1], found[2]
if not version then return 0 end
if ARGV[2] ~= '' and ARGV[2] ~= version then return -1 end
if ARGV[3] == '1' then
  for _, field in ipairs(call('HKEYS', key)) do
    if field:sub(1, 2) == 'f:' then call('HDEL', key, field) end
  end
end
local first = 5 + ARGV[4]
for i = 5, first - 1, 1000 do call('HDEL', key, unpack(ARGV, i, math.min(i + 999, first - 1))) end
local clock = call('TIME')
local idle = math.min(clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[1], absolute)
idle = string.format('%.0f', idle)
call('HSET', key, '_version', string.format('%.0f', version + 1), '_idle', idle,
     unpack(ARGV, first, math.min(first + 999, #ARGV)))
for i = first + 1000, #ARGV, 1000 do call('HSET', key, unpack(ARGV, i, math.min(i + 999, #ARGV))) end
-- Last: where the absolute deadline has just passed this deletes the key, and a command after it would make a new one.
call('PEXPIREAT', key, idle)
return version + 1
""")

_TOUCH = _script("""
-- ARGV: idle ms
local absolute = redis.call('HGET', KEYS[1], '_absolute')
if not absolute then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local idle = string.format('%.0f', math.min(now + ARGV[1], tonumber(absolute)))
redis.call('HSET', KEYS[1], '_idle', idle)
return redis.call('PEXPIREAT', KEYS[1], idle)
""")

_GONE, _CONFLICT = 0, -1
_FIELD = b"f:"
_ERRORS = (redis.RedisError, RedisClusterException)


class RedisStore(SessionStore):
    """Hashes in Redis, or in a Redis Cluster.

    Nothing is retried that may have been applied, such as a save that timed out. Errors of every kind (refused, timed
    out, loading, out of memory, read-only replica) are `StoreUnavailable`; the next call connects anew where it must.

    Warning:
        In a cluster, a call to a node that does not answer also asks the other nodes for the layout, one after the
        other, before it gives up. Where none of them answers, it takes `timeout_seconds` for each.

    Args:
        settings: `redis_url`, namespace, lifetimes, timeout.
        client: knows the server. A cluster's client also sends every command, as it alone knows which node has a key.
    """

    policies: ClassVar[frozenset[WritePolicy]] = frozenset({"fields", "blob", "versioned"})

    def __init__(self, settings: StoreSettings, client: redis.Redis | redis.RedisCluster) -> None:
        self.settings = settings
        self._client = client
        self._connections = None if isinstance(client, redis.RedisCluster) else Connections(client.connection_pool)
        self._send = self._connections.call if self._connections else client.execute_command
        self._calls = Calls()
        self._idle_ms = round(settings.idle_seconds * 1000)
        self._absolute_ms = round(settings.absolute_seconds * 1000)

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Connect to Redis, or to the cluster that the URL leads to."""
        if settings.redis_url is None:
            raise StoreUnavailable("no redis_url in the settings")
        with _unavailable():
            return cls(settings, _connect(settings.redis_url, settings))

    def close(self) -> None:
        """Close the connections."""
        if self._connections:
            self._connections.close()
        self._client.close()

    def create(self, handle: str, session: NewSession) -> str:
        """Write the hash with its expiry, unless the key exists."""
        self._calls.add("creates")
        about = self._about(session.secret_hash)
        if self._run(_CREATE, handle, self._idle_ms, self._absolute_ms, *about, *_pairs(session.fields)) == 0:
            raise SessionExists(handle)
        return "1"

    def load(self, handle: str) -> SessionRecord | None:
        """Read the hash: one HGETALL."""
        self._calls.add("loads")
        found = self._ask("HGETALL", self._key(handle))
        return _record(_by_name(found)) if found else None

    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """Change fields, version and expiry in one script."""
        self._calls.add("saves")
        deleted = [_FIELD + name.encode() for name in changes.deleted]
        how = (self._idle_ms, expected_version or "", int(changes.whole), len(deleted))
        about = self._about(changes.secret_hash)
        version = self._run(_SAVE, handle, *how, *deleted, *about, *_pairs(changes.set))
        if version == _GONE:
            raise SessionGone(handle)
        if version == _CONFLICT:
            raise SessionConflict(handle)
        return str(version)

    def touch(self, handle: str) -> None:
        """Move the expiry of a hash that still exists."""
        self._calls.add("touches")
        self._run(_TOUCH, handle, self._idle_ms)

    def delete(self, handle: str) -> None:
        """Delete the key."""
        self._calls.add("deletes")
        self._ask("DEL", self._key(handle))

    def census(self) -> Census:
        """Scan the namespace; physical bytes are what Redis says each key occupies."""
        handles, logical, physical = [], 0, 0
        with _unavailable():
            for key in self._client.scan_iter(match=self._key("*"), count=1000):
                pipeline = self._client.pipeline(transaction=False)
                pipeline.hgetall(key)
                pipeline.memory_usage(key, samples=0)
                found, occupied = pipeline.execute()
                if found:
                    handles.append(key.decode().partition(":")[2])
                    logical += logical_bytes(_record(found).fields)
                    physical += occupied or 0
        return Census(tuple(handles), logical, physical, **self._calls.totals())

    def _key(self, handle: str) -> str:
        return f"{self.settings.namespace}:{handle}"

    def _about(self, secret_hash: str | None) -> tuple[Word, ...]:
        origin = ("_origin", self.settings.server)
        return origin if secret_hash is None else (*origin, "_secret", secret_hash)

    def _run(self, script: _Script, handle: str, *arguments: Word) -> int:
        try:
            return cast("int", self._ask("EVALSHA", script.digest, 1, self._key(handle), *arguments))
        except _ScriptUnknown:  # nothing was run; this runs it, and Redis knows it from now on
            return cast("int", self._ask("EVAL", script.text, 1, self._key(handle), *arguments))

    def _ask(self, *words: Word) -> Any:
        try:
            return self._send(*words)
        except NoScriptError as error:
            raise _ScriptUnknown from error
        except _ERRORS as error:
            raise StoreUnavailable(f"Redis: {error}") from error


class _ScriptUnknown(StoreUnavailable):
    """Redis has forgotten a script, or never met it: a restart, or a failover, does that."""


def _connect(url: str, settings: StoreSettings) -> redis.Redis | redis.RedisCluster:
    never = Retry(NoBackoff(), 0)  # a cluster's client follows MOVED and ASK answers all the same
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_seconds,
        "socket_connect_timeout": settings.timeout_seconds,
        "client_name": f"{settings.namespace}-{settings.server}",
        "protocol": 2,
        "retry": never,
    }
    client = redis.Redis.from_url(url, **options)
    try:
        client.ping()  # INFO alone is answered, too, while Redis still reads its data and refuses every session
        in_cluster = client.info("cluster").get("cluster_enabled")
    finally:
        client.close()  # until it is needed again
    return redis.RedisCluster.from_url(url, **options) if in_cluster else client


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise StoreUnavailable(f"Redis: {error}") from error


def _by_name(found: Any) -> dict[bytes, bytes]:
    """Return an HGETALL's answer as a dict, which a cluster's client has made of it already."""
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


def _pairs(fields: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, value in fields.items():
        yield _FIELD + name.encode()
        yield value


def _record(found: dict[bytes, bytes]) -> SessionRecord:
    taken = found.pop
    return SessionRecord(
        secret_hash=taken(b"_secret").decode(),
        version=taken(b"_version").decode(),
        origin=taken(b"_origin").decode(),
        idle_deadline=int(taken(b"_idle")) / 1000,
        absolute_deadline=int(taken(b"_absolute")) / 1000,
        fields={_field_name(name): value for name, value in found.items()},
    )


@functools.lru_cache(4096)
def _field_name(name: bytes) -> str:
    return name.removeprefix(_FIELD).decode()
