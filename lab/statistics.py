"""Intervals and verdict words: how sure the lab is of a number. Pure arithmetic on numpy arrays.

Ratios compare latencies at an equal pace of the machine: each is divided by how slow the machine was around it.
The unit of resampling is what the noise comes in: the *block* for latencies (what the machine does in one second
hits all requests of that second), the *shopper* for broken guarantees (one lost session breaks many views). Resampling
single requests would give intervals that are several times too narrow. `docs/statistics.md` compares the estimators
on simulated runs and says why these were chosen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from lab.samples import Samples

Verdict = Literal["faster", "slower", "about the same", "cannot tell"]
"""What an interval of a ratio says about a practical difference."""

RESAMPLES = 4000
SEED = 20_250_101
"""Of the resampling alone, so that redrawing a run gives the same digits."""

BAND = 0.05
"""Half-width of the practical band: a ratio within 1 ± 5 % is `about the same` to a shopper."""

LEAST_BLOCKS = 8
"""Fewer blocks than this carry a point, but no interval: resampling them would flatter."""

BEYOND = 30
"""So many values beyond a quantile make it a number; see `carries`."""

CROWDED = 0.80
"""Share of the machine's CPU time in use from which on everything slows everything: not judged."""

TRIM = 0.1
"""Share of the blocks left out at either end of the ordered per-block ratios."""

CONFIDENCE = 0.95
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Interval(msgspec.Struct, frozen=True):
    """A number and the 95 % interval around it.

    Attributes:
        estimate: the number itself.
        low: lower end, or None where the sample is too small for an interval.
        high: upper end, likewise.
    """

    estimate: float
    low: float | None = None
    high: float | None = None


def _around(estimate: float, resampled: NDArray[np.float64] | None, confidence: float = CONFIDENCE) -> Interval:
    """Return the percentile interval of resampled estimates."""
    if resampled is None:
        return Interval(float(estimate))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(estimate), float(min(low, estimate)), float(max(high, estimate)))


