"""A deployment that runs already, as a place where shops are measured: nothing is started, and nothing is stopped.

Every arm of a strategy goes to the same servers, with shoppers of its own. Only what the deployment already is can be
measured there: an arm that asks for other settings is refused, with the reason.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import msgspec
import psycopg
import redis
import requests

from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis
from lab.errors import LabError, ServerFailed
from lab.probes.traffic import LINKS, Link, Links
from strategies import find
from strategies.contract import Census

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.cluster import ClusterSpec
    from lab.target.file import Target, TargetShop

ANSWER_SECONDS = 10.0
"""How long a server may take to answer the lab."""

QUIET_SECONDS = 30.0
"""How long replication may take to come to rest."""

SECRET_HEADER = "X-Lab-Secret"  # noqa: S105 - a header's name, no secret

HEADERS = {
    "X-Served-By": "which server answered: requests per server, and guarantees when the server changes",
    "X-Session": "which session an answer belongs to: sessions lost",
}
"""What the lab's shop says in its answers, and what cannot be checked without."""

_CENSUS = msgspec.json.Decoder(Census)
_QUIET = msgspec.json.Decoder(dict[str, bool])


class DeployedServer(msgspec.Struct, frozen=True):
    """A server of a deployment.

    Attributes:
        name: what it calls itself.
        url: where it serves shoppers, past the balancer.
        internal_url: where it answers the lab; None where it cannot be reached.
    """

    name: str
    url: str
    internal_url: str | None

    @property
    def log(self) -> str:
        """Where what it says can be read: the lab does not know."""
        return "on its own machine"


class Greeting(msgspec.Struct, frozen=True):
    """What a shop showed of itself to a first visitor.

    Attributes:
        cookie_name: of its session cookie.
        missing: headers of the lab's shop that its answer lacked.
    """

    cookie_name: str
    missing: tuple[str, ...]


class DeployedShop:
    """The servers of one strategy in a deployment."""

    balancer_version = None

    def __init__(self, spec: ClusterSpec, shop: TargetShop, greeting: Greeting, deployment: Deployment) -> None:
        """Use `Deployment.start`."""
        self.spec = spec
        self.url = shop.url.rstrip("/")
        self.cookie_name = greeting.cookie_name
        self.servers = tuple(
            DeployedServer(name, one.url.rstrip("/"), one.internal_url and one.internal_url.rstrip("/"))
            for name, one in shop.servers.items()
        )
        self._deployment = deployment

    @property
    def namespace(self) -> str | None:
        """The table with its sessions, where that is known."""
        return self._deployment.target.session_table

    def census(self) -> dict[str, Census]:
        """Return what each server holds; empty unless all of them answer the lab.

        Raises:
            ServerFailed: one does not.
        """
        return {server.name: _CENSUS.decode(answer) for server, answer in self._ask_all("census")}

    def quiet(self) -> float:
        """Wait until every copy has reached the peers; where nobody can be asked, do not wait.

        Raises:
            ServerFailed: it took longer than `QUIET_SECONDS`, or a server does not answer.
        """
        if find(self.spec.strategy).copies == "1":
            return 0.0
        began = time.monotonic()
        while not all(_QUIET.decode(answer)["quiet"] for _, answer in self._ask_all("quiet")):
            if time.monotonic() - began > QUIET_SECONDS:
                raise ServerFailed(f"{self.spec.name}: replication did not come to rest within {QUIET_SECONDS:.0f} s")
            time.sleep(0.01)
        return time.monotonic() - began

    def links(self, peer_requests: int) -> Links:
        """Return what is known of each link: messages between servers, and what Redis counts of itself."""
        found = dict.fromkeys(LINKS, Link(None, None))
        if self._asked:
            found["server_server"] = Link(None, 2 * peer_requests)
        needs = find(self.spec.strategy).needs
        if not needs:
            found["server_store"] = Link(0, 0)
        elif "redis" in needs and self._deployment.redis:
            with self._deployment.redis.connect() as client:
                stats = client.info("stats")
            found["server_store"] = Link(
                int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"]), None
            )
        return found

    def cpu_meter(self) -> None:
        """Return nothing: the lab does not see the processes of a deployment."""

    def container_use(self) -> dict[str, Any]:
        """Return nothing: nor its containers."""
        return {}

    def memory_bytes(self) -> None:
        """Return nothing: nor its memory."""

    @property
    def _asked(self) -> bool:
        return bool(self.servers) and all(server.internal_url for server in self.servers)

    def _ask_all(self, what: str) -> Iterator[tuple[DeployedServer, bytes]]:
        for server in self.servers if self._asked else ():
            yield server, self._deployment.ask(f"{server.internal_url}/_lab/{what}", f"{self.spec.name}: {server.name}")


