"""What every process of the load does about its surroundings: files, answers, and its end."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from typing import IO

import gevent

MOST_FILES = 10_000
"""Open files that a process of the load asks for; more than any experiment has tabs."""


def own_stdout() -> IO[bytes]:
    """Keep stdout for answers alone: whatever prints from now on goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def end_with_parent() -> None:
    """End in the midst of whatever is done if the parent is gone: only its end makes stdin readable meanwhile."""
    gevent.get_hub().loop.io(0, 1, ref=False).start(os._exit, 1)


def allow_connections() -> None:
    """Raise the limit of open files as far as it goes: some systems start with 256, and each tab holds a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 < hard < MOST_FILES else MOST_FILES, hard))
