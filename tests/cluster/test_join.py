"""Servers that come back, or are added: they take no shopper before they have the sessions."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import msgspec
import pytest
import requests

from lab.errors import LabError
from tests.cluster.shopping import ATTEMPTS, SHOPPERS, add, cart, failed, newcomers


@pytest.mark.parametrize("strategy", ["all-to-all"])
def test_under_load_a_server_that_joins_takes_no_shopper_before_it_has_the_state(start, load, strategy):
    """A dead server comes back under load: no request fails, and each that it answers finds its session there."""
    cluster = start(strategy)
    load.enter(cluster)
    failures = []
    for _ in range(ATTEMPTS):
        cluster.kill("web-1")

        def act():
            cluster.restart("web-1")
            return cluster.census()["web-1"]

        operations, at_once = load.during(act)
        by_it = [one for one in operations if one.server == "web-1"]
        assert {one.session == one.presented for one in by_it if one.session} <= {True}
        assert len(at_once.handles) == SHOPPERS
        assert cluster.census()["web-1"].details["asks"] == 0
        failures.append(failed(operations))
        if by_it and not failures[-1]:
            return
    pytest.fail(f"requests failed each time, or it was never asked: {failures}")


@pytest.mark.parametrize("strategy", ["sticky", "all-to-all", "redis", "database"])
def test_under_load_a_server_is_added_and_no_request_is_lost(start, load, strategy):
    """Shoppers of the shared stores meet it at once and find their sessions there; those who are bound never do."""
    failures = []
    for _ in range(ATTEMPTS):
        cluster = start(strategy, servers=2)
        load.enter(cluster)
        operations, name = load.during(cluster.add_server)
        assert name == "web-3"
        by_it = [one for one in operations if one.server == name]
        assert {one.session == one.presented for one in by_it if one.session} <= {True}
        assert set(cluster.census()) == {"web-1", "web-2", "web-3"}
        assert name in newcomers(cluster, 6)
        failures.append(failed(operations))
        if strategy == "sticky":
            assert not by_it
        if not failures[-1] and (by_it or strategy == "sticky"):
            return
    pytest.fail(f"requests failed each time, or it was never asked: {failures}")


def test_a_server_that_was_added_has_the_sessions_and_hears_of_all_that_follows(start):
    """All-to-all: old servers tell it, it tells them, and it may die and return like any other."""
    cluster = start("all-to-all", servers=2)
    with requests.Session() as shopper:
        add(shopper, cluster.servers[0].url, "before")
        cluster.quiet()
        cluster.add_server()
        third = cluster.servers[2]
        assert cart(shopper, third.url) == ["before"]
        add(shopper, third.url, "there")
        cluster.quiet()
        assert cart(shopper, cluster.servers[1].url) == ["before", "there"]
        add(shopper, cluster.servers[0].url, "told")
        cluster.quiet()
        assert cart(shopper, third.url) == ["before", "there", "told"]
        cluster.restart("web-3")
        assert cart(shopper, third.url) == ["before", "there", "told"]
        cluster.restart("web-1")
        assert cart(shopper, cluster.servers[0].url) == ["before", "there", "told"]
        assert set(cluster.census()) == {"web-1", "web-2", "web-3"}


def test_a_server_that_cannot_be_added_leaves_the_cluster_as_it_was(start, lab, monkeypatch):
    """One clear line, no process, and shoppers never hear of it."""
    cluster = start("redis", servers=2)
    processes = []
    fork = lab.fork_server.fork

    def fork_a_broken_one(plan, *sockets):
        settings = msgspec.structs.replace(plan.settings, redis_url=None)
        processes.append(fork(msgspec.structs.replace(plan, settings=settings), *sockets))
        return processes[-1]

    monkeypatch.setattr(lab.fork_server, "fork", fork_a_broken_one)
    with pytest.raises(LabError, match=r"^web-3 \(redis\) did not start\."):
        cluster.add_server()
    monkeypatch.undo()
    assert not any(process.alive for process in processes)
    assert set(newcomers(cluster, 4)) == {"web-1", "web-2"}
    assert cluster.add_server() == "web-3"


def test_a_server_opens_its_port_when_it_has_the_state(start):
    """While a server that joins waits for a peer, its internal port answers and the shoppers' port refuses."""
    cluster = start("all-to-all", servers=2)
    first = cluster.servers[0]
    for _ in range(ATTEMPTS):
        cluster.kill("web-1")
        cluster.pause("web-2")  # a peer that neither answers nor refuses: joining takes a second
        with ThreadPoolExecutor(1) as pool:
            restarting = pool.submit(cluster.restart, "web-1")
            seen = []
            while not restarting.done():
                seen.append((takes(first.internal_url), takes(first.url)))
            restarting.result()
        cluster.resume("web-2")
        if (True, False) in seen:
            break
    assert (True, False) in seen
    assert takes(first.url)


def takes(url):
    """Return whether a port takes connections."""
    where = urlsplit(url)
    try:
        with socket.create_connection((where.hostname, where.port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False
