"""How fast the machine's CPUs run from moment to moment, by a fixed piece of work.

The CPU of a shared or throttled machine does the same work now in one millisecond and now in two, for a twentieth of
a second at a time. This hits every server alike, but not at the same moment. The pacemaker times the same loop 250
times a second; a request's latency divided by how slow the machine was around it is what the request itself cost.
It counts CPU time: waiting for a CPU is a server's own doing, and stays in the latency.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from lab.errors import LabError

if TYPE_CHECKING:
    from numpy.typing import NDArray

AROUND_SECONDS = 0.02
"""How long before a request and after it readings still tell how fast the machine was."""

_PROGRAM = Path(__file__).with_name("pacemaker.py")


@dataclass(frozen=True, eq=False)
class Pace:
    """What the pacemaker read; all columns have the same length.

    Attributes:
        at_s: when each reading was taken, by the monotonic clock, in seconds, ascending.
        work_s: CPU time that the fixed piece of work took.
    """

    at_s: NDArray[np.float64]
    work_s: NDArray[np.float64]

    def slowness(self, begin_s: NDArray[np.float64], end_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how slow the machine was around each stretch of time; 1 is its usual pace, 2 half of it.

        The geometric mean of the readings within `AROUND_SECONDS` of the stretch (of the nearest one, where there are
        none), relative to the median of all readings. Without any reading: 1.

        Args:
            begin_s: where each stretch begins, by the monotonic clock.
            end_s: where it ends.
        """
        if not len(self.at_s):
            return np.ones(len(begin_s))
        logs = np.log(self.work_s) - np.log(np.median(self.work_s))
        first = np.searchsorted(self.at_s, begin_s - AROUND_SECONDS).clip(max=len(logs) - 1)
        last = np.maximum(np.searchsorted(self.at_s, end_s + AROUND_SECONDS, side="right"), first + 1)
        sums = np.concatenate([[0.0], np.cumsum(logs)])
        return np.asarray(np.exp((sums[last] - sums[first]) / (last - first)))


class Pacemaker:
    """Takes readings while the context lasts; `pace` holds them afterwards. It ends when the lab does."""

    def __enter__(self) -> Self:
        """Start it."""
        self.pace = Pace(np.empty(0), np.empty(0))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the lab's to handle
        )
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Stop it, and keep what it read.

        Raises:
            LabError: it has ended before, so that there are moments that it knows nothing of.
        """
        packed, _nothing = self._process.communicate()
        if self._process.returncode != 0:
            if failure is None:
                raise LabError("The pacemaker, which times a fixed piece of work, has ended too early. Measure again.")
            return
        readings = np.frombuffer(packed, np.float64).reshape(-1, 2)
        self.pace = Pace(readings[:, 0], readings[:, 1])
