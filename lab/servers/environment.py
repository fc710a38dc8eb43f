"""What a web server in a container is told, by environment variables."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from psycopg.conninfo import make_conninfo

from lab.errors import LabError
from lab.probes.traffic import SESSIONS_APPLICATION
from strategies import STRATEGIES
from strategies.contract import Replication, StoreSettings, WritePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLIC_PORT = 8000
"""Where a container serves shoppers."""

INTERNAL_PORT = 8001
"""Where it serves the lab and its peers."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
"""How long a session may live; none is for ever."""


class EnvironmentWrong(LabError):
    """A variable is missing or has no value that can be used; the text names it."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What one web server is told. Each attribute is the variable of that name in capitals.

    Attributes:
        strategy: where sessions live.
        secret_key: signs the cookies; the same on every server of a shop.
        peer_secret: what servers of all-to-all show each other.
        lab_secret: what the lab shows the internal routes; without one, they answer nobody.
        listen: the address to listen on. A container has a network of its own and listens on all of it.
        service: the name under which DNS lists all servers of this one's cluster.
        server_name: the server's name; empty to ask DNS which number of its service it is.
        servers: how many there are at first: for the colours only.
        database_url: the shop's origin database, and the sessions' under `database`; empty for the project's own.
        postgres_password: of the project's own.
        redis_url: where Redis answers, a cluster's too; empty for the project's own.
        redis_password: of the project's own.
        namespace: the sessions' table, or the keys' prefix; empty for one by the strategy's name.
        writes: what a request saves.
        replication: when an all-to-all save is answered.
        idle_seconds: a session ends this long after its last use.
        absolute_seconds: and this long after its creation at the latest.
    """

    strategy: str
    secret_key: str
    peer_secret: str = ""
    lab_secret: str = ""
    listen: str = "127.0.0.1"
    service: str = ""
    server_name: str = ""
    servers: int = 4
    database_url: str = ""
    postgres_password: str = ""
    redis_url: str = ""
    redis_password: str = ""
    namespace: str = ""
    writes: WritePolicy = "fields"
    replication: Replication = "async"
    idle_seconds: Seconds = 30 * 60
    absolute_seconds: Seconds = 8 * 60 * 60

    def origin_url(self) -> str:
        """Return where the shop's origin database is."""
        return self.database_url or f"postgresql://lab:{self.postgres_password}@postgres:5432/lab"

    def store_settings(self, server: str) -> StoreSettings:
        """Return what the session store is opened with on a server of this name, without peers."""
        return StoreSettings(
            server=server,
            namespace=self.namespace or f"shop_{self.strategy.replace('-', '_')}",
            idle_seconds=self.idle_seconds,
            absolute_seconds=self.absolute_seconds,
            sweep_seconds=1.0,
            redis_url=self.redis_url or f"redis://:{self.redis_password}@redis:6379/0",
            database_url=make_conninfo(self.origin_url(), application_name=SESSIONS_APPLICATION),
            peer_secret=self.peer_secret,
            replication=self.replication,
        )


def read(variables: Mapping[str, str]) -> Environment:
    """Return what the variables say; one that is set to nothing counts as not set.

    Raises:
        EnvironmentWrong: one is missing or wrong.
    """
    given: dict[str, Any] = {
        name: value for name in Environment.__struct_fields__ if (value := variables.get(name.upper()))
    }
    for name in ("strategy", "secret_key"):
        if name not in given:
            raise EnvironmentWrong(f"{name.upper()} is not set in the container's environment")
    if given["strategy"] not in STRATEGIES:
        raise EnvironmentWrong(f"STRATEGY is {given['strategy']!r}; expected one of: {', '.join(STRATEGIES)}")
    try:
        told = msgspec.convert(given, Environment, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].strip("`")
        raise EnvironmentWrong(f"{field.upper()} is {given.get(field)!r}: {str(error).partition(' - ')[0]}") from error
    if told.writes not in STRATEGIES[told.strategy].policies:
        allowed = ", ".join(STRATEGIES[told.strategy].policies)
        raise EnvironmentWrong(f"WRITES is {told.writes!r}, which {told.strategy} cannot promise; expected: {allowed}")
    return told


def cookie_name(shop: str) -> str:
    """Return the session cookie's name: another one for each shop, as cookies do not know ports; all as long.

    Args:
        shop: its strategy, or where it has one its namespace: two shops of one strategy have two.
    """
    return f"session_{sha256(shop.encode()).hexdigest()[:8]}"
