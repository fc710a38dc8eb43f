"""`docker-compose.yml` as a place to measure: one project, brought up for a run and taken down after it in any case.

Arms that ask for the same settings share containers, as strategies share them in `docker compose up`; where an arm
asks for others, Compose makes those containers anew that are to be different. Two arms of one strategy cannot stand
side by side.
"""

from __future__ import annotations

import json
import logging
import random
import subprocess
import time
from contextlib import ExitStack, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Self

import psycopg
import requests

from lab.containers.compose import BUILD_SECONDS, Compose, docker
from lab.containers.env_file import fresh
from lab.docker.counters import Counters
from lab.docker.shop import ContainedShop, service_of
from lab.docker.stores import ContainedPostgreSQL, ContainedRedis, last_words
from lab.engines.nginx import Traffic, read_access_log
from lab.engines.ports import bound_socket
from lab.engines.postgresql import apart_from_other_databases
from lab.errors import EngineFailed, LabError, PortsExhausted
from lab.probes.containers import engine_processes
from lab.probes.traffic import SESSIONS_APPLICATION
from lab.servers.environment import cookie_name
from strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.cluster import ClusterSpec

OVERLAY = "containers/measure.yml"

SETTLED_SECONDS = 60.0
"""How long the balancer may take to send shoppers to every server and to no other."""

RESOLVE_SECONDS = 2.5
"""The balancer asks DNS every two seconds: so long it may still know of containers that are gone."""

CHECK_SECONDS = 5.0
"""Asking the engine takes a tenth of a second, and there are hundreds of slices."""

_log = logging.getLogger("lab.docker")
_FLUSH_SECONDS = 10.0
_PORTS = range(20_000, 32_000)
"""Below those that systems give to whoever asks for any."""

_OPENED_ON = {"redis": 6379, "postgres": 5432}


