"""Engines and load together, as the experiments use them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic

from lab.cluster import Cluster, Lab
from lab.measuring.place import P, S, Shop
from loadtests.client import ArmTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.cluster import ClusterSpec
    from loadtests.client import Generator


class PlaceBench(Generic[P, S]):
    """Engines and load together: starts the clusters of a phase, makes them known to the load, and stops them.

    Args:
        lab: the engines, or another place where clusters run.
        load: the load generator.
    """

    def __init__(self, lab: P, load: Generator) -> None:
        self.lab = lab
        self.load = load

    @contextmanager
    def clusters(self, specs: list[ClusterSpec]) -> Iterator[dict[str, S]]:
        """Run clusters while the context lasts; arm to cluster."""
        running: dict[str, S] = {cluster.spec.name: cluster for cluster in self.lab.start(*specs)}
        try:
            for arm, cluster in running.items():
                self.load.open(target_of(arm, cluster))
            yield running
        finally:
            for cluster in running.values():
                self.lab.stop(cluster)


Bench = PlaceBench[Lab, Cluster]
"""Of what needs the lab's own engines and processes."""


def target_of(arm: str, cluster: Shop) -> ArmTarget:
    """Say where an arm's shoppers go."""
    return ArmTarget(
        arm=arm,
        strategy=cluster.spec.strategy,
        url=cluster.url,
        server_urls={server.name: server.url for server in cluster.servers},
        cookie_name=cluster.cookie_name,
    )
