"""`make compare ENGINE=docker`, small but real: the compose file, measured, and nothing of it left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from carts import hearing

from lab.cli import main
from lab.experiments.compare import experiment as compare
from loadtests.lifecycle import Roles

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]

TINY = compare.Size(
    blocks=2,
    slice_seconds=0.5,
    warmup_seconds=0.3,
    control_seconds=1,
    sync_seconds=1,
    affinity_seconds=1,
    two_tabs_seconds=1,
    lifetimes=(4, 9),
    begin_seconds=2,
    roles=Roles(4, 2, 2, 2),
    rungs=(10, 20, 30),
    alone_seconds=1.5,
)


def left_of(project):
    """Return the containers, networks and volumes that bear a project's name."""
    found = []
    for kind in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        command = ["docker", *kind, "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
        found += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return found


def project_of(folder):
    """Return the compose project of a run, from its log; None until it stands there."""
    found = re.search(r"compose project (\S+)", (folder / "lab.log").read_text())
    return found and found[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One tiny comparison of two strategies on two containers each."""
    out = tmp_path_factory.mktemp("results")
    asked = ["--quick", "--servers", "2", "--rate", "40", "--strategies", "sticky redis", "--out", str(out)]
    patch = pytest.MonkeyPatch()
    patch.setitem(compare.SIZES, "quick", TINY)
    try:
        assert main(["compare", "--engine", "docker", *asked]) == 0
    finally:
        patch.undo()
    return (out / "latest").resolve()


@pytest.fixture(scope="module")
def results(run):
    """Its results.json."""
    return json.loads((run / "results.json").read_text())


def test_the_same_is_measured_as_with_processes(results):
    """Latency, guarantees, copies, two tabs, lifetimes: no experiment of its own."""
    assert results["complete"]
    assert list(results["strategies"]) == ["sticky", "redis"]
    for name, found in results["strategies"].items():
        assert found["requests"]["sent"] == found["requests"]["scheduled"] > 0, name
        assert found["latency_ms"]["all"]["p50"]["estimate"] > 0, name
        assert found["consistency"]["verdict"] != "violated", name
        assert found["storage"]["copies_per_session"] == 1, name
        assert found["session_operations_per_request"]["loads"] > 0, name
        assert set(found["servers"]) == {"web-1", "web-2"}, name
        assert set(found["two_tabs"]) == {"fields", "blob", "versioned"}, name
        assert found["lifecycle"]["sessions_lost"]["violations"] == 0, name
    assert len(results["strategies"]["redis"]["storage"]["ladder"]["bytes"]) > 1


def test_each_container_is_counted_by_its_engine(results):
    """CPU time and bytes of each, in a stretch of load on its strategy alone."""
    for name, found in results["strategies"].items():
        assert {"web-1", "web-2", "balancer", "redis", "postgres"} == set(found["containers"]), name
        for container in ("web-1", "web-2", "balancer"):
            used = found["containers"][container]
            assert used["cpu_ms_per_request"] > 0, (name, container)
            assert min(used["received_bytes_per_request"], used["sent_bytes_per_request"]) > 0, (name, container)
        engine = found["container_engine"]
        known = "Whether other programs disturbed" not in " ".join(results["run"]["not_told"])
        assert (engine is not None and engine["cpu_ms_per_request"] > 0) == known, name
        parts = found["cpu_ms_per_request"]
        assert parts["total"] == pytest.approx(parts["servers"] + parts["store"] + parts["balancer"])


def test_links_are_counted_as_with_processes(results):
    """The balancer's by its log, the store's by the servers' own sockets: only redis has one."""
    for name, found in results["strategies"].items():
        links = found["traffic"]["bytes_per_request"]
        assert links["client_balancer"] > links["balancer_server"] > 0, name
        assert links["server_origin"] > 0, name
        assert (links["server_store"] > 0) == (name == "redis"), name
        assert links["server_server"] == 0, name


def test_the_report_says_that_containers_were_measured(results, run):
    """Also that nobody should compare them with processes."""
    assert results["run"]["engine"] == "docker"
    assert results["run"]["versions"]["docker"]
    assert results["run"]["versions"]["nginx"].startswith("1.")
    page = (run / "report.html").read_text()
    assert "docker: servers, stores and balancer were containers" in page
    assert "must not be compared" in page
    assert "What each container used for a request" in page


def test_nothing_is_left_of_a_run(run):
    """No container, network or volume."""
    project = project_of(run)
    assert project
    assert left_of(project) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_lab_that_was_ended(tmp_path, how):
    """Ctrl-C and kill -9, in the midst of a run."""
    command = [sys.executable, "-m", "lab", "compare", "--engine", "docker", "--servers", "1", "--rate", "20"]
    options = ["--strategies", "sticky", "--out", str(tmp_path)]
    with subprocess.Popen(hearing(*command, *options), cwd=ROOT, start_new_session=True) as lab:
        try:
            folder = wait_for(lambda: next(iter(tmp_path.glob("compare-*/lab.log")), None)).parent
            project = wait_for(lambda: project_of(folder))
            wait_for(lambda: "warming up" in (folder / "lab.log").read_text())
            assert left_of(project)
            lab.send_signal(how)
            assert lab.wait(300) in {130, -signal.SIGKILL}
        finally:
            lab.kill()
    wait_for(lambda: left_of(project) == [])


def wait_for(come, seconds=400):
    """Wait for something, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := come()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)
    return found
