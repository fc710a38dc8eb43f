"""The compose file as a stack on a swarm of one machine, and what an update costs whom.

Where the engine is in no swarm, one is made for these tests and left in the end. Where an engine may not be in one, or
other containers run that would suffer from it, they are skipped.
"""

from __future__ import annotations

import json
import os

import pytest
from carts import Shoppers, wait_until

from lab.containers.compose import ComposeFailed, docker
from lab.containers.env_file import fresh
from lab.containers.swarm import HOME, Stack, SwarmFailed
from strategies import STRATEGIES

PORTS = ("FRONT", *(name.upper().replace("-", "_") for name in STRATEGIES))
"""In the order in which the balancer has them."""

pytestmark = pytest.mark.timeout(900)


def swarm_state():
    """Return what the engine says about its swarm."""
    return json.loads(docker("info", "--format", "{{json .Swarm}}"))


def test_without_a_swarm_it_says_what_to_do():
    """One clear line, before anything is built or started."""
    if swarm_state()["LocalNodeState"] != "inactive":
        pytest.skip("this engine is in a swarm already")
    with pytest.raises(SwarmFailed, match=r"expected an active one, got: inactive\. `docker swarm init`"):
        Stack("lab-test-none", fresh()).deploy()


@pytest.fixture(scope="module")
def swarm():
    """Have the engine manage a swarm; one that was in none is in none afterwards."""
    state = swarm_state()
    if state["LocalNodeState"] == "active":
        if not state["ControlAvailable"]:
            pytest.skip("this engine is a worker of a swarm, and only a manager deploys stacks")
        homes = docker("node", "ls", "--quiet", "--filter", f"node.label={HOME}").split()
        if homes:
            pytest.skip(f"a stack of the lab has its home in this swarm already (node label {HOME})")
        yield
        docker("node", "update", "--label-rm", HOME, state["NodeID"])
        return
    others = docker("ps", "--format", "{{.Names}}").split()
    if others:
        # Compose 1.29 makes networks that a swarm's containers may join, and the engine clears those when it leaves.
        pytest.skip(f"leaving the swarm would cut running containers off their networks: {', '.join(others)}")
    bridges = docker("network", "ls", "--quiet", "--filter", "name=docker_gwbridge").split()
    try:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    except ComposeFailed as refused:
        pytest.skip(f"this engine cannot be put into swarm mode: {refused}")
    try:
        yield
    finally:
        docker("swarm", "leave", "--force")
        if not bridges:
            docker("network", "rm", "docker_gwbridge")


@pytest.fixture(scope="module")
def deployed(swarm):
    """Deploy a stack for this module alone, on any free ports; nothing of it is left behind."""
    name = f"labtest{os.getpid()}"
    any_port = {f"PORT_{port}": "0" for port in PORTS}
    stack = Stack(name, {**fresh(), **any_port, "SERVERS": "2", "HEALTH_INTERVAL": "2s"})
    try:
        yield stack, dict(zip(PORTS, stack.deploy(), strict=True))
    finally:
        stack.remove(volumes=True)
    label = f"label=com.docker.stack.namespace={name}"
    for kind in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert docker(*kind, "--quiet", "--filter", label) == ""
    assert docker("ps", "--all", "--quiet", "--filter", f"name={name}") == ""


@pytest.fixture
def stack(deployed):
    """Return the stack."""
    return deployed[0]


@pytest.fixture
def ports(deployed):
    """Return the port of the front page and of each strategy."""
    return deployed[1]


@pytest.fixture
def shop(ports):
    """Return a function from a strategy's name to a dozen shoppers of it."""
    opened = []

    def shop(strategy):
        opened.append(Shoppers(f"http://127.0.0.1:{ports[strategy.upper().replace('-', '_')]}"))
        return opened[-1]

    yield shop
    for shoppers in opened:
        shoppers.__exit__()


def tasks(stack, service):
    """Return the containers that run for a service."""
    return set(
        docker("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={stack.name}_{service}").split()
    )


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "isolated"])
def test_each_strategy_keeps_carts_on_two_servers(shop, strategy):
    """Tasks are found by DNS, servers of all-to-all find each other, and their numbers are the tasks'."""
    shoppers = shop(strategy)
    wait_until(lambda: shoppers.kept() == 12, "every cart")
    wait_until(lambda: shoppers.servers() == {"web-1", "web-2"}, "answers of both servers")


def test_isolated_shows_why_the_others_exist(shop):
    """Round robin over two servers, of which one knows the cart."""
    shoppers = shop("isolated")
    wait_until(lambda: shoppers.servers() == {"web-1", "web-2"}, "answers of both servers")
    wait_until(lambda: shoppers.kept() < 12, "a cart that is not shown")


def test_nothing_is_published_but_the_gate_on_this_machine_alone(stack, ports):
    """Swarm itself would open its ports to everybody."""
    services = docker("service", "ls", "--quiet", "--filter", f"label=com.docker.stack.namespace={stack.name}").split()
    assert len(services) == 8
    assert not [one for one in json.loads(docker("service", "inspect", *services)) if one["Endpoint"].get("Ports")]
    (gate,) = json.loads(docker("inspect", f"{stack.name}_gate"))
    bound = [
        (one["HostIp"], int(one["HostPort"])) for each in gate["NetworkSettings"]["Ports"].values() for one in each
    ]
    assert sorted(bound) == sorted(("127.0.0.1", number) for number in ports.values())


def test_what_compose_promises_holds_here_too(stack):
    """Read-only file systems, no capabilities, limits; and no secret in an image."""
    (container, *_) = tasks(stack, "web-redis")
    (fact,) = json.loads(docker("inspect", container))
    assert fact["HostConfig"]["ReadonlyRootfs"]
    assert fact["HostConfig"]["CapDrop"] in (["ALL"], ["CAP_ALL"])
    assert fact["HostConfig"]["Memory"] == 256 * 1024 * 1024
    assert fact["HostConfig"]["PidsLimit"] == 256
    assert fact["Config"]["User"] == "10001:10001"
    assert "/tmp" in {mount["Destination"] for mount in fact["Mounts"] if mount["Type"] == "tmpfs"}


@pytest.mark.parametrize(("strategy", "kept"), [("redis", 12), ("sticky", 0), ("all-to-all", 12)])
def test_a_rolling_update_under_load(stack, shop, strategy, kept):
    """All tasks are replaced, one by one. Sessions in a task's own memory go with it; the others do not notice."""
    shoppers = shop(strategy)
    wait_until(lambda: shoppers.kept() == 12, "every cart")
    before = tasks(stack, f"web-{strategy}")
    with shoppers.shopping() as (sent, failed):
        docker("service", "update", "--force", "--quiet", f"{stack.name}_web-{strategy}", seconds=300)
        wait_until(lambda: not before & tasks(stack, f"web-{strategy}"), "the old tasks are gone")
    assert len(tasks(stack, f"web-{strategy}")) == 2
    assert len(failed) < len(sent) / 2, failed
    wait_until(lambda: shoppers.kept() == kept, f"{kept} carts")


def test_deploying_again_changes_nothing_and_loses_nothing(stack, shop):
    """The same file for a stack that runs: tasks stay as they are."""
    shoppers = shop("sticky")
    before = tasks(stack, "web-sticky")
    stack.deploy()
    assert tasks(stack, "web-sticky") == before
    wait_until(lambda: shoppers.kept() == 12, "every cart")
