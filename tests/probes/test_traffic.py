"""Bytes and messages on each link, against the engines' own counters."""

from __future__ import annotations

import itertools

import pytest
import requests
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lab.cluster import ClusterSpec, Lab
from lab.measuring.usage import begin, end, per_request
from lab.probes import traffic
from lab.probes.sockets import SocketTotals
from lab.probes.traffic import Link, StorePorts, server_links

VIEWS = 40
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Engines of their own for this file, so that nobody else's traffic is counted."""
    with Lab(tmp_path_factory.mktemp("traffic")) as lab:
        yield lab


@pytest.fixture
def cluster(lab, request):
    """Two servers of the strategy that the test is parametrised with."""
    name = f"{request.param} {next(NUMBERS)}"
    quiet = 3600.0  # no sweep for expired sessions comes in between
    (cluster,) = lab.start(ClusterSpec(name=name, strategy=request.param, servers=2, sweep_seconds=quiet))
    yield cluster
    lab.stop(cluster)


def shop(cluster, times):
    """Put things into a cart, one request after another, on kept-alive connections; return the answers."""
    with requests.Session() as shopper:
        shopper.trust_env = False
        return [
            shopper.post(f"{cluster.url}/api/cart", json={"token": f"t{n}", "product": 1 + n, "quantity": 1})
            for n in range(times)
        ]


@pytest.mark.parametrize("cluster", ["redis"], indirect=True)
def test_bytes_to_redis_are_what_redis_counted(lab, cluster):
    """Bytes and messages between servers and Redis agree with its own counters within 2 %."""
    shop(cluster, 4)  # opens every connection
    client = lab.redis.connect()
    client.ping()
    before, theirs = begin(cluster), client.info("stats")
    shop(cluster, VIEWS)
    own, now = client.info("stats"), end(cluster)
    link = traffic.since(now.links, before.links)["server_store"]

    spent_asking = asking_costs(client)
    counted = sum(own[f"total_net_{way}_bytes"] - theirs[f"total_net_{way}_bytes"] for way in ("input", "output"))
    commands = 2 * VIEWS - 1  # the first add creates the session, every other one loads and saves
    assert link.bytes == pytest.approx(counted - spent_asking, rel=0.02)
    assert link.messages == pytest.approx(2 * commands, rel=0.02)


@pytest.mark.parametrize("cluster", ["database"], indirect=True)
def test_sessions_and_catalogue_share_postgresql_but_not_a_link(lab, cluster):
    """Queries for sessions and for the catalogue are told apart: each link has the messages of its own queries."""
    shop(cluster, 4)
    before = begin(cluster)
    shop(cluster, VIEWS)
    links = traffic.since(end(cluster).links, before.links)

    # On a busy machine TCP sends an answer in two pieces now and then.
    assert links["server_store"].messages == pytest.approx(2 * (2 * VIEWS - 1), rel=0.05)
    assert links["server_origin"].messages == pytest.approx(2 * VIEWS, rel=0.05)  # each add looks up its product


@pytest.mark.parametrize("cluster", ["sticky"], indirect=True)
def test_bytes_at_the_balancer_are_what_the_client_saw(lab, cluster):
    """Bytes between shopper and balancer are the requests and answers, head and body, as they were sent."""
    before = begin(cluster)
    answers = shop(cluster, VIEWS)
    links = traffic.since(end(cluster).links, before.links)

    assert links["client_balancer"].bytes == pytest.approx(sum(size(answer) for answer in answers), rel=0.02)
    assert links["client_balancer"].messages == links["balancer_server"].messages == 2 * VIEWS


