"""Where shops run: processes of the lab's own, containers, or a deployment that runs already.

An experiment measures through these two shapes and knows no more of the place. What a place cannot tell is None or
empty, and one of its `silences` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from lab.cluster import ClusterSpec
    from lab.probes.containers import Use
    from lab.probes.cpu import CpuMeter
    from lab.probes.traffic import Links
    from strategies.contract import Census


class Server(Protocol):
    """A web server as shoppers see it, past the balancer."""

    @property
    def name(self) -> str:
        """What it calls itself in its answers."""

    @property
    def url(self) -> str:
        """Where it serves shoppers."""

    @property
    def log(self) -> str:
        """Where what it says can be read."""


class Shop(Protocol):
    """Servers of one strategy behind a balancer."""

    @property
    def spec(self) -> ClusterSpec:
        """What it was asked to be."""

    @property
    def url(self) -> str:
        """Where shoppers go: the balancer."""

    @property
    def cookie_name(self) -> str:
        """Of its session cookie."""

    @property
    def servers(self) -> Sequence[Server]:
        """Those that can be reached past the balancer."""

    @property
    def namespace(self) -> str | None:
        """The table with its sessions, or the prefix of their keys, in a shared store."""

    @property
    def balancer_version(self) -> str | None:
        """Of its nginx."""

    def census(self) -> Mapping[str, Census]:
        """Return what each server holds; empty where they cannot be asked."""

    def quiet(self) -> float:
        """Wait until every copy has reached the peers; return how long that took, in seconds."""

    def links(self, peer_requests: int) -> Links:
        """Return what went over each link so far.

        Args:
            peer_requests: how many requests its servers have sent each other.
        """

    def cpu_meter(self) -> CpuMeter | None:
        """Return a meter of the CPU time of all that serves it, fine enough for a slice."""

    def container_use(self) -> Mapping[str, Use]:
        """Return what each container that serves it has used so far; empty where there are none. May take a second."""

    def memory_bytes(self) -> int | None:
        """Return the memory that its servers have to themselves."""


S = TypeVar("S", bound=Shop)


class StoreEngine(Protocol):
    """PostgreSQL or Redis, as it can be asked about itself."""

    @property
    def url(self) -> str:
        """Where it answers."""

    @property
    def version(self) -> str:
        """Of its program."""

    @property
    def durability(self) -> str:
        """What it promises to keep."""

    @property
    def own(self) -> bool:
        """Whether it is the lab's own, so that it can be killed and started again."""


class RedisEngine(StoreEngine, Protocol):
    """Redis, likewise."""

    def connect(self) -> redis.Redis:
        """Return a client for the lab's own questions."""


class Place(Protocol[S]):
    """Where shops run."""

    @property
    def engine(self) -> str:
        """`local`, `docker` or `target`."""

    @property
    def silences(self) -> Sequence[str]:
        """What cannot be told here, a sentence each."""

    @property
    def versions(self) -> Mapping[str, str | None]:
        """Versions that differ from those of the lab's own environment."""

    @property
    def redis(self) -> RedisEngine | None:
        """The Redis that holds sessions, where it can be asked."""

    @property
    def postgresql(self) -> StoreEngine | None:
        """The PostgreSQL with catalogue and sessions, where it can be asked."""

    def refusal(self, spec: ClusterSpec) -> str | None:
        """Return why there can be no such shop here; None where there can."""

    def start(self, *specs: ClusterSpec) -> list[S]:
        """Start shops side by side.

        Raises:
            LabError: one does not start.
        """

    def stop(self, cluster: S) -> None:
        """Stop a shop."""

    def check(self) -> None:
        """See that everything that was started still runs.

        Raises:
            LabError: something has ended.
        """


P = TypeVar("P", bound=Place[Any])
