"""A comparison that ends early says so in one line, marks its folder, moves no `latest` and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from http.client import BadStatusLine
from pathlib import Path

import psutil
import psycopg
import pytest
from redis.exceptions import RedisError
from rich.console import Console

from lab.errors import EngineFailed
from lab.measuring.runs import CtrlC, carry_out
from loadtests.wire import LoadError
from tests.processes import alive

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0


class Comparison:
    """A comparison in a process of its own, whose descendants are remembered."""

    def __init__(self, out):
        self.out = out
        command = [sys.executable, "-m", "lab", "compare", "--quick", "--servers", "2", "--strategies", "redis"]
        self.process = subprocess.Popen(
            [*command, "--out", str(out)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as a terminal does: Ctrl-C reaches the whole group
        )
        self.children = []

    def wait_for(self, step):
        """Wait until the log names a step and somebody works for the lab; remember who."""
        wait_until(lambda: step in self.log() and psutil.Process(self.process.pid).children())
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def log(self):
        """Return what the run has logged."""
        return "".join(path.read_text() for path in self.out.glob("compare-*/lab.log"))

    def interrupt(self):
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def survivors(self):
        """Return which of its processes still live."""
        return alive(child.pid for child in self.children)


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("step", ["starting engines", "warming up", "measuring"])
def test_ctrl_c_ends_a_run_in_one_line_and_leaves_nothing(tmp_path, step):
    """Wherever it comes: status 130, one line, a folder that says so, no `latest`, no process."""
    run = Comparison(tmp_path)
    run.wait_for(step)
    run.interrupt()
    _, told = run.process.communicate(timeout=PATIENCE_SECONDS)

    assert run.process.returncode == 130
    assert told.strip() == "lab: interrupted; everything that was started has been stopped."
    (folder,) = tmp_path.glob("compare-*")
    results = json.loads((folder / "results.json").read_text())
    assert results["complete"] is False
    assert "interrupted" in results["validity"]["warnings"][0]
    assert not (tmp_path / "latest").exists()
    wait_until(lambda: not run.survivors())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_another_end_is_as_orderly(tmp_path, signum):
    """SIGTERM and a closed terminal end a run as Ctrl-C does, also where make and the terminal both tell it."""
    run = Comparison(tmp_path)
    run.wait_for("warming up")
    os.killpg(run.process.pid, signum)
    os.killpg(run.process.pid, signum)
    _, told = run.process.communicate(timeout=PATIENCE_SECONDS)

    assert run.process.returncode == 128 + signum
    assert told.strip() == f"lab: ended by {signum.name}; everything that was started has been stopped."
    (folder,) = tmp_path.glob("compare-*")
    assert "interrupted" in json.loads((folder / "results.json").read_text())["validity"]["warnings"][0]
    wait_until(lambda: not run.survivors())


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("closed\nunexpectedly"), RedisError("no"), BadStatusLine("x")]
)
def test_a_store_that_fails_the_labs_own_question_is_one_clear_line(tmp_path, error):
    """The line says who failed and where the logs are, and the folder says it, too."""

    def procedure(*_):
        raise error

    with pytest.raises(
        EngineFailed, match=r"failed while the lab asked it something: .*\(logs: .*run it again"
    ) as told:
        carry_out("compare", tmp_path, Console(quiet=True), procedure)

    assert "\n" not in str(told.value)
    (folder,) = tmp_path.glob("compare-*")
    assert str(told.value) in json.loads((folder / "results.json").read_text())["validity"]["warnings"][0]


def test_a_ctrl_c_that_python_drops_is_raised_again():
    """Python drops a KeyboardInterrupt raised in a finaliser; the run ends at its next step all the same."""
    ctrl_c = CtrlC()
    with ctrl_c.remembered():
        ctrl_c.raise_again()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        with pytest.raises(KeyboardInterrupt):
            ctrl_c.raise_again()


def test_a_failure_does_not_stand_for_an_end_that_was_asked_for():
    """The signal may end the load generator, too, and its death be noticed first; without a signal it is a failure."""
    ctrl_c = CtrlC()
    with pytest.raises(LoadError), ctrl_c.preferred():
        raise LoadError("the load generator has ended")
    with ctrl_c.remembered(), pytest.raises(KeyboardInterrupt), ctrl_c.preferred():  # noqa: PT012 - two things happen
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        raise LoadError("the load generator has ended")


def test_kill_9_leaves_a_folder_that_says_unfinished_and_no_process(tmp_path):
    """The lab has no time to say anything; its first results.json does, and the watchdog cleans up."""
    run = Comparison(tmp_path)
    run.wait_for("measuring")
    run.process.kill()
    run.process.communicate()

    (folder,) = tmp_path.glob("compare-*")
    assert json.loads((folder / "results.json").read_text())["complete"] is False
    assert not (tmp_path / "latest").exists()
    wait_until(lambda: not run.survivors())


def test_an_engine_that_dies_under_load_ends_the_run_in_one_line(tmp_path):
    """Redis is killed while it is measured: the run cannot be trusted, and says what happened."""
    run = Comparison(tmp_path)
    run.wait_for("measuring")
    redis = next(child for child in run.children if "redis-server" in child.name())
    redis.kill()
    _, told = run.process.communicate(timeout=120)

    assert run.process.returncode == 1
    assert told.startswith("lab: ")
    assert told.count("\n") == 1
    assert "redis" in told.lower()
    wait_until(lambda: not run.survivors())
