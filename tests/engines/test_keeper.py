"""The keeper: what it kills is gone, and what it kills is no failure."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from lab.engines.user import shared_temporary_folder
from tests.processes import alive

MOTHER = """
import subprocess
for _ in range(500):
    subprocess.Popen(["sleep", "60"])
"""


def test_no_child_outlives_a_kill(own_keeper):
    """Children that are born while their mother is killed are gone, too, when `kill` returns."""
    mother = own_keeper.launch("mother", [sys.executable, "-S", "-c", MOTHER])
    while len(mother.pids()) < 20:
        assert mother.alive
    mother.kill()
    left = [one for one in psutil.process_iter() if works_in(one, own_keeper.folder)]
    for one in left:
        one.kill()
    assert left == []


def test_no_child_outlives_a_mother_that_somebody_else_killed(own_keeper):
    """Such as the worker of a balancer whose master was killed: when it is stopped, the rest goes, too."""
    waiting = "import subprocess; subprocess.run(['sleep', '60'])"
    mother = own_keeper.launch("mother", [sys.executable, "-S", "-c", waiting])
    while len(mother.pids()) < 2:
        assert mother.alive
    (_, *children) = mother.pids()
    os.kill(mother.pid, signal.SIGKILL)
    while mother.alive:
        time.sleep(0.01)
    assert alive(children) == children
    mother.stop()
    while alive(children):  # killed, and gone as soon as the kernel comes to it
        time.sleep(0.01)


HOARDERS = 3
HOARDING = f"""
import subprocess, sys
hoarder = "import time; hoard = b'x' * 100_000_000; print('full', flush=True); time.sleep(60)"
for _ in range({HOARDERS}):
    subprocess.Popen([sys.executable, "-S", "-c", hoarder])
subprocess.run(["sleep", "60"])
"""


def test_a_kill_waits_until_the_last_child_is_gone(own_keeper):
    """Children who take their time to die, as one must give back much memory, are dead when `kill` returns."""
    mother = own_keeper.launch("mother", [sys.executable, "-S", "-c", HOARDING])
    assert mother.wait_until(lambda: mother.log.read_text().count("full") == HOARDERS)
    family = mother.pids()
    assert len(family) == HOARDERS + 2
    mother.kill()
    assert alive(family) == []


@pytest.mark.parametrize("named", ["", "."])
def test_the_temporary_folder_is_the_same_from_wherever_it_is_seen(named, monkeypatch, tmp_path):
    """Engines work in folders of their own, where a path relative to the lab's would lead nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", named)
    assert shared_temporary_folder().is_absolute()


def test_no_child_runs_beside_a_frozen_mother(own_keeper):
    """Children that are born while their mother is frozen are frozen, too; thawed, all go on."""
    mother = own_keeper.launch("mother", [sys.executable, "-S", "-c", MOTHER])
    while len(mother.pids()) < 20:
        assert mother.alive
    mother.freeze()
    born = len(mother.pids())
    states = {psutil.Process(pid).status() for pid in mother.pids()}
    assert states == {psutil.STATUS_STOPPED}
    mother.signal(signal.SIGCONT)
    while len(mother.pids()) == born:
        assert mother.alive
    mother.kill()


def works_in(process, folder):
    """Return whether a process lives and works in this folder."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder)
    except psutil.Error:
        return False


def test_what_the_lab_ends_itself_is_no_failure(own_keeper):
    """However often the keeper looks while processes are killed and stopped, it finds nothing to complain about."""
    done = threading.Event()

    def look():
        looks = 0
        while not done.is_set():
            own_keeper.check()
            looks += 1
        return looks

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            for _ in range(8):
                for end in ("kill", "stop"):
                    getattr(own_keeper.launch("sleep", ["sleep", "60"]), end)()
        finally:
            done.set()
        assert looking.result() > 0