def resample_blocks(blocks: int, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """Draw blocks with replacement: one row of block indexes per resample.

    The same rows serve every arm and every percentile, so that what one block did to all of them stays paired.
    """
    return np.random.default_rng(seed).integers(0, blocks, (resamples, blocks))


def trimmed_mean(values: NDArray[np.float64], trim: float = TRIM) -> NDArray[np.float64]:
    """Return the mean along the last axis without the lowest and the highest `trim` of the values."""
    cut = int(trim * values.shape[-1])
    middle = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    return np.asarray(middle.mean(axis=-1))


def quantile_by_block(values: NDArray[np.float64], blocks: NDArray[np.int64], p: float) -> dict[int, float]:
    """Return the quantile `p` of each block's values (median-unbiased, Hyndman and Fan 1996, type 8)."""
    return {
        int(block): float(np.quantile(values[blocks == block], p, method="median_unbiased"))
        for block in np.unique(blocks)
    }


def paired_ratio(
    arm: dict[int, float], baselines: list[dict[int, float]], confidence: float = CONFIDENCE
) -> Interval | None:
    """Return how many times larger an arm's figure is than the baseline's, paired by block.

    Per block: the logarithm of the arm's figure minus the mean logarithm of the baseline's slices. Over blocks: the
    trimmed mean. Interval: the same over resampled blocks.

    Args:
        arm: block to figure, such as the block's median latency in ms.
        baselines: the same for each slice of the baseline in the block (it is measured twice).
        confidence: how sure the interval is to be; more than 0.95 where many ratios are looked at together.

    Returns:
        The ratio, without an interval below `LEAST_BLOCKS` blocks; None if no block has both.
    """
    shared = [block for block in sorted(arm) if all(block in baseline for baseline in baselines)]
    if not shared or not baselines:
        return None
    reference = np.mean([[np.log(baseline[block]) for block in shared] for baseline in baselines], axis=0)
    logs = np.log([arm[block] for block in shared]) - reference
    resampled = None
    if len(shared) >= LEAST_BLOCKS:
        resampled = np.exp(trimmed_mean(logs[resample_blocks(len(shared))]))
    return _around(float(np.exp(trimmed_mean(logs))), resampled, confidence)


def mean_of_blocks(values: ArrayLike) -> Interval | None:
    """Return the mean of one figure per block, with the interval over resampled blocks.

    Args:
        values: such as the mean of each block's calls in ms; NaN for a block without one.

    Returns:
        The mean, without an interval below `LEAST_BLOCKS` blocks; None without any.
    """
    figures = np.asarray(values, dtype=np.float64)
    figures = figures[np.isfinite(figures)]
    if not len(figures):
        return None
    resampled = figures[resample_blocks(len(figures))].mean(axis=1) if len(figures) >= LEAST_BLOCKS else None
    return _around(float(figures.mean()), resampled)


def ratio_of_totals(own: ArrayLike, other: ArrayLike) -> Interval | None:
    """Return how many times larger one total is than another, with the interval over resampled blocks.

    For counts that may be 0 in a block, such as queries, where a mean of ratios would have no meaning.

    Args:
        own: one figure per block.
        other: the figure of the same blocks that it is compared with.

    Returns:
        The ratio, without an interval below `LEAST_BLOCKS` blocks; None where there is nothing to compare with.
    """
    above, below = np.asarray(own, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if not len(below) or not below.sum():
        return None
    resampled = None
    if len(below) >= LEAST_BLOCKS:
        draws = resample_blocks(len(below))
        totals = below[draws].sum(axis=1)
        resampled = above[draws].sum(axis=1)[totals > 0] / totals[totals > 0]
    return _around(float(above.sum() / below.sum()), resampled)


def difference_of_shares(own: Sequence[ArrayLike], other: Sequence[ArrayLike]) -> Interval | None:
    """Return how much larger one share is than another, with the interval over resampled blocks.

    The blocks of the two are no pairs, such as before an event and after it: each side is resampled on its own.

    Args:
        own: per block, how often it happened, and how often it could have.
        other: the same of what it is compared with.

    Returns:
        The difference of the two ratios of totals, without an interval where either has fewer than `LEAST_BLOCKS`
        blocks; None where either has nothing.
    """
    sides = [(np.asarray(good, np.float64), np.asarray(every, np.float64)) for good, every in (own, other)]
    shares = [ratio_of_totals(good, every) for good, every in sides]
    if shares[0] is None or shares[1] is None:
        return None
    resampled = None
    if min(len(every) for _, every in sides) >= LEAST_BLOCKS:
        draws = [resample_blocks(len(every), seed=SEED + side) for side, (_, every) in enumerate(sides)]
        drawn = [good[d].sum(axis=1) / every[d].sum(axis=1) for (good, every), d in zip(sides, draws, strict=True)]
        resampled = drawn[0] - drawn[1]
    return _around(shares[0].estimate - shares[1].estimate, resampled)


def pooled_quantile(values: NDArray[np.float64], blocks: NDArray[np.int64], p: float) -> Interval:
    """Return an order statistic of all values together, with the interval over resampled blocks.

    Args:
        values: such as latencies in ms.
        blocks: the block of each value.
        p: which quantile, within 0 and 1.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    names, index = np.unique(blocks[order], return_inverse=True)
    rank = max(int(np.ceil(p * len(ordered))), 1)
    if len(names) < LEAST_BLOCKS:
        return Interval(float(ordered[rank - 1]))
    return _around(float(ordered[rank - 1]), ordered[_weighted_ranks(index, _block_weights(len(names)), p)])


@functools.cache
def _block_weights(blocks: int) -> NDArray[np.int64]:
    """Return how often each resample drew each block: the same draws as `resample_blocks`, counted."""
    return np.stack([np.bincount(draw, minlength=blocks) for draw in resample_blocks(blocks)])


def _weighted_ranks(index: NDArray[np.int64], weights: NDArray[np.int64], p: float) -> NDArray[np.int64]:
    """Return, for each row of block weights, the position of the quantile among the ordered values.

    A bisection over positions with a table of how many values of each block come first: exact, and hundreds of times
    less work than sorting every resample.
    """
    blocks = weights.shape[1]
    before = np.zeros((len(index) + 1, blocks), dtype=np.int32)
    before[np.arange(1, len(index) + 1), index] = 1
    np.cumsum(before, axis=0, out=before)
    needed = np.ceil(p * (weights @ before[-1])).clip(min=1)
    low = np.zeros(len(weights), dtype=np.int64)
    high = np.full(len(weights), len(index), dtype=np.int64)
    while (open_rows := high - low > 1).any():
        middle = (low + high) // 2
        enough = np.einsum("rb,rb->r", weights, before[middle]) >= needed
        high = np.where(open_rows & enough, middle, high)
        low = np.where(open_rows & ~enough, middle, low)
    return high - 1


def carries(count: int, p: float) -> Literal["number", "faded", "none"]:
    """Say whether a sample carries a quantile: 30 values beyond it make a number, 10 a faded point."""
    beyond = count * (1 - p)
    return "number" if beyond >= BEYOND - 1e-9 else "faded" if beyond >= 10 - 1e-9 else "none"


def needed_for(p: float) -> int:
    """Return how many values carry a quantile as a number; see `carries`."""
    return int(np.ceil(BEYOND / (1 - p) - 1e-6))


def verdict(ratio: Interval | None, band: float = BAND) -> Verdict:
    """Put an interval of a latency ratio into words; a point without an interval says `cannot tell`."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return "cannot tell"
    if ratio.low > 1 + band:
        return "slower"
    if ratio.high < 1 - band:
        return "faster"
    return "about the same" if ratio.low >= 1 - band and ratio.high <= 1 + band else "cannot tell"


def blocks_needed(ratio: Interval, blocks: int, band: float = BAND) -> int | None:
    """Return about how many blocks would settle a verdict: the interval narrows with the square root of the blocks.

    Returns:
        None where there is no interval, or where the estimate is so near the edge of the band that no run would do.
    """
    if ratio.low is None or ratio.high is None:
        return None
    half = (ratio.high - ratio.low) / 2
    distance = min(abs(ratio.estimate - (1 - band)), abs(ratio.estimate - (1 + band)))
    needed = blocks * (half / distance) ** 2 if distance else np.inf
    return int(np.ceil(needed)) if needed < 100 * blocks else None


def wilson(events: int, trials: int) -> Interval | None:
    """Return the share of trials with an event, for independent trials (Wilson 1927); None without trials."""
    if trials <= 0:
        return None
    z = 1.959963984540054
    share = events / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(share, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def rate_by_shopper(events: ArrayLike, opportunities: ArrayLike) -> Interval | None:
    """Return events per opportunity, with an interval over resampled shoppers: events cluster within one.

    Where no shopper (or every one) saw an event at each opportunity, resampling has nothing to vary, and the rule of
    three speaks: with n shoppers, the upper end is 3/n (or the lower end 1 - 3/n).

    Args:
        events: per shopper, how often it happened.
        opportunities: per shopper, how often it could have.

    Returns:
        None without opportunities.
    """
    happened = np.asarray(events, dtype=np.float64)
    could = np.asarray(opportunities, dtype=np.float64)
    happened, could = happened[could > 0], could[could > 0]
    if not len(could):
        return None
    share = float(happened.sum() / could.sum())
    edge = min(1.0, 3 / len(could))
    if share == 0:
        return Interval(0.0, 0.0, edge)
    if share == 1:
        return Interval(1.0, 1 - edge, 1.0)
    draws = resample_blocks(len(could))
    return _around(share, happened[draws].sum(axis=1) / could[draws].sum(axis=1))


def slope(x: ArrayLike, y: ArrayLike) -> Interval | None:
    """Return how much `y` grows per unit of `x` (least squares), with an interval over resampled points.

    Used for memory per session: the slope over a ladder of session counts cancels what an idle process occupies.

    Returns:
        None with fewer than two different `x`; no interval with fewer than four.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(np.unique(xs)) < 2:  # noqa: PLR2004 - two points make a line
        return None
    estimate = _slopes(xs[None], ys[None])[0]
    if len(np.unique(xs)) < 4:  # noqa: PLR2004 - three points resample to one too often
        return Interval(float(estimate))
    draws = resample_blocks(len(xs))
    resampled = _slopes(xs[draws], ys[draws])
    return _around(float(estimate), resampled[np.isfinite(resampled)])


def _slopes(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.float64]:
    across = xs - xs.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((across * (ys - ys.mean(axis=1, keepdims=True))).sum(axis=1) / (across**2).sum(axis=1))


class LatencyFindings(msgspec.Struct):
    """What `results.json` says about the latency of one arm.

    Attributes:
        latency_ms: operation (`all`, `view`, ...) to percentile to interval in ms, or None where the sample does not
            carry the percentile; `faded` where it barely does.
        latency_ratio: percentile to interval and verdict, as a multiple of the baseline, at an equal pace of the
            machine; and `uncorrected`, the interval without that. None where not compared.
    """

    latency_ms: dict[str, dict[str, dict[str, float | bool | None] | None]]
    latency_ratio: dict[str, dict[str, Any]] | None


def latency(samples: Samples, arm: str, baseline: str | None = "sticky") -> LatencyFindings:
    """Work out the latencies of one arm and, unless `baseline` is None, their ratio to the baseline's.

    The ratio of an arm to itself is that of same against same: its repeated slices to its own.
    """
    operations = {"all": None, **{str(f): str(f) for f in samples.fs}}
    return LatencyFindings(
        {name: _percentiles(samples, arm, f) for name, f in operations.items()},
        None if baseline is None else _ratios(samples, arm, baseline),
    )


def _percentiles(samples: Samples, arm: str, f: str | None) -> dict[str, dict[str, float | bool | None] | None]:
    rows = samples.rows(arm, twin=None, f=f)
    values, blocks = samples.latency_ms[rows], samples.block[rows]
    found: dict[str, dict[str, float | bool | None] | None] = {}
    for name, p in PERCENTILES.items():
        weight = carries(len(values), p)
        if weight == "none":
            found[name] = None
            continue
        found[name] = msgspec.to_builtins(pooled_quantile(values, blocks, p))
        if weight == "faded":
            found[name] = {**(found[name] or {}), "faded": True}
    return found


def _ratios(samples: Samples, arm: str, baseline: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, p in (("p50", 0.5), ("p95", 0.95)):
        ratio, uncorrected = (
            _ratio(samples, latency_ms, arm, baseline, p)
            for latency_ms in (samples.latency_ms / samples.slowness, samples.latency_ms)
        )
        if ratio is not None:
            raw = msgspec.to_builtins(uncorrected)
            found[name] = {**msgspec.to_builtins(ratio), "verdict": verdict(ratio), "uncorrected": raw}
    return found


def _ratio(samples: Samples, latency_ms: NDArray[np.float64], arm: str, baseline: str, p: float) -> Interval | None:
    def by_block(arm: str, *, twin: bool) -> dict[int, float]:
        rows = samples.rows(arm, twin=twin)
        return quantile_by_block(latency_ms[rows], samples.block[rows], p)

    same = arm == baseline
    others = [by_block(baseline, twin=twin) for twin in ((False,) if same else (False, True))]
    return paired_ratio(by_block(arm, twin=same), [other for other in others if other])
