"""Engines and load together, as the experiments use them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from loadtests.client import ArmTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.cluster import Cluster, ClusterSpec, Lab
    from loadtests.client import Generator


class Bench:
    """Engines and load together: starts the clusters of a phase, makes them known to the load, and stops them.

    Args:
        lab: the engines.
        load: the load generator.
    """

    def __init__(self, lab: Lab, load: Generator) -> None:
        self.lab = lab
        self.load = load

    @contextmanager
    def clusters(self, specs: list[ClusterSpec]) -> Iterator[dict[str, Cluster]]:
        """Run clusters while the context lasts; arm to cluster."""
        running = {cluster.spec.name: cluster for cluster in self.lab.start(*specs)}
        try:
            for arm, cluster in running.items():
                self.load.open(target_of(arm, cluster))
            yield running
        finally:
            for cluster in running.values():
                self.lab.stop(cluster)


def target_of(arm: str, cluster: Cluster) -> ArmTarget:
    """Say where an arm's shoppers go."""
    return ArmTarget(
        arm=arm,
        strategy=cluster.spec.strategy,
        url=cluster.url,
        server_urls={server.name: server.url for server in cluster.servers},
        cookie_name=cluster.cookie_name,
    )
