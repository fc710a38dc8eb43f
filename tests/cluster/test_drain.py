"""Servers that are drained, taken out and put back: who still comes to them, and what is lost."""

from __future__ import annotations

import pytest
import requests

from lab.errors import LabError
from tests.cluster.shopping import ATTEMPTS, add, cart, failed, newcomers


def test_drained_it_keeps_those_who_are_bound_and_gets_nobody_else(start):
    """Sticky: shoppers of a drained server stay there and lose nothing; newcomers go elsewhere, until `undrain`."""
    cluster = start("sticky")
    shoppers = [requests.Session() for _ in range(9)]
    bound = {shopper: add(shopper, cluster.url, "before") for shopper in shoppers}
    assert sorted(bound.values()) == ["web-1"] * 3 + ["web-2"] * 3 + ["web-3"] * 3
    held = set(cluster.census()["web-2"].handles)
    cluster.drain("web-2")
    assert set(newcomers(cluster, 9)) == {"web-1", "web-3"}
    for shopper, at in bound.items():
        assert add(shopper, cluster.url, "drained") == at
        assert cart(shopper, cluster.url) == ["before", "drained"]
    for _ in range(6):
        with requests.Session() as newcomer:
            assert add(newcomer, cluster.url, "new") != "web-2"
    assert set(cluster.census()["web-2"].handles) == held
    cluster.drain("web-2")
    cluster.undrain("web-2")
    cluster.undrain("web-2")
    assert set(newcomers(cluster, 9)) == {"web-1", "web-2", "web-3"}
    assert sum(one.sessions_replaced for one in cluster.counters().values()) == 0
    for shopper in shoppers:
        shopper.close()


def test_drained_without_affinity_a_server_gets_nothing(start):
    """Round robin binds nobody: a drained server may be stopped, and no shopper notices."""
    cluster = start("redis")
    cluster.drain("web-1")
    with requests.Session() as shopper:
        assert {add(shopper, cluster.url, f"n{number}") for number in range(6)} == {"web-2", "web-3"}
        cluster.kill("web-1")
        assert len(cart(shopper, cluster.url)) == 6
        cluster.restart("web-1")
        assert set(newcomers(cluster, 6)) == {"web-2", "web-3"}
        cluster.undrain("web-1")
        assert set(newcomers(cluster, 6)) == {"web-1", "web-2", "web-3"}


def test_taken_out_a_server_gets_nobody_not_even_those_bound(start):
    """Sticky: its shoppers go elsewhere and find no session there; back in the rotation it serves again."""
    cluster = start("sticky")
    shoppers = [requests.Session() for _ in range(6)]
    bound = {shopper: add(shopper, cluster.url, "before") for shopper in shoppers}
    cluster.take_out("web-2")
    for shopper, at in bound.items():
        moved = at == "web-2"
        assert cart(shopper, cluster.url) == ([] if moved else ["before"])
    assert set(newcomers(cluster, 6)) == {"web-1", "web-3"}
    cluster.take_out("web-1", put_back="web-2")
    assert set(newcomers(cluster, 6)) == {"web-2", "web-3"}
    cluster.put_back("web-1")
    assert set(newcomers(cluster, 6)) == {"web-1", "web-2", "web-3"}
    for shopper in shoppers:
        shopper.close()


def test_the_last_server_is_not_taken_out(start):
    """Drained ones do not count: nobody new would come to them."""
    cluster = start("redis")
    cluster.take_out("web-1")
    cluster.drain("web-2")
    with pytest.raises(LabError, match="web-3 is the last one that takes shoppers"):
        cluster.take_out("web-3")
    assert set(newcomers(cluster, 3)) == {"web-3"}
    cluster.take_out("web-3", put_back="web-1")
    assert set(newcomers(cluster, 3)) == {"web-1"}


def test_a_balancer_counts_on_over_a_change(start):
    """The access log loses no line of the old worker, and the new one's processes are known."""
    cluster = start("isolated")
    before = cluster.balancer.pids()
    newcomers(cluster, 10)
    cluster.drain("web-1")
    newcomers(cluster, 10)
    assert cluster.balancer.traffic().requests == 20
    after = cluster.balancer.pids()
    assert len(after) == len(before) == 2
    assert after[0] == before[0] == cluster.balancer.pid
    assert after[1] != before[1]


def test_under_load_a_drain_loses_no_request_and_no_session(start, load):
    """Sticky under load: while a server is drained and undrained, all is answered, and each by the server bound."""
    cluster = start("sticky")
    load.enter(cluster)
    before = {name: set(census.handles) for name, census in cluster.census().items()}
    failures = []

    def act():
        cluster.drain("web-2")
        cluster.undrain("web-2")

    for _ in range(ATTEMPTS):
        operations, _ = load.during(act)
        served = {(one.shopper, one.server) for one in operations if one.server}
        assert len(served) == len({shopper for shopper, _ in served})
        assert {name: set(census.handles) for name, census in cluster.census().items()} == before
        failures.append(failed(operations))
        if not failures[-1]:
            return
    pytest.fail(f"requests failed each time: {failures}")
