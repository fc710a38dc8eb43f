"""What the doors have in common: the kinds of values that their options take, and the options that several have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strategies import STRATEGIES, UnknownStrategy, find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LEAST_LOAD, _MOST_LOAD = 10, 5000


class Names(click.ParamType[tuple[str, ...]]):
    """Names of strategies, separated by spaces or commas."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return their names as the registry has them, each once."""
        if isinstance(value, tuple):
            return value
        names = str(value).replace(",", " ").split()
        if not names:
            self.fail("expected at least one strategy", param, ctx)
        try:
            return tuple(dict.fromkeys(find(name).name for name in names))
        except UnknownStrategy as error:
            self.fail(str(error), param, ctx)


class Loads(click.ParamType[tuple[int, ...]]):
    """Offered loads in requests/s, separated by spaces or commas."""

    name = "loads"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the loads."""
        if isinstance(value, tuple):
            return value
        words = str(value).replace(",", " ").split()
        if not words:
            self.fail("expected at least one load in requests/s", param, ctx)
        for word in words:
            if not (word.isdecimal() and _LEAST_LOAD <= int(word) <= _MOST_LOAD):
                self.fail(f"{word!r} is no load between {_LEAST_LOAD} and {_MOST_LOAD:,} requests/s", param, ctx)
        return tuple(map(int, words))


class Address(click.ParamType[tuple[str, int]]):
    """Host and port to listen at."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the two apart."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            self.fail(f"expected HOST:PORT of this machine, such as 192.168.1.5:5557, got {value!r}", param, ctx)
        return host, int(port)


def servers(least: int = 1, most: int = 16, says: str = "Web servers behind the balancer.") -> Callable[..., Any]:
    """Return the option `--servers`, four of them where not told, for a door that takes so many."""
    return click.option("--servers", type=click.IntRange(least, most), default=4, show_default=True, help=says)


def rate(
    least: int = 1, most: int = 5000, default: int = 200, says: str = "Offered load in requests/s."
) -> Callable[..., Any]:
    """Return the option `--rate`."""
    return click.option("--rate", type=click.IntRange(least, most), default=default, show_default=True, help=says)


def quick(says: str) -> Callable[..., Any]:
    """Return the option `--quick`, which says how long it takes then, and what it leaves out."""
    return click.option("--quick", is_flag=True, help=says)


def strategies(default: Sequence[str] = tuple(STRATEGIES), says: str = "all five") -> Callable[..., Any]:
    """Return the option `--strategies`, and which those are where none is named."""
    return click.option(
        "--strategies", type=Names(), default=tuple(default), help=f"Which strategies, by name  [default: {says}]."
    )


def engine(says: str) -> Callable[..., Any]:
    """Return the option `--engine`."""
    return click.option(
        "--engine", type=click.Choice(["local", "docker"]), default="local", show_default=True, help=says
    )


WRITES = click.option(
    "--writes",
    type=click.Choice(["fields", "blob", "versioned"]),
    default="fields",
    show_default=True,
    help="What a request saves: the fields it changed, the whole session, or only onto the version it read.",
)
REPLICATION = click.option(
    "--replication",
    type=click.Choice(["async", "sync"]),
    default="async",
    show_default=True,
    help="When all-to-all answers a shopper: at once, or when every live server has the write.",
)
SEED = click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of every plan and order."
)
LOADS = click.option("--loads", type=Loads(), help='Offered loads in requests/s, such as "100 200 400".')
OUT = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where runs are kept."
)
