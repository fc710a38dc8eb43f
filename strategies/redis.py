"""Sessions in Redis: one hash per session, which `HGETALL <namespace>:<handle>` shows in plain text.

Layout: `_version`, `_secret` (its SHA-256), `_origin`, `_idle` and `_absolute` (deadlines, in milliseconds since the
epoch), and `f:<name>` for each field, as JSON. Redis itself removes the key at the idle deadline. A load is one
HGETALL; every write is one Lua script on one key, so that it is atomic, one round trip, and at home in a Redis Cluster.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar, Self, cast

import redis
from redis.backoff import NoBackoff
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
from strategies.upkeep import Calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redis.commands.core import Script

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
"""

_CREATE = (
    _NOW
    + """
-- ARGV: origin, secret hash, idle ms, absolute ms, then field, value, field, value...
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local absolute = now + ARGV[4]
local idle = math.min(now + ARGV[3], absolute)
redis.call('HSET', KEYS[1], '_version', 1, '_origin', ARGV[1], '_secret', ARGV[2],
           '_idle', whole(idle), '_absolute', whole(absolute))
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIREAT', KEYS[1], whole(idle))
return 1
"""
)

_SAVE = (
    _NOW
    + """
-- ARGV: origin, new secret hash or '', idle ms, expected version or '', whole (1/0), n fields to delete, those fields,
-- then field, value, field, value... Returns the new version, 0 if the session is gone, -1 on a conflict.
local version = redis.call('HGET', KEYS[1], '_version')
if not version then return 0 end
if ARGV[4] ~= '' and ARGV[4] ~= version then return -1 end
local deleted = tonumber(ARGV[6])
if ARGV[5] == '1' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if field:sub(1, 2) == 'f:' then redis.call('HDEL', KEYS[1], field) end
  end
end
for i = 7, 6 + deleted do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 7 + deleted, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], '_secret', ARGV[2]) end
local idle = math.min(now + ARGV[3], tonumber(redis.call('HGET', KEYS[1], '_absolute')))
redis.call('HSET', KEYS[1], '_origin', ARGV[1], '_idle', whole(idle))
local saved = redis.call('HINCRBY', KEYS[1], '_version', 1)
-- Last: where the absolute deadline has just passed this deletes the key, and a command after it would make a new one.
redis.call('PEXPIREAT', KEYS[1], whole(idle))
return saved
"""
)

_TOUCH = (
    _NOW
    + """
-- ARGV: idle ms
local absolute = redis.call('HGET', KEYS[1], '_absolute')
if not absolute then return 0 end
local idle = math.min(now + ARGV[1], tonumber(absolute))
redis.call('HSET', KEYS[1], '_idle', whole(idle))
return redis.call('PEXPIREAT', KEYS[1], whole(idle))
"""
)

_GONE, _CONFLICT = 0, -1
_FIELD = b"f:"
_Argument = str | int | bytes


class RedisStore(SessionStore):
    """Hashes in Redis, or in a Redis Cluster.

    Nothing is retried: a save that timed out may have been applied. Errors of every kind (refused, timed out, loading,
    out of memory, read-only replica) are `StoreUnavailable`; the next call connects anew.

    Args:
        settings: `redis_url`, namespace, lifetimes, timeout.
        client: talks to Redis.
    """

    policies: ClassVar[frozenset[WritePolicy]] = frozenset({"fields", "blob", "versioned"})

    def __init__(self, settings: StoreSettings, client: redis.Redis) -> None:
        self.settings = settings
        self._client = client
        self._calls = Calls()
        self._idle_ms = round(settings.idle_seconds * 1000)
        self._absolute_ms = round(settings.absolute_seconds * 1000)
        self._create_script = client.register_script(_CREATE)
        self._save_script = client.register_script(_SAVE)
        self._touch_script = client.register_script(_TOUCH)

    @classmethod
    def open(cls, settings: StoreSettings) -> Self:
        """Connect to Redis, or to the cluster that the URL leads to."""
        if settings.redis_url is None:
            raise StoreUnavailable("no redis_url in the settings")
        with _unavailable():
            return cls(settings, _connect(settings.redis_url, settings))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def create(self, handle: str, session: NewSession) -> str:
        """Write the hash with its expiry, unless the key exists."""
        self._calls.add("creates")
        first: list[_Argument] = [self.settings.server, session.secret_hash, self._idle_ms, self._absolute_ms]
        arguments: list[_Argument] = [*first, *_pairs(session.fields)]
        if self._run(self._create_script, handle, arguments) == 0:
            raise SessionExists(handle)
        return "1"

    def load(self, handle: str, *, ask_peers: bool = False) -> SessionRecord | None:  # noqa: ARG002 - one copy
        """Read the hash: one HGETALL."""
        self._calls.add("loads")
        with _unavailable():
            found = cast("dict[bytes, bytes]", self._client.hgetall(self._key(handle)))
        return _record(found) if found else None

    def save(self, handle: str, changes: Changes, expected_version: str | None = None) -> str:
        """Change fields, version and expiry in one script."""
        self._calls.add("saves")
        deleted = [_FIELD + name.encode() for name in changes.deleted]
        arguments: list[_Argument] = [
            self.settings.server,
            changes.secret_hash or "",
            self._idle_ms,
            expected_version or "",
            int(changes.whole),
            len(deleted),
            *deleted,
            *_pairs(changes.set),
        ]
        version = self._run(self._save_script, handle, arguments)
        if version == _GONE:
            raise SessionGone(handle)
        if version == _CONFLICT:
            raise SessionConflict(handle)
        return str(version)

    def touch(self, handle: str) -> None:
        """Move the expiry of a hash that still exists."""
        self._calls.add("touches")
        self._run(self._touch_script, handle, [self._idle_ms])

    def delete(self, handle: str) -> None:
        """Delete the key."""
        self._calls.add("deletes")
        with _unavailable():
            self._client.delete(self._key(handle))

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

    def _run(self, script: Script, handle: str, arguments: list[_Argument]) -> int:
        with _unavailable():
            return int(cast("int", script(keys=[self._key(handle)], args=arguments)))


def _connect(url: str, settings: StoreSettings) -> redis.Redis:
    options = {
        "socket_timeout": settings.timeout_seconds,
        "socket_connect_timeout": settings.timeout_seconds,
        "client_name": f"{settings.namespace}-{settings.server}",
        "protocol": 2,
    }
    client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    client.ping()  # INFO alone is answered, too, while Redis still reads its data and refuses every session
    if not client.info("cluster").get("cluster_enabled"):
        return client
    client.close()
    # Here the retries follow MOVED answers when the cluster's layout changes.
    return cast("redis.Redis", redis.RedisCluster.from_url(url, **options))


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailable(f"Redis: {error}") from error


def _pairs(fields: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, value in fields.items():
        yield _FIELD + name.encode()
        yield value


def _record(found: dict[bytes, bytes]) -> SessionRecord:
    return SessionRecord(
        secret_hash=found[b"_secret"].decode(),
        fields={name[len(_FIELD) :].decode(): value for name, value in found.items() if name.startswith(_FIELD)},
        version=found[b"_version"].decode(),
        origin=found[b"_origin"].decode(),
        idle_deadline=int(found[b"_idle"]) / 1000,
        absolute_deadline=int(found[b"_absolute"]) / 1000,
    )
