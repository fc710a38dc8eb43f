"""The real compose file, built and run: every strategy behind its port, what carts survive, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
import requests
from carts import Shoppers, quiet_port, wait_until

from lab.containers import Compose, ComposeFailed
from lab.containers.compose import docker
from lab.containers.env_file import NAMES, fresh
from lab.servers.environment import cookie_name
from strategies import STRATEGIES

SERVERS = 2
SHOPPERS = 8
ATTEMPTS = 3
PORTS = {name: f"PORT_{name.upper().replace('-', '_')}" for name in ("front", *STRATEGIES)}
PRIVATE = {name: 8080 + number for number, name in enumerate(PORTS)}
SECRETS = fresh()
WEB = tuple(f"web-{name}" for name in STRATEGIES)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stack():
    """Bring everything up for this module, on ports of its own; nothing of it is left behind."""
    project = f"lab-test-compose-{os.getpid()}"
    settings = {variable: str(quiet_port()) for variable in PORTS.values()}
    compose = Compose(project, {**SECRETS, **settings, "SERVERS": str(SERVERS), "HEALTH_INTERVAL": "3s"})
    with compose.guarded():
        compose.build()
        compose.up()
        yield compose
    label = f"label=com.docker.compose.project={project}"
    for kind in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert docker(*kind, "--quiet", "--filter", label) == ""


def url(stack, name):
    """Return where a shop, or the front page, is."""
    return f"http://127.0.0.1:{stack.port('balancer', PRIVATE[name])}"


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    """Each strategy in turn."""
    return request.param


@pytest.fixture
def shoppers(stack, strategy):
    """Return shoppers of this strategy's shop, each with something in the cart."""
    with Shoppers(url(stack, strategy), SHOPPERS) as shoppers:
        yield shoppers


def back(stack, service, names=("web-1", "web-2")):
    """Start a service's dead containers again, and wait until shoppers reach them all."""
    for container in stack.containers(service, all_states=True):
        docker("start", container)
    stack.wait_until_healthy(service)
    shop = url(stack, service.removeprefix("web-"))

    def all_serve():
        answers = [requests.get(f"{shop}/api/cart", timeout=10) for _ in range(8)]
        return {answer.headers.get("X-Served-By") for answer in answers} >= set(names)

    wait_until(all_serve, f"{service} serves with {', '.join(names)}")


def test_every_strategy_answers_through_its_own_port(stack, strategy, shoppers):
    """Both servers take part, and the shop's pages and its static files are there."""
    wait_until(lambda: shoppers.servers() == {"web-1", "web-2"}, "both servers answer")
    page = requests.get(f"{shoppers.url}/", timeout=10)
    assert "The Wandering Cart" in page.text
    assert requests.get(f"{shoppers.url}/static/shop.css", timeout=10).headers["Content-Type"].startswith("text/css")


def test_what_runs_is_left_alone_by_a_second_up(stack):
    """Images that were built are those that run: nobody's session goes because somebody typed it again."""
    before = stack.containers()
    stack.up()
    assert stack.containers() == before


def test_every_strategy_has_a_cookie_of_its_own(shoppers, strategy):
    """Cookies do not know ports: one name for two shops would end the session in the other."""
    assert cookie_name(strategy) in shoppers.cookies
    assert not shoppers.cookies & {cookie_name(other) for other in STRATEGIES if other != strategy}


def test_carts_are_where_the_strategy_keeps_them(shoppers, strategy):
    """Isolated servers know only their own shoppers, so carts come and go; everywhere else they stay."""
    if strategy == "isolated":
        wait_until(lambda: 0 < shoppers.kept() < SHOPPERS, "some carts are seen, and some are not")
    else:
        wait_until(lambda: shoppers.kept() == SHOPPERS, "every cart")


@pytest.mark.parametrize("strategy", ["all-to-all", "database", "redis"], indirect=True)
def test_carts_survive_the_death_of_a_web_server(stack, strategy, shoppers):
    """One server is killed; and then, where servers have copies, the other one, as the first is back and has them."""
    service = f"web-{strategy}"
    wait_until(lambda: shoppers.kept() == SHOPPERS, "every cart")
    for number in range(SERVERS if STRATEGIES[strategy].copies == "N" else 1):
        docker("kill", stack.containers(service)[number])
        wait_until(lambda: shoppers.kept() == SHOPPERS, "every cart, with one server")
        back(stack, service)