class Containers:
    """The compose file's containers; a context manager that leaves none behind, however it ends.

    Args:
        folder: the run's: the balancer's log goes to `engines/` in it.
        servers: containers of each strategy.
        redis: whether a strategy of this run needs Redis.

    Attributes:
        compose: the project.
        lab_secret: what its servers' internal routes ask for.
        counters: of the engine.
        redis: the Redis with the sessions; None where it was not asked for.
        postgresql: the PostgreSQL with catalogue and sessions.
        network: on which the containers talk to each other.
        namespace: begins the names of the lab's own keys in Redis.
        silences: what cannot be told of containers, a sentence each.
        versions: of what runs in them.
    """

    engine = "docker"
    namespace = "lab_"

    def __init__(self, folder: Path, servers: int, *, redis: bool = True) -> None:
        self._logs = folder / "engines"
        self._servers = servers
        self._with_redis = redis
        self._environment = {**fresh(), **_ports(servers), **_ALIKE, "SERVERS": str(servers)}
        self.lab_secret = self._environment["LAB_SECRET"]
        self.counters = Counters()
        self.compose = Compose(f"lab-{token_hex(4)}", self._environment, overlays=[OVERLAY])
        self.redis: ContainedRedis | None = None
        self.postgresql: ContainedPostgreSQL
        self.network = f"{self.compose.project}_inside"
        self.silences: list[str] = []
        self.versions: Mapping[str, str | None] = {}
        self.nginx_version: str | None = None
        self._log = self._logs / "balancer.access.log"
        self._running: dict[str, dict[str, str]] = {}
        self._checked = time.monotonic()
        self._followers: list[int] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Build the images, and start the stores.

        Raises:
            LabError: an image cannot be built or fetched, or a store does not start.
        """
        with ExitStack() as stack:
            self._logs.mkdir(exist_ok=True)
            _log.info("compose project %s", self.compose.project)
            stack.enter_context(apart_from_other_databases())
            stack.enter_context(self.compose.guarded())
            self.compose.build()
            stores = ["postgres", *(["redis"] if self._with_redis else [])]
            self.compose.run("up", "--detach", "--no-deps", *stores, seconds=BUILD_SECONDS)
            port, secret = self._environment["PORT_OF_POSTGRES"], self._environment["POSTGRES_PASSWORD"]
            (container,) = self.compose.containers("postgres")
            self.postgresql = ContainedPostgreSQL(f"postgresql://lab:{secret}@127.0.0.1:{port}/lab", container)
            if self._with_redis:
                port, secret = self._environment["PORT_OF_REDIS"], self._environment["REDIS_PASSWORD"]
                (container,) = self.compose.containers("redis")
                self.redis = ContainedRedis(f"redis://:{secret}@127.0.0.1:{port}/0", container)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def refusal(self, spec: ClusterSpec) -> str | None:
        """Return why there can be no such shop in the compose file; None where there can."""
        if spec.affinity is not None:
            return "the compose file's balancer binds shoppers to servers under sticky alone"
        return None

    def start(self, *specs: ClusterSpec) -> list[ContainedShop]:
        """Bring the containers of these arms up, made anew where they are to be different from those that run.

        Raises:
            LabError: one does not start, or two of them cannot stand side by side.
        """
        wanted = _settings_of(specs)
        services = {service_of(spec.strategy): wanted for spec in specs}
        if any(self._running.get(service) != settings for service, settings in services.items()):
            self._bring_up(services, wanted)
        shops = [self._shop(spec) for spec in specs]
        for shop in shops:
            shop.wait_until_ready()
        self._balance(shops)
        self._learn(shops[0])
        return shops

    def stop(self, _: ContainedShop) -> None:
        """Leave the containers to the next arm that asks for the same; the end of the context removes them."""

    def check(self) -> None:
        """See that no container has ended by itself; the engine is not asked more often than `CHECK_SECONDS`.

        Raises:
            EngineFailed: one has.
        """
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        facts = self.compose.inspect(*self.compose.containers(all_states=True))
        ended = [fact for fact in facts if fact["RestartCount"] or fact["State"]["Status"] != "running"]
        for fact in ended:
            name, last = fact["Name"].lstrip("/"), last_words(fact["Id"])
            raise EngineFailed(f"{name} has ended while it was needed. Its last words: {last}")

    def shared_containers(self) -> dict[str, tuple[str, str]]:
        """Return the containers that serve every strategy: id to name and component."""
        parts = {"postgres": "store", "redis": "store", "balancer": "balancer"}
        return {
            container: (service, component)
            for service, component in parts.items()
            for container in self.compose.containers(service)
        }

    def store_pids(self) -> list[tuple[int, str]]:
        """Return the stores' processes, as the engine's machine knows them, with their containers."""
        return self._pids("postgres", "redis")

    def balancer_pid(self) -> tuple[int, str]:
        """Return the balancer's process, likewise."""
        return self._pids("balancer")[0]

    def pids(self) -> list[int]:
        """Return the first process of every container of the project, likewise."""
        return [pid for pid, _ in self._pids()]

    def engine_pids(self) -> list[int]:
        """Return the engine's own processes on this machine, and what hands on the balancer's log from it."""
        return [*engine_processes(), *self._followers]

    def session_connections(self) -> dict[str, frozenset[int]]:
        """Ask PostgreSQL which connections carry sessions: address of a server to its local ports."""
        query = "SELECT host(client_addr), client_port FROM pg_stat_activity WHERE application_name = %s"
        found: dict[str, set[int]] = {}
        with psycopg.connect(self.postgresql.url) as connection:
            for address, port in connection.execute(query, [SESSIONS_APPLICATION]):
                found.setdefault(str(address), set()).add(int(port))
        return {address: frozenset(ports) for address, ports in found.items()}

    def traffic(self, strategy: str) -> Traffic:
        """Return what went through the balancer to a strategy so far, from its access log.

        Raises:
            EngineFailed: the balancer does not answer, or its log does not arrive.
        """
        mark = token_hex(8)
        with suppress(requests.RequestException):
            requests.get(f"{self._url(strategy)}/_mark?id={mark}", timeout=5.0)
        deadline = time.monotonic() + _FLUSH_SECONDS
        while mark not in self._log.read_text(errors="replace")[-65536:]:
            if time.monotonic() > deadline:
                raise EngineFailed(f"the balancer's log does not arrive in {self._log}")
            time.sleep(0.05)
        return read_access_log(self._log, server_name=strategy)

    def _bring_up(self, services: Mapping[str, dict[str, str]], wanted: dict[str, str]) -> None:
        """Have Compose run exactly these services of the web, with these settings."""
        # What is not asked for would use the machine; and nobody waits for the farewell of servers without shoppers.
        over = [service for service, settings in self._running.items() if services.get(service) != settings]
        if over:
            self.compose.run("kill", *over)
            self.compose.run("rm", "--force", *over)
            for service in over:
                del self._running[service]
        counts = [word for service in services for word in ("--scale", f"{service}={self._servers}")]
        self._environment.update(wanted)
        self.compose = self.compose.told(self._environment)
        self.compose.run("up", "--detach", "--no-deps", *counts, *services, seconds=BUILD_SECONDS)
        self._running |= services

    def _balance(self, shops: Sequence[ContainedShop]) -> None:
        """Start the balancer if need be, and wait until it sends shoppers to every server, and to no other."""
        if not self.compose.containers("balancer"):
            self.compose.run("up", "--detach", "--no-deps", "balancer", seconds=BUILD_SECONDS)
            (container,) = self.compose.containers("balancer")
            follower = subprocess.Popen(
                ["docker", "logs", "--follow", container],
                stdin=subprocess.DEVNULL,
                stdout=self._stack.enter_context(self._log.open("wb")),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._followers.append(follower.pid)
            self._stack.callback(follower.wait, 30)
            self._stack.callback(follower.terminate)
        else:
            time.sleep(RESOLVE_SECONDS)
        for shop in shops:
            self._await_all(shop)

    def _await_all(self, shop: ContainedShop) -> None:
        wanted = {server.name for server in shop.servers}
        deadline = time.monotonic() + SETTLED_SECONDS
        seen: set[str] = set()
        while seen != wanted:
            with suppress(requests.RequestException):
                answer = requests.get(f"{shop.url}/api/products/1", timeout=5.0)
                seen |= {answer.headers.get("X-Served-By", "")} & wanted if answer.ok else set()
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(wanted - seen))
                raise EngineFailed(f"the balancer sends nobody to {missing} of {shop.spec.name}")
            time.sleep(0.02)

    def _shop(self, spec: ClusterSpec) -> ContainedShop:
        return ContainedShop(spec, self, self._url(spec.strategy), cookie_name(spec.strategy))

    def _url(self, strategy: str) -> str:
        return f"http://127.0.0.1:{self._environment[f'PORT_{_upper(strategy)}']}"

    def _learn(self, shop: ContainedShop) -> None:
        """Ask once what runs in the containers, and what cannot be told of them."""
        if self.versions:
            return
        (balancer,) = self.compose.containers("balancer")
        said = self.compose.execute(balancer, "sh", "-c", "nginx -v 2>&1")
        self.nginx_version = said.rpartition("/")[2].strip()
        python = self.compose.execute(shop.servers[0].container, "python", "-c", _PYTHON)
        engine = docker("version", "--format", "{{.Server.Version}}").strip()
        self.versions = {**json.loads(python), "docker": engine}
        self.silences = [
            (
                "CPU time is that of a stretch of load on each strategy alone: an engine counts about once a second, "
                "too slowly for a slice."
            ),
            "Every container has limits of CPU and memory, as the compose file sets them.",
        ]
        if shop.cpu_meter() is None:
            self.silences.append(
                "Whether other programs disturbed a slice: the containers are not processes of this machine's own."
            )

    def _pids(self, *services: str) -> list[tuple[int, str]]:
        facts = self.compose.inspect(*self.compose.containers(*services))
        return [(int(fact["State"]["Pid"]), str(fact["Id"])) for fact in facts]


