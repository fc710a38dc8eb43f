"""Intervals, verdict words and what a sample carries."""

from __future__ import annotations

import numpy as np
import pytest

from lab import statistics
from lab.statistics import Interval


def simulate(blocks: int, times: float, seed: int, requests: int = 70):
    """Make up slices of two arms that share each block's drift; the second takes `times` as long."""
    random = np.random.default_rng(seed)
    drift = random.normal(0, 0.3, (blocks, 1))
    arms = [np.exp(drift + random.normal(0, 0.3, (blocks, requests))) * factor for factor in (1.0, times)]
    block = np.repeat(np.arange(blocks), requests)
    return [(arm.ravel(), block) for arm in arms]


def medians(sample):
    """Return each block's median."""
    return statistics.quantile_by_block(*sample, 0.5)


class TestPairedRatio:
    """How many times as long, paired by block."""

    def test_finds_the_ratio_though_the_machine_drifts(self):
        """A true ratio of 1.2 is found within 3 % although blocks differ by far more than that."""
        one, other = simulate(60, 1.2, seed=3)
        ratio = statistics.paired_ratio(medians(other), [medians(one)])
        assert ratio.estimate == pytest.approx(1.2, rel=0.03)
        assert ratio.low < 1.2 < ratio.high

    def test_pairing_makes_the_interval_narrower_than_pooling(self):
        """Pairing by block removes the drift that both arms share."""
        one, other = simulate(60, 1.2, seed=4)
        ratio = statistics.paired_ratio(medians(other), [medians(one)])
        alone = statistics.pooled_quantile(*other, 0.5)
        assert (ratio.high - ratio.low) / ratio.estimate < 0.5 * (alone.high - alone.low) / alone.estimate

    def test_covers_the_truth_about_19_times_in_20(self):
        """Over many simulated runs the interval holds the true ratio in 88 % to 100 % of them."""
        hits = 0
        for seed in range(60):
            one, other = simulate(20, 1.1, seed=100 + seed)
            ratio = statistics.paired_ratio(medians(other), [medians(one)])
            hits += ratio.low <= 1.1 <= ratio.high
        assert 0.88 <= hits / 60 <= 1.0

    def test_one_wild_block_hardly_moves_it(self):
        """A block in which something else hit one arm is trimmed, not averaged in."""
        one, other = simulate(20, 1.0, seed=5)
        calm = statistics.paired_ratio(medians(other), [medians(one)]).estimate
        wild = {**medians(other), 7: 1000.0}
        assert statistics.paired_ratio(wild, [medians(one)]).estimate == pytest.approx(calm, rel=0.05)

    def test_uses_only_blocks_that_all_have(self):
        """A block that one side lacks has no ratio."""
        assert statistics.paired_ratio({1: 2.0, 2: 4.0}, [{2: 2.0, 3: 9.0}]) == Interval(pytest.approx(2.0))

    def test_averages_the_two_slices_of_the_baseline(self):
        """The baseline of a block is the geometric mean of its slices."""
        assert statistics.paired_ratio({1: 6.0}, [{1: 2.0}, {1: 4.5}]).estimate == pytest.approx(2.0)

    def test_few_blocks_give_a_point_without_interval(self):
        """With seven blocks there is a point and no interval; with eight there is one."""
        figures = {block: 1.0 + block / 100 for block in range(8)}
        assert statistics.paired_ratio(figures, [dict.fromkeys(range(8), 1.0)]).low is not None
        del figures[7]
        assert statistics.paired_ratio(figures, [dict.fromkeys(range(8), 1.0)]).low is None

    def test_nothing_shared_is_none(self):
        """Without a common block, or without a baseline, there is no ratio."""
        assert statistics.paired_ratio({1: 1.0}, [{2: 1.0}]) is None
        assert statistics.paired_ratio({1: 1.0}, []) is None


