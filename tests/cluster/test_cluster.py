"""The lab and its clusters, with every strategy, on real engines."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from lab.cluster import ClusterSpec, Lab
from lab.cluster.spec import safe_name
from lab.engines import ports, redis, user
from lab.errors import DiskFull, EngineFailed, LabError, PortsExhausted, ServerFailed
from strategies import STRATEGIES, UnknownStrategy
from strategies.contract import UnsupportedPolicy
from tests.cluster.shopping import add, cart, served_by
from tests.processes import alive, sockets

ROOT = Path(__file__).parents[2]
SERVERS = 3
SPECS = [ClusterSpec(name=name, strategy=name, servers=SERVERS) for name in STRATEGIES]
SPECS += [
    ClusterSpec(name="all-to-all sync", strategy="all-to-all", servers=SERVERS, replication="sync"),
    ClusterSpec(name="all-to-all with affinity", strategy="all-to-all", servers=SERVERS, affinity=True),
]


@pytest.fixture(scope="module")
def clusters(lab):
    """One cluster of each kind, by name."""
    clusters = lab.start(*SPECS)
    yield {cluster.spec.name: cluster for cluster in clusters}
    for cluster in clusters:
        lab.stop(cluster)


@pytest.fixture(params=[spec.name for spec in SPECS])
def cluster(request, clusters):
    """Each cluster in turn."""
    return clusters[request.param]


def test_every_server_serves_and_the_balancer_reaches_each(cluster):
    """Newcomers reach every server, and each server answers past the balancer, too, under its own name."""
    answers = [requests.get(f"{cluster.url}/api/cart", timeout=5) for _ in range(2 * SERVERS)]
    assert {served_by(answer) for answer in answers} == {server.name for server in cluster.servers}
    for server in cluster.servers:
        assert served_by(requests.get(f"{server.url}/api/cart", timeout=5)) == server.name


def test_a_cart_is_where_the_strategy_says(cluster):
    """All strategies but the control show the cart on the next request, whichever server that reaches."""
    with requests.Session() as shopper:
        add(shopper, cluster.url, "first")
        cluster.quiet()
        seen = [cart(shopper, cluster.url) for _ in range(SERVERS)]
    if cluster.spec.name == "isolated":
        assert sorted(seen) == [[], [], ["first"]]
    else:
        assert seen == [["first"]] * SERVERS


def test_affinity_is_as_specified(cluster):
    """A shopper with a cookie jar stays on one server exactly where the cluster has affinity."""
    with requests.Session() as shopper:
        answered = {served_by(shopper.get(f"{cluster.url}/api/cart", timeout=5)) for _ in range(2 * SERVERS)}
    assert len(answered) == (1 if cluster.spec.sticky else SERVERS)


def test_cookies_are_equally_long_and_of_different_names(clusters):
    """Cookies do not know ports, so each cluster has a name of its own, of the same length."""
    names = {cluster.cookie_name for cluster in clusters.values()}
    assert len(names) == len(clusters)
    assert len({len(name) for name in names}) == 1
    with requests.Session() as shopper:
        for cluster in clusters.values():
            add(shopper, cluster.url, "x")
        assert names <= set(shopper.cookies.keys())


def test_census_tells_where_sessions_live(clusters):
    """A session is found on one server, on every server, or by all in the store that they share."""
    for name, holders in {"isolated": 1, "sticky": 1, "all-to-all": 3, "database": 3, "redis": 3}.items():
        cluster = clusters[name]
        before = {server: set(census.handles) for server, census in cluster.census().items()}
        with requests.Session() as shopper:
            add(shopper, cluster.url, "counted")
        cluster.quiet()
        new = [set(census.handles) - before[server] for server, census in cluster.census().items()]
        assert sum(len(handles) for handles in new) == holders, name
        assert len(set.union(*new)) == 1, name


def test_counters_grow_with_work(clusters):
    """CPU time and, where the system tells, bytes on the servers' sockets grow with requests."""
    cluster = clusters["redis"]
    before = cluster.counters()
    for server in cluster.servers:
        with requests.Session() as shopper:
            add(shopper, server.url, "x")
    after = cluster.counters()
    assert all(after[name].cpu_seconds > before[name].cpu_seconds for name in before)
    if sys.platform == "linux":
        redis_port = int(cluster._lab.redis.url.rsplit(":", 1)[1].split("/")[0])
        assert sum(one.bytes_sent for one in cluster.sockets() if one.remote_port == redis_port) > 0


