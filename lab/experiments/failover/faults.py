"""What is done to a running shop: six faults, each struck and repaired the same way every time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec
import redis

from lab.errors import LabError

if TYPE_CHECKING:
    from lab.measuring.place import Server

Target = Literal["server", "servers", "redis", "postgresql"]
Strike = Callable[[Any, Sequence[Any]], AbstractContextManager[None]]
C = TypeVar("C")

VICTIM = "web-2"
"""The server that is struck."""

STOPPED_SECONDS = 3.0
"""How long a server stands still: longer than the balancer waits for an answer."""

RENEWAL_SECONDS = 1.5
"""About how long it takes to renew one server of many, under load: most of it is the balancer's farewell to idle
connections (`lab/engines/nginx.py`)."""

CONTAINER_RENEWAL_SECONDS = 9.0
"""The same in containers: the farewell of a server that leaves (`lab/servers/farewell.py`), a new process, and the time
until DNS lists it and the balancer has asked."""

ROOM_BYTES = 4 * 1024 * 1024
"""How far `maxmemory` lies above what Redis holds before it is filled."""

_FILLER_BYTES = (64 * 1024, 4 * 1024, 256, 16)
"""Sizes of the values that fill Redis, from coarse to fine, until not even the smallest goes in."""

_TOP_UP_SECONDS = 0.05
"""How often room that others have made is filled again."""

_MOST_FILLERS = 100_000


class Victims(Protocol):
    """What can be done to the servers of a shop, wherever they run, each by its name."""

    @property
    def servers(self) -> Sequence[Server]:
        """All of them."""

    def kill(self, name: str) -> None:
        """End one as a crash would."""

    def restart(self, name: str) -> None:
        """Put a fresh one in its place; return when it serves."""

    def pause(self, name: str) -> None:
        """Freeze one."""

    def resume(self, name: str) -> None:
        """Thaw it."""

    def take_out(self, name: str, *, put_back: str | None = None) -> None:
        """Take one out of the balancer's rotation, and put another back."""

    def renew(self, name: str) -> None:
        """End one in good order, and put a fresh one in its place; return when it serves."""

    def put_back(self, name: str) -> None:
        """Put one back into the rotation."""


class Networked(Protocol):
    """What can be done beside to servers that have a network of their own."""

    def cut(self, name: str) -> None:
        """Cut one off from the network."""

    def mend(self, name: str) -> None:
        """Connect it again; return when it can be reached. It is no error if it was never cut off."""


class Mortal(Protocol):
    """What can be done to an engine."""

    def kill(self) -> None:
        """End it as a crash would."""

    def restart(self) -> None:
        """Start it again on what it had written; return when it answers."""


class MortalRedis(Mortal, Protocol):
    """Redis, which can also be asked."""

    def connect(self) -> redis.Redis:
        """Return a client for the lab's own questions."""


class Stricken(Protocol):
    """What is struck beside servers.

    Attributes:
        namespace: begins the names of the lab's own keys in Redis.
    """

    namespace: str

    @property
    def redis(self) -> MortalRedis | None:
        """The Redis with the sessions."""

    @property
    def postgresql(self) -> Mortal:
        """The PostgreSQL with catalogue and sessions."""


