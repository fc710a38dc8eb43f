"""The balancer: how it spreads, binds, hides and counts."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from lab.engines import find, nginx, ports
from lab.engines.nginx import Nginx
from lab.errors import EngineFailed, EngineMissing
from tests.processes import alive

STATIC = Path(__file__).parents[2] / "lab" / "shop" / "static"


@pytest.fixture
def start(own_keeper, backends):
    """Start a balancer in front of the three servers."""

    def start(**options):
        return Nginx.start(own_keeper, "nginx", [backend.address for backend in backends], STATIC, **options)

    return start


@pytest.fixture
def balancer(start):
    """A balancer that goes round."""
    return start()


def names(url, count, **options):
    """Return who answered so many requests, each on a connection of its own."""
    return [requests.get(url, timeout=5, **options).text for _ in range(count)]


def test_the_rotation_is_one(balancer):
    """Over any number of connections, requests go round the servers in order."""
    first = names(balancer.url, 1)[0]
    order = [f"web-{1 + (int(first[-1]) + step) % 3}" for step in range(8)]
    assert names(balancer.url, 8) == order


def test_the_rotation_is_fair_under_concurrency(balancer):
    """Eight clients at once get the servers equally often."""
    with ThreadPoolExecutor(8) as pool:
        answered = [name for batch in pool.map(lambda _: names(balancer.url, 6), range(8)) for name in batch]
    assert sorted(answered.count(f"web-{number}") for number in (1, 2, 3)) == [16, 16, 16]


def test_sticky_binds_a_shopper_to_a_server(start):
    """A cookie keeps a shopper on one server, whoever else comes; newcomers go round."""
    balancer = start(sticky_cookie="server_x")
    with requests.Session() as shopper:
        first = shopper.get(balancer.url, timeout=5)
        mine = first.text
        assert all(shopper.get(balancer.url, timeout=5).text == mine for _ in range(5))
    assert set(names(balancer.url, 6)) == {"web-1", "web-2", "web-3"}
    attributes = first.headers["Set-Cookie"].lower()
    assert all(part in attributes for part in ("server_x=", "httponly", "samesite=lax", "path=/"))


def test_the_sticky_cookie_tells_nothing_of_the_server(start, backends):
    """The route in the cookie is random: not the address, nor nginx's digest of it."""
    balancer = start(sticky_cookie="x")
    routes = {requests.get(balancer.url, timeout=5).cookies["x"] for _ in range(6)}
    assert len(routes) == 3
    assert not routes & {md5(backend.address.encode()).hexdigest() for backend in backends}
    assert not any(backend.address in route for backend in backends for route in routes)


def test_internal_routes_are_closed(balancer, backends):
    """What begins with `/_` or `/peers` reaches no server."""
    for path in (
        "/_lab/health",
        "/_lab/census",
        "/_mark",
        "/peers/batch",
        "/peers",
        "//_lab/health",
        "/x/../_lab/health",
    ):
        prepared = requests.Request("GET", balancer.url).prepare()
        prepared.url = balancer.url + path
        with requests.Session() as session:
            assert session.send(prepared, timeout=5).status_code == 404
    assert not any(backend.paths for backend in backends)


def test_static_files_come_from_the_balancer(balancer, backends):
    """`/static/` is served without any server."""
    name = next(path.name for path in STATIC.iterdir() if path.is_file())
    answer = requests.get(f"{balancer.url}/static/{name}", timeout=5)
    assert answer.status_code == 200
    assert answer.content == (STATIC / name).read_bytes()
    assert requests.get(f"{balancer.url}/static/none", timeout=5).status_code == 404
    assert not any(backend.paths for backend in backends)


@pytest.mark.parametrize("request_", [{"headers": {"Cookie": "c=" + "x" * 9000}}, {"data": b"x" * 70_000}])
def test_what_is_too_large_is_refused(balancer, backends, request_):
    """An oversized cookie or body is the shopper's mistake (4xx), and reaches no server."""
    assert 400 <= requests.post(balancer.url, timeout=5, **request_).status_code < 500
    assert not any(backend.paths for backend in backends)


def test_connections_to_the_servers_are_kept(balancer):
    """Many requests share few connections to the servers."""
    with requests.Session() as shopper:
        for _ in range(30):
            shopper.get(balancer.url, timeout=5)
    worker = psutil.Process(balancer.pids()[1])
    upstream = [
        one
        for one in worker.net_connections("tcp")
        if one.raddr and one.laddr.port != int(balancer.url.rsplit(":", 1)[1])
    ]
    assert 1 <= len(upstream) <= 3


