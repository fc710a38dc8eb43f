"""A run on hot servers, small but real: two strategies, a server added and one drained under load."""

from __future__ import annotations

import pytest

from lab.cli import main
from lab.consistency.history import read_history
from lab.engines.nginx import CONNECT_TIMEOUT_SECONDS
from lab.experiments.hotspot import experiment as hotspot
from lab.experiments.hotspot.findings import busiest_server, concentration, in_time, share_of
from lab.report import charts
from loadtests.recorder import Operation

TINY = hotspot.Size(
    populations=3, turn=0.6, before=1, roll_call=1.5, newcomers=0.5, undrained=0.8, drained=2.5, together=True
)
SERVERS = 2


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny run on two servers and one more; nobody waits long after it was added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hotspot.SIZES, "quick", TINY)
        patch.setattr(hotspot, "WAIT_SECONDS", 1.0)
        patch.setattr(hotspot, "JOIN_SECONDS", 1.0)
        patch.setattr(hotspot, "SHOPPERS", 12)
        return carry_out(
            "hotspot", "--quick", "--servers", str(SERVERS), "--rate", "60", "--strategies", "sticky all-to-all"
        )


def operations(run, strategy):
    """Return a strategy's requests from the history."""
    return [op for op in read_history(run / "history.jsonl") if op.arm == strategy]


def slowest_seconds(run, strategy):
    """Return how long its slowest request took."""
    return max(op.t1_ns - op.t0_ns for op in operations(run, strategy)) / 1e9


def served(run, strategy):
    """Return by whom each shopper was served through the balancer, over the whole run."""
    servers = {}
    for op in operations(run, strategy):
        if op.phase == "final":
            continue
        servers.setdefault(op.shopper, set()).add(op.server)
    return servers


def story(results, strategy):
    """Return what a strategy lived through."""
    return results["hotspot"]["strategies"][strategy]