class TestPooledQuantile:
    """Absolute percentiles of all requests together."""

    def test_is_an_order_statistic(self):
        """The estimate is one of the values: the smallest with a share p at or below it."""
        values, blocks = np.arange(1.0, 101.0), np.repeat(np.arange(10), 10)
        assert statistics.pooled_quantile(values, blocks, 0.5).estimate == 50.0
        assert statistics.pooled_quantile(values, blocks, 0.99).estimate == 99.0

    def test_agrees_with_sorting_every_resample(self):
        """The bisection gives the interval that the literal definition gives."""
        random = np.random.default_rng(1)
        values, blocks = random.lognormal(size=200), np.repeat(np.arange(10), 20)
        by_block = values.reshape(10, 20)
        literal = [np.sort(by_block[draw].ravel())[180 - 1] for draw in statistics.resample_blocks(10)]
        found = statistics.pooled_quantile(values, blocks, 0.9)
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(literal, [0.025, 0.975])))

    def test_resamples_blocks_and_not_requests(self):
        """Where blocks differ, the interval is as wide as the blocks make it, however many requests there are."""
        values = np.repeat(np.arange(10.0), 1000)
        found = statistics.pooled_quantile(values, np.repeat(np.arange(10), 1000), 0.5)
        assert found.high - found.low >= 2

    def test_few_blocks_give_a_point(self):
        """Below eight blocks there is no interval."""
        assert statistics.pooled_quantile(np.arange(70.0), np.repeat(np.arange(7), 10), 0.5).low is None


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        (Interval(1.3, 1.2, 1.4), "slower"),
        (Interval(1.06, 1.0501, 1.1), "slower"),
        (Interval(0.8, 0.7, 0.9), "faster"),
        (Interval(1.0, 0.95, 1.05), "about the same"),
        (Interval(1.06, 1.04, 1.09), "cannot tell"),
        (Interval(1.0, 0.9, 1.2), "cannot tell"),
        (Interval(1.5), "cannot tell"),
        (None, "cannot tell"),
    ],
)
def test_verdict_needs_the_whole_interval_on_one_side(interval, word):
    """The whole interval must lie outside the band, or inside it; a point alone tells nothing."""
    assert statistics.verdict(interval) == word


def test_carries_by_how_many_values_lie_beyond():
    """Thirty values beyond a percentile make a number, ten a faded one, fewer none."""
    assert [statistics.carries(count, 0.95) for count in (600, 599, 200, 199)] == ["number", "faded", "faded", "none"]


def test_blocks_needed_follow_the_square_root():
    """An interval twice as wide as what would settle it needs four times the blocks; at the edge none do."""
    assert statistics.blocks_needed(Interval(1.10, 1.0, 1.2), 20) == 80
    assert statistics.blocks_needed(Interval(1.05, 1.0, 1.1), 20) is None
    assert statistics.blocks_needed(Interval(1.10), 20) is None


def test_wilson_matches_a_published_example():
    """7 of 20: 0.181 to 0.567 (Newcombe 1998, method 3 gives 0.1812 to 0.5671)."""
    found = statistics.wilson(7, 20)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.35, 0.1812, 0.5671), abs=1e-4)
    assert statistics.wilson(0, 0) is None


class TestRateByShopper:
    """Rates of events that cluster within a shopper."""

    def test_no_event_reaches_up_to_three_over_shoppers(self):
        """With none of 60 shoppers hit, the rate may still be 3/60."""
        assert statistics.rate_by_shopper([0] * 60, [10] * 60) == Interval(0.0, 0.0, 0.05)

    def test_every_event_reaches_down_likewise(self):
        """With all hit each time, it may still be 1 - 3/60."""
        assert statistics.rate_by_shopper([10] * 60, [10] * 60) == Interval(1.0, pytest.approx(0.95), 1.0)

    def test_is_wider_when_events_cluster_in_few_shoppers(self):
        """100 events in 5 shoppers say less than 100 events spread over 50."""
        clustered = statistics.rate_by_shopper([20] * 5 + [0] * 45, [20] * 50)
        spread = statistics.rate_by_shopper([2] * 40 + [1] * 10 + [2] * 5, [20] * 55)
        assert clustered.high - clustered.low > 2 * (spread.high - spread.low)

    def test_shoppers_without_opportunity_do_not_count(self):
        """Who never had a chance neither narrows nor shifts the rate."""
        assert statistics.rate_by_shopper([0, 0], [5, 0]) == Interval(0.0, 0.0, 1.0)
        assert statistics.rate_by_shopper([0], [0]) is None


