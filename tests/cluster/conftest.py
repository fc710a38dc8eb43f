"""One lab for all tests of clusters, clusters for one test, and shoppers for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from lab.cluster import ClusterSpec, Lab
from lab.engines import nginx
from loadtests.client import Generator
from tests.cluster.shopping import Load

_numbers = count()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """One lab for all these tests."""
    with Lab(tmp_path_factory.mktemp("run")) as lab:
        yield lab


@pytest.fixture(scope="module", autouse=True)
def short_farewell():
    """Shoppers who say nothing while the balancer changes over are not waited for as long as otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nginx, "FAREWELL_SECONDS", 0.1)
        yield


@pytest.fixture
def start(lab):
    """Start clusters for one test."""
    clusters = []

    def start(strategy, servers=3, **options):
        name = f"{strategy} {next(_numbers)}"
        clusters.extend(lab.start(ClusterSpec(name=name, strategy=strategy, servers=servers, **options)))
        return clusters[-1]

    yield start
    for cluster in clusters:
        lab.stop(cluster)


@pytest.fixture
def load(tmp_path):
    """Send a shopping plan to a cluster in the background."""
    with Generator(tmp_path / "generator.log") as generator, ThreadPoolExecutor(1) as pool:
        yield Load(generator, pool)