def test_sticky_loses_the_carts_of_the_server_that_dies(stack):
    """And those alone: whoever is bound to another server keeps everything."""
    outcomes = []
    while len(outcomes) < ATTEMPTS and True not in outcomes:
        outcomes.append(lost_with_its_server(stack))
        back(stack, "web-sticky")
    assert outcomes[-1], "not even in one attempt"


def lost_with_its_server(stack):
    """Kill one of two servers; return whether its shoppers lost their carts, and they alone.

    A machine that is too busy for a server to answer in time has nginx move shoppers of a server that lives.
    """
    with Shoppers(url(stack, "sticky"), SHOPPERS) as shoppers:
        bound = list(shoppers.served_by().values())
        if set(bound) != {"web-1", "web-2"} or shoppers.kept() != SHOPPERS:
            return False
        docker("kill", stack.containers("web-sticky")[0])
        return shoppers.kept() == bound.count("web-2")


def test_a_server_more_is_found_and_has_every_session_before_it_serves(stack):
    """All-to-all is scaled from two to three; with the first two dead, the third still shows every cart."""
    with Shoppers(url(stack, "all-to-all"), SHOPPERS) as shoppers:
        stack.scale("web-all-to-all", 3)
        back(stack, "web-all-to-all", ("web-1", "web-2", "web-3"))
        docker("kill", *stack.containers("web-all-to-all")[:2])
        wait_until(lambda: shoppers.servers() == {"web-3"}, "only the third answers")
        assert shoppers.kept() == SHOPPERS
    back(stack, "web-all-to-all", ("web-1", "web-2", "web-3"))


def test_a_container_in_anothers_place_learns_from_the_others(stack):
    """It has another address, and the same number: its peers know it, and forget the one before."""
    with Shoppers(url(stack, "all-to-all"), SHOPPERS) as shoppers:
        stack.run("up", "--detach", "--no-deps", "--force-recreate", "web-all-to-all", seconds=300)
        stack.wait_until_healthy("web-all-to-all")
        back(stack, "web-all-to-all")
        # Compose has replaced them one by one, or all at once: in that case nobody was left to learn from.
        wait_until(lambda: shoppers.kept() in {0, SHOPPERS}, "all carts, or none")
    with Shoppers(url(stack, "all-to-all"), SHOPPERS) as shoppers:
        wait_until(lambda: shoppers.kept() == SHOPPERS, "every cart of those who came afterwards")
        docker("kill", stack.containers("web-all-to-all")[0])
        wait_until(lambda: shoppers.kept() == SHOPPERS, "every cart, with one server less")
    back(stack, "web-all-to-all")


def test_sessions_survive_new_containers_for_both_stores(stack):
    """What was acknowledged is on their volumes."""
    with Shoppers(url(stack, "database"), SHOPPERS) as first, Shoppers(url(stack, "redis"), SHOPPERS) as second:
        stack.run("up", "--detach", "--no-deps", "--force-recreate", "postgres", "redis", seconds=300)
        stack.wait_until_healthy("postgres", "redis")
        wait_until(lambda: first.kept() == second.kept() == SHOPPERS, "every cart in both stores")


def test_a_server_that_is_told_to_stop_ends_by_itself(stack):
    """It takes its leave within the time it is given: nothing has to be killed."""
    for service in ("web-redis", "web-all-to-all"):
        container = stack.containers(service)[0]
        docker("stop", container)
        (fact,) = stack.inspect(container)
        assert fact["State"]["ExitCode"] in {0, 143}
        back(stack, service)


def test_only_the_balancer_is_published_and_on_this_machine_alone(stack):
    """Six ports, all of 127.0.0.1; all else is in a network that leads nowhere."""
    published = {
        (fact["Config"]["Labels"]["com.docker.compose.service"], binding["HostIp"], int(private.partition("/")[0]))
        for fact in stack.inspect(*stack.containers())
        for private, bindings in fact["NetworkSettings"]["Ports"].items()
        for binding in bindings or ()
    }
    assert published == {("balancer", "127.0.0.1", private) for private in PRIVATE.values()}
    (network,) = json.loads(docker("network", "inspect", f"{stack.project}_inside"))
    assert network["Internal"]
    (balancer,) = stack.inspect(*stack.containers("balancer"))
    networks = balancer["NetworkSettings"]["Networks"]
    reached = {name: reaches(stack, network["IPAddress"]) for name, network in networks.items()}
    assert reached == {f"{stack.project}_inside": True, f"{stack.project}_outside": False}


