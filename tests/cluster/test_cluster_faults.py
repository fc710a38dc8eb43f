"""Faults that a server and an engine can be given, and what the rest of the cluster makes of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from lab.errors import LabError
from lab.servers import ServerProcess
from tests.cluster.shopping import add, cart, wait_for


@pytest.mark.parametrize("strategy", ["sticky", "all-to-all"])
def test_a_paused_server_says_nothing_and_is_left_out_of_what_the_lab_asks(start, strategy):
    """Frozen it answers nobody and the lab asks the others; thawed it is the same process with all it had."""
    cluster = start(strategy)
    first = cluster.servers[0]
    with requests.Session() as shopper:
        add(shopper, first.url, "kept")
        cluster.quiet()
        pid = first.pid
        cluster.pause("web-1")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{first.url}/api/cart", timeout=0.3)
        assert set(cluster.census()) == set(cluster.counters()) == {"web-2", "web-3"}
        cluster.quiet()
        cluster.resume("web-1")
        cluster.resume("web-1")
        assert set(cluster.census()) == {"web-1", "web-2", "web-3"}
        assert cart(shopper, first.url) == ["kept"]
        assert (first.pid, first.alive) == (pid, True)


def test_a_paused_server_can_be_killed_restarted_and_stopped(start, lab, monkeypatch):
    """Whatever was frozen is dead when it is killed, and ends in good order with its cluster."""
    cluster = start("isolated", servers=2)
    cluster.pause("web-1")
    cluster.kill("web-1")
    cluster.restart("web-1")
    cluster.pause("web-1")
    cluster.restart("web-1")
    assert set(cluster.census()) == {"web-1", "web-2"}
    cluster.pause("web-2")
    killed = []
    monkeypatch.setattr(ServerProcess, "kill", killed.append)
    lab.stop(cluster)
    assert not any(one.alive for one in cluster.servers)
    assert killed == []


def test_what_cannot_be_done_is_one_clear_line(start):
    """An unknown name, a dead server to pause, the last server to drain: each says so."""
    cluster = start("redis", servers=2)
    for act in (cluster.pause, cluster.resume, cluster.kill, cluster.restart, cluster.drain, cluster.undrain):
        with pytest.raises(LabError, match=r"^redis \d+ has no server 'web-9'; it has: web-1, web-2$"):
            act("web-9")
    cluster.kill("web-1")
    cluster.kill("web-1")
    for act in (cluster.pause, cluster.resume):
        with pytest.raises(LabError, match=r"^redis \d+: web-1 is dead, so it cannot be (paused|resumed)$"):
            act("web-1")
    cluster.drain("web-1")
    with pytest.raises(
        LabError, match=r"^redis \d+: web-2 is the last one that takes new shoppers, so it is not drained$"
    ):
        cluster.drain("web-2")
    cluster.balancer.kill()
    with pytest.raises(LabError, match=r"^nginx does not run"):
        cluster.undrain("web-1")


def test_the_lab_can_ask_at_any_moment(start):
    """While a server dies, comes back and is paused, again and again, census, counters and quiet never fail."""
    cluster = start("all-to-all", servers=2)
    stop = threading.Event()

    def ask():
        asked = 0
        while not stop.is_set() or not asked:
            assert "web-2" in cluster.census()
            assert "web-2" in cluster.counters()
            cluster.quiet()
            asked += 1
        return asked

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            for _ in range(5):
                cluster.kill("web-1")
                cluster.restart("web-1")
                cluster.pause("web-1")
                cluster.resume("web-1")
        finally:
            stop.set()
        assert asking.result() > 0
    assert set(cluster.census()) == {"web-1", "web-2"}


@pytest.mark.parametrize("strategy", ["redis", "database"])
def test_a_cluster_survives_its_engine(start, lab, strategy):
    """A store that was killed and started again still has what it had acknowledged, and the servers find it again."""
    cluster = start(strategy, servers=2)
    engine = {"redis": lab.redis, "database": lab.postgresql}[strategy]
    with requests.Session() as shopper:
        add(shopper, cluster.url, "kept")
        engine.kill()
        assert {shopper.get(f"{cluster.url}/api/cart", timeout=10).status_code for _ in range(2)} == {503}
        engine.restart()
        lab.keeper.check()
        for one in cluster.servers:
            assert wait_for(lambda one=one: shopper.get(f"{one.url}/api/cart", timeout=10).ok)
            assert cart(shopper, one.url) == ["kept"]


def test_a_renewed_server_has_told_its_peers_what_it_saved(start):
    """All-to-all: it ends in peace, begins with empty memory, and has everybody's sessions before it serves."""
    cluster = start("all-to-all", servers=2)
    with requests.Session() as shopper:
        for number in range(4):
            add(shopper, cluster.url, f"n{number}")
        before = cluster.servers[0].pid
        for name in ("web-1", "web-2"):
            cluster.take_out(name)
            cluster.renew(name)
            cluster.put_back(name)
        assert cluster.servers[0].pid != before
        assert cart(shopper, cluster.url) == ["n0", "n1", "n2", "n3"]
