"""Locust's master and workers as one generator: real processes against a shop on real sockets."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from little_shop import LittleShop

from loadtests.fleet import ArmTarget, Fleet, LoadError, WorkersLost
from loadtests.plans import shopping_plan
from tests.processes import alive

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 90.0

pytestmark = pytest.mark.timeout(300)  # each starts several processes that import Locust
LOAD = {"rate_rps": 80, "seconds": 0.6, "shoppers": 12}


def open_at(fleet, shop):
    """Make the shop known to all workers."""
    target = ArmTarget(
        arm="little", strategy="little", url=shop.url, server_urls={}, cookie_name=LittleShop.cookie_name
    )
    fleet.open(target)


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_every_planned_request_is_sent_by_exactly_one_of_three_workers(tmp_path, shop):
    """Two blocks: what the shop saw, what came back and what was planned are the same; a cookie stays where it is."""
    with Fleet(tmp_path / "load.log", 3) as fleet:
        fleet.listening()
        fleet.muster()
        open_at(fleet, shop)
        everything_is_sent_once(fleet, shop)
        the_start_is_agreed_by_durations_alone(fleet)


def everything_is_sent_once(fleet, shop):
    """Requests sent, recorded and planned are the same, in two blocks."""
    names = {}
    for block in (0, 1):
        plan, before = shopping_plan(1, block, **LOAD), len(shop.requests)
        result = fleet.run([("little", plan)])
        assert len(shop.requests) - before == result.scheduled == result.sent == result.recorded == plan.scheduled
        own = [operation for operation in result.operations if not operation.follow]
        zero_ns = result.zero_ns
        assert Counter((one.shopper, one.f, one.intended_ns - zero_ns) for one in own) == Counter(
            (one.shopper, one.f, round(one.at_seconds * 1e9)) for one in plan.requests
        )
        assert [one.t0_ns for one in result.operations] == sorted(one.t0_ns for one in result.operations)
        assert [one.i for one in result.operations] == list(range(len(result.operations)))
        for part in result.parts:
            for one in part.operations:
                assert names.setdefault(one.shopper, part.worker.name) == part.worker.name
    assert {part.worker.name for part in result.parts} == {"worker-1", "worker-2", "worker-3"}
    sessions = Counter(cookie for _, _, cookie, _ in shop.requests if cookie)
    assert len(sessions) <= LOAD["shoppers"] * 3  # a logout begins a new one; a shopper on two workers would have two


def the_start_is_agreed_by_durations_alone(fleet):
    """Each worker's start lies between two moments that its own message's round trip spans."""
    result = fleet.run([("little", shopping_plan(2, 0, **LOAD))])
    for part in result.parts:
        start = part.start
        assert start.earliest_ms < 0 < start.latest_ms - start.earliest_ms
        assert start.latest_ms - start.earliest_ms == pytest.approx(start.round_trip_ms)
        assert min(one.t0_ns for one in part.operations) > result.zero_ns + start.earliest_ms * 1e6
    widest = max(part.start.latest_ms for part in result.parts) - min(part.start.earliest_ms for part in result.parts)
    assert result.apart_ms == widest > 0


def test_a_lost_worker_is_named_and_the_others_go_on(tmp_path, shop):
    """Killed before a block: nobody begins it. In its midst: it does not count. Then the rest are dealt everything."""
    with Fleet(tmp_path / "load.log", 3) as fleet:
        fleet.listening()
        fleet.muster()
        open_at(fleet, shop)
        os.kill(fleet.workers["worker-3"].pid, signal.SIGKILL)
        with pytest.raises(WorkersLost, match="worker-3 was lost: its process has ended"):
            fleet.run([("little", shopping_plan(1, 0, **LOAD))])
        assert shop.requests == []

        open_at(fleet, shop)
        loses_worker_2(fleet, signal.SIGKILL, "its process has ended")
        open_at(fleet, shop)
        plan, before = shopping_plan(1, 1, **LOAD), len(shop.requests)
        result = fleet.run([("little", plan)])
        assert result.sent == plan.scheduled == len(shop.requests) - before

        os.kill(fleet.workers["worker-1"].pid, signal.SIGKILL)
        with pytest.raises(WorkersLost, match="worker-1 was lost"):
            open_at(fleet, shop)
        with pytest.raises(LoadError, match="no worker is left"):
            open_at(fleet, shop)


def loses_worker_2(fleet, stroke, said):
    """Strike a worker in the midst of a block; it must not come back and send."""
    victim = fleet.workers["worker-2"].pid
    timer = threading.Timer(0.3, os.kill, (victim, stroke))
    timer.start()
    with pytest.raises(WorkersLost, match=said) as lost:
        fleet.run([("little", shopping_plan(1, 0, **LOAD | {"seconds": 1.5}))])
    timer.join()
    assert list(lost.value.lost) == ["worker-2"]
    assert list(fleet.workers) == ["worker-1"]
    wait_until(lambda: not alive([victim]))


def test_a_silent_worker_is_lost_and_ended(tmp_path, shop):
    """It stands still, so no heartbeat comes; the master does not wait for its part."""
    with Fleet(tmp_path / "load.log", 2, silence_seconds=5) as fleet:
        fleet.listening()
        fleet.muster()
        open_at(fleet, shop)
        loses_worker_2(fleet, signal.SIGSTOP, "it was not heard of for 5 s")


def another_version(folder):
    """Copy the load's code, and change it in one place; return where."""
    shutil.copytree(ROOT / "loadtests", folder / "loadtests")
    with (folder / "loadtests" / "plans.py").open("a") as plans:
        plans.write("MIX['add'] = 1.0\n")
    return folder


