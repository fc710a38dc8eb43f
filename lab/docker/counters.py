"""The engine's own counters of a container: CPU time, memory, bytes on its networks.

`docker stats` prints percentages; the totals that it makes them from are in the engine's HTTP API alone. The one
request that is needed goes over the engine's socket with the standard library: a client library would be one more
dependency for it.
"""

from __future__ import annotations

import http.client
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from lab.containers.compose import docker
from lab.errors import EngineFailed, LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWER_SECONDS = 30.0
"""Engines count once a second, and answer when they have; a busy machine takes longer."""

_UNIX = "unix://"


class _Cpu(msgspec.Struct):
    total_usage: int = 0


class _CpuStats(msgspec.Struct):
    cpu_usage: _Cpu = msgspec.field(default_factory=_Cpu)


class _MemoryStats(msgspec.Struct):
    stats: dict[str, int] = {}


class _Network(msgspec.Struct):
    rx_bytes: int = 0
    tx_bytes: int = 0


class _Stats(msgspec.Struct):
    cpu_stats: _CpuStats
    memory_stats: _MemoryStats = msgspec.field(default_factory=_MemoryStats)
    networks: dict[str, _Network] = {}


_decoder = msgspec.json.Decoder(_Stats)
"""Made before there are threads: msgspec crashes where two of them use a type for the first time together."""


class Counted(msgspec.Struct, frozen=True):
    """What an engine has counted of a container since it started.

    Attributes:
        cpu_seconds: CPU time of all its processes.
        memory_bytes: memory that belongs to them alone, without the file cache; None where that is not told.
        received_bytes: that came in over its networks.
        sent_bytes: that went out.
    """

    cpu_seconds: float
    memory_bytes: int | None
    received_bytes: int
    sent_bytes: int


class Counters:
    """Reads the counters of the engine that `docker` talks to.

    Raises:
        LabError: that engine is on another machine: its ports are published there, so nothing could be measured.
    """

    def __init__(self) -> None:
        where = os.environ.get("DOCKER_HOST") or docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
        self._socket = where.strip().removeprefix(_UNIX)
        if not where.startswith(_UNIX):
            raise LabError(
                f"ENGINE=docker needs an engine on this machine ({_UNIX}…), since it publishes ports on 127.0.0.1; "
                f"`docker` talks to {where.strip()}"
            )

    def read(self, containers: Sequence[str]) -> list[Counted]:
        """Return what the engine has counted of each container; all are asked at once.

        Raises:
            EngineFailed: the engine does not tell.
        """
        with ThreadPoolExecutor(max(len(containers), 1)) as pool:
            return list(pool.map(self._read, containers))

    def _read(self, container: str) -> Counted:
        connection = _Connection(self._socket)
        try:
            connection.request("GET", f"/containers/{container}/stats?stream=false&one-shot=true")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineFailed(f"the container engine at {self._socket} does not answer: {error}") from error
        finally:
            connection.close()
        try:
            return _counted(_decoder.decode(body))
        except msgspec.DecodeError as error:
            said = " ".join(body[:200].decode(errors="replace").split())
            raise EngineFailed(f"the container engine does not tell what {container[:12]} used: {said}") from error


def _counted(stats: _Stats) -> Counted:
    memory = stats.memory_stats.stats
    return Counted(
        cpu_seconds=stats.cpu_stats.cpu_usage.total_usage / 1e9,
        memory_bytes=memory.get("anon", memory.get("total_rss")),  # cgroup version 2, version 1
        received_bytes=sum(one.rx_bytes for one in stats.networks.values()),
        sent_bytes=sum(one.tx_bytes for one in stats.networks.values()),
    )


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