class TestSlope:
    """Growth per session."""

    def test_finds_bytes_per_session_whatever_the_offset(self):
        """What an idle process occupies cancels out."""
        found = statistics.slope([0, 100, 200, 400], [5_000_000, 5_050_000, 5_100_000, 5_200_000])
        assert found.estimate == pytest.approx(500)
        assert found.low == pytest.approx(500)

    def test_needs_two_different_points(self):
        """One session count makes no slope, three no interval."""
        assert statistics.slope([100, 100], [1, 2]) is None
        assert statistics.slope([1, 2, 3], [1, 2, 4]).low is None


def test_the_same_data_give_the_same_digits():
    """Redrawing a run changes nothing: resampling has a fixed seed."""
    sample, _ = simulate(12, 1.0, seed=8)
    assert statistics.pooled_quantile(*sample, 0.5) == statistics.pooled_quantile(*sample, 0.5)


class TestMeanOfBlocks:
    """A mean of one figure per block."""

    def test_is_the_mean_and_its_interval_holds_it(self):
        """Blocks without a figure do not count."""
        found = statistics.mean_of_blocks([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, np.nan])
        assert found.estimate == 4.5
        assert 2.5 < found.low < 4.5 < found.high < 6.5

    def test_few_blocks_carry_no_interval_and_none_no_mean(self):
        """Eight at the least."""
        assert statistics.mean_of_blocks([1.0] * 7) == Interval(1.0)
        assert statistics.mean_of_blocks([1.0] * 8) == Interval(1.0, 1.0, 1.0)
        assert statistics.mean_of_blocks([]) is None
        assert statistics.mean_of_blocks([np.nan]) is None


class TestRatioOfTotals:
    """How many times larger one total is than another."""

    def test_blocks_without_any_count_with_the_others(self):
        """Their totals are compared, not their ratios."""
        found = statistics.ratio_of_totals([0, 4, 0, 4, 0, 4, 0, 4], [8] * 8)
        assert found.estimate == 0.25
        assert 0 < found.low < 0.25 < found.high < 0.5

    def test_few_blocks_carry_no_interval_and_nothing_to_compare_with_no_ratio(self):
        """Eight at the least."""
        assert statistics.ratio_of_totals([1] * 7, [2] * 7) == Interval(0.5)
        assert statistics.ratio_of_totals([1, 1], [0, 0]) is None
        assert statistics.ratio_of_totals([], []) is None


class TestDifferenceOfShares:
    """How much larger one share is than another, where their blocks are no pairs."""

    def test_it_is_the_difference_of_the_two_shares_and_needs_no_equal_number_of_blocks(self):
        """Each side is resampled on its own; one that never varies leaves the other's width."""
        own, other = ([3, 1] * 5, [4] * 10), ([2] * 20, [4] * 20)
        found, alone = statistics.difference_of_shares(own, other), statistics.ratio_of_totals(*own)
        assert found.estimate == alone.estimate - 0.5
        assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.15)
        like = statistics.difference_of_shares(own, own)
        assert like.low < 0 < like.high, "two that look alike are two all the same, not one compared with itself"

    def test_few_blocks_carry_no_interval_and_an_empty_side_no_difference(self):
        """As for a ratio of totals."""
        assert statistics.difference_of_shares(([1] * 7, [2] * 7), ([1] * 9, [4] * 9)) == Interval(0.25)
        assert statistics.difference_of_shares(([1], [2]), ([], [])) is None