def test_a_worker_of_another_machine_joins_over_the_network(tmp_path, shop):
    """Started by hand, with an address alone; it ends by itself when the run is over.

    Who does not come is missed; one with other code, which may play a plan otherwise, and one that is not needed are
    sent away.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "loadtests.worker", "--master", f"127.0.0.1:{port}"]
    with Fleet(tmp_path / "load.log", 0, elsewhere=1, listen=("127.0.0.1", port)) as fleet:
        assert fleet.listening() == port
        with pytest.raises(LoadError, match="0 of 1 workers came within 0 s"):
            fleet.muster(0.2)
        other = another_version(tmp_path / "other")
        stranger = subprocess.run(
            command, cwd=other, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert stranger.returncode == 1
        assert stranger.stderr == "this worker is not needed: it has another version of the lab than the master\n"
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as first:
            fleet.muster(PATIENCE_SECONDS)
            (name,) = fleet.workers
            assert name == f"{socket.gethostname()}-1"
            assert fleet.workers[name].here is False
            surplus = subprocess.run(
                command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS, check=False
            )
            assert surplus.returncode == 1
            assert surplus.stderr == "this worker is not needed: the run has begun without it\n"
            open_at(fleet, shop)
            plan = shopping_plan(1, 0, **LOAD)
            assert fleet.run([("little", plan)]).sent == plan.scheduled
            fleet.close()
            assert first.wait(PATIENCE_SECONDS) == 0


def test_nothing_outlives_a_master_that_is_killed(tmp_path):
    """Its workers see their stdin end; the lab hears of it in one line."""
    with Fleet(tmp_path / "load.log", 1) as fleet:
        fleet.listening()
        fleet.muster()
        workers = [who.pid for who in fleet.workers.values()]
        os.kill(fleet.pid, signal.SIGKILL)
        with pytest.raises(LoadError, match="the load's master has ended"):
            fleet.muster()
        wait_until(lambda: not alive(workers))


def test_a_port_that_is_taken_is_one_clear_line(tmp_path):
    """Somebody else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = Fleet(tmp_path / "load.log", 0, elsewhere=1, listen=("127.0.0.1", port))
        with busy, pytest.raises(LoadError, match=f"cannot listen at 127.0.0.1:{port}"):
            busy.listening()


def test_a_bad_address_is_one_clear_line():
    """What was expected, and what came; in a process of its own, because a worker imports Locust."""
    asks = """
import loadtests.worker
for address in ("nowhere", "host:", ":5557", "host:0", "host:99999"):
    try:
        loadtests.worker.main(["--master", address])
    except SystemExit as end:
        assert end.code == 2
"""
    done = subprocess.run([sys.executable, "-c", asks], cwd=ROOT, capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(said) == 5
    assert all("expected HOST:PORT, got" in line for line in said)
