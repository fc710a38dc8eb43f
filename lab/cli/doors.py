"""The doors: every one of the Makefile's is one command here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from lab.cli import options
from strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.measuring.facts import Asked

_RUN_BY = "What runs servers and stores: processes of the lab's own, or containers."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """When one web server becomes many, where should the session live?"""


@cli.command()
@options.engine(_RUN_BY)
@click.option(
    "--target",
    type=click.Path(path_type=Path),
    help="Measure a deployment that runs already: a file that says where; see containers/target.example.toml.",
)
@options.servers()
@options.rate()
@click.option(
    "--blocks", type=click.IntRange(1, 1000), help="Timed blocks, one slice of every arm each  [default: 80]."
)
@options.quick("About a minute: enough to see it work, points without intervals.")
@click.option("--full", is_flag=True, help="About ten minutes: narrower intervals.")
@options.SEED
@options.strategies()
@options.WRITES
@options.REPLICATION
@options.OUT
def compare(*, quick: bool, full: bool, **asked: Any) -> None:
    """Measure the strategies side by side and write a report."""
    if quick and full:
        raise click.UsageError("--quick and --full exclude each other: choose one.")
    if asked["target"] is not None and asked["engine"] != "local":
        raise click.UsageError("--engine and --target exclude each other: a target runs already, so nothing starts it.")
    _carry_out("compare", quick=quick, full=full, **asked)


@cli.command()
@options.engine(_RUN_BY)
@options.servers(2, 16, "Web servers behind each balancer; one of them is struck.")
@options.rate()
@options.quick("About a minute: every fault hits all strategies at once.")
@options.SEED
@options.strategies()
@options.OUT
def failover(*, quick: bool, **asked: Any) -> None:
    """Kill and stop servers and engines under load: what is lost, and for how long."""
    _carry_out("failover", quick=quick, **asked)


@cli.command()
@options.servers(2, 15, "Web servers behind each balancer at first; one more is added.")
@options.rate(50, 5000, 200, "Offered load in requests/s; in a quick run all strategies share it.")
@options.quick("About a minute: all strategies at once.")
@options.SEED
@options.strategies([name for name in STRATEGIES if name != "isolated"], "all but isolated")
@options.OUT
def hotspot(*, quick: bool, **asked: Any) -> None:
    """Add a server under load where few shoppers do most: who gets how much of the work."""
    _carry_out("hotspot", quick=quick, **asked)


@cli.command()
@options.quick("Under half a minute: fewer blocks.")
@options.SEED
@options.OUT
def redis_speed(*, quick: bool, **asked: Any) -> None:
    """Time Redis: one session operation, millions a second, native types, and a network in between."""
    _carry_out("redis_speed", quick=quick, **asked)


@cli.command()
@options.servers()
@options.LOADS
@options.quick("About a minute: wide intervals, and points for pairs of equal promise.")
@options.SEED
@options.OUT
def contention(*, quick: bool, **asked: Any) -> None:
    """Keep sessions in the catalogue's own database: are pages without a session slowed down, load by load?"""
    _carry_out("contention", quick=quick, **asked)


@cli.command()
@options.servers()
@options.rate()
@options.quick("About a minute: fewer points, the capacity as a bracket.")
@options.SEED
@options.OUT
def cache(*, quick: bool, **asked: Any) -> None:
    """Put a cache in front of the catalogue: when does it pay, and what does it spare the origin?"""
    _carry_out("cache", quick=quick, **asked)


@cli.command()
@options.quick("At most ten minutes: every experiment in its quick size.")
@options.SEED
@options.OUT
@click.option("--fresh", is_flag=True, help="Begin anew, also where an unfinished lecture could be continued.")
def lecture(*, quick: bool, seed: int, **asked: Any) -> None:
    """Carry out every experiment in turn, and put what they found on one page."""
    from lab.experiments.lecture import experiment  # noqa: PLC0415 - numpy and matplotlib load only for a run

    arguments = [*(["--quick"] if quick else []), f"--seed={seed}"]
    parts = {door: _asked(door, arguments) for door in experiment.EXPERIMENTS if door in cli.commands}
    size = "quick" if quick else "default"
    settings = experiment.settings(parts=parts, size=size, seed=seed, command=_command_line(), **asked)
    experiment.run(settings, Console())


