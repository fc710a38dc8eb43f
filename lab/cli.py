"""The command line: every door of the Makefile is one command here.

Each failure that a user can cause or mend is one clear line and an exit status: 1 when the lab could not do its
work, 2 when it was asked for something that it does not offer, 130 when it was interrupted.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from lab.errors import LabError
from loadtests.client import LoadError
from strategies import STRATEGIES, UnknownStrategy, find
from strategies.contract import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.measuring.facts import Asked

INTERRUPTED = 130
"""What shells report for a command that ended by Ctrl-C."""

_LEAST_LOAD, _MOST_LOAD = 10, 5000


class _Names(click.ParamType[tuple[str, ...]]):
    """Names of strategies, separated by spaces or commas."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = str(value).replace(",", " ").split()
        if not names:
            self.fail("expected at least one strategy", param, ctx)
        try:
            return tuple(dict.fromkeys(find(name).name for name in names))
        except UnknownStrategy as error:
            self.fail(str(error), param, ctx)


class _Loads(click.ParamType[tuple[int, ...]]):
    """Offered loads in requests/s, separated by spaces or commas."""

    name = "loads"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).replace(",", " ").split()
        if not words:
            self.fail("expected at least one load in requests/s", param, ctx)
        for word in words:
            if not (word.isdecimal() and _LEAST_LOAD <= int(word) <= _MOST_LOAD):
                self.fail(f"{word!r} is no load between {_LEAST_LOAD} and {_MOST_LOAD:,} requests/s", param, ctx)
        return tuple(map(int, words))


class _Address(click.ParamType[tuple[str, int]]):
    """Host and port to listen at."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            self.fail(f"expected HOST:PORT of this machine, such as 192.168.1.5:5557, got {value!r}", param, ctx)
        return host, int(port)


_SERVERS = click.option(
    "--servers", type=click.IntRange(1, 16), default=4, show_default=True, help="Web servers behind the balancer."
)
_WRITES = click.option(
    "--writes",
    type=click.Choice(["fields", "blob", "versioned"]),
    default="fields",
    show_default=True,
    help="What a request saves: the fields it changed, the whole session, or only onto the version it read.",
)
_REPLICATION = click.option(
    "--replication",
    type=click.Choice(["async", "sync"]),
    default="async",
    show_default=True,
    help="When all-to-all answers a shopper: at once, or when every live server has the write.",
)


_RATE = click.option(
    "--rate", type=click.IntRange(1, 5000), default=200, show_default=True, help="Offered load in requests/s."
)
_SEED = click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of every plan and order."
)
_STRATEGIES = click.option(
    "--strategies", type=_Names(), default=tuple(STRATEGIES), help="Which strategies, by name  [default: all five]."
)
_LOADS = click.option("--loads", type=_Loads(), help='Offered loads in requests/s, such as "100 200 400".')
_ENGINE = click.option(
    "--engine",
    type=click.Choice(["local", "docker"]),
    default="local",
    show_default=True,
    help="What runs servers and stores: processes of the lab's own, or containers.",
)
_OUT = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where runs are kept."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """When one web server becomes many, where should the session live?"""


@cli.command()
@_ENGINE
@click.option(
    "--target",
    type=click.Path(path_type=Path),
    help="Measure a deployment that runs already: a file that says where; see containers/target.example.toml.",
)
@_SERVERS
@_RATE
@click.option(
    "--blocks", type=click.IntRange(1, 1000), help="Timed blocks, one slice of every arm each  [default: 80]."
)
@click.option("--quick", is_flag=True, help="About a minute: enough to see it work, points without intervals.")
@click.option("--full", is_flag=True, help="About ten minutes: narrower intervals.")
@_SEED
@_STRATEGIES
@_WRITES
@_REPLICATION
@_OUT
def compare(*, quick: bool, full: bool, **options: Any) -> None:
    """Measure the strategies side by side and write a report."""
    if quick and full:
        raise click.UsageError("--quick and --full exclude each other: choose one.")
    if options["target"] is not None and options["engine"] != "local":
        raise click.UsageError("--engine and --target exclude each other: a target runs already, so nothing starts it.")
    _carry_out("compare", quick=quick, full=full, **options)


@cli.command()
@_ENGINE
@click.option(
    "--servers",
    type=click.IntRange(2, 16),
    default=4,
    show_default=True,
    help="Web servers behind each balancer; one of them is struck.",
)
@_RATE
@click.option("--quick", is_flag=True, help="About a minute: every fault hits all strategies at once.")
@_SEED
@_STRATEGIES
@_OUT
def failover(*, quick: bool, **options: Any) -> None:
    """Kill and stop servers and engines under load: what is lost, and for how long."""
    _carry_out("failover", quick=quick, **options)


@cli.command()
@click.option(
    "--servers",
    type=click.IntRange(2, 15),
    default=4,
    show_default=True,
    help="Web servers behind each balancer at first; one more is added.",
)
@click.option(
    "--rate",
    type=click.IntRange(50, 5000),
    default=200,
    show_default=True,
    help="Offered load in requests/s; in a quick run all strategies share it.",
)
@click.option("--quick", is_flag=True, help="About a minute: all strategies at once.")
@_SEED
@click.option(
    "--strategies",
    type=_Names(),
    default=tuple(name for name in STRATEGIES if name != "isolated"),
    help="Which strategies, by name  [default: all but isolated].",
)
@_OUT
def hotspot(*, quick: bool, **options: Any) -> None:
    """Add a server under load where few shoppers do most: who gets how much of the work."""
    _carry_out("hotspot", quick=quick, **options)


@cli.command()
@click.option("--quick", is_flag=True, help="Under half a minute: fewer blocks.")
@_SEED
@_OUT
def redis_speed(*, quick: bool, **options: Any) -> None:
    """Time Redis: one session operation, millions a second, native types, and a network in between."""
    _carry_out("redis_speed", quick=quick, **options)


@cli.command()
@_SERVERS
@_LOADS
@click.option("--quick", is_flag=True, help="About a minute: wide intervals, and points for pairs of equal promise.")
@_SEED
@_OUT
def contention(*, quick: bool, **options: Any) -> None:
    """Keep sessions in the catalogue's own database: are pages without a session slowed down, load by load?"""
    _carry_out("contention", quick=quick, **options)


