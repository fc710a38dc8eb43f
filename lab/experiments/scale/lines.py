"""Lines through the sizes of a scale run, and whether they foretell the largest size from the others.

What servers tell each other, and what they hold, grows by a straight line. The CPU time that all-to-all costs beyond
sticky begins at nothing: a write is told to N - 1 peers, each of which receives and applies it, so it costs so much per
peer, and one server, which has none, tells nobody. A single server is left out of that fit: what is measured there is
how alike the machine's pace fell on both strategies, and it would tilt the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lab import statistics
from lab.experiments.scale.amounts import COPYING, REFERENCE, link_blocks, pieces_of, plain
from lab.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lab.experiments.scale.experiment import Measured, Stretch

Rows = list[tuple[float, float]]
"""A figure for each block, or rung, with the number of peers (N - 1) before it."""

_LEAST_SIZES = 2
"""Of clusters, for a line through them."""

STRAIGHT, IN_PROPORTION = "straight line", "in proportion to N - 1"

CLOSE = 0.15
"""What is foretold is right if it is no further off than this share."""


def rows_of(what: str, name: str, measured: Measured) -> Rows:
    """Return a figure for each block, or rung, with the number of peers (N - 1) beside it."""
    rows: Rows = []
    for stretch in measured.stretches:
        peers = float(stretch.servers - 1)
        if what == "added_ms":
            own, reference = (_web_ms(stretch, which) for which in (name, REFERENCE))
            rows += [(peers, own[block] - reference[block]) for block in own if block in reference]
        elif what in {"bytes", "messages"}:
            blocks = link_blocks([stretch])
            rows += [
                (peers, amount / writes)
                for amount, writes in zip(blocks[what], blocks["writes"], strict=False)
                if writes
            ]
        elif name in stretch.storage and stretch.storage[name].ladder.bytes_per_session is not None:
            rows.append((peers, float(stretch.storage[name].ladder.bytes_per_session or 0)))
    return rows


def _web_ms(stretch: Stretch, name: str) -> dict[int, float]:
    """Return the web servers' CPU time per request in ms, by block."""
    pieces = pieces_of([stretch], name)
    return {piece.block: 1000 * piece.cpu["servers"] / len(piece.operations) for piece in pieces if piece.operations}


