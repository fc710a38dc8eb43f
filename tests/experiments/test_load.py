"""A load run, small but real: two workers against a real cluster; a worker killed; Ctrl-C, and a lab that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from lab import samples
from lab.cli import main
from lab.experiments.load import experiment as load
from lab.report import draw
from loadtests.fleet import Gathered, Part
from loadtests.messages import Start, Worker
from loadtests.plans import Shopping
from tests.processes import alive

sys.path.insert(0, str(Path(__file__).parents[1] / "loadtests"))

from little_shop import LittleShop

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 90.0

pytestmark = pytest.mark.timeout(300)  # each starts several processes that import Locust
RATE = 60
SECONDS = 2


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_a_run_of_two_workers_against_a_real_cluster(tmp_path, monkeypatch):
    """Samples, sums, folder; however busy this machine is, no block is measured again."""
    monkeypatch.setattr(load, "broken_rule", lambda gathered: None)
    command = ["load", "--workers", "2", "--strategy", "sticky", "--servers", "2", "--rate", str(RATE)]
    assert main([*command, "--seconds", str(SECONDS), "--seed", "7", "--out", str(tmp_path)]) == 0
    folder = (tmp_path / "latest").resolve()
    results = json.loads((folder / "results.json").read_text())
    the_samples_are_the_plan_request_by_request(samples.load(folder), results["load"]["shoppers"])
    the_sums_are_right(results, len(samples.load(folder).f))
    page = draw(folder).read_text()
    assert "worker-2" in page
    assert "What came back from" in page


def the_samples_are_the_plan_request_by_request(columns, shoppers):
    """Every request of every block's plan was sent exactly once, at its time, by one of the two workers."""
    shopping = Shopping(7, shoppers)
    for block in range(SECONDS):
        plan = shopping.plan(block, rate_rps=RATE, seconds=load.BLOCK_SECONDS)
        rows = columns.block == block
        assert np.count_nonzero(rows) == plan.scheduled
        first = plan.requests[0].at_seconds
        sent = zip(columns.fs[columns.f[rows]], columns.intended_s[rows], strict=True)
        found = Counter((str(f), round(float(at), 6)) for f, at in sent)
        planned = Counter((one.f, round(one.at_seconds - first, 6)) for one in plan.requests)
        assert sum((found & planned).values()) == len(plan.requests)
        assert sum((found - planned).values()) == sum(one.followed for one in plan.requests)  # the views that follow


def the_sums_are_right(results, rows):
    """Workers add up to the whole, and so do operations; shoppers are shared fairly."""
    told = results["load"]
    counts, workers = told["requests"], told["workers"]
    assert set(workers) == {"worker-1", "worker-2"}
    assert counts["scheduled"] == counts["sent"] == counts["ok"] + counts["failed"] == rows
    assert counts["sent"] == sum(one["sent"] for one in workers.values())
    assert counts["sent"] == told["operations"]["all"]["sent"]
    assert counts["sent"] == sum(one["sent"] for name, one in told["operations"].items() if name != "all")
    assert sum(one["shoppers"] for one in workers.values()) == told["shoppers"] == 40
    assert results["strategies"]["sticky"]["requests"] == counts
    assert results["strategies"]["sticky"]["cpu_ms_per_request"]["servers"] > 0
    assert results["run"]["blocks"] == SECONDS
    assert told["lost"] == []
    assert 0 < told["apart_ms"]["p50"] <= told["apart_ms"]["max"]


