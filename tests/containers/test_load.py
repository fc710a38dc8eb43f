"""Load from containers: Locust's page with workers that scale, and one plan split between them."""

from __future__ import annotations

import json
import os

import pytest
import requests
from carts import quiet_port, wait_until

from lab import samples
from lab.containers import Compose
from lab.containers.compose import docker
from lab.containers.env_file import fresh
from strategies import STRATEGIES

PORTS = [f"PORT_{name.upper().replace('-', '_')}" for name in ("front", *STRATEGIES, "load")]
SETTINGS = {**fresh(), "SERVERS": "1", "HEALTH_INTERVAL": "10s", "LOAD_HOST": "http://balancer:8082"}
USERS = 6

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def settings():
    """Ports of its own."""
    return {**SETTINGS, **{variable: str(quiet_port()) for variable in PORTS}}


@pytest.fixture(scope="module")
def stack(settings):
    """The shop, Locust's page and two workers; nothing of it is left behind."""
    project = f"lab-test-load-{os.getpid()}"
    compose = Compose(project, settings, profiles=("load",))
    with compose.guarded():
        compose.build()
        compose.up(scale={"load-worker": 2})
        yield compose
    label = f"label=com.docker.compose.project={project}"
    for kind in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert docker(*kind, "--quiet", "--filter", label) == ""


def test_locusts_page_drives_as_many_workers_as_there_are(stack):
    """Two, then three; a strategy is chosen by its address. The page is published on this machine alone."""
    page = f"http://127.0.0.1:{stack.port('load-master', 8089)}"

    def told():
        return requests.get(f"{page}/stats/requests", timeout=10).json()

    wait_until(lambda: len(told()["workers"]) == 2, "two workers are connected")
    stack.scale("load-worker", 3)
    wait_until(lambda: len(told()["workers"]) == 3, "three workers are connected")
    asked = {"user_count": USERS, "spawn_rate": USERS, "host": "http://balancer:8082"}
    assert requests.post(f"{page}/swarm", data=asked, timeout=60).json()["success"]
    wait_until(lambda: {"login", "view", "add"} <= {row["name"] for row in told()["stats"]}, "shoppers shop")
    wait_until(lambda: sum(one["user_count"] > 0 for one in told()["workers"]) == 3, "each worker plays some of them")
    assert requests.post(f"{page}/stop", timeout=60).ok
    (fact,) = stack.inspect(*stack.containers("load-master"))
    bindings = [one for ports in fact["NetworkSettings"]["Ports"].values() for one in ports or ()]
    assert {one["HostIp"] for one in bindings} == {"127.0.0.1"}
    assert fact["Config"]["User"] == "10001:10001"


def test_workers_in_containers_send_one_plan_together(stack, settings, tmp_path):
    """Every request of the plan comes back from exactly one of them, into a run folder of the usual kind."""
    plan = {
        "LOAD_WORKERS": "2",
        "LOAD_RATE": "40",
        "LOAD_SECONDS": "4",
        "LOAD_RESULTS": str(tmp_path),
        "LOAD_USER": f"{os.getuid()}:{os.getgid()}",
    }
    together = Compose(stack.project, {**settings, **plan}, overlays=("containers/load.yml",), profiles=("load",))
    words = ("up", "--scale", "load-worker=2", "--exit-code-from", "load-master", "load-master", "load-worker")
    together.run(*words, seconds=600)
    results = json.loads((tmp_path / "latest" / "results.json").read_text())
    told = results["load"]
    assert results["complete"]
    assert told["target"] == "http://balancer:8082"
    assert told["lost"] == []
    workers = told["workers"].values()
    assert len({one["host"] for one in workers}) == 2
    assert {one["here"] for one in workers} == {False}
    counts = told["requests"]
    assert counts["scheduled"] == counts["sent"] == sum(one["sent"] for one in workers)
    assert len(samples.load(tmp_path / "latest").f) == counts["sent"]
    assert (tmp_path / "latest" / "report.html").stat().st_size > 0
