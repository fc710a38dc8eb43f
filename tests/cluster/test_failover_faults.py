"""The faults of `make failover` on running clusters: each is struck, and repaired whatever happens meanwhile."""

from __future__ import annotations

from contextlib import nullcontext

import psutil
import pytest
import requests

from lab.experiments.failover.faults import ROOM_BYTES, VICTIM, fill_redis, kill_server, stop_server
from tests.cluster.shopping import add, cart, server


@pytest.fixture
def clusters(start):
    """Two clusters of two servers, which are struck at once."""
    return [start("isolated", servers=2), start("sticky", servers=2)]


def frozen(cluster):
    """Return whether the victim stands still."""
    return psutil.Process(server(cluster, VICTIM).pid).status() == psutil.STATUS_STOPPED


@pytest.mark.parametrize("meanwhile", ["all goes well", "something fails"])
def test_a_stopped_server_goes_on_with_all_it_had(clusters, lab, meanwhile):
    """One server of each cluster stands still as long as the fault lasts, and no longer, also when the run fails."""
    shoppers = [requests.Session() for _ in clusters]
    for cluster, shopper in zip(clusters, shoppers, strict=True):
        add(shopper, server(cluster, VICTIM).url, "kept")
    fails = meanwhile == "something fails"
    with pytest.raises(InterruptedError) if fails else nullcontext(), stop_server(lab, clusters):
        assert all(map(frozen, clusters))
        assert [set(cluster.census()) for cluster in clusters] == [{"web-1"}] * 2
        if fails:
            raise InterruptedError
    assert not any(map(frozen, clusters))
    for cluster, shopper in zip(clusters, shoppers, strict=True):
        assert cart(shopper, server(cluster, VICTIM).url) == ["kept"]
        assert set(cluster.census()) == {"web-1", "web-2"}
        shopper.close()


def test_a_killed_server_is_another_one_afterwards(clusters, lab):
    """Dead as long as the fault lasts; then a fresh one has its name and port, and nothing in memory."""
    before = [server(cluster, VICTIM).pid for cluster in clusters]
    with requests.Session() as shopper:
        victim = server(clusters[0], VICTIM)
        add(shopper, victim.url, "lost")
        with kill_server(lab, clusters):
            assert not any(server(cluster, VICTIM).alive for cluster in clusters)
        assert cart(shopper, victim.url) == []
    assert not set(before) & {server(cluster, VICTIM).pid for cluster in clusters}


def test_a_full_redis_has_room_again(start, lab):
    """While the fault lasts nothing can be saved, not even by deleting little by little; then all is as before."""
    cluster = start("redis", servers=2)
    with lab.redis.connect() as client, requests.Session() as shopper:
        limit, keys = client.config_get("maxmemory"), set(client.keys())
        with fill_redis(lab, [cluster]):
            assert int(client.config_get("maxmemory")["maxmemory"]) >= ROOM_BYTES
            body = {"token": "none", "product": 1, "quantity": 1}
            assert shopper.post(f"{cluster.url}/api/cart", json=body, timeout=10).status_code == 503
        assert (client.config_get("maxmemory"), set(client.keys())) == (limit, keys)
        add(shopper, cluster.url, "kept")
        assert cart(shopper, cluster.url) == ["kept"]