_PYTHON = """
import json, platform
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in ("flask", "waitress")}}))
"""

_ALIKE = {"DATABASE_URL": "", "REDIS_URL": "", "HEALTH_INTERVAL": "24h", "STORE_HEALTH_INTERVAL": "24h"}
"""What a user's own `.env` may say and a run must not. It measures the compose file's own stores; and the lab asks for
health itself: a program started in every container every few seconds would be measured along."""


def _settings_of(specs: Sequence[ClusterSpec]) -> dict[str, str]:
    """Return the compose file's variables for some arms, which must agree.

    Raises:
        LabError: they do not, or two are of one strategy.
    """
    if len({spec.strategy for spec in specs}) < len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise LabError(f"containers of one strategy are all alike, so these arms cannot stand side by side: {names}")
    found = [
        {
            "WRITES": spec.writes,
            "REPLICATION": spec.replication,
            "IDLE_SECONDS": f"{spec.idle_seconds:g}",
            "ABSOLUTE_SECONDS": f"{spec.absolute_seconds:g}",
        }
        for spec in specs
    ]
    if any(one != found[0] for one in found):
        raise LabError(f"the containers of {specs[0].name} and its neighbours cannot be told different things")
    return found[0]


def _ports(servers: int) -> dict[str, str]:
    """Choose free ports: one for each strategy's shop and for the stores, and one for each server twice.

    Raises:
        PortsExhausted: there are none.
    """
    blocks = {"PORT_FRONT": 1, "PORT_OF_REDIS": 1, "PORT_OF_POSTGRES": 1}
    for strategy in map(_upper, STRATEGIES):
        blocks |= {f"PORT_{strategy}": 1, f"SHOPPERS_{strategy}": servers, f"INTERNAL_{strategy}": servers}
    total = sum(blocks.values())
    for _ in range(50):
        first = random.randrange(_PORTS.start, _PORTS.stop - total)  # noqa: S311 - no secret
        if _all_free(range(first, first + total)):
            break
    else:
        raise PortsExhausted(f"no {total} free ports in a row were found on 127.0.0.1")
    found = {}
    for name, size in blocks.items():
        found[name] = str(first) if size == 1 else f"{first}-{first + size - 1}"
        first += size
    return found


def _all_free(ports: Sequence[int]) -> bool:
    with ExitStack() as stack:
        try:
            for port in ports:
                stack.enter_context(bound_socket(port))
        except LabError:
            return False
    return True


def _upper(strategy: str) -> str:
    return strategy.upper().replace("-", "_")
