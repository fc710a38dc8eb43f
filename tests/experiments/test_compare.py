"""A whole comparison, small but real: engines, load, checks, files and report."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from lab.cli import main
from lab.consistency.history import read_history
from lab.engines.nginx import READ_TIMEOUT_SECONDS
from lab.experiments.compare import experiment as compare
from lab.report import draw
from loadtests.lifecycle import Roles

pytestmark = pytest.mark.timeout(400)

TINY = compare.Size(
    blocks=2,
    slice_seconds=0.4,
    warmup_seconds=0.2,
    control_seconds=2,
    sync_seconds=1,
    affinity_seconds=1,
    two_tabs_seconds=1,
    lifetimes=(3, 7),
    begin_seconds=2,
    roles=Roles(8, 4, 2, 2),
    rungs=(4, 8),
)


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny comparison of all five strategies on two servers each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compare.SIZES, "quick", TINY)
        return carry_out("compare", "--quick", "--servers", "2", "--rate", "120")


def test_the_folder_has_every_file(run):
    """Results, samples, history, charts in both forms, the page, the log and the engines' logs."""
    for name in ("results.json", "samples.npz", "history.jsonl", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    assert {path.stem for path in (run / "charts").glob("*.svg")} == {p.stem for p in (run / "charts").glob("*.png")}
    assert list((run / "engines").glob("*.log"))
    assert run.parent.joinpath("latest").is_symlink()


def test_results_have_the_keys_that_others_rely_on(results):
    """The keys that the design fixes are all there, for each strategy."""
    assert {"schema", "experiment", "complete", "run", "validity", "strategies", "arms", "claims"} <= set(results)
    assert results["complete"] is True
    assert {"id", "started", "seconds", "seed", "servers", "rate_rps", "blocks", "write_policy"} <= set(results["run"])
    assert {"python", "flask", "redis", "postgresql", "nginx", "locust"} <= set(results["run"]["versions"])
    assert {"ok", "warnings", "blocks_redone", "generator_lateness_ms", "same_against_same"} <= set(results["validity"])
    assert set(results["strategies"]) == {"isolated", "sticky", "all-to-all", "database", "redis"}
    for name, found in results["strategies"].items():
        assert {
            "requests", "latency_ms", "latency_ratio", "cpu_ms_per_request", "storage", "traffic",
            "session_operations_per_request", "consistency", "two_tabs", "lifecycle", "servers", "drain_seconds",
        } <= set(found), name  # fmt: skip
        assert {"all", "view", "add", "visit", "product"} <= set(found["latency_ms"]), name
    assert set(results["arms"]) == {"all-to-all sync", "all-to-all with affinity"}


def test_every_scheduled_request_was_sent_and_recorded(run, results):
    """Scheduled = sent, and the samples have a row for each."""
    with np.load(run / "samples.npz") as samples:
        arms = samples["arms"][samples["arm"]]
        for name, found in results["strategies"].items():
            assert found["requests"]["scheduled"] == found["requests"]["sent"] == int((arms == name).sum()), name


def gave_up(run, arm: str) -> bool:
    """Say whether the balancer may have given up on a server of an arm, on a machine too busy to answer in time."""
    operations = read_history(run / "history.jsonl")
    patience_ns = 0.9e9 * READ_TIMEOUT_SECONDS
    return any(one.arm == arm and (one.t1_ns - one.t0_ns > patience_ns or not one.status) for one in operations)


def test_the_control_is_broken_and_the_others_are_not(run, results):
    """`isolated` shows the problem; one copy per session keeps every guarantee; so does binding, if servers answer."""
    assert results["strategies"]["isolated"]["consistency"]["verdict"] == "violated"
    assert results["strategies"]["isolated"]["latency_ratio"] is None
    for name in ("database", "redis") if gave_up(run, "sticky") else ("sticky", "database", "redis"):
        for check, found in results["strategies"][name]["consistency"].items():
            if isinstance(found, dict):
                assert found["verdict"] != "violated", (name, check)


def test_copies_are_one_or_as_many_as_servers(results):
    """Only all-to-all holds a session on every server."""
    copies = {name: found["storage"]["copies_per_session"] for name, found in results["strategies"].items()}

    assert copies == {"isolated": 1, "sticky": 1, "all-to-all": 2, "database": 1, "redis": 1}


def test_a_session_in_redis_occupies_what_its_key_does(results):
    """Redis as a whole takes and gives back more than the few sessions of a short ladder need: its keys are asked."""
    found = results["strategies"]["redis"]["storage"]

    rungs, sizes = found["ladder"]["sessions"], found["ladder"]["bytes"]
    each = [size / sessions for sessions, size in zip(rungs, sizes, strict=True)]
    assert min(each) > found["logical_bytes_per_copy"]
    assert max(each) < 1.1 * min(each)  # keys of sessions that are alike, and nothing else


def test_only_the_own_link_of_a_strategy_carries_its_sessions(results):
    """Servers talk to each other under all-to-all only, and to a session store under database and redis only."""
    links = {name: found["traffic"]["messages_per_request"] for name, found in results["strategies"].items()}

    assert [name for name, link in links.items() if link["server_server"]] == ["all-to-all"]
    assert [name for name, link in links.items() if link["server_store"]] == ["database", "redis"]


def test_the_saved_history_is_checked_again(run, capsys):
    """`check` finds in the file what the run found: isolated is violated, so the status is 1."""
    assert main(["check", str(run)]) == 1
    assert "violated" in capsys.readouterr().out


def test_a_truncated_history_is_one_clear_line(run, tmp_path, capsys):
    """A history that ends in the middle proves nothing, and says so."""
    whole = (run / "history.jsonl").read_bytes()
    (tmp_path / "history.jsonl").write_bytes(whole[: len(whole) // 2])

    assert main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_report_is_drawn_from_the_files_alone_and_comes_out_the_same(run):
    """Drawing again, without engines, gives the same charts to the byte."""
    before = {path.name: path.read_bytes() for path in (run / "charts").glob("*.svg")}
    draw(run)

    assert {path.name: path.read_bytes() for path in (run / "charts").glob("*.svg")} == before


def test_the_baseline_is_added_where_it_is_missing():
    """Without sticky there is nothing to compare with, so it is added, and named as added."""
    chosen = compare.settings(
        size="quick", blocks=None, strategies=("redis",), servers=2, rate=50, seed=1, writes="fields",
        replication="async", out=None, command="",
    )  # fmt: skip
    assert chosen.strategies == ("sticky", "redis")
    assert chosen.added == ("sticky",)


def test_nothing_is_measured_before_the_folder_can_be_written(tmp_path):
    """An unwritable folder is found out at once."""
    (tmp_path / "file").write_text("")
    console = Console(file=io.StringIO())
    chosen = compare.settings(
        size="quick", blocks=1, strategies=("redis",), servers=2, rate=50, seed=1, writes="fields",
        replication="async", out=tmp_path / "file", command="",
    )  # fmt: skip
    with pytest.raises(Exception, match="cannot write"):
        compare.run(chosen, console)
