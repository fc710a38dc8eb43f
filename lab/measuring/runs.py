"""What every experiment does around its procedure: the folder, the log, the report, and a clean end in any case."""

from __future__ import annotations

import logging
import os
import platform
import signal
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lab import run_folder
from lab.errors import DiskFull, EngineFailed, LabError, from_os_error
from lab.report import draw, results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from lab.measuring.place import Place, Shop

_log = logging.getLogger("lab.run")

_FULL_BYTES = 1 << 20


class CtrlC:
    """Remembers that Ctrl-C was pressed, or that another signal asked for an end.

    Python raises `KeyboardInterrupt` wherever it happens to be, and drops it where that is a finaliser; then the next
    step of the run raises it again.
    """

    def __init__(self) -> None:
        self._raised: BaseException | None = None

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Remember while the context lasts. Where Ctrl-C is ignored, as in a shell's background job, it stays so."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        usual = {signum: handler for signum in signals if callable(handler := signal.getsignal(signum))}
        for signum, handler in usual.items():
            signal.signal(signum, partial(self._note, handler))
        try:
            yield
        finally:
            for signum, handler in usual.items():
                signal.signal(signum, handler)

    @contextmanager
    def preferred(self) -> Iterator[None]:
        """Have no failure stand for an end that was asked for: the signal may have ended the load generator, too."""
        try:
            yield
        except Exception:
            self.raise_again()
            raise

    def raise_again(self) -> None:
        """Raise what was dropped."""
        if self._raised is not None:
            raise self._raised

    def _note(self, handler: Callable[[int, FrameType | None], Any], signum: int, frame: FrameType | None) -> None:
        try:
            handler(signum, frame)
        except KeyboardInterrupt as error:
            self._raised = error
            raise


class Steps:
    """Shows what is going on: one line that names the step, with a bar where a step can be counted.

    Args:
        progress: the display.
        ctrl_c: whether the user wants no further step.

    Attributes:
        ctrl_c: as given.
    """

    def __init__(self, progress: Progress, ctrl_c: CtrlC) -> None:
        self._progress = progress
        self.ctrl_c = ctrl_c
        self._task = progress.add_task("starting", total=None)

    def begin(self, text: str, total: int | None = None) -> None:
        """Begin a step of `total` parts."""
        self.ctrl_c.raise_again()
        _log.info(text)
        self._progress.reset(self._task, description=text, total=total, completed=0)

    def advance(self) -> None:
        """One part of the step is done."""
        self.ctrl_c.raise_again()
        self._progress.advance(self._task)


class Backstage(Console):
    """The console of a run that is part of a larger one: prints nothing, and shows its steps where the whole is shown.

    Such a run leaves `latest` alone, which is for the whole to move.

    Args:
        steps: what the whole shows its own by.
    """

    def __init__(self, steps: Steps) -> None:
        super().__init__(quiet=True)
        self.steps = steps


@contextmanager
def shown(console: Console) -> Iterator[Steps]:
    """Show steps while the context lasts."""
    if isinstance(console, Backstage):
        with console.steps.ctrl_c.preferred():
            yield console.steps
        return
    columns = (TimeElapsedColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30))
    ctrl_c = CtrlC()
    progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
    with ctrl_c.remembered(), progress, ctrl_c.preferred():
        yield Steps(progress, ctrl_c)


def carry_out(experiment: str, out: Path, console: Console, procedure: Callable[[Path, Steps], dict[str, Any]]) -> Path:
    """Run an experiment from its folder to its report.

    Args:
        experiment: its name.
        out: where runs are kept.
        console: where the user looks; a `Backstage` for a part of something larger.
        procedure: measures into a folder and returns the results.

    Returns:
        The run's folder. When the run is interrupted or fails, the folder stays and says so, and `latest` still
        points at the newest complete one.
    """
    folder = run_folder.create(out, experiment)
    handler = run_folder.log_to(folder)
    console.print(f"run folder: {folder}", highlight=False)
    try:
        results.write(folder, _unfinished(experiment, folder, "this run has not finished"))
        with shown(console) as steps:
            found = procedure(folder, steps)
            steps.begin("drawing the report")
            results.write(folder, found)
            page = draw(folder)
        if not isinstance(console, Backstage):
            run_folder.point_latest(folder)
    except OSError as error:
        _mark_unfinished(experiment, folder, error)
        raise from_os_error(error) from error
    except (psycopg.Error, RedisError, HTTPException, LabError) as error:
        failure = error if isinstance(error, LabError) else _no_answer(error, folder)
        failure = _by_a_full_disk(failure, folder) or failure
        _mark_unfinished(experiment, folder, failure)
        raise failure from error
    except BaseException as error:
        _mark_unfinished(experiment, folder, error)
        raise
    finally:
        logging.getLogger("lab").removeHandler(handler)
        handler.close()
    if isinstance(console, Backstage):
        return folder
    from lab.report import terminal  # noqa: PLC0415 - nothing that is measured waits for what draws

    terminal.show(found, console)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return folder


def _unfinished(experiment: str, folder: Path, reason: str) -> dict[str, Any]:
    return {
        "schema": results.SCHEMA,
        "experiment": experiment,
        "complete": False,
        "run": {"id": folder.name, "started": now()},
        "validity": {"ok": False, "warnings": [reason]},
        "strategies": {},
        "claims": [],
    }


def _no_answer(error: Exception, folder: Path) -> EngineFailed:
    """Return the one line for a store or a server that failed while the lab asked it something."""
    who = {psycopg.Error: "PostgreSQL", RedisError: "Redis", HTTPException: "a web server"}
    name = next(name for kind, name in who.items() if isinstance(error, kind))
    return EngineFailed(
        f"{name} failed while the lab asked it something: {' '.join(str(error).split()) or type(error).__name__} "
        f"(logs: {folder}). If nobody stopped it, run it again."
    )


def _by_a_full_disk(error: LabError, folder: Path) -> DiskFull | None:
    """Return what led to an error, where that is a disk that filled up meanwhile: no log says so there."""
    with suppress(OSError):
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < _FULL_BYTES and not isinstance(error, DiskFull):
            return DiskFull(f"the disk of {folder} is full: {error} Free some space, or choose another with OUT=…")
    return None


def _mark_unfinished(experiment: str, folder: Path, error: BaseException) -> None:
    """Say in the folder why the run ended; where not even that can be written, the first results.json says enough."""
    _log.error("the run ended early", exc_info=error)
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"ended by an error: {error}"
    with suppress(OSError):
        results.write(folder, _unfinished(experiment, folder, f"this run was {reason}"))


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> dict[str, Any]:
    """Describe the machine, for `results.json`."""
    return {
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": platform.platform(),
    }


def versions(lab: Place[Any], cluster: Shop | None) -> dict[str, str | None]:
    """Return the versions of everything that was measured."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("flask", "waitress", "locust")},
        "redis": lab.redis.version if lab.redis else None,
        "postgresql": lab.postgresql.version if lab.postgresql else None,
        "nginx": cluster.balancer_version if cluster else None,
        **lab.versions,
    }


def durability(lab: Place[Any]) -> dict[str, str | None]:
    """Return what each engine promises to keep, in its own words."""
    return {
        "redis": lab.redis.durability if lab.redis else None,
        "postgresql": lab.postgresql.durability if lab.postgresql else None,
    }