def test_internal_routes_are_closed_to_shoppers(cluster):
    """Neither the balancer nor the public port has the lab's and the peers' routes; the internal port has."""
    for path in ("/_lab/health", "/_lab/census", "/_lab/counters", "/_lab/quiet", "/peers/", "/peers/batch"):
        assert requests.get(cluster.url + path, timeout=5).status_code == 404
        assert requests.get(cluster.servers[0].url + path, timeout=5).status_code == 404
    assert requests.get(f"{cluster.servers[0].internal_url}/_lab/health", timeout=5).json() == {"ok": True}
    assert requests.get(f"{cluster.servers[0].internal_url}/_lab/other", timeout=5).status_code == 404


def test_everything_listens_on_loopback_only(lab, clusters):
    """No process of the lab listens anywhere but on 127.0.0.1."""
    pids = {server.pid for cluster in clusters.values() for server in cluster.servers}
    pids |= {pid for cluster in clusters.values() for pid in cluster.balancer.pids()} | set(lab.engine_pids())
    port = urlsplit(lab.postgresql.url).port
    listening = [one for pid in pids for one in sockets(pid, port) if one.status == psutil.CONN_LISTEN]
    assert len(listening) >= len(pids) / 2
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("name", ["isolated", "all-to-all"])
def test_a_killed_server_refuses_and_comes_back_empty_or_caught_up(lab, name):
    """A killed server's port refuses; restarted, it has its port and name again, and memory as its strategy gives."""
    (cluster,) = lab.start(ClusterSpec(name=f"{name} killed", strategy=name, servers=2))
    with requests.Session() as shopper:
        first, second = cluster.servers
        add(shopper, first.url, "kept")
        cluster.quiet()
        old = first.pid
        cluster.kill("web-1")
        assert not first.alive
        with pytest.raises(requests.ConnectionError):
            requests.get(first.url, timeout=2)
        assert {served_by(requests.get(f"{cluster.url}/api/cart", timeout=5)) for _ in range(4)} == {"web-2"}
        assert set(cluster.census()) == {"web-2"}
        cluster.restart("web-1")
        assert first.pid != old
        assert cart(shopper, first.url) == ([] if name == "isolated" else ["kept"])
    lab.stop(cluster)
    assert not second.alive


def test_a_server_that_is_stopped_finishes_what_it_has_begun(lab):
    """A request under way when SIGTERM comes is answered."""
    (cluster,) = lab.start(ClusterSpec(name="finishes", strategy="isolated", servers=1))
    server = cluster.servers[0]
    product = f"{server.url}/api/products/1"
    assert requests.get(product, timeout=5).ok
    if cluster.sockets() is None:
        pytest.skip("this system does not tell when the server has begun")
    lab.postgresql.pause()
    try:
        with ThreadPoolExecutor(1) as pool:
            before = asked(lab, cluster)
            answer = pool.submit(requests.get, product, timeout=10)
            while asked(lab, cluster) == before:
                time.sleep(0.001)
            server.process.terminate()
            lab.postgresql.resume()
            assert answer.result().status_code == 200
        server.process.close()
    finally:
        lab.postgresql.resume()
    assert not server.alive


def asked(lab, cluster):
    """Return how many messages a cluster's servers have sent to the database."""
    port = urlsplit(lab.postgresql.url).port
    return sum(one.segments_sent for one in cluster.sockets() if one.remote_port == port)


def test_a_stopped_cluster_frees_everything(lab):
    """Its processes and its ports are gone; stopping it again is no error."""
    (cluster,) = lab.start(ClusterSpec(name="short-lived", strategy="isolated", servers=1))
    server = cluster.servers[0]
    pids = [server.pid, *cluster.balancer.pids()]
    lab.stop(cluster)
    lab.stop(cluster)
    assert alive(pids) == []
    for url in (server.url, server.internal_url, cluster.url):
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=2)


