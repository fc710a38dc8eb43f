"""A failover run, small but real: servers and Redis are killed and restarted under load, with everything behind it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lab.cli import main
from lab.experiments.failover import experiment as failover
from lab.experiments.failover.beside import newest_comparison
from lab.experiments.failover.faults import FAULTS
from lab.report import draw
from tests.processes import alive

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
TIMED = {"recovers", "bounded", "hardly-noticed"}
"""Promises that a time limit can break: a machine that is busy with other tests may break them."""

STRUCK = ("kill-server", "rolling-restart", "kill-redis")
"""The faults of the tiny run."""

TINY = failover.Size(before=1, hold=1, after=3, shoppers=24, together=True)


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny run of two strategies on two servers each, through three faults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(failover.SIZES, "quick", TINY)
        patch.setattr(failover, "FAULTS", {name: FAULTS[name] for name in STRUCK})
        return carry_out("failover", "--quick", "--servers", "2", "--rate", "100", "--strategies", "sticky redis")


def story(results, strategy, fault):
    """Return what a fault did to a strategy."""
    return results["strategies"][strategy]["faults"][fault]


def test_the_folder_has_every_file(run):
    """Results, history, charts in both forms, the page, the log and the engines' logs."""
    for name in ("results.json", "history.jsonl", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    charts = {path.stem for path in (run / "charts").glob("*.svg")}
    assert {"sessions-lost", *(f"timeline-{fault}" for fault in STRUCK), "recovery"} <= charts
    assert charts == {path.stem for path in (run / "charts").glob("*.png")}
    assert list((run / "engines").glob("*.log"))


def test_a_dead_server_takes_its_shoppers_sessions_along_under_sticky_and_none_under_redis(results):
    """Only those that it held, and with them their writes; each loss has a witness."""
    sticky, redis = story(results, "sticky", "kill-server"), story(results, "redis", "kill-server")
    assert 0 < sticky["sessions"]["lost"] == sticky["sessions"]["on_victim"] < sticky["sessions"]["alive"]
    assert sticky["sessions"]["lost_elsewhere"] == 0
    assert sticky["writes"]["lost"] == sticky["writes"]["lost_with_session"] > 0
    assert {"sessions_lost", "lost_writes"} <= {one["check"] for one in sticky["consistency"]["witnesses"]}
    assert redis["sessions"]["lost"] == redis["writes"]["lost"] == 0
    assert redis["sessions"]["alive"] > 0


def test_a_rolling_restart_costs_sticky_its_sessions_and_redis_none(results):
    """Whoever was bound to a server had to go elsewhere, unless logged out before; Redis outlives every web server."""
    sticky, redis = story(results, "sticky", "rolling-restart"), story(results, "redis", "rolling-restart")
    assert sticky["sessions"]["lost"] > sticky["sessions"]["alive"] / 2 > 0
    assert sticky["sessions"]["expected_share"] == 1.0
    assert redis["sessions"]["lost"] == redis["writes"]["lost"] == 0
    assert redis["sessions"]["alive"] > 0
    assert redis["writes"]["acknowledged"] > 0


def test_a_dead_redis_fails_its_own_strategy_and_nobody_else(results):
    """Its requests are refused with 503 while it is down, and nothing that it had confirmed is gone."""
    sticky, redis = story(results, "sticky", "kill-redis"), story(results, "redis", "kill-redis")
    assert redis["failures"]["by_cause"]["store"] > 0
    assert redis["sessions"]["lost"] == redis["writes"]["lost"] == 0
    assert sticky["failures"]["by_cause"]["store"] == sticky["sessions"]["lost"] == 0


def test_every_promise_has_a_verdict_and_none_is_broken(results):
    """Those of faults that were not struck are not tested."""
    for name in ("sticky", "redis"):
        for fault, told in results["strategies"][name]["faults"].items():
            assert told["promises"]
            broken = [one for one in told["promises"] if one["verdict"] == "broken" and one["id"] not in TIMED]
            assert not broken, (name, fault)
        left = results["strategies"][name]["not_struck"]
        assert set(left) == set(FAULTS) - set(STRUCK)
        assert {one["verdict"] for made in left.values() for one in made} == {"not tested"}


def test_the_claims_are_judged_with_the_numbers_of_the_run(results):
    """What a comparison would have to say stays open, and says what to run."""
    claims = {claim["id"]: claim for claim in results["claims"]}
    lost = story(results, "sticky", "kill-server")["sessions"]
    assert claims["sticky-loses"]["numbers"]["lost"] == lost["lost"]
    assert claims["sticky-loses"]["verdict"] in {"holds", "cannot tell"}
    assert claims["redis-solves"]["verdict"] == "cannot tell"
    assert "`make compare`" in claims["redis-solves"]["evidence"]
    assert claims["cart-flickers"]["verdict"] == "not tested"


def test_every_request_is_on_one_timeline(results):
    """The columns add up to what was sent, and what failed in them to the causes."""
    for name in ("sticky", "redis"):
        for told in results["strategies"][name]["faults"].values():
            line = told["timeline"]
            assert (
                sum(sum(line[kind]) for kind in ("ok", "slow", "wrong", "origin", "failed")) == told["requests"]["sent"]
            )
            assert sum(line["failed"]) + sum(line["origin"]) == told["requests"]["failed"]


def test_the_saved_history_is_checked_again(run, capsys):
    """`check` finds in the file what the run found: sticky lost writes, so the status is 1."""
    assert main(["check", str(run)]) == 1
    assert "sticky kill-server" in capsys.readouterr().out


def test_the_report_is_drawn_from_the_files_alone_and_comes_out_the_same(run):
    """Drawing again, without engines, gives the same page to the byte."""
    before = (run / "report.html").read_bytes()
    draw(run)
    assert (run / "report.html").read_bytes() == before


def test_the_newest_complete_comparison_of_the_same_size_is_taken(tmp_path):
    """Not an unfinished one, nor one of another number of servers or another way to write, nor an older one."""
    kinds = {
        "compare-20260101T000000Z": {},
        "compare-20260102T000000Z": {},
        "compare-20260103T000000Z": {"servers": 2},
        "compare-20260104T000000Z": {"write_policy": "blob"},
        "compare-20260105T000000Z": {"complete": False},
    }
    for name, other in kinds.items():
        facts = {"servers": 4, "write_policy": "fields", "started": name[8:], **other}
        check = {"verdict": "ok", "violations": 0, "opportunities": 400, "witnesses": ["large"]}
        redis = {"consistency": {"read_your_writes": check}, "storage": {"copies_per_session": 1.0}}
        found = {
            "schema": 1,
            "experiment": "compare",
            "complete": facts.pop("complete", True),
            "run": facts,
            "validity": {},
            "strategies": {"redis": redis},
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(found))
    (tmp_path / "compare-20260106T000000Z").mkdir()

    taken = newest_comparison(tmp_path, servers=4)

    assert taken is not None
    assert taken["id"] == "compare-20260102T000000Z"
    assert taken["strategies"]["redis"]["consistency"]["read_your_writes"]["opportunities"] == 400
    assert taken["strategies"]["redis"]["storage"] == {"copies_per_session": 1.0}
    assert "witnesses" not in json.dumps(taken)
    assert newest_comparison(tmp_path, servers=3) is None


@pytest.mark.parametrize("strategies", [("redis",), ("sticky",)])
def test_redis_is_struck_only_where_a_strategy_needs_it(strategies):
    """Without it in the run there is nothing to strike."""
    chosen = failover.settings(
        size="quick", strategies=strategies, servers=2, rate=50, seed=1, out=Path(), command=""
    )  # fmt: skip
    assert ("kill-redis" in {fault.name for fault in failover.faults(chosen)}) == ("redis" in strategies)


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_ctrl_c_while_a_server_stands_still_leaves_nothing(tmp_path):
    """Status 130, one line, a folder that says so, no `latest`, and no process, the stopped one included."""
    script = (
        "import signal, sys; from msgspec.structs import replace; "
        "from lab.experiments.failover import experiment as f; "
        "f.FAULTS = {'stop-server': replace(f.FAULTS['stop-server'], hold_seconds=60)}; "
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from lab.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    options = ["failover", "--quick", "--servers", "2", "--strategies", "sticky", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal does: Ctrl-C reaches the whole group
    )
    family = psutil.Process(process.pid)

    def stopped():
        for child in family.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # some end while they are looked at
                if child.status() == psutil.STATUS_STOPPED:
                    return True
        return False

    wait_until(stopped)
    children = [child.pid for child in family.children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 130
    assert told.strip() == "lab: interrupted; everything that was started has been stopped."
    (folder,) = tmp_path.glob("failover-*")
    assert json.loads((folder / "results.json").read_text())["complete"] is False
    assert not (tmp_path / "latest").exists()
    wait_until(lambda: not alive(children))