def test_the_folder_has_every_file(run):
    """Results, samples, history, charts in both forms, the page, the log and the engines' logs."""
    for name in ("results.json", "samples.npz", "history.jsonl", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    drawn = {path.stem for path in (run / "charts").glob("*.svg")}
    assert (
        {"share-over-time", "busiest-over-mean", "new-server", "crowd-size"} <= drawn <= set(charts.CHARTS["hotspot"])
    )
    assert drawn == {path.stem for path in (run / "charts").glob("*.png")}


def test_those_who_are_bound_never_meet_the_new_server_and_the_others_do(run, results):
    """Whoever was there before; and it is a third server, which the lab had not started with."""
    for name in ("sticky", "all-to-all"):
        assert story(results, name)["added"]["server"] == "web-3"
        assert story(results, name)["added"]["after_seconds"] >= 1.0
    sticky, free = story(results, "sticky")["added"], story(results, "all-to-all")["added"]
    assert sticky["of"] > 0
    assert free["requests"] > 0
    assert sticky["newcomers"]["of"] > 0
    if slowest_seconds(run, "sticky") < CONNECT_TIMEOUT_SECONDS:  # else the balancer may have taken a server for dead
        assert sticky["requests"] == sticky["at_first"]["requests"] == 0
        assert all(len(servers) == 1 for servers in served(run, "sticky").values())


def test_a_drained_server_keeps_those_who_are_bound_and_loses_the_others(results):
    """After the change, not one request of the others."""
    sticky, free = story(results, "sticky")["drained"], story(results, "all-to-all")["drained"]
    assert sticky["server"] in {"web-1", "web-2"}
    assert (sticky["last_seconds"] is None) == (sticky["after"]["requests"] > 0)
    assert free["after"]["requests"] == 0
    assert free["last_seconds"] >= 0


def test_the_carts_of_those_who_were_there_all_along_are_looked_at_in_the_end(run, results):
    """On every server that was there from the beginning; so what was lost for good is known."""
    for name in ("sticky", "all-to-all"):
        finals = [op for op in operations(run, name) if op.phase == "final"]
        stayed = {op.shopper for op in operations(run, name) if op.block == -1 and op.phase == "main"}
        assert {op.server for op in finals if op.server} <= {"web-1", "web-2"}
        assert len(finals) == SERVERS * len({op.shopper for op in finals}) > 0
        assert {op.shopper for op in finals} <= stayed
        assert results["strategies"][name]["consistency"]["lost_writes"]["opportunities"] > 0
        assert results["strategies"][name]["requests"]["sent"] == len(operations(run, name)) - len(finals)


def test_everything_adds_up(results):
    """The turns' requests stand in the shares, in the counts per server and on the timelines."""
    for name in ("sticky", "all-to-all"):
        told, strategy = story(results, name), results["strategies"][name]
        assert told["concentration"]["requests"] == sum(one["requests"] for one in strategy["servers"].values())
        assert len(told["concentration"]["by_population"]) == TINY.populations
        assert sum(told["concentration"]["shares"]) == pytest.approx(1)
        assert all(1 <= ratio <= SERVERS for ratio in told["concentration"]["by_population"])
        assert strategy["requests"]["sent"] > told["concentration"]["requests"] > 0
        assert set(told["timeline"]["added"]["servers"]) <= {"web-1", "web-2", "web-3"}
        waits = told["latency"]
        assert waits["hot"]["requests"] + waits["rest"]["requests"] <= told["concentration"]["requests"]


def test_the_claim_is_judged_without_intervals_as_nothing_to_tell(results):
    """Three populations are points, and redis was not there."""
    claim = next(one for one in results["claims"] if one["id"] == "sticky-hotspot")
    assert claim["verdict"] == "cannot tell"


def test_what_cannot_be_asked_for_is_refused(capsys):
    """One server has no other to be compared with, and too low a rate has nothing to share out."""
    for option, value in (("--servers", "1"), ("--servers", "16"), ("--rate", "10"), ("--strategies", "stiky")):
        assert main(["hotspot", option, value]) == 2
        assert value in capsys.readouterr().err


# --- pure parts ---


def answered(servers, shopper="p000000"):
    """Return requests answered by these servers, None for no answer."""
    return [
        Operation(
            i=i,
            arm="sticky",
            strategy="sticky",
            scenario="shopping",
            phase="main",
            shopper=shopper,
            tab=0,
            f="view",
            intended_ns=i,
            t0_ns=i,
            t1_ns=i + 1,
            outcome="ok",
            status=200,
            server=server,
        )
        for i, server in enumerate(servers)
    ]


def test_the_busiest_server_is_found_and_ties_are_broken_by_name():
    """What got no answer counts for nobody."""
    assert busiest_server(answered(["web-2", "web-1", "web-2", None, None, None])) == "web-2"
    assert busiest_server(answered(["web-2", "web-1"])) == "web-1"
    assert busiest_server(answered([None])) == ""


def test_concentration_is_the_busiest_over_the_mean_with_idle_servers_counted():
    """Of 8 requests on 4 servers the mean is 2, though two idle; over two populations there is no interval yet."""
    one = answered(["web-1"] * 6 + ["web-2"] * 2)
    other = answered(["web-1", "web-2", "web-3", "web-4"])
    found = concentration([one, other], 4)
    assert found["by_population"] == [3.0, 1.0]
    assert (found["estimate"], found["low"], found["requests"]) == (2.0, None, 12)
    assert found["shares"] == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert concentration([one] * 8, 4)["low"] == 3.0


def test_nobody_at_the_new_server_is_judged_by_shoppers_and_somebody_by_populations():
    """None of 60 shoppers: below 3/60. Some of each population: no wider than populations differ."""
    none = [op for n in range(60) for op in answered(["web-1"] * 5, f"p{n % 4:03d}{n:03d}")]
    found = share_of("web-5", none)
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.05)
    even = [op for n in range(8) for op in answered(["web-5"] * 5, f"p{n:03d}000")]
    even += [op for n in range(8) for op in answered(["web-1"] * 15, f"p{n:03d}001")]
    found = share_of("web-5", even)
    assert (found.estimate, found.low, found.high) == (0.25, 0.25, 0.25)
    assert share_of("web-5", answered([None])) is None


def test_who_catches_up_after_the_plan_is_left_out_of_shares_over_time():
    """A request that was due in time and left too late tells nothing about who is asked how much."""
    requests = answered(["web-1", "web-1", "web-2"])
    requests[0].t0_ns = requests[2].intended_ns + 1
    assert in_time(requests) == requests[1:]
    assert in_time([]) == []
