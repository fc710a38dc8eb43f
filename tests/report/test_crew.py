"""The crew that draws: helpers draw what this process would, and nothing of them remains, however it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from processes import alive

from lab import samples
from lab.report import charts, crew, draw, results

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("storage", "cpu", "witness")


@pytest.fixture(autouse=True)
def _one_helper_and_few_charts(monkeypatch):
    """There is one helper, also where this machine has one CPU, or many; and little to draw."""
    monkeypatch.setattr(crew, "_cpus", lambda: 2)
    monkeypatch.setitem(charts.CHARTS, "compare", {name: charts.COMPARE[name] for name in NAMES})


@pytest.fixture
def run(made_up, tmp_path):
    """Return a function from a variant to a run in a folder of the test's own, with no charts."""

    def run(variant):
        folder = tmp_path / variant
        folder.mkdir()
        for name in (results.FILE, samples.FILE):
            (folder / name).write_bytes((made_up(variant) / name).read_bytes())
        (folder / charts.FOLDER).mkdir()
        return results.load(folder)

    return run


def wait_until(condition, seconds=60):
    """Return when it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def helpers_of(pid=None):
    """Return the ids of a process's helpers, by default of this one, which may have other children, too."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "lab.report.helper" in child.cmdline():
                found.append(child.pid)
    return found


def drawn_by_helpers(run, names):
    """Return what helpers leave where this process takes no turn."""
    with crew.hired(run.folder, names) as helpers:
        return [msgspec.json.decode(line, type=charts.Drawn) for line in helpers.told()]


def test_helpers_draw_what_this_process_would(run, tmp_path):
    """Pictures and words are the same to the byte, whoever drew."""
    theirs = run("quick")
    told = drawn_by_helpers(theirs, NAMES)
    assert [chart.name for chart in told] == list(NAMES)
    for chart in told:
        own = charts.draw_one(theirs, chart.name, tmp_path)
        assert msgspec.structs.replace(own, svg=b"") == chart
        for kind in (".svg", ".png"):
            drawn = theirs.folder / charts.FOLDER / chart.name
            assert drawn.with_suffix(kind).read_bytes() == (tmp_path / chart.name).with_suffix(kind).read_bytes()


def test_a_page_has_every_chart_once_and_in_order(run, monkeypatch):
    """Nothing is drawn that another one has left, and the order of the page is not that in which charts were done."""
    made = run("quick")
    alone = [charts.draw_one(made, name, made.folder / charts.FOLDER) for name in charts.charts_of(made)]
    mine = []
    own = charts.draw_one
    monkeypatch.setattr(charts, "draw_one", lambda run, name, folder: mine.append(name) or own(run, name, folder))
    monkeypatch.setattr(crew, "turns", lambda _: iter([2]))  # this process takes the last one, helpers all
    assert charts.draw_all(made) == alone
    assert mine == [NAMES[2]]


def test_what_a_helper_cannot_draw_is_left_out_of_its_report(run):
    """It goes on with the next one, and says nothing: whoever asked sees that a chart is missing."""
    assert [chart.name for chart in drawn_by_helpers(run("quick"), ("no such chart", "cpu"))] == ["cpu"]


def test_an_error_in_a_chart_is_named_whoever_met_it(run, monkeypatch):
    """Damaged samples end the drawing with the line that says so, and with nothing left behind."""
    monkeypatch.setitem(charts.CHARTS, "compare", {name: charts.COMPARE[name] for name in ("cpu", "latency-tail")})
    damaged = run("quick")
    (damaged.folder / samples.FILE).write_bytes(b"no samples")
    with pytest.raises(samples.SamplesError, match="is damaged"):
        draw(damaged.folder)
    assert helpers_of() == []


def test_a_helper_that_was_killed_leaves_its_charts_to_this_process(run, monkeypatch):
    """The page is whole all the same."""
    made = run("quick")
    hire = crew._hire

    def hire_and_kill(*arguments):
        helper = hire(*arguments)
        wait_until(lambda: any((made.folder / charts.FOLDER).iterdir()))
        helper.kill()
        return helper

    monkeypatch.setattr(crew, "_hire", hire_and_kill)
    drawn = charts.draw_all(made)
    assert [chart.name for chart in drawn] == list(charts.charts_of(made))
    assert all(chart.missing or chart.svg for chart in drawn)


def test_nothing_remains_after_ctrl_c(run):
    """Helpers that are in the midst of a chart end before the interruption is passed on."""
    made = run("quick")
    seen = []

    def interrupted():
        with crew.hired(made.folder, NAMES):
            seen.extend(helpers_of())
            raise KeyboardInterrupt

    before = psutil.Process().num_fds()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 1
    assert alive(seen) == []
    assert psutil.Process().num_fds() == before


def test_a_helper_ends_with_a_lab_that_was_killed(run):
    """Also in the midst of its charts: here it has more than it can draw within a minute."""
    asks = """
import sys, time
from pathlib import Path
from lab.report import crew
crew._cpus = lambda: 2
with crew.hired(Path(sys.argv[1]), ["cpu"] * 250):
    print("hired", flush=True)
    time.sleep(600)
"""
    folder = run("quick").folder
    with subprocess.Popen([sys.executable, "-c", asks, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) as lab:
        assert lab.stdout.readline() == b"hired\n"
        (helper,) = helpers_of(lab.pid)
        wait_until(lambda: any((folder / charts.FOLDER).iterdir()))
        lab.send_signal(signal.SIGKILL)
        lab.wait()
    wait_until(lambda: not alive([helper]), 30)
