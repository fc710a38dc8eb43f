"""The lab: engines, the shop's origin database, and the clusters on them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from lab.cluster.cluster import Cluster
from lab.engines.delay import DelayedLink
from lab.engines.keeper import Keeper
from lab.engines.postgresql import PostgreSQL, apart_from_other_databases
from lab.engines.redis import CACHE, Redis
from lab.errors import LabError, from_os_error
from lab.servers import ForkServer
from lab.shop import catalogue
from strategies import find
from strategies.contract import UnsupportedPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.cluster.spec import ClusterSpec


class Lab:
    """Engines, the shop's origin database and the clusters on them; a context manager that leaves nothing behind.

    Args:
        run_folder: an existing folder; logs go to `engines/` and `servers/` in it.
        redis: whether a strategy of this run needs Redis.
        cache: whether a shop of this run has a cache in front of its catalogue: a Redis of its own.
        seed: of the shop's catalogue.

    Attributes:
        postgresql: the database engine.
        redis: the Redis engine, None where it was not asked for.
        cache: the Redis that is the shop's cache, likewise; always the lab's own.
        keeper: keeps processes and the temporary folder.
        fork_server: makes web servers.
        id: tells this lab from others on the same engines and the same host.
        namespace: begins the names of all its tables and keys.
        engine: where shops run: `local`, as processes of the lab's own.
        silences: what cannot be told, a sentence each.
        versions: of what is not as in the lab's own environment.
    """

    engine = "local"
    silences: tuple[str, ...] = ()
    versions: Mapping[str, str | None] = MappingProxyType({})

    def __init__(self, run_folder: Path, *, redis: bool = True, cache: bool = False, seed: int = 1) -> None:
        self.id = token_hex(3)
        self.namespace = f"s{self.id}_"
        self.server_logs = run_folder / "servers"
        self._engine_logs = run_folder / "engines"
        self._with_redis = redis
        self._with_cache = cache
        self._seed = seed
        self._stack = ExitStack()
        self._clusters: list[Cluster] = []
        self.postgresql: PostgreSQL
        self.redis: Redis | None = None
        self.cache: Redis | None = None
        self.fork_server: ForkServer

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                for folder in (self._engine_logs, self.server_logs):
                    folder.mkdir(exist_ok=True)
            except OSError as error:
                raise from_os_error(error) from error
            stack.enter_context(apart_from_other_databases())
            self.keeper = stack.enter_context(Keeper(self._engine_logs))
            stack.callback(self._stop_clusters)
            _together([self._start_database, self._start_redis, self._start_cache, self._start_fork_server])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *specs: ClusterSpec) -> list[Cluster]:
        """Start clusters side by side; on a failure, none of them stays.

        Raises:
            UnknownStrategy: there is no such strategy.
            UnsupportedPolicy: a strategy cannot keep the promise of the writes asked for.
            LabError: one does not start.
        """
        for spec in specs:
            self._check(spec)
        clusters = [Cluster(spec, self) for spec in specs]
        self._clusters += clusters
        try:
            _together([cluster.launch for cluster in clusters])
        except BaseException:
            for cluster in clusters:
                self.stop(cluster)
            raise
        return clusters

    def stop(self, cluster: Cluster) -> None:
        """Stop a cluster. Its sessions in a shared store stay until the lab ends."""
        if cluster in self._clusters:
            self._clusters.remove(cluster)
            cluster.close()

    def refusal(self, _: ClusterSpec) -> None:
        """Return why there can be no such cluster here: there can."""

    def check(self) -> None:
        """See that everything that was started still runs.

        Raises:
            EngineFailed: a program has ended that the lab did not end itself.
        """
        self.keeper.check()

    def engine_pids(self) -> tuple[int, ...]:
        """Return the processes of PostgreSQL and Redis, to count CPU time of; empty for those not the lab's own."""
        stores = [engine for engine in (self.redis, self.cache) if engine]
        return (*self.postgresql.pids(), *(pid for engine in stores for pid in engine.pids()))

    @contextmanager
    def link(self, name: str, targets: Sequence[tuple[str, int]], one_way_seconds: float) -> Iterator[tuple[int, ...]]:
        """Run an emulated link while the context lasts; gives a port on 127.0.0.1 for each target.

        Args:
            name: what to call it; the log's name.
            targets: host and port of each.
            one_way_seconds: how much later everything arrives, in each direction.

        Raises:
            LabError: no port is free, or the link does not start.
        """
        link = DelayedLink.start(self.keeper, name, targets, one_way_seconds)
        try:
            yield link.ports
        finally:
            link.stop()

    def _check(self, spec: ClusterSpec) -> None:
        strategy = find(spec.strategy)
        if spec.writes not in strategy.policies:
            raise UnsupportedPolicy(
                f"{strategy.name} cannot promise {spec.writes!r} writes; it supports: {', '.join(strategy.policies)}"
            )
        if "redis" in strategy.needs and self.redis is None:
            raise LabError(f"{spec.name} needs Redis, which this lab was started without")
        if spec.cache is not None and self.cache is None:
            raise LabError(f"{spec.name} needs a cache, which this lab was started without")

    def _start_database(self) -> None:
        self.postgresql = PostgreSQL.start(self.keeper)
        try:
            catalogue.prepare(self.postgresql.url, seed=self._seed)
        except catalogue.CatalogueUnavailable as error:
            raise LabError(str(error)) from error

    def _start_redis(self) -> None:
        if self._with_redis:
            self.redis = Redis.start(self.keeper)

    def _start_cache(self) -> None:
        if self._with_cache:
            self.cache = Redis.start(self.keeper, "cache", settings=CACHE, own=True)

    def _start_fork_server(self) -> None:
        self.fork_server = ForkServer.start(self.keeper)

    def _stop_clusters(self) -> None:
        # All at once: each may take a moment to finish its requests.
        _together([partial(self.stop, cluster) for cluster in self._clusters])
        if self.redis:
            self.redis.clear(self.namespace)
        for engine in (getattr(self, "fork_server", None), self.redis, self.cache, getattr(self, "postgresql", None)):
            if engine is not None:
                engine.stop()


def _together(tasks: Iterable[Callable[[], object]]) -> None:
    """Run tasks side by side, wait for all, then raise the first error there was."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        futures: list[Future[object]] = [pool.submit(task) for task in tasks]
        wait(futures)
    for future in futures:
        future.result()
