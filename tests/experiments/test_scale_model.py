"""The arithmetic of a scale run: lines, crossings, and what stops whom beyond this machine."""

from __future__ import annotations

import pytest

from lab.experiments.scale import experiment as scale
from lab.experiments.scale.amounts import ratio_of_sums
from lab.experiments.scale.lines import IN_PROPORTION, STRAIGHT, foretold, in_proportion, line, verdict
from lab.experiments.scale.model import Assumed, Demand, carried, curve
from lab.experiments.scale.stale import crossing
from lab.statistics import Interval

ASSUMED = Assumed(
    think_seconds=10, busy_most=0.5, memory_bytes=1e9, link_bytes=1e6, database_cores=4, log_bytes=1e6
)  # fmt: skip


def test_web_servers_carry_rate_times_demand():
    """One core, half used, 2 ms a request: 250 requests/s, 2,500 sessions that ask every 10 s; ten times with ten."""
    demand = Demand(web_ms=2)
    assert carried(demand, 1, ASSUMED) == {"web CPU": 2500}
    assert carried(demand, 10, ASSUMED) == {"web CPU": 25000}


def test_servers_that_all_apply_every_write_come_to_rest():
    """However many there are, they never serve more than their time over what a peer costs."""
    demand = Demand(web_ms=2, web_ms_per_peer=0.5, everywhere=True)
    most = 10 * 500 / 0.5
    found = [point["sessions"] for point in curve(demand, ASSUMED)]
    assert found == sorted(found)
    assert 0.99 * most < found[-1] < most
    assert carried(demand, 5, ASSUMED)["web CPU"] == pytest.approx(10 * 5 * 500 / 4)


def test_memory_is_one_servers_where_all_hold_everything_and_everybodys_otherwise():
    """A thousand bytes a session in 1 GB: a million, whoever helps; without copies a million each."""
    assert carried(Demand(web_ms=1, web_bytes=1000, everywhere=True), 8, ASSUMED)["web memory"] == 1e6
    assert carried(Demand(web_ms=1, web_bytes=1000), 8, ASSUMED)["web memory"] == 8e6


def test_the_network_between_servers_is_shared_by_all_links():
    """1,000 bytes for each of 4 peers, 5 links of 1 MB/s: 1,250 requests/s, 12,500 sessions. Alone there is none."""
    demand = Demand(web_ms=1, peer_bytes=1000, everywhere=True)
    assert carried(demand, 5, ASSUMED)["web network"] == 12500
    assert "web network" not in carried(demand, 1, ASSUMED)


def test_shards_multiply_redis_and_cores_the_database():
    """A store's core, memory and network are there once, or once for each shard."""
    redis = Demand(web_ms=1, store="redis", store_ms=0.1, store_bytes=500, store_link_bytes=100)
    one, ten = (carried(redis, 1000, ASSUMED, shards) for shards in (1, 10))
    assert one["redis CPU"] == 50000
    assert all(ten[name] == 10 * one[name] for name in one if name.startswith("redis"))
    database = Demand(web_ms=1, store="database", store_ms=0.1, log_bytes=100)
    limits = carried(database, 1000, ASSUMED)
    assert limits["database CPU"] == 200000
    assert limits["database log"] == 100000


def test_the_first_limit_stops_and_is_named():
    """With few servers their CPU, with many the store."""
    points = curve(Demand(web_ms=1, store="redis", store_ms=0.1), ASSUMED, servers=(1, 5, 100))
    assert [point["by"] for point in points] == ["web CPU", "web CPU", "redis CPU"]
    assert points[-1]["sessions"] == 50000


@pytest.mark.parametrize(
    "demand", [Demand(), Demand(web_ms=0.0), Demand(store="redis", store_ms=1), Demand(web_ms=1, store="redis")]
)
def test_nothing_is_modelled_without_the_demand_on_web_servers_and_store(demand):
    """Where CPU was not measured, as of an engine that is not the lab's own, there is no curve."""
    assert curve(demand, ASSUMED) == []


def test_a_cost_per_peer_that_noise_made_negative_counts_as_none():
    """More servers never get cheaper than one."""
    assert carried(Demand(web_ms=2, web_ms_per_peer=-0.1), 10, ASSUMED) == {"web CPU": 25000}