@cli.command()
@_SERVERS
@_RATE
@click.option("--quick", is_flag=True, help="About a minute: fewer points, the capacity as a bracket.")
@_SEED
@_OUT
def cache(*, quick: bool, **options: Any) -> None:
    """Put a cache in front of the catalogue: when does it pay, and what does it spare the origin?"""
    _carry_out("cache", quick=quick, **options)


@cli.command()
@click.option("--quick", is_flag=True, help="At most ten minutes: every experiment in its quick size.")
@_SEED
@_OUT
@click.option("--fresh", is_flag=True, help="Begin anew, also where an unfinished lecture could be continued.")
def lecture(*, quick: bool, seed: int, **options: Any) -> None:
    """Carry out every experiment in turn, and put what they found on one page."""
    from lab.experiments.lecture import experiment  # noqa: PLC0415 - numpy and matplotlib load only for a run

    arguments = [*(["--quick"] if quick else []), f"--seed={seed}"]
    parts = {door: _asked(door, arguments) for door in experiment.EXPERIMENTS if door in cli.commands}
    size = "quick" if quick else "default"
    settings = experiment.settings(parts=parts, size=size, seed=seed, command=_command_line(), **options)
    experiment.run(settings, Console())


@cli.command()
@_SERVERS
@click.option("--quick", is_flag=True, help="About a minute: brackets instead of intervals.")
@_SEED
@_STRATEGIES
@_OUT
def saturation(*, quick: bool, **options: Any) -> None:
    """Raise the load until shoppers have to wait: what each strategy carries, and what is busy then."""
    _carry_out("saturation", quick=quick, **options)


@cli.command()
@_RATE
@click.option("--quick", is_flag=True, help="About a minute: one pass, fewer stale reads looked for.")
@_SEED
@_OUT
def scale(*, quick: bool, **options: Any) -> None:
    """Run 1, 2, 4 and 8 servers: what grows with them, and where each strategy would stop."""
    _carry_out("scale", quick=quick, **options)


