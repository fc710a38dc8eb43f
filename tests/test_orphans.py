"""Nothing outlives the lab: not after Ctrl-C, an exception or a `kill -9`, whenever it comes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import psutil
import pytest

from lab.engines import watchdog
from lab.engines.keeper import Keeper

ROOT = Path(__file__).parents[1]
GONE_SECONDS = 15.0

PROGRAM = """
import signal, sys
from pathlib import Path
from lab.cluster import ClusterSpec, Lab

with Lab(Path(sys.argv[1])) as lab:
    clusters = lab.start(*[ClusterSpec(name=n, strategy=n, servers=2) for n in ("all-to-all", "redis")])
    for engine in (lab.redis, lab.postgresql, *(cluster.balancer for cluster in clusters)):
        assert engine.pid
        if "again" in sys.argv[2]:
            engine.kill()
            engine.restart()
        if "paused" in sys.argv[2]:
            engine.pause()
    if "again" in sys.argv[2]:
        clusters[0].restart("web-1")
    if "paused" in sys.argv[2]:
        clusters[0].servers[0].process._signal(signal.SIGSTOP)
    print("up", flush=True)
    if "exception" in sys.argv[2]:
        raise RuntimeError("as if something broke")
    signal.pause()
"""


class RunningLab:
    """A lab in a process of its own, whose every descendant can be recognised."""

    def __init__(self, how):
        # Short, and open to the user that PostgreSQL runs as. All that belongs to the lab carries this name: in its
        # environment, its command line or the folder where it works.
        self.place = Path("/tmp") / f"orphans-{token_hex(4)}"
        self.run = self.place / "run"
        self.run.mkdir(parents=True)
        self.place.chmod(0o711)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.run), how],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self.place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_up(self):
        """Wait until it serves; return how many processes it has by then."""
        assert self.process.stdout.readline() == "up\n", self.process.stderr.read()
        return len(self.survivors())

    def survivors(self):
        """Return what lives of it: itself, engines, servers, watchdog. A zombie does not live."""
        return [one for one in psutil.process_iter() if self._belongs(one)]

    def folders(self):
        """Return what is left of its temporary folders."""
        return [entry for entry in self.place.iterdir() if entry != self.run]

    def is_gone(self):
        """Wait until nothing is left; return whether that came."""
        deadline = time.monotonic() + GONE_SECONDS
        while self.folders() or self.survivors():  # folders first: it is the cheaper question
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _belongs(self, process):
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [process, *process.parents()]
            return process.status() != psutil.STATUS_ZOMBIE and any(map(self._is_named, family))
        return False

    def _is_named(self, process):
        # A container may forbid root to see folder and environment of PostgreSQL, which is another user's.
        for look in (process.cwd, process.environ, process.cmdline):
            with contextlib.suppress(psutil.AccessDenied):
                if str(self.place) in str(look()):
                    return True
        return False


@pytest.fixture
def start():
    """Start labs; whatever a failed test left behind is ended here."""
    labs = []

    def start(how=""):
        labs.append(RunningLab(how))
        return labs[-1]

    yield start
    for lab in labs:
        with contextlib.suppress(psutil.Error):
            for process in lab.survivors():
                process.kill()
        lab.process.communicate()
        shutil.rmtree(lab.place)


@pytest.mark.parametrize(
    ("how", "signum"),
    [
        ("interrupted", signal.SIGINT),
        ("killed", signal.SIGKILL),
        ("killed while everything is paused", signal.SIGKILL),
        ("killed after everything was killed and started again", signal.SIGKILL),
        ("ended by an exception", None),
    ],
)
def test_nothing_outlives_the_lab(start, how, signum):
    """Engines with their children, balancers, web servers and folders are gone soon after the lab, however it ends."""
    lab = start(how)
    assert lab.wait_until_up() > 18 or how == "ended by an exception"
    if signum:
        lab.process.send_signal(signum)
    assert lab.is_gone(), lab.survivors()


@pytest.mark.parametrize(
    ("seconds", "signum"), [(0.0, signal.SIGKILL), (0.2, signal.SIGKILL), (0.6, signal.SIGKILL), (0.2, signal.SIGINT)]
)
def test_nothing_outlives_a_lab_that_ends_while_it_starts(start, seconds, signum):
    """Ended this long after its temporary folder appears, it leaves nothing: there is no unwatched moment."""
    lab = start()
    while not lab.folders():
        time.sleep(0.001)
    time.sleep(seconds)
    lab.process.send_signal(signum)
    assert lab.is_gone(), lab.survivors()


def test_a_killed_fork_server_takes_its_web_servers_along(start):
    """Web servers end with the process that forked them."""
    lab = start()
    lab.wait_until_up()
    servers = [one for one in lab.survivors() if "lab.servers.forkserver" in one.cmdline()]
    forkserver = next(one for one in servers if any(one == other.parent() for other in servers))
    assert len(servers) == 5
    forkserver.kill()
    deadline = time.monotonic() + GONE_SECONDS
    while set(servers) & set(lab.survivors()):
        assert time.monotonic() < deadline, servers
        time.sleep(0.05)
    lab.process.send_signal(signal.SIGINT)
    assert lab.is_gone(), lab.survivors()


def test_a_paused_web_server_outlives_neither_the_fork_server_nor_the_lab(start):
    """Frozen, it does not hear that the fork server is gone, whose child it was: the watchdog finds it by its group."""
    lab = start("paused")
    lab.wait_until_up()
    servers = [one for one in lab.survivors() if "lab.servers.forkserver" in one.cmdline()]
    forkserver = next(one for one in servers if any(one == other.parent() for other in servers))
    frozen = [one for one in servers if one.status() == psutil.STATUS_STOPPED]
    forkserver.kill()
    psutil.wait_procs([one for one in servers if one not in frozen], timeout=GONE_SECONDS)
    assert [one.status() for one in frozen] == [psutil.STATUS_STOPPED]
    lab.process.kill()
    assert lab.is_gone(), lab.survivors()


def test_paused_postgresql_processes_outlive_neither_their_mother_nor_the_lab(start):
    """Each leads a group of its own; frozen, it does not hear that its mother is gone. It is known by its folder."""
    lab = start("paused")
    lab.wait_until_up()
    family = [one for one in lab.survivors() if one.name() == "postgres"]
    mother = next(one for one in family if one.parent() not in family)
    children = [one for one in family if one != mother]
    if sys.platform != "linux" or not _can_see_the_folder_of(children[0]):
        pytest.skip("where PostgreSQL's processes work cannot be seen on this system")
    mother.kill()
    while mother.status() != psutil.STATUS_ZOMBIE:  # the lab stands still, and takes no note of it
        time.sleep(0.01)
    assert {one.status() for one in children} == {psutil.STATUS_STOPPED}
    lab.process.kill()
    assert psutil.wait_procs(children, timeout=GONE_SECONDS)[1] == []
    assert lab.is_gone(), lab.survivors()


def _can_see_the_folder_of(process):
    with contextlib.suppress(psutil.AccessDenied):
        return bool(process.cwd())
    return False


ORPHAN = ["/bin/sh", "-c", "sleep 60 & echo $!; wait"]


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_the_watchdog_ends_what_has_outlived_its_parent(tmp_path, end):
    """A frozen child whose parent has been killed has no way to it but its group; a parent that lives makes none."""
    dog = watchdog.Watchdog(tmp_path / "none")
    with subprocess.Popen(ORPHAN, stdout=subprocess.PIPE, text=True, start_new_session=True) as mother:
        dog.watch(mother.pid, signal.SIGTERM)
        child = psutil.Process(int(mother.stdout.readline()))
        child.suspend()
        mother.send_signal(end)
        if end == signal.SIGKILL:
            mother.wait()
        dog.close()
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_watchdog_spares_the_group_of_what_the_lab_has_ended_itself(tmp_path):
    """A number that the lab has given back may be another's: its group is nobody's business."""
    dog = watchdog.Watchdog(tmp_path / "none")
    with subprocess.Popen(ORPHAN, stdout=subprocess.PIPE, text=True, start_new_session=True) as mother:
        dog.watch(mother.pid, signal.SIGTERM)
        child = psutil.Process(int(mother.stdout.readline()))
        mother.kill()
        mother.wait()
        dog.forget(mother.pid)
        dog.close()
        assert child.is_running()
        assert child.status() != psutil.STATUS_ZOMBIE
        child.kill()


def test_without_its_watchdog_a_lab_still_cleans_up_in_good_order(tmp_path):
    """Somebody may kill the watchdog: leaving the lab in good order needs none."""
    with Keeper(tmp_path) as keeper:
        process = keeper.launch("sleep", ["sleep", "60"])
        watching = psutil.Process(keeper._watchdog._process.pid)
        watching.kill()
        watching.wait()
        keeper.launch("another", ["sleep", "60"])
    assert not process.alive
    assert not keeper.folder.exists()


def test_the_watchdog_thaws_what_is_paused(tmp_path):
    """A paused engine hears its signal and ends in its own way; only who does not listen is killed."""
    dog = watchdog.Watchdog(tmp_path / "none")
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        dog.watch(child.pid, signal.SIGTERM)
        child.send_signal(signal.SIGSTOP)
        dog.close()
        assert child.wait() == -signal.SIGTERM


def test_the_watchdog_spares_a_process_that_only_has_the_number(tmp_path):
    """A process id that was given to another process since is not signalled."""
    mine = psutil.Process().pid
    births = {mine: "of another process"}
    now = watchdog.processes()
    assert watchdog._alive(births, now) == []
    assert watchdog._alive({mine: now[mine].birth}, now) == [mine]


def test_the_watchdog_sees_alike_by_proc_and_by_ps():
    """Where there is no /proc, `ps` tells the same family."""
    if not Path("/bin/ps").exists():
        pytest.skip("/bin/ps is missing")
    by_ps, mine = watchdog._processes_by_ps(), os.getpid()
    assert by_ps[mine].parent == os.getppid()
    assert by_ps[mine].birth
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        family = watchdog._family({mine}, watchdog._processes_by_ps())
        assert {mine, child.pid} <= family.keys()
        assert watchdog._family({mine}, watchdog.processes()).keys() >= {mine, child.pid}
        child.kill()
