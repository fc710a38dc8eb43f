"""`make failover ENGINE=docker`, small but real: every fault is struck through the container engine, and repaired."""

from __future__ import annotations

import json

import pytest

from lab.cli import main
from lab.consistency.history import read_history
from lab.experiments.failover import experiment as failover
from lab.experiments.failover.faults import known_to

pytestmark = pytest.mark.timeout(1200)

FAULTS = known_to("docker")

TINY = failover.Size(before=1.5, hold=2, after=6, shoppers=8, together=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One tiny failover run of two strategies on two containers each."""
    out = tmp_path_factory.mktemp("results")
    asked = ["--quick", "--servers", "2", "--rate", "30", "--strategies", "sticky redis", "--out", str(out)]
    patch = pytest.MonkeyPatch()
    patch.setitem(failover.SIZES, "quick", TINY)
    try:
        assert main(["failover", "--engine", "docker", *asked]) == 0
    finally:
        patch.undo()
    return (out / "latest").resolve()


@pytest.fixture(scope="module")
def results(run):
    """Its results.json."""
    return json.loads((run / "results.json").read_text())


def test_every_fault_is_struck(results):
    """Those of processes, and a cut of the network beside."""
    assert results["run"]["engine"] == "docker"
    assert list(results["faults"]) == list(FAULTS)
    assert "cut-server" in results["faults"]
    assert not [name for name, fault in results["faults"].items() if fault["left_out"]]
    for name in ("sticky", "redis"):
        assert set(results["strategies"][name]["faults"]) == set(FAULTS), name


def test_shoppers_go_on_after_every_fault(results):
    """Carts are shown before and after each stroke; and that every server serves again, the run itself has seen."""
    for name, arm in results["strategies"].items():
        for fault, story in arm["faults"].items():
            assert story["requests"]["ok"] > 0, (name, fault)
            assert story["answers"]["before"]["views"] > 0, (name, fault)
            assert sum(story["answers"][window]["views"] for window in ("during", "after")) > 0, (name, fault)


def test_what_a_store_holds_outlives_every_fault_of_a_server(results):
    """Killed, frozen, cut off or renewed: a session in Redis is not in any of them."""
    for fault in ("kill-server", "stop-server", "cut-server", "rolling-restart"):
        story = results["strategies"]["redis"]["faults"][fault]
        assert story["sessions"]["alive"] > 0, fault
        assert story["sessions"]["lost"] == 0, fault


def test_a_fault_is_noticed(results):
    """Something failed or lasted while the store was gone: the fault was no pretence."""
    failures = results["strategies"]["redis"]["faults"]["kill-redis"]["failures"]
    assert failures["by_cause"]["store"] > 0


def test_sessions_in_memory_end_when_all_servers_are_renewed(run):
    """Every container was really another process afterwards; sessions in Redis outlive it, unless a shopper leaves."""
    outlived = {}
    for name in ("sticky", "redis"):
        operations = [op for op in read_history(run / "history.jsonl") if op.arm == f"{name} rolling-restart"]
        before = {op.session for op in operations if op.phase == "warmup" and op.session}
        after = {op.session for op in operations if op.f == "final_view" and op.session}
        assert before, name
        assert after, name
        outlived[name] = before & after

    assert not outlived["sticky"]
    assert outlived["redis"]
