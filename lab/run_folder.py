"""The folder that a run leaves behind, and `latest`, which points at the newest complete one."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEAST_FREE_BYTES = 500 * 1024 * 1024
"""A run is not begun with less free disk: engines' data, logs and samples take about a fifth of it."""


class RunFolderError(LabError):
    """The run's folder cannot be made or written."""


def create(out: Path, experiment: str, *, rooms: Sequence[str] = ("charts", "engines")) -> Path:
    """Make a fresh folder `<out>/<experiment>-<UTC time>` and return it.

    Args:
        out: where runs are kept; made if it is missing.
        experiment: which experiment this is a run of.
        rooms: folders to make in it.

    Raises:
        RunFolderError: `out` cannot be written, or the disk is nearly full.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = _make_unique(out, f"{experiment}-{stamp}")
        for room in rooms:
            (folder / room).mkdir()
    except OSError as error:
        raise _cannot_write(out, error) from error
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < LEAST_FREE_BYTES:
        _remove_empty(folder, rooms)
        needed, have = LEAST_FREE_BYTES >> 20, free.f_bavail * free.f_frsize >> 20
        raise RunFolderError(
            f"the disk under {out} is nearly full: a run needs {needed} MiB free, there are {have} MiB. "
            "Free some space, or choose another folder with OUT=…"
        )
    return folder


def _make_unique(out: Path, name: str) -> Path:
    """Make `name`, or `name-2` and so on when a second lab begins within the same second."""
    for attempt in range(1, 100):
        folder = out / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunFolderError(f"a hundred runs called {name} stand in {out} already: move some away.")


def _remove_empty(folder: Path, rooms: Sequence[str]) -> None:
    for path in (*(folder / room for room in rooms), folder):
        path.rmdir()


def _cannot_write(out: Path, error: OSError) -> RunFolderError:
    if error.errno == errno.ENOSPC:
        return RunFolderError(f"the disk under {out} is full. Free some space, or choose another folder with OUT=…")
    if isinstance(error, FileExistsError | NotADirectoryError):
        return RunFolderError(
            f"cannot write to {out}: expected a folder, got a file on the way there, or a link that leads nowhere. "
            "Move it away, or choose another folder with OUT=…"
        )
    return RunFolderError(f"cannot write to {out} ({error.strerror}). Choose another folder with OUT=…")


def point_latest(folder: Path) -> None:
    """Let `latest`, beside the folder, point at it: replaced in one step, so that it always points somewhere."""
    link = folder.parent / "latest"
    fresh = folder.parent / f".latest-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    fresh.replace(link)


class _Log(logging.FileHandler):
    """A log that is silent where it cannot be written: what fills the disk is for the run to say, in one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as its library calls it
        """Leave the record out."""

    def close(self) -> None:
        """Close the file, though not all of it may have been written."""
        with suppress(OSError):
            super().close()


def log_to(folder: Path) -> logging.Handler:
    """Send the lab's log to `lab.log` in the folder; remove the handler at the end of the run."""
    handler = _Log(folder / "lab.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("lab")
    root.setLevel(logging.INFO)
    root.propagate = False
    root.addHandler(handler)
    return handler