class Load:
    """A load run in a process of its own against a little shop, whose descendants are remembered."""

    def __init__(self, shop, out, workers):
        self.out = out
        command = [sys.executable, "-m", "lab", "load", "--workers", str(workers), "--rate", "40", "--seconds", "3"]
        self.process = subprocess.Popen(
            [*command, "--target", shop.url, "--out", str(out)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as a terminal does: Ctrl-C reaches the whole group
        )
        wait_until(lambda: "requests/s" in self.log() or self.process.poll() is not None)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def log(self):
        """Return what the run has logged."""
        return "".join(path.read_text() for path in self.out.glob("load-*/lab.log"))

    def results(self):
        """Return its results.json."""
        (path,) = self.out.glob("load-*/results.json")
        return json.loads(path.read_text())

    def workers(self):
        """Return the process ids of the workers, by name."""
        named = {child.pid: child.cmdline() for child in self.children}
        return {line[-1]: pid for pid, line in named.items() if "loadtests.worker" in line}


@pytest.fixture
def shop():
    """A shop on real sockets."""
    with LittleShop() as shop:
        yield shop


def test_a_worker_killed_in_the_midst_is_told_and_its_part_is_sent_again(shop, tmp_path):
    """The run ends well with the other one: all blocks are whole, and the loss stands in the results."""
    run = Load(shop, tmp_path, 2)
    os.kill(run.workers()["worker-2"], signal.SIGKILL)
    told, errors = run.process.communicate(timeout=PATIENCE_SECONDS * 2)
    assert run.process.returncode == 0, errors
    results = run.results()
    (lost,) = results["load"]["lost"]
    assert lost["worker"] == "worker-2"
    assert lost["why"] == "its process has ended (status -9)"
    assert "lost: worker-2" in results["validity"]["warnings"][0]
    assert "lost: worker-2" in told
    counts = results["load"]["requests"]
    assert counts["scheduled"] == counts["sent"] == sum(one["sent"] for one in results["load"]["workers"].values())
    assert results["load"]["workers"]["worker-1"]["shoppers"] == results["load"]["shoppers"]
    assert results["strategies"] == {}
    logins = sum(path == "/api/login" for _, path, *_ in shop.requests)
    assert logins >= 2 * results["load"]["shoppers"]  # everybody came in anew, at the worker that is left
    assert not alive(child.pid for child in run.children)


def part(name, lateness_ms, latest_ms=0.5):
    """What a worker did, as far as rules look at it."""
    who = Worker(name=name, host="here", pid=1, here=True, code="")
    start = Start(earliest_ms=-0.5, latest_ms=latest_ms, round_trip_ms=latest_ms + 0.5)
    return Part(
        worker=who, shoppers=1, operations=[], lateness_ms=lateness_ms, cpu_seconds=0, wall_seconds=1, start=start
    )


def gathered(*parts):
    """What they did together."""
    late = np.concatenate([one.lateness_ms for one in parts])
    return Gathered([], 0.0, 1.0, late, 0, 0, 0, 0, 0, parts=list(parts), zero_ns=0, master_cpu_seconds=0.0)


def test_one_late_worker_spoils_a_block_though_the_others_are_in_time():
    """Each is judged by itself: among nine others its lateness would drown. So is the start."""
    in_time = [part(f"worker-{number}", [0.2] * 40) for number in range(1, 10)]
    assert load.broken_rule(gathered(*in_time)) is None
    assert (
        load.broken_rule(gathered(*in_time, part("worker-10", [25.0] * 4))) == "worker-10 was 25 ms late (limit 10 ms)"
    )
    apart = load.broken_rule(gathered(*in_time, part("worker-10", [0.2], latest_ms=79.5)))
    assert apart == "the workers began up to 80 ms apart (limit 50 ms)"
    assert load.broken_rule(gathered(part("worker-1", [0.2], latest_ms=79.5))) is None


def test_blocks_are_measured_again_within_the_budget_alone(tmp_path):
    """A fifth of the blocks, and each at most three times; then it counts, with a warning."""
    chosen = load.settings(
        size="quick", seconds=20, seed=1, out=tmp_path, command="", workers=1, elsewhere=0, listen=None,
        strategy="redis", target=None, rate=100, servers=2,
    )  # fmt: skip
    measured = load.Measured(chosen)
    sender = load.Sender(None, None, measured, None)
    late = load.Block(gathered(part("worker-1", [25.0])), 1.0, 0.1, None)
    assert [sender._counts(late, tries) for tries in (1, 2, 3)] == [False, False, True]
    assert [sender._counts(late, tries) for tries in (1, 2, 1)] == [False, False, True]
    assert measured.redone == 4
    assert len(measured.warnings) == 2


@pytest.mark.parametrize("stroke", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_midst_leaves_no_process_and_a_folder_that_says_so(shop, tmp_path, stroke):
    """Ctrl-C in one line; after `kill -9` of the lab the workers end by themselves."""
    run = Load(shop, tmp_path, 1)
    assert len(run.children) == 2  # the load's master and its worker
    if stroke is signal.SIGINT:
        os.killpg(run.process.pid, stroke)
    else:
        run.process.send_signal(stroke)
    _, told = run.process.communicate(timeout=PATIENCE_SECONDS)
    if stroke is signal.SIGINT:
        assert run.process.returncode == 130
        assert told.strip() == "lab: interrupted; everything that was started has been stopped."
    assert run.results()["complete"] is False
    assert not (tmp_path / "latest").exists()
    wait_until(lambda: not alive(child.pid for child in run.children))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "0"], "expected at least one worker, got WORKERS=0"),
        (["--workers", "x"], "'x' is not a valid integer"),
        (["--strategy", "redsi"], "Did you mean redis?"),
        (["--strategy", "redis sticky"], "expected one strategy, got 2"),
        (["--strategy", "redis", "--target", "http://127.0.0.1:1"], "choose one"),
        (["--target", "ftp://127.0.0.1"], "expected the address of a shop"),
        (["--target", "http://[::1"], "got 'http://[::1'"),
        (["--target", "http://127.0.0.1:1"], "nobody answers at http://127.0.0.1:1"),
        (["--target", "http://127.0.0.1:x"], "got 'http://127.0.0.1:x'"),
        (["--seconds", "0"], "0 is not in the range"),
        (["--elsewhere", "1"], "LISTEN="),
        (["--listen", "nowhere"], "expected HOST:PORT"),
        (["--listen", "127.0.0.1:5557"], "ELSEWHERE="),
        (["--listen", "192.0.2.1:5557", "--elsewhere", "1"], "TARGET="),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(arguments, says, tmp_path, capsys):
    """What was wrong, what was expected, and no folder."""
    status = main(["load", *arguments, "--out", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert status in {1, 2}
    assert says in told.err
    assert told.err.startswith("lab: ")
    assert told.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_load_is_sent_to_shops_of_this_lab_alone(tmp_path, capsys):
    """Whatever else answers there is left in peace."""
    with LittleShop() as stranger:
        stranger.fault = lambda method, path: 404
        status = main(["load", "--target", stranger.url, "--out", str(tmp_path / "out")])
        assert len(stranger.requests) == 1
    assert status == 1
    assert "is no shop of this lab" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
