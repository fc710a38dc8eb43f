"""What the parts of a scale run's findings share: slices of one strategy, sums over blocks, and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import statistics
from lab.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.experiments.scale.experiment import Stretch
    from lab.measuring.timed import Slice
    from lab.measuring.usage import Usage

COPYING = "all-to-all"
REFERENCE = "sticky"
"""What a server costs without copies: the machine's pace, which changes from one size to the next, falls on both."""


def pieces_of(stretches: Sequence[Stretch], name: str) -> list[Slice]:
    """Return the timed slices of a strategy."""
    return [piece for stretch in stretches for piece in stretch.timed.slices if piece.arm == name]


def ratio_of_sums(amounts: Sequence[float], units: Sequence[float]) -> Interval | None:
    """Return amounts per unit, with an interval over resampled blocks where there are enough of them.

    Args:
        amounts: per block, such as CPU ms.
        units: per block, such as requests.
    """
    over, under = np.asarray(amounts, dtype=np.float64), np.asarray(units, dtype=np.float64)
    if not under.sum():
        return None
    estimate = float(over.sum() / under.sum())
    if len(under) < statistics.LEAST_BLOCKS:
        return Interval(estimate)
    drawn = _resampled(over, under)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _resampled(over: np.ndarray, under: np.ndarray, seed: int = statistics.SEED) -> np.ndarray:
    draws = statistics.resample_blocks(len(over), seed=seed)
    sums = under[draws].sum(axis=1)
    return np.asarray(over[draws].sum(axis=1)[sums > 0] / sums[sums > 0])


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def writes_between(before: Usage, after: Usage) -> int:
    """Count sessions begun, saved and ended between two readings; a shared store's servers count their own."""
    return sum(
        getattr(after.census[server], name) - getattr(before.census[server], name)
        for server in after.census
        for name in ("creates", "saves", "deletes")
    )


def link_blocks(stretches: Sequence[Stretch]) -> dict[str, list[float]]:
    """Return what went between servers in each block; no `bytes` where the system cannot tell."""
    found: dict[str, list[float]] = {"bytes": [], "messages": [], "writes": []}
    for stretch in stretches:
        for before, after in zip(stretch.steps, stretch.steps[1:], strict=False):
            link = after.links["server_server"] - before.links["server_server"]
            found["writes"].append(float(writes_between(before, after)))
            found["messages"].append(float(link.messages or 0))
            if link.bytes is not None:
                found["bytes"].append(float(link.bytes))
    return found


def plain(value: Interval | None) -> dict[str, Any] | None:
    """Return an interval as it stands in the results."""
    return None if value is None else msgspec.to_builtins(value)


def estimate_of(value: dict[str, Any] | None) -> float | None:
    """Return the figure itself, without its interval."""
    return None if value is None else value["estimate"]
