"""The shop on a Redis Cluster of three masters: `docker compose --profile redis-cluster up`."""

from __future__ import annotations

import os

import pytest
from carts import Shoppers, wait_until

from lab.containers import Compose, ComposeFailed
from lab.containers.compose import docker
from lab.containers.env_file import fresh
from lab.servers.environment import cookie_name

NODES = ("redis-node-1", "redis-node-2", "redis-node-3")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def compose():
    """Bring the cluster and the shop on it up, for this module alone; nothing of it is left behind."""
    project = f"lab-test-cluster-{os.getpid()}"
    settings = {"PORT_REDIS_CLUSTER": "0", "SERVERS": "2", "HEALTH_INTERVAL": "2s"}
    compose = Compose(project, {**fresh(), **settings}, profiles=["redis-cluster"])
    with compose.guarded():
        compose.build()
        compose.up("balancer-redis-cluster")
        yield compose
    label = f"label=com.docker.compose.project={project}"
    for kind in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert docker(*kind, "--quiet", "--filter", label) == ""


@pytest.fixture
def shoppers(compose):
    """Return a dozen shoppers of this shop."""
    with Shoppers(url_of(compose)) as shoppers:
        yield shoppers


def url_of(compose):
    """Return where the shop is; a balancer that is started again may get another free port."""
    return f"http://127.0.0.1:{compose.port('balancer-redis-cluster', 8086)}"


def ask(compose, node, *words):
    """Ask one node, with the password that its container has."""
    (container,) = compose.containers(node)
    command = "REDISCLI_AUTH=$REDIS_PASSWORD exec redis-cli " + " ".join(words)
    return compose.execute(container, "sh", "-c", command).strip()


def addresses(compose):
    """Return each node's address in the network."""
    facts = {node: compose.inspect(*compose.containers(node))[0] for node in NODES}
    return {node: next(iter(fact["NetworkSettings"]["Networks"].values()))["IPAddress"] for node, fact in facts.items()}


def test_every_master_has_a_third_of_the_slots_and_some_sessions(compose, shoppers):
    """Forty sessions are spread over all three, and each is found by whichever server is asked."""
    with Shoppers(shoppers.url, 40) as more:
        wait_until(lambda: more.kept() == 40, "every cart")
        wait_until(lambda: more.servers() == {"web-1", "web-2"}, "answers of both servers")
        sizes = [int(ask(compose, node, "dbsize")) for node in NODES]
    assert min(sizes) > 0
    assert sum(sizes) >= 52
    for node in NODES:
        state = ask(compose, node, "cluster", "info")
        assert "cluster_slots_ok:16384" in state
        assert "cluster_size:3" in state


def test_nobody_gets_in_without_the_password(compose):
    """Neither a client nor another node."""
    (container,) = compose.containers("redis-node-2")
    assert "NOAUTH" in compose.execute(container, "redis-cli", "dbsize")
    assert ask(compose, "redis-node-2", "config", "get", "masterauth").splitlines()[1]


def test_its_cookie_is_not_that_of_the_shop_on_one_redis(shoppers):
    """Cookies do not know ports: with one name, each shop would end the other's sessions."""
    assert shoppers.cookies == {cookie_name("shop_redis_cluster")}
    assert cookie_name("shop_redis_cluster") != cookie_name("redis")


def test_only_the_balancer_is_published_and_on_this_machine_alone(compose):
    """Nodes and web servers are in a network that leads nowhere."""
    published = {}
    for fact in compose.inspect(*compose.containers()):
        for bindings in filter(None, fact["NetworkSettings"]["Ports"].values()):
            published[fact["Name"]] = {binding["HostIp"] for binding in bindings}
    assert list(published.values()) == [{"127.0.0.1"}]
    assert "balancer-redis-cluster" in next(iter(published))


def test_carts_are_there_again_when_the_nodes_come_back_under_other_addresses(compose, shoppers):
    """Nodes know each other by address, and containers may get others: somebody has to introduce them anew."""
    before = addresses(compose)
    containers = {node: compose.containers(node)[0] for node in NODES}
    docker("stop", "--time", "10", *containers.values())
    # The highest address is given first: whether the engine hands out the lowest free one or the next, none keeps all.
    for node in sorted(NODES, key=lambda node: [int(part) for part in before[node].split(".")], reverse=True):
        docker("start", containers[node])
    assert addresses(compose) != before
    wait_until(lambda: shoppers.kept() == 12, "every cart")
    assert "cluster_slots_ok:16384" in ask(compose, "redis-node-1", "cluster", "info")


def test_carts_survive_a_restart_of_everything(compose, shoppers):
    """`docker compose restart`: what was confirmed is on the nodes' volumes."""
    compose.run("restart", seconds=300)
    compose.wait_until_healthy()
    shoppers.url = url_of(compose)
    wait_until(lambda: shoppers.kept() == 12, "every cart")


def test_joining_again_changes_nothing(compose, shoppers):
    """The service that joins the nodes may run as often as it likes."""
    before = ask(compose, "redis-node-1", "cluster", "myid"), int(ask(compose, "redis-node-1", "dbsize"))
    compose.run("restart", "redis-cluster", seconds=120)
    compose.wait_until_healthy("redis-cluster")
    assert (ask(compose, "redis-node-1", "cluster", "myid"), int(ask(compose, "redis-node-1", "dbsize"))) == before
    wait_until(lambda: shoppers.kept() == 12, "every cart")


def test_one_master_away_costs_its_own_sessions_and_no_others(compose, shoppers):
    """The others go on with what is theirs, and when it is back nothing is missing."""
    (container,) = compose.containers("redis-node-3")
    docker("kill", container)

    def noticed():
        return "cluster_slots_fail:0" not in ask(compose, "redis-node-1", "cluster", "info")

    wait_until(noticed, "the others take it for dead")
    assert "cluster_state:ok" in ask(compose, "redis-node-1", "cluster", "info")
    docker("start", container)
    wait_until(lambda: shoppers.kept() == 12, "every cart")


def test_without_secrets_it_says_what_to_do():
    """The project's own `.env` is not looked at here: an empty value counts as none."""
    compose = Compose("lab-test-no-secrets", dict.fromkeys(fresh(), ""), profiles=["redis-cluster"])
    with pytest.raises(ComposeFailed, match=r"make \.env"):
        compose.run("config", "-q")
