"""A scale run, small but real: one to three servers, stale reads on this machine and further apart."""

from __future__ import annotations

import pytest

from lab import samples
from lab.experiments.scale import experiment as scale
from lab.report import draw

pytestmark = pytest.mark.timeout(400)

TINY = scale.Size(
    servers=(1, 2, 3),
    passes=1,
    blocks=2,
    slice_seconds=0.25,
    warmup_seconds=0.1,
    rungs=(4, 8, 12, 16),
    trials=4,
    steps=(0, 6),
    loopback_ms=(0, 1500),
    delays_ms=(250,),
    affinity_seconds=0.5,
)


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scale.SIZES, "quick", TINY)
        patch.setattr(scale, "WATCHED_SERVERS", 2)
        patch.setattr(scale, "SHOPPERS", 8)
        patch.setattr(scale, "TIMED", ("sticky", "all-to-all", "redis"))
        return carry_out("scale", "--quick", "--rate", "200")


def test_the_folder_has_every_file_and_chart(run):
    """Results, page, log and all charts in both forms."""
    for name in ("results.json", "samples.npz", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    drawn = {path.stem for path in (run / "charts").glob("*.svg")}
    assert drawn == {"copies", "between-servers", "cpu-by-servers", "stale-reads", "where-each-stops"}
    assert drawn == {path.stem for path in (run / "charts").glob("*.png")}


def test_every_timed_request_is_kept(run, results):
    """As many as were sent, under the strategy and the number of servers."""
    columns = samples.load(run)
    for name, points in results["scale"]["points"].items():
        for servers, point in points.items():
            assert (columns.arms[columns.arm] == f"{name}, {servers} servers").sum() == point["requests"]["sent"]
    assert set(columns.block) == {0, 1}


def test_all_to_all_has_a_copy_on_every_server_and_the_others_one(results):
    """Counted by scanning; strategies without copies are counted with fewest and most servers."""
    points = results["scale"]["points"]
    assert [points["all-to-all"][str(servers)]["copies"] for servers in (1, 2, 3)] == [1, 2, 3]
    for name in ("sticky", "redis"):
        assert [points[name][str(servers)]["copies"] for servers in (1, 2, 3)] == [1, None, 1]


def test_every_write_is_told_to_every_peer_and_nobody_else_has_peers(results):
    """A request and its reply for each, about: several writes may travel together. Alone there is nobody."""
    own = results["scale"]["points"]["all-to-all"]
    for servers in (1, 2, 3):
        told = own[str(servers)]["per_write"]
        assert told["writes"] > 0
        assert told["messages"]["estimate"] <= 4 * (servers - 1)
        if servers > 1:
            assert told["messages"]["estimate"] > 0
    assert results["scale"]["points"]["redis"]["3"]["traffic"]["messages_per_request"]["server_server"] == 0


def test_what_was_delivered_is_counted(results):
    """Never more is unread than came; with bound shoppers nothing is read."""
    for servers in ("2", "3"):
        unread = results["scale"]["points"]["all-to-all"][servers]["unread"]
        assert 0 <= unread["never_read"] <= unread["delivered"]
        assert unread["delivered"] > 0
    assert results["scale"]["points"]["all-to-all"]["1"]["unread"] is None
    assert results["scale"]["unread_bound"]["rate"]["estimate"] == 1


def test_a_write_is_seen_later_through_a_long_link_and_in_the_end_always(results):
    """At once stale, after six delays not; under sync never; on one machine not after a second and a half."""
    near, far, sync = results["scale"]["visibility"]
    assert (near["emulated"], far["emulated"], sync["replication"]) == (False, True, "sync")
    assert far["points"][0]["stale"] > 0
    assert far["points"][-1]["stale"] == near["points"][-1]["stale"] == 0
    assert sync["points"][0]["stale"] == 0
    assert sync["write_ms"] >= 2 * 250


def test_the_largest_size_is_foretold_from_the_others(results):
    """The line was fitted without it."""
    checked = {one["what"]: one for one in results["scale"]["checked"]}
    assert checked["CPU per request of all web servers, beyond sticky's"]["fitted_on"] == [2]
    messages = checked["messages between servers per write"]
    assert (messages["fitted_on"], messages["at"]) == ([1, 2], 3)
    seen = results["scale"]["points"]["all-to-all"]["3"]["per_write"]["messages"]["estimate"]
    assert messages["measured"]["estimate"] == seen


def test_the_model_has_a_curve_for_every_strategy_and_a_cluster_of_redis(results):
    """Each from one server to a thousand, never falling."""
    curves = results["scale"]["model"]["curves"]
    assert set(curves) == {"sticky", "all-to-all", "redis", "redis x 10"}
    for curve in curves.values():
        sessions = [point["sessions"] for point in curve]
        assert sessions == sorted(sessions)
        assert (curve[0]["servers"], curve[-1]["servers"]) == (1, 1000)


def test_the_claims_say_what_is_missing(results):
    """They speak of up to eight servers."""
    claims = {claim["id"]: claim for claim in results["claims"]}
    for name in ("copies-n", "replication-traffic"):
        assert claims[name]["verdict"] in {"cannot tell", "does not hold"}
    assert claims["copies-n"]["verdict"] == "cannot tell"
    assert "4, 8 servers" in claims["copies-n"]["evidence"]


def test_the_report_is_drawn_from_the_files_alone_and_comes_out_the_same(run):
    """Drawing again, without engines, gives the same page to the byte."""
    before = (run / "report.html").read_bytes()
    draw(run)
    assert (run / "report.html").read_bytes() == before