class Deployment:
    """A deployment as a place to measure; a context manager.

    Args:
        target: where it answers.

    Attributes:
        target: likewise.
        redis: the Redis with its sessions, where it can be asked.
        postgresql: the PostgreSQL with its catalogue and sessions, likewise.
        silences: what cannot be told of it, a sentence each.
    """

    engine = "target"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.redis: Redis | None = None
        self.postgresql: PostgreSQL | None = None
        self.silences: list[str] = []
        self.versions: Mapping[str, str | None] = dict.fromkeys(("python", "flask", "waitress", "nginx"))
        self._greetings: dict[str, Greeting] = {}
        self._http = requests.Session()
        self._http.trust_env = False
        if target.lab_secret:
            self._http.headers[SECRET_HEADER] = target.lab_secret

    def __enter__(self) -> Self:
        """Ask every shop, server and store that the file names for a sign of life.

        Raises:
            LabError: one does not answer as it should.
        """
        target = self.target
        self._greetings = {name: _greet(name, shop) for name, shop in target.strategies.items()}
        for name, shop in target.strategies.items():
            for server, one in shop.servers.items():
                if one.internal_url:
                    self.ask(f"{one.internal_url.rstrip('/')}/_lab/health", f"strategies.{name}.servers.{server}")
        if target.redis_url:
            with _clear("redis_url", "Redis"):
                self.redis = Redis(target.redis_url)
        if target.database_url:
            with _clear("database_url", "PostgreSQL"):
                self.postgresql = PostgreSQL(target.database_url)
        self.silences = list(_silences(target, self._greetings))
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def refusal(self, spec: ClusterSpec) -> str | None:
        """Return why an arm cannot be measured here; None where it can."""
        asked = type(spec)(name=spec.name, strategy=spec.strategy)
        if spec.strategy not in self.target.strategies:
            return "the deployment has no such strategy"
        if spec.writes != self.target.writes:
            return f"the deployment writes {self.target.writes!r}"
        if spec.strategy == "all-to-all" and spec.replication != self.target.replication:
            return f"the deployment replicates {self.target.replication!r}"
        if spec.affinity is not None:
            return "the deployment's balancer is as it is"
        if (spec.idle_seconds, spec.absolute_seconds) != (asked.idle_seconds, asked.absolute_seconds):
            return "the deployment's sessions last as long as they last"
        return None

    def start(self, *specs: ClusterSpec) -> list[DeployedShop]:
        """Return a shop for each arm; nothing is started.

        Raises:
            LabError: an arm asks for what the deployment is not.
        """
        for spec in specs:
            if reason := self.refusal(spec):
                raise LabError(f"{spec.name} cannot be measured here: {reason}")
        return [
            DeployedShop(spec, self.target.strategies[spec.strategy], self._greetings[spec.strategy], self)
            for spec in specs
        ]

    def stop(self, cluster: DeployedShop) -> None:
        """Do nothing: the deployment goes on."""

    def check(self) -> None:
        """See nothing: whatever fails there, shoppers notice."""

    def ask(self, url: str, whom: str) -> bytes:
        """Return what a server answers the lab.

        Raises:
            ServerFailed: it does not.
        """
        try:
            answer = self._http.get(url, timeout=ANSWER_SECONDS)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise ServerFailed(f"{whom} does not answer the lab at {url}: {_short(error)}") from error
        return bytes(answer.content)


def _greet(name: str, shop: TargetShop) -> Greeting:
    """Log a visitor in and out again, and see what the answer shows.

    Raises:
        LabError: there is no shop of the lab's at that address.
    """
    where = f"strategies.{name}: {shop.url}"
    with requests.Session() as visitor:
        visitor.trust_env = False
        try:
            answer = visitor.post(f"{shop.url.rstrip('/')}/api/login", json={"user": "lab"}, timeout=ANSWER_SECONDS)
            visitor.post(f"{shop.url.rstrip('/')}/api/logout", json={}, timeout=ANSWER_SECONDS)
        except requests.RequestException as error:
            raise LabError(f"{where} does not answer: {_short(error)}") from error
    if not answer.ok:
        raise LabError(
            f"{where} is not the lab's shop: POST /api/login gave {answer.status_code}, expected 200. "
            "Give the address of the balancer in front of it."
        )
    missing = tuple(header for header in HEADERS if header not in answer.headers)
    return Greeting(shop.cookie_name or _cookie_name(where, answer), missing)


def _cookie_name(where: str, answer: requests.Response) -> str:
    names = [cookie.name for cookie in answer.cookies]
    likely = [name for name in names if "session" in name] or names
    # Where servers hold copies, the shop sets a second cookie, called as the first with something behind it.
    likely = [name for name in likely if not any(name.startswith(f"{other}_") for other in likely)]
    if len(likely) != 1:
        got = ", ".join(names) or "none"
        raise LabError(f"{where}: expected one cookie with the session, got {got}. Say which with cookie_name.")
    return likely[0]


def _silences(target: Target, greetings: Mapping[str, Greeting]) -> Iterator[str]:
    """Say, a sentence each, what cannot be told of a deployment that shows no more than this file says."""
    yield "CPU time, memory and bytes on the links between shopper, balancer and servers: the lab does not see them."
    for header, what in HEADERS.items():
        if lacking := [name for name, greeting in greetings.items() if header in greeting.missing]:
            yield f"Answers of {', '.join(lacking)} carry no `{header}`, so nothing can be said of {what}."
    shops = target.strategies.items()
    if alone := [name for name, shop in shops if not shop.servers]:
        yield (
            f"No addresses past the balancer are given for {', '.join(alone)}: what every server shows in the end was "
            "not looked at, so writes lost for good and servers that disagree cannot be told."
        )
    if shut := [
        name for name, shop in shops if not (shop.servers and all(one.internal_url for one in shop.servers.values()))
    ]:
        yield f"No internal addresses are given for every server of {', '.join(shut)}: copies and store operations."
    if "redis" in target.strategies:
        yield (
            "No redis_url is given: what a session occupies in Redis, and the bytes to it."
            if target.redis_url is None
            else "Bytes to Redis are what it counts of itself: whoever else uses it is in them."
        )
    if "database" in target.strategies and (target.database_url is None or target.session_table is None):
        yield "No database_url with session_table is given: what a session occupies in PostgreSQL."


@contextmanager
def _clear(key: str, what: str) -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, psycopg.Error, ValueError) as error:
        raise LabError(f"{key} names a {what} that does not answer: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Return the last part of an error's text: the cause, on one line."""
    text = " ".join(str(error).split())
    return text if len(text) < 160 else f"… {text[-150:]}"  # noqa: PLR2004 - a line that fits on a screen