class Fault(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        name: as it stands in files.
        title: what is done, in a few words.
        target: what is struck: a server of each cluster, all of its servers, or an engine that all clusters share.
        during: what to call the time between stroke and repair.
        strike: does it; the end of its context repairs it. Where the context fails, only what would keep others from
            ending is repaired.
        hold_seconds: from the stroke to the repair; None where the size of the run says how long.
        seconds_per_server: about how long the stroke itself takes, for each server of a cluster.
    """

    name: str
    title: str
    target: Target
    during: str
    strike: Strike
    hold_seconds: float | None = None
    seconds_per_server: float = 0.0


@contextmanager
def kill_server(_: object, clusters: Sequence[Victims]) -> Iterator[None]:
    """End one server of each cluster as a crash would; then put a fresh one with empty memory in its place."""
    _everywhere(clusters, lambda cluster: cluster.kill(VICTIM))
    yield
    _everywhere(clusters, lambda cluster: cluster.restart(VICTIM))


@contextmanager
def stop_server(_: object, clusters: Sequence[Victims]) -> Iterator[None]:
    """Let one server of each cluster stand still: its connections stay open, and nothing answers."""
    try:
        _everywhere(clusters, lambda cluster: cluster.pause(VICTIM))
        yield
    finally:
        _everywhere(clusters, lambda cluster: cluster.resume(VICTIM))


@contextmanager
def cut_server(_: object, clusters: Sequence[Networked]) -> Iterator[None]:
    """Cut one server of each cluster off from the network: packets to and from it go nowhere, and nobody is told."""
    try:
        _everywhere(clusters, lambda cluster: cluster.cut(VICTIM))
        yield
    finally:
        _everywhere(clusters, lambda cluster: cluster.mend(VICTIM))


@contextmanager
def rolling_restart(_: object, clusters: Sequence[Victims]) -> Iterator[None]:
    """Renew all servers of each cluster, one after the other, as an update does; nothing is left to be repaired.

    Each is taken out of the balancer's rotation, answers what it has begun, and ends; a fresh process with empty memory
    takes its place, and goes into the rotation when it says that it serves.
    """
    _everywhere(clusters, _roll)
    yield


@contextmanager
def kill_redis(lab: Stricken, _: object) -> Iterator[None]:
    """End Redis as a crash would; then start it again on what it had written."""
    engine = _redis(lab)
    engine.kill()
    yield
    engine.restart()


@contextmanager
def kill_postgresql(lab: Stricken, _: object) -> Iterator[None]:
    """End PostgreSQL as a crash would; then start it again on what it had written."""
    lab.postgresql.kill()
    yield
    lab.postgresql.restart()


@contextmanager
def fill_redis(lab: Stricken, _: object) -> Iterator[None]:
    """Give Redis a `maxmemory` and fill it to the brim, and keep it there; then remove what filled it."""
    with _redis(lab).connect() as client:
        before = str(client.config_get("maxmemory")["maxmemory"])
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + ROOM_BYTES)
        filler = _Filler(client, f"{lab.namespace}filler")
        try:
            with filler.kept_full():
                yield
        finally:
            filler.remove()
            client.config_set("maxmemory", before)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-server", "kill -9 one server, restart it", "server", "dead", kill_server),
        Fault(
            "stop-server", f"stop one server for {STOPPED_SECONDS:g} s", "server", "stopped", stop_server,
            hold_seconds=STOPPED_SECONDS,
        ),
        Fault(
            "rolling-restart", "restart every server, one by one", "servers", "restarting", rolling_restart,
            hold_seconds=0.0, seconds_per_server=RENEWAL_SECONDS,
        ),
        Fault("kill-redis", "kill -9 Redis, restart it", "redis", "down", kill_redis),
        Fault("kill-postgresql", "kill -9 PostgreSQL, restart it", "postgresql", "down", kill_postgresql),
        Fault("fill-redis", "fill Redis to maxmemory", "redis", "full", fill_redis),
    )
}  # fmt: skip
"""Every fault of processes, in the order in which a run strikes."""

CUT = Fault(
    "cut-server", f"cut one server off from the network for {STOPPED_SECONDS:g} s", "server", "cut off", cut_server,
    hold_seconds=STOPPED_SECONDS,
)  # fmt: skip
"""Only where every server has a network of its own: processes share their machine's."""


def known_to(engine: str, faults: Mapping[str, Fault] = FAULTS) -> dict[str, Fault]:
    """Return every fault that can be struck where an engine runs the servers, in the order in which a run strikes.

    Args:
        engine: `local` or `docker`.
        faults: those of processes.
    """
    if engine == "local":
        return dict(faults)
    after_stop = list(faults).index("stop-server") + 1 if "stop-server" in faults else 0
    every = [_of_containers(fault) for fault in faults.values()]
    return {fault.name: fault for fault in (*every[:after_stop], CUT, *every[after_stop:])}


def _of_containers(fault: Fault) -> Fault:
    """Return a fault with the time that it takes of containers."""
    slow = bool(fault.seconds_per_server)
    return msgspec.structs.replace(fault, seconds_per_server=CONTAINER_RENEWAL_SECONDS) if slow else fault


class _Filler:
    """Values that take up Redis's memory.

    Args:
        client: talks to Redis.
        prefix: begins the names of their keys.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._count = 0
        self._enough = threading.Event()

    @contextmanager
    def kept_full(self) -> Iterator[None]:
        """Fill Redis, and fill what others free while the context lasts."""
        self._fill()
        if not self._count:
            raise LabError("Redis took nothing although its maxmemory was raised above what it holds")
        with ThreadPoolExecutor(1) as pool:
            topping_up = pool.submit(self._top_up)
            try:
                yield
            finally:
                self._enough.set()
            topping_up.result()

    def remove(self) -> None:
        """Remove every value."""
        keys = [f"{self._prefix}:{number}" for number in range(self._count)]
        for first in range(0, len(keys), 1000):
            self._client.unlink(*keys[first : first + 1000])

    def _top_up(self) -> None:
        while not self._enough.wait(_TOP_UP_SECONDS):
            self._fill()

    def _fill(self) -> None:
        for size in _FILLER_BYTES:
            while self._count < _MOST_FILLERS and self._put(size):
                pass

    def _put(self, size: int) -> bool:
        try:
            self._client.set(f"{self._prefix}:{self._count}", b"x" * size)
        except redis.OutOfMemoryError:
            return False
        self._count += 1
        return True


def _roll(cluster: Victims) -> None:
    """Renew the servers of a cluster; one goes back into the rotation in the moment in which the next one leaves it."""
    renewed: str | None = None
    for server in cluster.servers:
        cluster.take_out(server.name, put_back=renewed)
        cluster.renew(server.name)
        renewed = server.name
    if renewed:
        cluster.put_back(renewed)


def _redis(lab: Stricken) -> MortalRedis:
    if lab.redis is None:
        raise LabError("this lab was started without Redis, so nothing can be done to it")
    return lab.redis


def _everywhere(clusters: Sequence[C], act: Callable[[C], object]) -> None:
    """Do something to several clusters at once, wait for all, then raise the first error there was."""
    with ThreadPoolExecutor(len(clusters)) as pool:
        for done in [pool.submit(act, cluster) for cluster in clusters]:
            done.result()