def test_a_dead_server_is_skipped(balancer, backends):
    """A shopper who reads sees nothing of a dead server."""
    backends[1].__exit__()
    answered = names(balancer.url, 9)
    backends[1].__enter__()
    assert set(answered) == {"web-1", "web-3"}


def test_a_silent_server_fails_in_time_and_a_write_is_not_repeated(balancer, backends):
    """A server that says nothing costs less than 3 s, and what it may have done is not done again elsewhere."""
    for backend in backends:
        backend.seconds = 3.0
    answer = requests.post(balancer.url, data=b"x", timeout=10)
    assert answer.status_code == 504, "after 3 s the server would have answered"
    assert sum(len(backend.paths) for backend in backends) == 1


def test_the_access_log_counts_requests_and_bytes(balancer, backends):
    """Totals are complete as soon as they are asked for, by server and by direction."""
    with requests.Session() as shopper:
        for _ in range(12):
            shopper.post(balancer.url, data=b"y" * 100, timeout=5)
        for _ in range(3):
            shopper.get(f"{balancer.url}/_x", timeout=5)
    traffic = balancer.traffic()
    assert traffic.requests == 15
    assert traffic.by_server == {backend.address: 4 for backend in backends} | {"-": 3}
    assert traffic.client_received_bytes > 12 * 100
    assert traffic.server_sent_bytes > 12 * 100
    assert traffic.server_received_bytes > 12 * len("web-1")
    assert traffic.client_sent_bytes > traffic.server_received_bytes / 2
    assert balancer.traffic() == traffic


def test_a_request_tried_on_two_servers_counts_once(tmp_path):
    """Lists in the log (`A, B`) are one request, answered by the last, with the bytes of all."""
    log = tmp_path / "access.log"
    log.write_text("1.000\ta:1, b:2\t502, 200\t10\t20\t3, 4\t5, -\nmark\tx\n1.001\t-\t404\t1\t2\t-\t-\n")
    assert nginx.read_access_log(log) == nginx.Traffic(2, 11, 22, 7, 5, {"b:2": 1, "-": 1})


def test_pause_kill_and_stop(balancer):
    """A paused balancer says nothing, resumed it goes on, killed it is gone with its worker."""
    balancer.pause()
    with pytest.raises(requests.ReadTimeout):
        requests.get(balancer.url, timeout=0.3)
    balancer.resume()
    assert requests.get(balancer.url, timeout=5).ok
    pids = balancer.pids()
    assert len(pids) == 2
    balancer.kill()
    balancer.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(balancer.url, timeout=1)
    deadline = time.monotonic() + 5
    while alive(pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)
    with pytest.raises(EngineFailed, match="does not answer"):
        balancer.flush()


@pytest.fixture
def short_farewell(monkeypatch):
    """Shoppers who say nothing while nginx changes over are not waited for as long as otherwise."""
    monkeypatch.setattr(nginx, "FAREWELL_SECONDS", 0.1)


def test_an_old_worker_says_goodbye(monkeypatch, start, backends):
    """A connection that is open while nginx changes over is answered until an answer ends it; the next is a new one."""
    monkeypatch.setattr(nginx, "FAREWELL_SECONDS", 10.0)
    balancer = start()
    shopper = http.client.HTTPConnection(urlsplit(balancer.url).netloc, timeout=20)
    assert ask(shopper) == "keep-alive"
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(balancer.drain, backends[0].address)
        while ask(shopper) == "keep-alive":  # the old worker has not heard of it yet
            assert not changing.done()
        changing.result()
    assert ask(shopper) == "keep-alive"
    shopper.close()


def ask(connection):
    """Send a request on this connection; return whether the answer keeps or closes it."""
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.getheader("Connection")


