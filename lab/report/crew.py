"""Helpers that draw charts beside this process: a finished run waits for nothing else, and no chart needs another.

Numbers of charts lie in a pipe that all of them read, so whoever is free takes the next one. Helpers end with this
process, however it ends. What a helper could not draw it leaves to this process, where the error is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST = 4
"""Processes that draw, this one included: each takes most of a second to start."""


class Crew:
    """Those who draw a run's charts.

    Args:
        jobs: end of the pipe with the numbers.
        helpers: the other processes.
    """

    def __init__(self, jobs: int, helpers: Sequence[subprocess.Popen[bytes]]) -> None:
        self._jobs = jobs
        self._helpers = helpers

    def turns(self) -> Iterator[int]:
        """Yield the number of a chart that nobody has taken, until there is none."""
        return turns(self._jobs)

    def told(self) -> list[bytes]:
        """Wait for the helpers, and return the line that each chart of theirs has left."""
        outputs = [helper.stdout for helper in self._helpers]
        lines = [line for output in outputs if output is not None for line in output]
        return [line for line in lines if line.endswith(b"\n")]


def turns(jobs: int) -> Iterator[int]:
    """Yield the numbers from the pipe that nobody else has taken, until it is empty."""
    while number := os.read(jobs, 1):
        yield number[0]


@contextmanager
def hired(folder: Path, charts: Sequence[str]) -> Iterator[Crew]:
    """Let helpers draw some of these charts of a run while the context lasts; nothing of them remains after it.

    Args:
        folder: the run's, whole.
        charts: their names; the crew speaks of them by number.
    """
    jobs, feed = os.pipe()
    os.write(feed, bytes(range(len(charts))))
    os.close(feed)
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(OSError):  # no room for another process: then this one draws alone
            while len(helpers) + 1 < min(MOST, _cpus(), len(charts)):
                helpers.append(_hire(folder, charts, jobs))
        yield Crew(jobs, helpers)
    finally:
        for helper in helpers:
            helper.kill()
            helper.communicate()  # its end, and that of its pipes
        os.close(jobs)


def _hire(folder: Path, charts: Sequence[str], jobs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab.report.helper", str(folder), str(jobs), *charts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[jobs],
        cwd=Path(__file__).parents[2],
        start_new_session=True,  # Ctrl-C in the terminal is for the lab alone
    )


def _cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
