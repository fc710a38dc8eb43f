"""Every request of the timed blocks as columns: what `samples.npz` holds, written once and read by every chart."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "samples.npz"


class SamplesError(LabError):
    """The samples of a run are missing or damaged."""


@dataclass(frozen=True, eq=False)
class Samples:
    """One row per request; all columns have the same length.

    Attributes:
        arms: names that `arm` counts in.
        fs: names that `f` counts in (`view`, `add`, ...).
        server_names: names that `server` counts in.
        arm: which arm served the request.
        block: in which block, from 0.
        position: place of the arm's slice within the block, from 0.
        twin: True in the repeated slice of the baseline (same against same).
        f: what was done.
        intended_s: when the plan wanted it sent, in seconds from the start of the slice.
        latency_ms: from the intended start to the end of the answer, without the generator's own lateness.
        service_ms: from the real start to the end of the answer.
        slowness: how slow the machine was around the request, relative to the run's median (`lab.probes.pace`); 1
            outside the timed blocks.
        lateness_ms: how late it left; NaN where the tab was still busy, so that the wait was the server's doing.
        ok: answered with 2xx and parsed.
        failed: transport error or 5xx.
        server: who answered.
    """

    arms: NDArray[np.str_]
    fs: NDArray[np.str_]
    server_names: NDArray[np.str_]
    arm: NDArray[np.int64]
    block: NDArray[np.int64]
    position: NDArray[np.int64]
    twin: NDArray[np.bool_]
    f: NDArray[np.int64]
    intended_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    service_ms: NDArray[np.float64]
    slowness: NDArray[np.float64]
    lateness_ms: NDArray[np.float64]
    ok: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    server: NDArray[np.int64]

    def rows(self, arm: str, *, twin: bool | None = False, f: str | None = None) -> NDArray[np.bool_]:
        """Return which rows belong to an arm and were answered.

        Failed requests are counted elsewhere: a refused connection is quick, and must not make a strategy look so.

        Args:
            arm: its name; unknown names have no rows.
            twin: False for the arm's own slices, True for the repeated ones of the baseline, None for both.
            f: only this operation.
        """
        chosen = (self.arms[self.arm] == arm) & ~self.failed if len(self.arms) else np.zeros(len(self.arm), dtype=bool)
        if twin is not None:
            chosen &= self.twin == twin
        if f is not None:
            chosen &= self.fs[self.f] == f
        return chosen


def save(samples: Samples, folder: Path) -> Path:
    """Write `samples.npz` into a run's folder, whole or not at all, and return its path."""
    path = folder / FILE
    fresh = folder / f".{FILE}-{os.getpid()}"
    with fresh.open("wb") as file:
        np.savez_compressed(file, **{field.name: getattr(samples, field.name) for field in fields(samples)})
    fresh.replace(path)
    return path


def load(folder: Path) -> Samples:
    """Read the samples of a run.

    Raises:
        SamplesError: there are none, or the file is damaged.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as columns:
            return Samples(**{field.name: columns[field.name] for field in fields(Samples)})
    except FileNotFoundError as error:
        raise SamplesError(f"{folder} has no {FILE}.") from error
    except ValueError as error:  # its text proposes to load the file all the same, and to run what is in it
        raise SamplesError(f"{path} is damaged. Measure again.") from error
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SamplesError(f"{path} is damaged ({error}). Measure again.") from error