def test_two_labs_side_by_side(lab, clusters, tmp_path):
    """A second lab with the same cluster has processes, ports and sessions of its own."""
    with Lab(tmp_path, redis=False) as other:
        (theirs,) = other.start(ClusterSpec(name="database", strategy="database", servers=1))
        ours = clusters["database"]
        assert theirs.cookie_name != ours.cookie_name
        with requests.Session() as shopper:
            add(shopper, ours.url, "ours")
            assert cart(shopper, theirs.url) == []
            assert cart(shopper, ours.url) == ["ours"]
        folder = other.keeper.folder
    assert not folder.exists()
    assert requests.get(f"{clusters['redis'].url}/api/cart", timeout=5).ok


def test_a_borrowed_redis_is_left_as_it_was_found(redis_engine, tmp_path, monkeypatch):
    """On a Redis that is not the lab's own, the lab removes its sessions, and nothing else."""
    monkeypatch.setenv("LAB_REDIS_URL", redis_engine.url)
    with redis_engine.connect() as client, Lab(tmp_path) as lab:
        client.set("somebody-elses", "1")
        (cluster,) = lab.start(ClusterSpec(name="redis", strategy="redis", servers=1))
        with requests.Session() as shopper:
            add(shopper, cluster.url, "x")
        assert len(client.keys(f"{lab.namespace}*")) == 1
        lab.__exit__()
        assert client.keys(f"{lab.namespace}*") == []
        assert client.get("somebody-elses") == b"1"