@cli.command()
@options.servers()
@options.quick("About a minute: brackets instead of intervals.")
@options.SEED
@options.strategies()
@options.OUT
def saturation(*, quick: bool, **asked: Any) -> None:
    """Raise the load until shoppers have to wait: what each strategy carries, and what is busy then."""
    _carry_out("saturation", quick=quick, **asked)


@cli.command()
@options.rate()
@options.quick("About a minute: one pass, fewer stale reads looked for.")
@options.SEED
@options.OUT
def scale(*, quick: bool, **asked: Any) -> None:
    """Run 1, 2, 4 and 8 servers: what grows with them, and where each strategy would stop."""
    _carry_out("scale", quick=quick, **asked)


@cli.command()
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    default=2,
    show_default=True,
    help="Processes of this machine that send the load, each its part.",
)
@click.option("--target", help="Address of a shop that runs already, such as http://127.0.0.1:8085.")
@click.option("--strategy", type=options.Names(), help="Start a cluster of this strategy  [default: redis].")
@options.servers()
@options.rate(1, 50_000, 400, "Offered load in requests/s, of all workers together.")
@click.option("--seconds", type=click.IntRange(1, 3600), help="How long  [default: 30].")
@options.quick("10 seconds of load.")
@click.option(
    "--elsewhere", type=click.IntRange(0, 64), default=0, help="Workers that come from other machines, besides."
)
@click.option(
    "--listen", type=options.Address(), help="Where these find the lab, as HOST:PORT; a network that you trust."
)
@options.SEED
@options.OUT
def load(*, target: str | None, strategy: tuple[str, ...] | None, **asked: Any) -> None:
    """Send more load than one process can: one plan, split between several workers."""
    if target and strategy:
        raise click.UsageError("--strategy starts a cluster, --target names a shop that runs: choose one.")
    own = None if target else _only(strategy or ("redis",))
    _carry_out("load", target=target, strategy=own, **asked)


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
@click.option("--strategy", type=options.Names(), help="Which one; in containers, all five run.")
@options.engine("Processes of this machine, or containers.")
@options.servers()
@options.WRITES
@options.REPLICATION
@click.option("--cache", is_flag=True, help="A Redis in front of the catalogue: product pages and searches.")
def up(strategy: tuple[str, ...] | None, engine: str, *, cache: bool, **asked: Any) -> None:
    """Start a cluster to play with, until Ctrl-C."""
    from lab import playground  # noqa: PLC0415

    if engine == "docker":
        if strategy or cache:
            raise click.UsageError(
                "in containers all five strategies run, without a cache: leave STRATEGY and CACHE out"
            )
        playground.run_in_containers(Console(), **asked)
        return
    if strategy is None:
        raise click.UsageError(f"expected a strategy: --strategy (STRATEGY=…), one of: {', '.join(STRATEGIES)}")
    playground.run(_only(strategy), Console(), cache=cache, **asked)


def _only(strategies: Sequence[str]) -> str:
    """Return the strategy that was named where there can be one."""
    if len(strategies) != 1:
        raise click.UsageError(f"expected one strategy, got {len(strategies)}: {' '.join(strategies)}")
    return strategies[0]


def _carry_out(module: str, **asked: Any) -> None:
    """Run an experiment."""
    experiment = importlib.import_module(f"lab.experiments.{module}.experiment")  # numpy loads only for a run
    experiment.run(_settings(module, command=_command_line(), **asked), Console())


def _asked(door: str, arguments: Sequence[str]) -> Asked:
    """Return what a door asks of its experiment when it is called with these arguments."""
    context = cli.commands[door].make_context(door, list(arguments))
    return _settings(door.replace("-", "_"), command=" ".join(["python -m lab", door, *arguments]), **context.params)


def _settings(module: str, *, quick: bool, full: bool = False, **asked: Any) -> Asked:
    """Return what an experiment is asked: the size for its flags, and the options as they are."""
    size = "quick" if quick else "full" if full else "default"
    settings: Asked = importlib.import_module(f"lab.experiments.{module}.experiment").settings(size=size, **asked)
    return settings


def _command_line() -> str:
    return " ".join(["python -m lab", *sys.argv[1:]])