@pytest.mark.usefixtures("short_farewell")
@pytest.mark.parametrize("sticky", [None, "server_x"])
def test_a_drained_server_gets_no_newcomer(start, backends, sticky):
    """Whoever is bound to it stays, and may come with any cookie after `undrain`; without affinity it gets nothing."""
    balancer = start(sticky_cookie=sticky)
    shoppers = [requests.Session() for _ in backends]
    bound = [shopper.get(balancer.url, timeout=5).text for shopper in shoppers]
    assert sorted(bound) == ["web-1", "web-2", "web-3"]
    balancer.drain(backends[1].address)
    assert set(names(balancer.url, 6)) == {"web-1", "web-3"}
    now = [shopper.get(balancer.url, timeout=5).text for shopper in shoppers]
    assert (now == bound) if sticky else ("web-2" not in now)
    balancer.drain(backends[0].address)
    assert set(names(balancer.url, 3)) == {"web-3"}
    for backend in backends:
        balancer.undrain(backend.address)
    assert set(names(balancer.url, 6)) == {"web-1", "web-2", "web-3"}
    if sticky:
        assert [shopper.get(balancer.url, timeout=5).text for shopper in shoppers] == bound
    for shopper in shoppers:
        shopper.close()


@pytest.mark.usefixtures("short_farewell")
@pytest.mark.parametrize("sticky", ["x", None])
def test_a_server_that_is_added_gets_its_turn(own_keeper, backends, sticky):
    """Newcomers come to it; whoever is bound stays, also when a server is drained later and nginx starts anew."""
    first, second, third = (backend.address for backend in backends)
    balancer = Nginx.start(own_keeper, "nginx", [first, second], STATIC, sticky_cookie=sticky)
    shoppers = [requests.Session() for _ in range(6)]
    bound = [shopper.get(balancer.url, timeout=5).text for shopper in shoppers]
    assert set(bound) == {"web-1", "web-2"}
    balancer.add(third)
    assert set(names(balancer.url, 6)) == {"web-1", "web-2", "web-3"}
    now = [shopper.get(balancer.url, timeout=5).text for shopper in shoppers]
    assert (now == bound) if sticky else ("web-3" in now)
    balancer.drain(first)
    assert set(names(balancer.url, 4)) == {"web-2", "web-3"}
    balancer.kill()
    balancer.restart()
    assert set(names(balancer.url, 4)) == {"web-2", "web-3"}
    if sticky:
        assert [shopper.get(balancer.url, timeout=5).text for shopper in shoppers] == bound
    for shopper in shoppers:
        shopper.close()


def test_a_balancer_that_cannot_change_says_so(balancer, backends):
    """A dead balancer takes no new configuration; started again, it has its old address and the newest one."""
    balancer.kill()
    with pytest.raises(EngineFailed, match=r"^nginx does not run, so it cannot be told whom to drain$"):
        balancer.drain(backends[0].address)
    with pytest.raises(EngineFailed, match=r"^nginx does not run, so it cannot be told of a server$"):
        balancer.add(backends[0].address)
    balancer.restart()
    balancer.drain(backends[0].address)
    assert set(names(balancer.url, 4)) == {"web-2", "web-3"}
    balancer.restart()
    assert set(names(balancer.url, 4)) == {"web-2", "web-3"}


def test_a_balancer_is_up_once_it_has_a_worker(own_keeper, balancer):
    """One that has written its pid file, and no more, would go on by the configuration it is told to change."""
    master = own_keeper.launch("master", ["/bin/sh", "-c", "echo $$ >nginx/nginx.pid; exec sleep 60"])
    pid_file = own_keeper.folder / "nginx" / "nginx.pid"
    assert master.wait_until(lambda: pid_file.read_text().strip() == str(master.pid))
    assert not balancer._is_up(master)


def test_nothing_listens_beyond_loopback(balancer):
    """No other machine reaches the balancer."""
    sockets = psutil.Process(balancer.pid).net_connections("all")
    assert {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_taken_port_is_not_the_end(start, monkeypatch, backends):
    """When another program binds the chosen port first, nginx tries another one."""
    free = ports.free_port()
    offered = iter([int(backends[0].address.rsplit(":", 1)[1]), free])
    monkeypatch.setattr(ports, "free_port", lambda: next(offered))
    assert start().url.endswith(f":{free}")


def test_an_old_nginx_is_refused(monkeypatch, tmp_path):
    """An nginx without `sticky` is refused with both versions named."""
    old = tmp_path / "nginx"
    old.write_text("#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\n")
    old.chmod(0o755)
    monkeypatch.setattr(find, "WHEELS", tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(EngineMissing, match=r"1\.22\.1 .* too old: the lab needs 1\.29\.6"):
        Nginx.find()


def test_a_missing_nginx_is_named(monkeypatch, tmp_path):
    """Neither wheel nor PATH: one line says what is missing."""
    monkeypatch.setattr(find, "WHEELS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"^nginx is missing: .* `make setup`.*$"):
        Nginx.find()