@pytest.mark.parametrize("cluster", ["all-to-all"], indirect=True)
def test_bytes_between_servers_are_counted_once(lab, cluster):
    """What one server sends the other is read on the side that opened the connection, and only there."""
    shop(cluster, 4)
    before = begin(cluster)
    shop(cluster, VIEWS)
    now = end(cluster)
    link = traffic.since(now.links, before.links)["server_server"]
    sent = sum(
        after.details["bytes_sent"] - before.census[name].details["bytes_sent"] for name, after in now.census.items()
    )

    assert link.messages == pytest.approx(2 * VIEWS, rel=0.05)  # one request and its reply for each write
    assert sent < link.bytes < sent + VIEWS * 700  # bodies, and heads both ways


@pytest.mark.parametrize("cluster", ["redis"], indirect=True)
def test_store_operations_per_request_are_counted(lab, cluster):
    """A request that reads and writes one field costs one load and one save."""
    shop(cluster, 1)
    before = begin(cluster)
    with requests.Session() as shopper:
        shopper.trust_env = False
        for n in range(11):
            shopper.post(f"{cluster.url}/api/cart", json={"token": f"u{n}", "product": 1, "quantity": 1})
    flows = per_request(before, end(cluster), 11)

    assert flows["operations"] == {"creates": 1 / 11, "loads": 10 / 11, "saves": 10 / 11, "touches": 0, "deletes": 0}


def test_each_socket_belongs_to_one_link():
    """Remote ports tell peers, Redis and PostgreSQL apart; local ones tell sessions from the catalogue."""
    sockets = [
        SocketTotals(1, 7001, 10, 1, 1, 1),  # a peer
        SocketTotals(2, 6379, 20, 2, 1, 1),  # Redis
        SocketTotals(3, 5432, 40, 4, 1, 1),  # sessions in PostgreSQL
        SocketTotals(4, 5432, 80, 8, 1, 1),  # the catalogue
        SocketTotals(7002, 9, 5000, 5000, 9, 9),  # a shopper, counted at the balancer
    ]

    links = server_links(sockets, 3, StorePorts(6379, 5432, frozenset({3})), frozenset({7001, 7002}))

    assert links == {"server_server": Link(11, 6), "server_store": Link(66, 4), "server_origin": Link(88, 2)}


def test_what_cannot_be_measured_is_none():
    """Without the kernel's totals, bytes are None; requests between servers are still known."""
    links = server_links(None, 3, StorePorts(6379, 5432, frozenset()), frozenset())

    assert links["server_server"] == Link(None, 6)
    assert links["server_store"] - links["server_store"] == Link(None, None)


def size(answer):
    """Return the bytes of a request and its answer on the wire."""
    sent = answer.request
    head = f"{sent.method} {sent.path_url} HTTP/1.1\r\nHost: {answer.url.split('/')[2]}\r\n\r\n"
    asked = len(head) + sum(len(k) + len(v) + 4 for k, v in sent.headers.items()) + len(sent.body or b"")
    status = f"HTTP/1.1 {answer.status_code} {answer.reason}\r\n\r\n"
    return asked + len(status) + sum(len(k) + len(v) + 4 for k, v in answer.raw.headers.items()) + len(answer.content)


def asking_costs(client):
    """Return the bytes that one INFO costs: asking is on the engine's own bill."""
    first, second = client.info("stats"), client.info("stats")
    return sum(second[f"total_net_{way}_bytes"] - first[f"total_net_{way}_bytes"] for way in ("input", "output"))


@pytest.mark.parametrize("address", ["url", "pairs"])
def test_ports_of_engines_that_others_started_are_known_however_they_are_named(database_url, address):
    """A database of the lab's own on a server of others is named by pairs; a Redis may be named without its port."""
    ports = conninfo_to_dict(database_url)
    named = database_url if address == "url" else make_conninfo(database_url, dbname=ports["dbname"])
    found = traffic.store_ports(named, "redis://cache.example")
    assert found.postgresql == int(ports["port"])
    assert found.redis == traffic.REDIS_PORT
    assert traffic.store_ports(named, "redis://127.0.0.1:7001/0").redis == 7001
    assert traffic.store_ports(named, None).redis is None
