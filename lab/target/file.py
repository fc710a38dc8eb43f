"""The file that says where a deployment answers: TOML, checked before anything is asked of it.

`containers/target.example.toml` shows every key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from lab.errors import LabError
from strategies import UnknownStrategy, find
from strategies.contract import Replication, WritePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLE = "containers/target.example.toml"

_SCHEMES = {
    "url": ("http",),
    "internal_url": ("http",),
    "redis_url": ("redis", "rediss"),
    "database_url": ("postgresql", "postgres"),
}


class TargetServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A web server past the balancer.

    Attributes:
        url: where it serves shoppers, as the lab reaches it.
        internal_url: where it answers the lab (`/_lab/…`), if the lab can reach that.
    """

    url: str
    internal_url: str | None = None


class TargetShop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The servers of one strategy.

    Attributes:
        url: the balancer.
        cookie_name: of the session cookie; asked of the shop where it is not given.
        servers: past the balancer, by the name that each gives itself in `X-Served-By`.
    """

    url: str
    cookie_name: str | None = None
    servers: dict[str, TargetServer] = {}


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment.

    Attributes:
        strategies: by name.
        name: what to call it in the report.
        writes: what a request saves there.
        replication: when all-to-all answers there.
        redis_url: the Redis with the sessions, for the probes.
        database_url: the PostgreSQL with catalogue and sessions, likewise.
        session_table: the table with the sessions in it.
        lab_secret: what the servers' internal routes ask for.
    """

    strategies: dict[str, TargetShop]
    name: str = "a deployment"
    writes: WritePolicy = "fields"
    replication: Replication = "async"
    redis_url: str | None = None
    database_url: str | None = None
    session_table: str | None = None
    lab_secret: str | None = None


def read(path: Path, *, needed: str) -> Target:
    """Read a file and check it.

    Args:
        path: the file.
        needed: the strategy that must be among those it names: the baseline.

    Raises:
        LabError: it cannot be read, or says something that it should not.
    """
    try:
        target = msgspec.toml.decode(path.read_bytes(), type=Target)
    except OSError as error:
        raise LabError(f"TARGET={path} cannot be read ({error.strerror}). {EXAMPLE} shows what it may say.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabError(f"TARGET={path}: {_plain(str(error))}. {EXAMPLE} shows what it may say.") from error
    for complaint in _complaints(target, needed):
        raise LabError(f"TARGET={path}: {complaint}. {EXAMPLE} shows what it may say.")
    return target


def _plain(text: str) -> str:
    """Put a decoder's words into one line that names the key as the file does."""
    return " ".join(text.split()).replace("`$.", "`").replace("[...]", ".*").rstrip(".")


def _complaints(target: Target, needed: str) -> Iterator[str]:
    for name in target.strategies:
        try:
            find(name)
        except UnknownStrategy as error:
            yield str(error).rstrip(".")
    if needed not in target.strategies:
        given = ", ".join(target.strategies) or "none"
        yield f"expected [strategies.{needed}], which the others are compared with, got {given}"
    for key, address in _addresses(target):
        yield from _of_address(key, address)
    seen: dict[str, str] = {}
    for name, shop in target.strategies.items():
        if (other := seen.setdefault(shop.url.rstrip("/"), name)) != name:
            yield f"{name} and {other} have the same url, {shop.url}: expected a balancer address for each strategy"


def _addresses(target: Target) -> Iterator[tuple[str, str | None]]:
    yield "redis_url", target.redis_url
    yield "database_url", target.database_url
    for name, shop in target.strategies.items():
        yield f"strategies.{name}.url", shop.url
        for server, one in shop.servers.items():
            yield f"strategies.{name}.servers.{server}.url", one.url
            yield f"strategies.{name}.servers.{server}.internal_url", one.internal_url


def _of_address(key: str, address: str | None) -> Iterator[str]:
    if address is None:
        return
    schemes = _SCHEMES[key.rpartition(".")[2]]
    expected = f"{key}: expected {' or '.join(f'{scheme}://' for scheme in schemes)}host:port"
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        yield f"{expected}, got {address!r} ({error})"
        return
    web = "http" in schemes
    if parts.scheme not in schemes or not parts.hostname or (web and (parts.path.strip("/") or parts.query)):
        yield f"{expected}, got {address!r}"
