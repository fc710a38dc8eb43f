"""`make up ENGINE=docker`: it says where the shops are, and takes everything down, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import contextmanager

import pytest
import requests
from carts import hearing, quiet_port, wait_until

from lab.containers import env_file
from lab.containers.compose import ROOT, docker
from strategies import STRATEGIES

pytestmark = pytest.mark.timeout(900)

PORTS = [f"PORT_{name.upper().replace('-', '_')}" for name in ("front", *STRATEGIES)]


@contextmanager
def up(tmp_path, project):
    """Run the door; gives its process and the file with what it says."""
    environment = os.environ | env_file.fresh() | {variable: str(quiet_port()) for variable in PORTS}
    command = hearing(ROOT / ".venv/bin/python", "-m", "lab", "up", "--engine=docker", "--servers=1")
    told = tmp_path / "told"
    with told.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | {"COMPOSE_PROJECT_NAME": project},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process, told
        finally:
            process.kill()
            process.wait()


def left(project):
    """Return what of a project is there: containers, networks, volumes."""
    label = f"label=com.docker.compose.project={project}"
    kinds = (["ps", "--all"], ["network", "ls"], ["volume", "ls"])
    return [line for kind in kinds for line in docker(*kind, "--quiet", "--filter", label).split()]


def test_it_says_where_the_shops_are_and_ctrl_c_takes_them_down(tmp_path):
    """The addresses work, and nothing is left afterwards."""
    project = f"lab-test-up-{os.getpid()}"
    with up(tmp_path, project) as (process, told):
        wait_until(lambda: "Ctrl-C stops" in told.read_text() or process.poll() is not None, "it has started")
        urls = re.findall(r"http://127\.0\.0\.1:\d+", told.read_text())
        assert len(urls) == 1 + len(STRATEGIES), told.read_text()
        for url in urls:
            assert requests.get(f"{url}/", timeout=10).ok
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(300) == 0, told.read_text()
        assert left(project) == []


def test_what_was_started_is_taken_down_although_it_is_killed_meanwhile(tmp_path):
    """Compose goes on without the lab, and is waited for."""
    project = f"lab-test-kill-{os.getpid()}"
    with up(tmp_path, project) as (process, told):
        wait_until(lambda: left(project) or process.poll() is not None, "something has been made")
        assert process.poll() is None, told.read_text()
        process.kill()
    # Compose's own end of the guard is what is waited for: nothing is left, and nothing more comes.
    wait_until(
        lambda: not subprocess.run(["pgrep", "-f", project], capture_output=True, check=False).stdout,
        "the guard has ended",
    )
    assert left(project) == []


def test_a_project_that_is_there_already_is_not_taken_over(tmp_path):
    """In the end everything of the project is removed: what somebody else has stored would be."""
    project = f"lab-test-there-{os.getpid()}"
    volume = docker(
        "volume", "create", "--label", f"com.docker.compose.project={project}", f"{project}_postgres"
    ).strip()
    try:
        with up(tmp_path, project) as (process, told):
            assert process.wait(300) == 1
        assert f"project {project} is there already (1 volume)" in told.read_text()
        assert left(project) == [volume]
    finally:
        docker("volume", "rm", volume)