@cli.command()
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    default=2,
    show_default=True,
    help="Processes of this machine that send the load, each its part.",
)
@click.option("--target", help="Address of a shop that runs already, such as http://127.0.0.1:8085.")
@click.option("--strategy", type=_Names(), help="Start a cluster of this strategy  [default: redis].")
@_SERVERS
@click.option(
    "--rate",
    type=click.IntRange(1, 50_000),
    default=400,
    show_default=True,
    help="Offered load in requests/s, of all workers together.",
)
@click.option("--seconds", type=click.IntRange(1, 3600), help="How long  [default: 30].")
@click.option("--quick", is_flag=True, help="10 seconds of load.")
@click.option(
    "--elsewhere", type=click.IntRange(0, 64), default=0, help="Workers that come from other machines, besides."
)
@click.option("--listen", type=_Address(), help="Where these find the lab, as HOST:PORT; a network that you trust.")
@_SEED
@_OUT
def load(*, target: str | None, strategy: tuple[str, ...] | None, **options: Any) -> None:
    """Send more load than one process can: one plan, split between several workers."""
    if target and strategy:
        raise click.UsageError("--strategy starts a cluster, --target names a shop that runs: choose one.")
    if strategy and len(strategy) != 1:
        raise click.UsageError(f"expected one strategy, got {len(strategy)}: {' '.join(strategy)}")
    own = None if target else (strategy or ("redis",))[0]
    _carry_out("load", target=target, strategy=own, **options)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Redraw the charts and the page of RUN, a run's folder, from its files."""
    from lab.report import draw  # noqa: PLC0415

    click.echo(f"report: {draw(run)}")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--witnesses", is_flag=True, help="Only the saved witnesses, each alone.")
@click.pass_context
def check(context: click.Context, run: Path, *, witnesses: bool) -> None:
    """Check the saved history of RUN again, or of every run of a lecture. Exit status: 0 ok, 1 violated, 2 unknown."""
    from lab.consistency.command import recheck  # noqa: PLC0415

    context.exit(recheck(run, Console(), witnesses_only=witnesses))


@cli.command()
@click.option("--strategy", type=_Names(), help="Which one; in containers, all five run.")
@click.option(
    "--engine",
    type=click.Choice(["local", "docker"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or containers.",
)
@_SERVERS
@_WRITES
@_REPLICATION
@click.option("--cache", is_flag=True, help="A Redis in front of the catalogue: product pages and searches.")
def up(strategy: tuple[str, ...] | None, engine: str, *, cache: bool, **options: Any) -> None:
    """Start a cluster to play with, until Ctrl-C."""
    from lab import playground  # noqa: PLC0415

    if engine == "docker":
        if strategy or cache:
            raise click.UsageError(
                "in containers all five strategies run, without a cache: leave STRATEGY and CACHE out"
            )
        playground.run_in_containers(Console(), **options)
        return
    if strategy is None:
        raise click.UsageError(f"expected a strategy: --strategy (STRATEGY=…), one of: {', '.join(STRATEGIES)}")
    if len(strategy) != 1:
        raise click.UsageError(f"expected one strategy, got {len(strategy)}: {' '.join(strategy)}")
    playground.run(strategy[0], Console(), cache=cache, **options)


def _carry_out(module: str, **options: Any) -> None:
    """Run an experiment."""
    experiment = importlib.import_module(f"lab.experiments.{module}.experiment")  # numpy loads only for a run
    experiment.run(_settings(module, command=_command_line(), **options), Console())


def _asked(door: str, arguments: Sequence[str]) -> Asked:
    """Return what a door asks of its experiment when it is called with these arguments."""
    context = cli.commands[door].make_context(door, list(arguments))
    return _settings(door.replace("-", "_"), command=" ".join(["python -m lab", door, *arguments]), **context.params)


def _settings(module: str, *, quick: bool, full: bool = False, **options: Any) -> Asked:
    """Return what an experiment is asked: the size for its flags, and the options as they are."""
    size = "quick" if quick else "full" if full else "default"
    settings: Asked = importlib.import_module(f"lab.experiments.{module}.experiment").settings(size=size, **options)
    return settings


def _command_line() -> str:
    return " ".join(["python -m lab", *sys.argv[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: what stands behind `python -m lab`; by default what the process was started with.
    """
    try:
        status = cli.main(args=arguments, prog_name="python -m lab", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(_one_line(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; everything that was started has been stopped.", INTERRUPTED)
    except (LabError, LoadError, SessionError) as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        return 1
    return int(status or 0)


def _one_line(error: click.ClickException) -> str:
    return " ".join(error.format_message().split())


def _fail(text: str, status: int) -> int:
    click.echo(f"lab: {text}", err=True)
    return status
