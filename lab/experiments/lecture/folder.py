"""Where a lecture is kept: the newest unfinished one is continued if the same is asked, and by one lab at a time."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab import run_folder
from lab.errors import LabError
from lab.measuring.runs import machine
from lab.report import ReportError
from lab.report.results import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from lab.report.results import Run

_LOCK = ".lock"


def open_folder(out: Path, asked: dict[str, Any], console: Console, *, fresh: bool) -> Path:
    """Return the folder of the newest lecture if that is unfinished and was asked the same, otherwise a fresh one.

    Args:
        out: where runs are kept.
        asked: what decides whether two lectures are the same: option to value.
        console: where the user is told which it is.
        fresh: begin anew in any case.
    """
    newest = None if fresh else _newest(out)
    if newest is not None and not newest.results["complete"]:
        differing = differences(newest, asked)
        if not differing:
            text = f"continuing {newest.folder}: what is complete there stays (FRESH=1 begins anew)."
            console.print(text, highlight=False, soft_wrap=True)
            return newest.folder
        text = f"beginning anew: {newest.folder.name} is unfinished, but was asked otherwise ({'; '.join(differing)})."
        console.print(text, highlight=False, soft_wrap=True)
    folder = run_folder.create(out, "lecture", rooms=())
    console.print(f"lecture folder: {folder}", highlight=False, soft_wrap=True)
    return folder


def differences(run: Run, asked: dict[str, Any]) -> list[str]:
    """Say how a lecture differs from what is asked now; numbers of two machines do not make one lecture either."""
    then = run.get("run") or {}
    differing = [f"{name} {then.get(name)}, now {value}" for name, value in asked.items() if then.get(name) != value]
    return differing + (["on another machine"] if then.get("machine") != machine() else [])


def _newest(out: Path) -> Run | None:
    """Return the newest lecture that says what it is."""
    runs = []
    for folder in out.glob("lecture-[0-9]*"):
        try:
            runs.append(load(folder))
        except ReportError:
            continue
    return max(runs, key=lambda run: (str(run.get("run", "started")), run.folder.name), default=None)


def complete_run(folder: Path, experiment: str) -> Run | None:
    """Return the newest complete run of an experiment in a lecture's folder."""
    runs = []
    for path in folder.glob(f"{experiment}-[0-9]*"):
        try:
            run = load(path)
        except ReportError:
            continue
        if run.results["complete"] and run.results["experiment"] == experiment:
            runs.append(run)
    return max(runs, key=lambda run: run.folder.name, default=None)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other labs from carrying out the same lecture while the context lasts; a lab that is killed lets go.

    Raises:
        LabError: another lab is at it.
    """
    with (folder / _LOCK).open("w", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the process's own, so that no engine it forks holds it
        except OSError as error:
            text = f"another lab is carrying out {folder}: wait for it, or begin another with FRESH=1."
            raise LabError(text) from error
        yield