def test_a_line_gives_back_what_it_was_made_of():
    """Slope and start; an interval from four different sizes on."""
    fit = line([(peers, 3 + 2 * peers) for peers in (0, 1, 3, 7) for _ in range(3)])
    assert fit["slope"]["estimate"] == pytest.approx(2)
    assert fit["start"] == pytest.approx(3)
    assert fit["slope"]["low"] == pytest.approx(2)
    assert line([(0, 1), (1, 2)])["slope"]["low"] is None
    assert line([(1, 5)]) is None
    assert line([]) is None


def test_a_line_through_nothing_leaves_the_single_server_out():
    """With one server nobody is told: what noise put there tilts nothing. From eight rows on it has an interval."""
    rows = [(0, 9.0), (0, 9.0), *((peers, 0.25 * peers) for peers in (1, 3) for _ in range(5))]
    fit = in_proportion(rows)
    assert fit["slope"]["estimate"] == pytest.approx(0.25)
    assert fit["slope"]["low"] == pytest.approx(0.25)
    assert (fit["start"], fit["points"]) == (0, 10)
    assert in_proportion(rows[:5])["slope"]["low"] is None
    assert in_proportion(rows[:2]) is None


def test_a_size_is_foretold_by_either_law():
    """A line with a start, or one that begins at nothing; with too few sizes, nothing is foretold."""
    rows = [(peers, 3 + 2 * peers) for peers in (0, 1, 3) for _ in range(4)]
    assert foretold(rows, 7, STRAIGHT).estimate == pytest.approx(17)
    assert foretold(rows, 7, STRAIGHT).low == pytest.approx(17)
    assert foretold(rows, 7, IN_PROPORTION).estimate == pytest.approx(7 * (1 * 5 + 3 * 9) / 10)
    assert foretold(rows[:4], 7, STRAIGHT) is None
    assert foretold(rows[:4], 7, IN_PROPORTION) is None


@pytest.mark.parametrize(
    ("predicted", "right"),
    [
        (Interval(0.86), "right"),
        (Interval(0.80), "wrong"),
        (Interval(0.80, 0.70, 0.94), "wrong"),
        (Interval(0.80, 0.70, 0.96), "cannot tell"),
        (Interval(1.40, 1.04, 1.80), "cannot tell"),
        (Interval(1.40, 1.06, 1.80), "wrong"),
    ],
)
def test_what_was_foretold_is_right_if_it_is_close(predicted, right):
    """Of 1.00 (0.95 to 1.05): within 15 %; further off nobody can tell, as long as both may be the same."""
    assert verdict(predicted, Interval(1.0, 0.95, 1.05)) == right


def test_a_ratio_of_sums_has_an_interval_from_eight_blocks_on():
    """Fewer carry a point; no units, nothing."""
    assert ratio_of_sums([2, 4], [1, 1]).low is None
    wide = ratio_of_sums([1, 2, 3, 4, 5, 6, 7, 8], [1] * 8)
    assert wide.low < wide.estimate == 4.5 < wide.high
    assert ratio_of_sums([1], [0]) is None


def stale(*shares):
    """Return points a millisecond apart."""
    return [{"waited_ms": float(at), "rate": {"estimate": share}} for at, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("points", "after"),
    [
        (stale(1.0, 0.8, 0.2, 0.0), 1.5),
        (stale(0.4, 0.2), 0.0),
        (stale(1.0, 0.9), None),
        (stale(0.9, 0.5), 1.0),
        ([], None),
    ],
)
def test_half_of_the_reads_are_fresh_after(points, after):
    """By a straight line between two gaps; at once, or never, where that is so."""
    found = crossing(points, 0.5)
    assert found == (None if after is None else pytest.approx(after))


def test_the_sizes_are_gone_through_up_and_down():
    """So that drift is not taken for growth."""
    size = scale.SIZES["default"]
    assert scale._itinerary(size) == [1, 2, 4, 8, 8, 4, 2, 1]


@pytest.mark.parametrize("name", ["quick", "default"])
def test_gaps_begin_at_once_and_reach_past_three_delays(name):
    """A write that just missed a batch waits for its acknowledgement: two delays, and then one more."""
    size = scale.SIZES[name]
    for link in scale.links(size):
        gaps = scale.gaps_ms(size, link)
        assert gaps[0] == 0
        assert gaps == sorted(gaps)
        assert gaps[-1] > 3 * link.delay_ms
    assert [link.replication for link in scale.links(size)].count("sync") == 1


def test_arms_have_names_of_their_own_in_every_stretch():
    """Clusters come and go in one lab; names are tables and cookies."""
    names = [spec.name for number, servers in enumerate((1, 2, 2, 1)) for spec in scale.arms(servers, number)]
    assert len(set(names)) == len(names)