def line(rows: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Fit a straight line: the slope per peer with its interval, and the value without peers."""
    x, y = [row[0] for row in rows], [row[1] for row in rows]
    slope = statistics.slope(x, y) if rows else None
    if slope is None:
        return None
    return {"slope": plain(slope), "start": float(np.mean(y) - slope.estimate * np.mean(x)), "points": len(rows)}


def in_proportion(rows: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Fit a line that begins at nothing: so much per peer, with an interval over resampled blocks."""
    told = np.array([row for row in rows if row[0] > 0], dtype=np.float64)
    if not len(told):
        return None
    slope = _with_interval(told, lambda own: _through_zero(own)[..., 0])
    return {"slope": plain(slope), "start": 0.0, "points": len(told)}


def _through_zero(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the slope of the line through zero for each set of rows, and 0, where it begins; shape (..., 2)."""
    x, y = rows[..., 0], rows[..., 1]
    slope = (x * y).sum(axis=-1) / (x * x).sum(axis=-1)
    return np.stack([slope, np.zeros_like(slope)], axis=-1)


def _straight(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return slope and start of the straight line for each set of rows; shape (..., 2)."""
    x, y = rows[..., 0], rows[..., 1]
    across = x - x.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (across * y).sum(axis=-1) / (across * across).sum(axis=-1)
    return np.stack([slope, y.mean(axis=-1) - slope * x.mean(axis=-1)], axis=-1)


def _with_interval(rows: NDArray[np.float64], figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Interval:
    """Return a figure of some rows, with an interval over resampled rows where there are enough of them."""
    estimate = float(figure(rows))
    if len(rows) < statistics.LEAST_BLOCKS:
        return Interval(estimate)
    drawn = figure(rows[statistics.resample_blocks(len(rows))])
    low, high = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def foretold(rows: Sequence[tuple[float, float]], peers: float, law: str) -> Interval | None:
    """Foretell a figure at a number of peers from rows of other sizes; None where they are too few for the law."""
    known = np.array([row for row in rows if law == STRAIGHT or row[0] > 0], dtype=np.float64).reshape(-1, 2)
    if len(np.unique(known[:, 0])) < (_LEAST_SIZES if law == STRAIGHT else 1):
        return None
    fit = _straight if law == STRAIGHT else _through_zero
    return _with_interval(known, lambda own: (fit(own) * np.array([peers, 1.0])).sum(axis=-1))


def verdict(predicted: Interval, seen: Interval) -> Literal["right", "cannot tell", "wrong"]:
    """Say whether what was foretold is right; further off nobody can tell, as long as the intervals meet."""
    if seen.estimate and abs(predicted.estimate / seen.estimate - 1) <= CLOSE:
        return "right"
    ends = (predicted.low, predicted.high, seen.low, seen.high)
    meet = None not in ends and predicted.low <= seen.high and seen.low <= predicted.high  # type: ignore[operator]
    return "cannot tell" if meet else "wrong"


def fits(measured: Measured, names: Sequence[str]) -> dict[str, Any]:
    """Fit everything that may grow with the number of servers, over all sizes."""
    return {
        "added_ms": {name: line(rows_of("added_ms", name, measured)) for name in names if name != REFERENCE},
        "per_peer_ms": in_proportion(rows_of("added_ms", COPYING, measured)),
        "physical_bytes": {name: line(rows_of("physical", name, measured)) for name in names},
        "bytes": line(rows_of("bytes", COPYING, measured)),
        "messages": line(rows_of("messages", COPYING, measured)),
    }


WORTH_CHECKING = {
    "bytes": ("bytes between servers per write", "B", STRAIGHT),
    "messages": ("messages between servers per write", "", STRAIGHT),
    "added_ms": ("CPU per request of all web servers, beyond sticky's", "ms", IN_PROPORTION),
    "physical": ("bytes per session on all servers", "B", STRAIGHT),
}
"""What the smaller sizes foretell for the largest: words, unit and law."""


def checked(measured: Measured, points: dict[str, Any]) -> list[dict[str, Any]]:
    """Foretell the largest size from the others alone, and put what was measured beside it."""
    sizes = measured.settings.lengths.servers
    if len(sizes) <= _LEAST_SIZES:
        return []
    found = (_check(what, measured, points) for what in WORTH_CHECKING)
    return [one for one in found if one]


def _check(what: str, measured: Measured, points: dict[str, Any]) -> dict[str, Any] | None:
    *fitted, largest = measured.settings.lengths.servers
    title, unit, law = WORTH_CHECKING[what]
    rows = rows_of(what, COPYING, measured)
    known = [row for row in rows if row[0] < largest - 1]
    seen = _seen(what, points[COPYING][str(largest)], [row[1] for row in rows if row[0] == largest - 1])
    predicted = foretold(known, largest - 1, law)
    if not seen or predicted is None:
        return None
    fit = (line if law == STRAIGHT else in_proportion)(known) or {}
    return {
        "what": title,
        "unit": unit,
        "law": law,
        "fitted_on": [each for each in fitted if law == STRAIGHT or each > 1],
        "at": largest,
        "start": fit["start"],
        "slope": fit["slope"]["estimate"],
        "predicted": predicted.estimate,
        "predicted_interval": plain(predicted),
        "measured": seen,
        "off": predicted.estimate / seen["estimate"] - 1 if seen["estimate"] else None,
        "verdict": verdict(predicted, Interval(seen["estimate"], seen["low"], seen["high"])),
    }


def _seen(what: str, point: dict[str, Any], values: Sequence[float]) -> dict[str, Any] | None:
    found: dict[str, dict[str, Any] | None] = {
        "added_ms": plain(statistics.mean_of_blocks(values)) if values else None,
        "physical": point["physical_bytes"],
        **{name: (point["per_write"] or {}).get(name) for name in ("bytes", "messages")},
    }
    return found[what]
