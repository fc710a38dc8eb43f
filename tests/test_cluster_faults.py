"""Faults that a cluster can be given, and what its balancer and its servers make of them."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from urllib.parse import urlsplit

import msgspec
import pytest
import requests

from lab.cluster import ClusterSpec, Lab
from lab.errors import LabError
from lab.servers import ServerProcess
from loadtests.client import ArmTarget, Generator
from loadtests.plans import shopping_plan, warmup_plan

ATTEMPTS = 4
"""A request may meet the very moment in which nginx closes an idle connection; what is wrong shows every time."""

_numbers = count()

RATE_RPS, SECONDS, SHOPPERS = 100, 2.5, 20


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One lab for this module."""
    with Lab(tmp_path_factory.mktemp("run")) as lab:
        yield lab


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


class Load:
    """Shoppers who go on shopping while a test does something to their cluster."""

    def __init__(self, generator, pool):
        self._generator = generator
        self._pool = pool
        self._blocks = 0

    def enter(self, cluster):
        """Log everybody in."""
        self._arm = cluster.spec.name
        self._generator.open(
            ArmTarget(
                arm=self._arm,
                strategy=cluster.spec.strategy,
                url=cluster.url,
                server_urls={server.name: server.url for server in cluster.servers},
                cookie_name=cluster.cookie_name,
            )
        )
        self._generator.run([(self._arm, warmup_plan(1, rate_rps=RATE_RPS, seconds=0.5, shoppers=SHOPPERS))])
        cluster.quiet()

    def during(self, act):
        """Let them shop while `act` runs; return what they did from its beginning on, and what `act` returned."""
        plan = shopping_plan(1, self._blocks, rate_rps=RATE_RPS, seconds=SECONDS, shoppers=SHOPPERS)
        self._blocks += 1
        stay = [planned for planned in plan.requests if planned.f not in {"login", "logout"}]
        shopping = self._pool.submit(self._generator.run, [(self._arm, msgspec.structs.replace(plan, requests=stay))])
        returned = act()
        return shopping.result().operations, returned


def add(shopper, url, token):
    """Put something into the cart."""
    answer = shopper.post(f"{url}/api/cart", json={"token": token, "product": 1, "quantity": 1}, timeout=10)
    answer.raise_for_status()
    return served_by(answer)


def cart(shopper, url, **options):
    """Return the tokens in the cart, sorted."""
    answer = shopper.get(f"{url}/api/cart", timeout=10, **options)
    answer.raise_for_status()
    return sorted(line["token"] for line in answer.json()["cart"])


def served_by(answer):
    """Return who answered."""
    return answer.headers["X-Served-By"]


def newcomers(cluster, count):
    """Return who serves so many shoppers who come for the first time."""
    return [served_by(requests.get(f"{cluster.url}/api/cart", timeout=10)) for _ in range(count)]


def server(cluster, name):
    """Return a server by its name."""
    return next(one for one in cluster.servers if one.name == name)


def failed(operations):
    """Return what was not answered as it should be."""
    return [(one.f, one.server, one.error) for one in operations if one.error]


# --- pause, kill, restart ---


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


def wait_for(come, seconds=20):
    """Wait until it comes; return whether it did."""
    for _ in range(seconds * 20):
        if come():
            return True
        threading.Event().wait(0.05)
    return False


# --- the balancer: drain, and the gate ---


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


# --- sticky at its edges ---


def test_the_owner_dies_and_its_shoppers_begin_anew_and_are_counted(start):
    """Sticky: those bound to a dead server, and only they, get a new session elsewhere; each loss counts once."""
    cluster = start("sticky")
    shoppers = [requests.Session() for _ in range(9)]
    bound = {shopper: add(shopper, cluster.url, "before") for shopper in shoppers}
    names = {shopper: shopper.cookies.get_dict() for shopper in shoppers}
    assert {frozenset(cookies) for cookies in names.values()} == {
        frozenset({cluster.cookie_name, cluster.cookie_name.replace("session", "server")})
    }
    cluster.kill("web-1")
    lost = [shopper for shopper in shoppers if bound[shopper] == "web-1"]
    assert len(lost) == 3
    for shopper in shoppers:
        assert cart(shopper, cluster.url) == ([] if shopper in lost else ["before"])
        now = add(shopper, cluster.url, "after")
        assert now != "web-1"
        assert (now == bound[shopper]) == (shopper not in lost)
        assert cart(shopper, cluster.url) == (["after"] if shopper in lost else ["after", "before"])
    counters = cluster.counters().values()
    assert sum(one.sessions_replaced for one in counters) == len(lost)
    assert sum(one.cookies_without_session for one in counters) == 2 * len(lost)
    for shopper in shoppers:
        shopper.close()


@pytest.mark.parametrize("harm", ["killed", "paused"])
def test_the_owner_returns_and_no_shopper_sees_an_old_copy(start, harm):
    """Sticky: who went on elsewhere stays there; of a killed owner the old cookies show nothing, by whatever way."""
    cluster = start("sticky", servers=2)
    with requests.Session() as shopper:
        owner = server(cluster, add(shopper, cluster.url, "old"))
        old = shopper.cookies.get_dict()
        {"killed": cluster.kill, "paused": cluster.pause}[harm](owner.name)
        assert cart(shopper, cluster.url) == []
        refuge = add(shopper, cluster.url, "new")
        assert refuge != owner.name
        {"killed": cluster.restart, "paused": cluster.resume}[harm](owner.name)
        assert cart(requests, owner.url, cookies=shopper.cookies.get_dict()) == []
        for _ in range(4):
            assert cart(shopper, cluster.url) == ["new"]
            assert newcomers(cluster, 1)
        answers = [requests.get(f"{url}/api/cart", cookies=old, timeout=10) for url in (owner.url, cluster.url)]
        if harm == "killed":
            assert [answer.json()["cart"] for answer in answers] == [[], []]
            assert not any("X-Session" in answer.headers for answer in answers)
            back = wait_for(
                lambda: served_by(requests.get(f"{cluster.url}/api/cart", cookies=old, timeout=10)) == owner.name
            )
            assert back
        assert cart(shopper, cluster.url) == ["new"]