def reaches(stack, address):
    """Tell whether a web server can connect to the balancer at this address."""
    tries = f"import socket; socket.create_connection(('{address}', 8080), 5)"
    try:
        stack.execute(stack.containers("web-redis")[0], "python", "-c", tries)
    except ComposeFailed:
        return False
    return True


def test_containers_may_do_little(stack):
    """No root, nothing to write on, no more rights to be had, limits, and a new start after a crash."""
    for fact in stack.inspect(*stack.containers()):
        host, name = fact["HostConfig"], fact["Name"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        users = re.findall(r"^Uid:\s+(\d+)\s+(\d+)", docker("exec", fact["Id"], "cat", "/proc/1/status"), re.MULTILINE)
        assert users, name
        assert "0" not in users[0], name
        with pytest.raises(ComposeFailed):
            docker("exec", fact["Id"], "touch", "/usr/should-not-be")


def test_no_secret_is_in_an_image(stack):
    """Neither in its layers' commands nor in its environment; and no file but the lab's own came in."""
    images = {fact["Config"]["Image"] for fact in stack.inspect(*stack.containers(*WEB, "balancer"))}
    for image in images:
        told = docker("history", "--no-trunc", image) + docker("run", "--rm", "--entrypoint", "env", image)
        assert not [name for name, value in SECRETS.items() if value in told or f"{name}=" in told]
    inside = docker("exec", stack.containers("web-redis")[0], "ls", "-A", "/app").split()
    assert sorted(inside) == ["lab", "loadtests", "requirements.lock", "strategies"]


@pytest.mark.parametrize("path", ["/_lab/who", "/_lab/ready", "/_lab/census", "/peers/state", "/_mark"])
def test_shoppers_do_not_reach_internal_routes(stack, strategy, path):
    """The balancer answers them itself, and with nothing."""
    answer = requests.get(f"{url(stack, strategy)}{path}", timeout=10)
    assert answer.status_code == 404
    assert "X-Served-By" not in answer.headers


def test_internal_routes_want_the_labs_secret(stack):
    """Also of who is in the same network."""
    asks = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "def ask(path, **headers):\n"
        "    request = u.Request('http://web-redis:8001' + path, headers=headers)\n"
        "    try: return u.urlopen(request, timeout=20).status\n"
        "    except e.HTTPError as error: return error.code\n"
        "print(ask('/_lab/census'), ask('/_lab/census', **{'X-Lab-Secret': 'x'}), "
        "ask('/_lab/census', **{'X-Lab-Secret': sys.argv[1]}), ask('/peers/state'))"
    )
    container = stack.containers("web-sticky")[0]
    assert stack.execute(container, "python", "-c", asks, SECRETS["LAB_SECRET"]).split() == ["403", "403", "200", "404"]


def test_the_front_page_leads_to_every_shop(stack):
    """One link and one sentence for each, under the name by which the page was reached."""
    front = url(stack, "front")
    page = requests.get(f"{front}/", timeout=10).text
    for name in STRATEGIES:
        assert f'href="{name}"' in page
        assert f"port {stack.port('balancer', PRIVATE[name])}" in page
        away = requests.get(f"{front}/{name}", timeout=10, allow_redirects=False)
        assert away.headers["Location"] == f"{url(stack, name)}/"


def test_stores_keep_the_promises_of_the_labs_own(stack):
    """Numbers mean the same: Redis writes within a second and refuses when full, PostgreSQL before it answers."""
    redis, postgres = stack.containers("redis", "postgres")
    command = "REDISCLI_AUTH=$REDIS_PASSWORD exec redis-cli config get"
    asked = {
        name: docker("exec", redis, "sh", "-c", f"{command} {name}").split()[-1]
        for name in ("appendonly", "appendfsync", "maxmemory-policy")
    }
    assert asked == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    assert "NOAUTH" in docker("exec", redis, "redis-cli", "dbsize")
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert docker("exec", postgres, "psql", "-U", "lab", "-d", "lab", "-Atc", f"show {name}").strip() == "on"


def test_without_secrets_it_says_what_to_do():
    """The project's own `.env` is not looked at here: an empty value counts as none."""
    with pytest.raises(ComposeFailed, match=r"make \.env"):
        Compose("lab-test-no-secrets", dict.fromkeys(NAMES, "")).run("config", "-q")


def test_an_engine_that_does_not_answer_is_one_clear_line(tmp_path):
    """`make up ENGINE=docker` on a machine where Docker is installed and does not run."""
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
    done = subprocess.run(
        [".venv/bin/python", "-m", "lab", "up", "--engine=docker"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Docker's engine does not answer" in done.stderr
