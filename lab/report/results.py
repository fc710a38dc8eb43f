"""The results file of a run: read, checked, written; and the run as the charts see it."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from lab import samples
from lab.errors import LabError
from strategies import STRATEGIES

if TYPE_CHECKING:
    from pathlib import Path

FILE = "results.json"
SCHEMA = 1
BASELINE = "sticky"
"""The strategy that the others' latencies are compared with."""

Results = dict[str, Any]
"""The content of `results.json`: plain JSON values, `None` where something was not measured."""

_NEEDED = ("schema", "experiment", "complete", "run", "validity", "strategies")


class _Shape(TypedDict, total=False):
    """What every reader of results takes for granted."""

    strategies: dict[str, dict[str, Any] | None]
    arms: dict[str, dict[str, Any] | None] | None
    claims: list[dict[str, Any]] | None


class ReportError(LabError):
    """There is nothing to report: the folder holds no run, or a damaged one."""


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: where it lies.
        results: the content of `results.json`.
    """

    folder: Path
    results: Results

    @functools.cached_property
    def samples(self) -> samples.Samples | None:
        """Every timed request, or None where the run kept none."""
        return samples.load(self.folder) if (self.folder / samples.FILE).exists() else None

    @property
    def strategies(self) -> list[str]:
        """The strategies of this run, in the registry's order."""
        return [name for name in STRATEGIES if name in self.results["strategies"]]

    @property
    def compared(self) -> list[str]:
        """The strategies whose latency may be compared: `isolated` serves empty carts."""
        return [name for name in self.strategies if name != "isolated"]

    def get(self, *keys: str) -> Any:
        """Return what stands at a path of keys, or None where any of them is missing or null."""
        return get(self.results, *keys)


def get(results: Any, *keys: str) -> Any:
    """Return what stands at a path of keys, or None where any of them is missing or null."""
    for key in keys:
        if not isinstance(results, dict):
            return None
        results = results.get(key)
    return results


def arms(results: Results) -> dict[str, dict[str, Any]]:
    """Return all arms by name: the strategies, then those that were not timed."""
    return {**results["strategies"], **(results.get("arms") or {})}


def strategy_of(arm: str) -> str:
    """Return the strategy of an arm's name, such as `all-to-all` for `all-to-all sync`."""
    return next((name for name in sorted(STRATEGIES, key=len, reverse=True) if arm.startswith(name)), arm)


def load(folder: Path) -> Run:
    """Read a run.

    Raises:
        ReportError: the folder holds no results, or what it holds cannot be read.
    """
    path = folder / FILE
    try:
        results = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ReportError(f"{folder} holds no {FILE}: give the folder of a run, such as results/latest.") from error
    except OSError as error:
        raise ReportError(f"cannot read {path} ({error.strerror}).") from error
    except msgspec.DecodeError as error:
        raise ReportError(f"{path} is damaged ({error}). Measure again.") from error
    if not isinstance(results, dict):
        raise ReportError(f"{path} is not the results of a run.")
    missing = [key for key in _NEEDED if key not in results]
    if missing:
        raise ReportError(f"{path} is not the results of a run: it lacks {', '.join(missing)}.")
    if results["schema"] != SCHEMA:
        raise ReportError(f"{path} has schema {results['schema']}; this lab reads schema {SCHEMA}. Measure again.")
    try:
        msgspec.convert(results, _Shape)
    except msgspec.ValidationError as error:
        raise ReportError(f"{path} is not the results of a run ({error}). Measure again.") from error
    return Run(folder.resolve(), results)


def write(folder: Path, results: Results) -> Path:
    """Write `results.json` into a run's folder, whole or not at all, and return its path. NaN becomes null."""
    path = folder / FILE
    fresh = folder / f".{FILE}-{os.getpid()}"
    try:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return path