@pytest.mark.parametrize(
    ("spec", "error", "line"),
    [
        ({"strategy": "rediss"}, UnknownStrategy, "Did you mean redis"),
        ({"strategy": "all-to-all", "writes": "versioned"}, UnsupportedPolicy, "all-to-all cannot promise 'versioned'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(lab, spec, error, line):
    """An unknown strategy or a promise it cannot keep is one clear line, and no cluster of the call starts."""
    running = len(lab._clusters)
    with pytest.raises(error, match=line):
        lab.start(ClusterSpec(name="good", strategy="isolated"), ClusterSpec(name="bad", **spec))
    assert len(lab._clusters) == running


def test_redis_is_not_started_for_those_who_do_not_need_it(tmp_path):
    """A lab without Redis starts none, and refuses a strategy that needs it."""
    with Lab(tmp_path, redis=False) as lab:
        assert lab.redis is None
        with pytest.raises(LabError, match="needs Redis"):
            lab.start(ClusterSpec(name="redis", strategy="redis"))


def test_a_server_that_cannot_start_takes_its_cluster_along(lab, tmp_path, monkeypatch):
    """When a server fails, the error says why and where its log is, and none of the call's processes stays."""
    before = set(psutil.Process().children(recursive=True))
    monkeypatch.setattr(lab, "server_logs", tmp_path / "gone")
    with pytest.raises(ServerFailed, match=r"web-\d \(isolated\) did not start\. FileNotFoundError.*\(log: .*\)$"):
        lab.start(ClusterSpec(name="fails", strategy="isolated", servers=2))
    assert not [one for one in set(psutil.Process().children(recursive=True)) - before if one.is_running()]


def test_an_engine_that_fails_takes_the_lab_along(tmp_path, monkeypatch):
    """When one engine does not start, the others are stopped, and no process and no folder stays."""
    monkeypatch.setattr(redis, "_CONFIG", redis._CONFIG | {"no-such-setting": "1"})
    before = set(psutil.Process().children(recursive=True))
    lab = Lab(tmp_path)
    with pytest.raises(EngineFailed, match=r"^Redis did not start\."), lab:
        pytest.fail("it started without Redis")
    assert not lab.keeper.folder.exists()
    assert not [one for one in set(psutil.Process().children(recursive=True)) - before if one.is_running()]
    with pytest.raises(LabError, match="closing"):
        lab.keeper.launch("late", ["true"])


def test_what_the_environment_says_of_another_database_is_not_for_the_labs_own(tmp_path, monkeypatch):
    """Each of these alone would keep every client from the lab's PostgreSQL; afterwards they are as they were."""
    others = {"PGSERVICE": "absent", "PGSSLMODE": "require", "PGOPTIONS": "-c no.such", "PGPORT": "1"}
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    with Lab(tmp_path, redis=False) as lab:
        lab.start(ClusterSpec(name="apart", strategy="database", servers=1))
    assert {name: os.environ[name] for name in others} == others


def test_no_free_port_is_one_clear_line(lab, monkeypatch):
    """A machine without free ports gets one line, and nothing of the cluster stays."""

    class Exhausted(socket.socket):
        def bind(self, address):
            raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(ports.socket, "socket", Exhausted)
    with pytest.raises(PortsExhausted, match=r"^no free port is left on 127\.0\.0\.1$"):
        lab.start(ClusterSpec(name="nowhere", strategy="isolated"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path, monkeypatch):
    """An engine that runs out of disk ends the lab with its last words; no process and no folder stays."""
    disk = Path("/tmp") / f"disk-{os.getpid()}"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        disk.rmdir()
        pytest.skip("this machine does not let root mount a disk")
    before = set(psutil.Process().children(recursive=True))
    try:
        monkeypatch.setenv("TMPDIR", str(disk))
        with pytest.raises(DiskFull, match=r"No space left on device .*\(log: .*\)$|^the disk is full"), Lab(tmp_path):
            pytest.fail("it started on 4 MiB")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()
    assert not [one for one in set(psutil.Process().children(recursive=True)) - before if one.is_running()]


@pytest.mark.skipif(os.geteuid() != 0, reason="the suite runs as an ordinary user already")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is missing")
def test_an_ordinary_user_needs_no_root():
    """The lab starts and serves for a user without rights."""
    folder = Path("/tmp") / f"run-{os.getpid()}"
    folder.mkdir()
    shutil.chown(folder, user.other_user())
    program = (
        "import pathlib, requests; from lab.cluster import ClusterSpec, Lab\n"
        f"with Lab(pathlib.Path({str(folder)!r})) as lab:\n"
        "    (cluster,) = lab.start(ClusterSpec(name='redis', strategy='redis', servers=2))\n"
        "    print(requests.get(cluster.url + '/api/cart').status_code)\n"
    )
    # Reading everything is the one right it has: this interpreter may lie beneath root's private home.
    nobody = ["setpriv", f"--reuid={user.other_user()}", "--clear-groups"]
    nobody += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    try:
        if subprocess.run([*nobody, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let root hand on the right to read everything")
        done = subprocess.run(
            [*nobody, sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.stdout, done.stderr) == ("200\n", "")
    finally:
        shutil.rmtree(folder)


def test_names_become_safe():
    """Whatever a cluster is called, its files, tables and keys have plain names."""
    assert safe_name("all-to-all with affinity") == "all_to_all_with_affinity"
    assert safe_name("Redis: blob/ü") == "redis_blob"


def test_servers_that_stand_further_apart_wait_for_each_other(lab):
    """Through an emulated link a synchronous save takes its round trip; nobody joins there, and the link goes along."""
    spec = ClusterSpec(
        name="far apart", strategy="all-to-all", servers=2, replication="sync", peer_delay_seconds=0.15
    )  # fmt: skip
    (cluster,) = lab.start(spec)
    first, second = cluster.servers
    with requests.Session() as shopper:
        add(shopper, first.url, "a")
        began = time.monotonic()
        add(shopper, first.url, "b")
        assert time.monotonic() - began >= 2 * 0.15
        lines = shopper.get(f"{second.url}/api/cart", timeout=5).json()["cart"]
    assert {line["token"] for line in lines} == {"a", "b"}
    with pytest.raises(LabError, match="emulated link"):
        cluster.add_server()
    link = cluster._link.pid
    lab.stop(cluster)
    assert alive([link]) == []
