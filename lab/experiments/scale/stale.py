"""Stale reads of a scale run: their share against the gap, and after how long few are left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab import statistics
from lab.experiments.scale.amounts import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.experiments.scale.experiment import Watched


def visibility(watched: Watched) -> dict[str, Any]:
    """Return what was seen in one arm: stale reads at each gap, and when half and 5 % of them are left."""
    points = []
    for gap in watched.gaps_ms:
        own = [trial for trial in watched.trials if abs(1000 * trial.gap_seconds - gap) < 1e-6]  # noqa: PLR2004
        if own:
            stale = sum(trial.stale for trial in own)
            waited = 1000 * float(np.median([trial.waited_seconds for trial in own]))
            rate = plain(statistics.wilson(stale, len(own)))
            points.append({"gap_ms": gap, "waited_ms": waited, "stale": stale, "trials": len(own), "rate": rate})
    return {
        "delay_ms": watched.link.delay_ms,
        "replication": watched.link.replication,
        "emulated": watched.link.delay_ms > 0,
        "servers": watched.link.spec.servers,
        "points": points,
        "write_ms": 1000 * float(np.median([trial.write_seconds for trial in watched.trials])),
        "half_ms": crossing(points, 0.5),
        "fresh_ms": crossing(points, 0.05),
    }


def crossing(points: Sequence[dict[str, Any]], share: float) -> float | None:
    """Return after how long at most this share of the reads is stale, by a straight line between two gaps, in ms.

    Returns:
        0 where that is so at once; None where it is not so even at the longest gap.
    """
    before: tuple[float, float] | None = None
    for point in points:
        here = (point["waited_ms"], point["rate"]["estimate"])
        if here[1] <= share:
            if before is None or before[1] == here[1]:
                return 0.0 if before is None else here[0]
            return float(before[0] + (here[0] - before[0]) * (before[1] - share) / (before[1] - here[1]))
        before = here
    return None
