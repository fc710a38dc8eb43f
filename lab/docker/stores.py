"""The stores in containers, asked over their published ports and struck through the container engine."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import psycopg
import redis

from lab.containers.compose import docker
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis
from lab.errors import EngineFailed

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS = 300.0
"""How long a store may take until it answers, a fresh data folder or a long log included."""


def last_words(container: str) -> str:
    """Return the last line that a container wrote, on whichever stream."""
    command = ["docker", "logs", "--tail", "1", container]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return " ".join(said.stdout.split()) or "none"


class Contained:
    """What can be done to a container, by its id.

    Args:
        container: its id.
        name: what to call it.
        answers: whether what runs in it answers.
    """

    def __init__(self, container: str, name: str, answers: Callable[[], bool]) -> None:
        self.container = container
        self._name = name
        self._answers = answers

    def kill(self) -> None:
        """End its processes as a crash would (SIGKILL); the engine does not start it again by itself."""
        docker("kill", "--signal", "KILL", self.container)

    def restart(self) -> None:
        """Start it again on what it had written; return when it answers.

        Raises:
            EngineFailed: it does not in time.
        """
        docker("start", self.container)
        self.wait()

    def pause(self) -> None:
        """Freeze its processes: connections stay open and nothing answers."""
        docker("pause", self.container)

    def resume(self) -> None:
        """Thaw them."""
        docker("unpause", self.container)

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            EngineFailed: it does not in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                last = last_words(self.container)
                raise EngineFailed(f"{self._name} does not answer after {START_SECONDS:.0f} s. Its last words: {last}")
            time.sleep(0.1)


def redis_answers(url: str) -> bool:
    """Whether a Redis answers, and has read its data."""
    try:
        with redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0) as client:
            return not client.info("persistence")["loading"]
    except redis.RedisError:
        return False


def postgresql_answers(url: str) -> bool:
    """Whether a PostgreSQL accepts connections."""
    try:
        with psycopg.connect(url, connect_timeout=10):
            return True
    except psycopg.Error:
        return False


class InContainer:
    """What an engine of the lab's can be told (see `lab.engines.engine.Engine`), done to its container."""

    contained: Contained
    own = True

    def kill(self) -> None:
        """End it as a crash would."""
        self.contained.kill()

    def restart(self) -> None:
        """Start it again on what it had written; return when it answers."""
        self.contained.restart()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self.contained.pause()

    def resume(self) -> None:
        """Thaw it."""
        self.contained.resume()


class ContainedRedis(InContainer, Redis):
    """Redis in a container."""

    def __init__(self, url: str, container: str) -> None:
        self.contained = Contained(container, "Redis", lambda: redis_answers(url))
        self.contained.wait()
        super().__init__(url)


class ContainedPostgreSQL(InContainer, PostgreSQL):
    """PostgreSQL in a container."""

    def __init__(self, url: str, container: str) -> None:
        self.contained = Contained(container, "PostgreSQL", lambda: postgresql_answers(url))
        self.contained.wait()
        super().__init__(url)
