"""A lecture: real and tiny, interrupted and continued; and all that can go wrong with a part, with made-up parts."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from lab.errors import LabError
from lab.experiments.lecture import experiment as lecture
from lab.experiments.lecture.folder import held
from lab.measuring.facts import Asked, Facts, judged, outline
from lab.measuring.runs import carry_out
from lab.report import charts, draw
from lab.report.lecture_page import render
from lab.report.results import load
from tests.processes import alive

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny_lecture.py")
PATIENCE_SECONDS = 240.0


class Delivered:
    """A tiny lecture in a process of its own: interrupted in its second part, then continued by another process.

    Attributes:
        out: the folder of runs.
        status: exit statuses of the first and the second process.
        told: what each printed.
        errors: what each printed on stderr.
        after_ctrl_c: the lecture's results between the two.
        page_after_ctrl_c: its page then.
        latest_after_ctrl_c: whether `latest` pointed anywhere then.
    """

    def __init__(self, out):
        self.out = out
        self._processes = []
        try:
            self._deliver()
        finally:
            for process in self._processes:
                process.kill()  # where all went well it has ended

    def _deliver(self):
        first = self._start()
        wait_until(lambda: "kill -9 one server" in self.log("failover") and children(first), first)
        working = children(first)
        os.killpg(first.pid, signal.SIGINT)
        told = first.communicate(timeout=PATIENCE_SECONDS)
        wait_until(lambda: not alive(child.pid for child in working))
        self.page_after_ctrl_c = (self.folder / "report.html").read_text(encoding="utf-8")
        self.after_ctrl_c = json.loads((self.folder / "results.json").read_text())
        self.latest_after_ctrl_c = (self.out / "latest").exists()
        second = self._start()
        told_again = second.communicate(timeout=PATIENCE_SECONDS)
        self.status = (first.returncode, second.returncode)
        self.told, self.errors = zip(told, told_again, strict=True)

    @property
    def folder(self):
        """The only lecture."""
        (folder,) = self.out.glob("lecture-*")
        return folder

    def log(self, experiment):
        """Return what the runs of an experiment have logged."""
        return "".join(path.read_text() for path in self.out.glob(f"lecture-*/{experiment}-*/lab.log"))

    def _start(self):
        process = subprocess.Popen(
            [sys.executable, str(TINY), str(self.out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as a terminal does: Ctrl-C reaches the whole group
        )
        self._processes.append(process)
        return process


def children(process):
    """Return all that works for a process."""
    return psutil.Process(process.pid).children(recursive=True)


def wait_until(condition, process=None):
    """Wait for a condition, not for a time; not for one that a process is to bring about which has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """One tiny lecture, interrupted and continued."""
    return Delivered(tmp_path_factory.mktemp("results"))


@pytest.mark.timeout(300)
class TestRealLecture:
    """Two tiny experiments with real engines, Ctrl-C in the second."""

    def test_ctrl_c_keeps_what_is_complete_and_says_how_to_go_on(self, delivered):
        """Status 130, one line of error; the first experiment stays, the page has it, and `latest` does not move."""
        assert delivered.status[0] == 130
        assert delivered.errors[0].strip() == "lab: interrupted; everything that was started has been stopped."
        assert "1 of 2 experiments are complete" in delivered.told[0]
        parts = {part["experiment"]: part for part in delivered.after_ctrl_c["lecture"]["parts"]}
        assert parts["redis-speed"]["state"] == "complete"
        assert parts["failover"]["state"] == "interrupted"
        assert delivered.after_ctrl_c["complete"] is False
        assert not delivered.latest_after_ctrl_c
        assert "This lecture is not complete" in delivered.page_after_ctrl_c
        assert '<img src="data:image/svg+xml' in delivered.page_after_ctrl_c

    def test_the_same_command_repeats_only_what_was_interrupted(self, delivered):
        """One run of the first, two failovers of which one is complete; it says that it continues."""
        assert delivered.status[1] == 0, delivered.errors[1]
        assert f"continuing {delivered.folder}" in delivered.told[1].replace("\n", "")
        assert re.search(r"1 of 2 +redis-speed +complete already", delivered.told[1])
        assert re.search(r"2 of 2 +failover +\d+ s", delivered.told[1])
        assert len(list(delivered.folder.glob("redis-speed-*"))) == 1
        failovers = [load(folder).results["complete"] for folder in sorted(delivered.folder.glob("failover-*"))]
        assert failovers == [False, True]

    def test_a_complete_lecture_is_the_latest_run(self, delivered):
        """Its parts move no link of their own."""
        assert (delivered.out / "latest").resolve() == delivered.folder.resolve()
        assert not (delivered.folder / "latest").exists()
        assert json.loads((delivered.folder / "results.json").read_text())["complete"] is True

    def test_one_display_and_one_table(self, delivered):
        """The terminal shows the claims and the page's path, not every experiment's own tables."""
        told = delivered.told[1]
        assert "What the textbook says" in told
        assert f"report: {delivered.folder / 'report.html'}" in told
        assert "run folder:" not in told
        assert "times sticky" not in told
        assert told.count("report:") == 1

    def test_claims_come_from_the_run_that_judged_them(self, delivered):
        """Each claim once, with the experiment and the folder that it was judged in."""
        found = json.loads((delivered.folder / "results.json").read_text())
        claims = {claim["id"]: claim for claim in found["claims"]}
        assert claims["sticky-loses"]["judged_by"] == "failover"
        assert claims["redis-under-1ms"]["judged_by"] == "redis-speed"
        assert (delivered.folder / claims["sticky-loses"]["run"] / "results.json").exists()
        assert claims["dwell-useful"]["verdict"] == "not tested"
        assert "`insights` is to test it" in claims["dwell-useful"]["evidence"]

    def test_the_page_has_every_part_with_its_charts_and_links_that_lead_somewhere(self, delivered):
        """A section per experiment, ids that are there once, and relative links to files that exist."""
        text = (delivered.folder / "report.html").read_text(encoding="utf-8")
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        assert {"redis-speed", "failover", "failover-kill-server", "claims", "words"} <= set(ids)
        assert text.count("<figure ") == 4
        for target in re.findall(r'href="([^"]+)"', text):
            path, _, anchor = target.partition("#")
            assert (delivered.folder / path).exists() if path else anchor in ids, target
        assert not re.search(r"\b(None|nan|undefined)\b", text)

    def test_redrawing_needs_the_files_only(self, delivered, monkeypatch):
        """`make report` draws every part and the page again: what was painted over comes back."""
        for name in ("redis-speed", "failover"):
            monkeypatch.setitem(charts.CHARTS, name, dict(list(charts.CHARTS[name].items())[:1]))
        picture = next(delivered.folder.glob(f"redis-speed-*/charts/{next(iter(charts.CHARTS['redis-speed']))}.svg"))
        before = picture.read_bytes()
        picture.write_bytes(b"<svg/>")
        (delivered.folder / "report.html").unlink()
        assert draw(delivered.folder) == (delivered.folder / "report.html").resolve()
        assert picture.read_bytes() == before


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Return a lecture of three made-up experiments."""
    return Stage(tmp_path, monkeypatch)


class Stage:
    """Carries out lectures of made-up experiments, which do what they are told.

    Attributes:
        out: the folder of runs.
        does: experiment to what it raises instead of leaving a run.
        called: the experiments that were carried out, in order.
    """

    NAMES = ("compare", "failover", "hotspot")

    def __init__(self, out, monkeypatch):
        self.out, self.does, self.called = out, {}, []
        for name in self.NAMES:
            monkeypatch.setitem(sys.modules, f"made_up_{name}", SimpleNamespace(run=self._experiment(name)))
        monkeypatch.setattr(lecture, "EXPERIMENTS", {name: f"made_up_{name}" for name in self.NAMES})

    def _experiment(self, name):
        def run(chosen, console):
            def measure(folder, steps):
                steps.begin(f"{name} does something")
                if name in self.does:
                    raise self.does[name]
                return judged(outline(name, folder, chosen, Facts(seconds=1.0)))

            console.print("a part prints nothing")
            self.called.append(name)
            carry_out(name, chosen.out, console, measure)

        return run

    def settings(self, *, fresh=False, **changes):
        """Return what a user asks for."""
        asked = {"size": "quick", "seed": 1, "out": self.out, **changes}
        parts = {name: Asked(command=f"python -m lab {name}", **asked) for name in self.NAMES}
        return lecture.settings(parts=parts, fresh=fresh, command="python -m lab lecture", **asked)

    def deliver(self, **asked):
        """Carry a lecture out and return what is printed, and the error if there is one."""
        self.called.clear()
        console = Console(file=io.StringIO(), width=200, color_system=None)
        try:
            lecture.run(self.settings(**asked), console)
        except (LabError, KeyboardInterrupt) as error:
            return console.file.getvalue(), error
        return console.file.getvalue(), None

    def lectures(self):
        """Return the lectures' folders, in the order of their making."""
        return sorted(self.out.glob("lecture-*"), key=lambda path: path.stat().st_ctime_ns)

    def part(self, name, of=-1):
        """Return what a lecture's results say of a part."""
        return next(part for part in load(self.lectures()[of]).get("lecture", "parts") if part["experiment"] == name)


class TestParts:
    """What a part does is the part's alone."""

    def test_all_parts_run_in_order_into_one_folder(self, stage):
        """Each leaves a whole run; the parts print nothing, and `latest` is the lecture."""
        told, error = stage.deliver()
        assert error is None
        assert stage.called == list(stage.NAMES)
        (folder,) = stage.lectures()
        assert all((folder / stage.part(name)["run"] / "results.json").exists() for name in stage.NAMES)
        assert "a part prints nothing" not in told
        assert (stage.out / "latest").resolve() == folder.resolve()
        assert [path.name for path in folder.glob("latest")] == []

    @pytest.mark.parametrize(
        ("raised", "line"),
        [
            (LabError("no Redis\nto be found"), "no Redis to be found"),
            (ZeroDivisionError("division <b>by</b> zero"), "ZeroDivisionError: division <b>by</b> zero"),
        ],
    )
    def test_a_part_that_fails_is_named_and_the_others_go_on(self, stage, raised, line):
        """Its error stands in a line on the terminal and on the page; the lecture ends with an error, unfinished."""
        stage.does["failover"] = raised
        told, error = stage.deliver()
        assert stage.called == list(stage.NAMES)
        assert f"failed: {line}" in told
        assert str(error) == "1 of 3 experiments failed (failover); the same command repeats them."
        assert stage.part("failover")["reason"] == line
        assert stage.part("hotspot")["state"] == "complete"
        page = (stage.lectures()[0] / "report.html").read_text(encoding="utf-8")
        assert "This experiment failed." in page
        assert line.replace("<", "&lt;").replace(">", "&gt;") in page
        assert "`failover` is to test it, and failed" not in told
        assert not (stage.out / "latest").exists()

    def test_a_part_that_failed_is_repeated_alone(self, stage):
        """And then the lecture is complete."""
        stage.does["failover"] = LabError("no luck")
        stage.deliver()
        stage.does.clear()
        told, error = stage.deliver()
        assert error is None
        assert "continuing" in told
        assert stage.called == ["failover"]
        assert load(stage.lectures()[0]).results["complete"]
        assert (stage.out / "latest").resolve() == stage.lectures()[0].resolve()

    def test_claims_of_a_part_that_failed_say_so(self, stage):
        """Not tested, and why."""
        stage.does["hotspot"] = LabError("no luck.")
        stage.deliver()
        claims = {claim["id"]: claim for claim in load(stage.lectures()[0]).results["claims"]}
        assert claims["sticky-hotspot"]["verdict"] == "not tested"
        assert claims["sticky-hotspot"]["evidence"] == "`hotspot` is to test it, and failed: no luck."

    def test_a_part_that_leaves_no_run_has_failed(self, stage, monkeypatch):
        """Nothing is called complete that is not there."""
        monkeypatch.setitem(sys.modules, "made_up_hotspot", SimpleNamespace(run=lambda *_: None))
        _, error = stage.deliver()
        assert isinstance(error, LabError)
        assert stage.part("hotspot")["state"] == "failed"

    def test_ctrl_c_ends_the_lecture(self, stage):
        """It is no failure of a part: nothing goes on, and the rest is still to come."""
        stage.does["failover"] = KeyboardInterrupt()
        told, error = stage.deliver()
        assert isinstance(error, KeyboardInterrupt)
        assert stage.called == ["compare", "failover"]
        assert "1 of 3 experiments are complete" in told
        assert [stage.part(name)["state"] for name in stage.NAMES] == ["complete", "interrupted", "to come"]

    def test_what_a_killed_lab_left_is_continued(self, stage):
        """The runs' own files say what is complete, whatever the lecture's last words were."""
        stage.deliver()
        folder = stage.lectures()[0]
        killed = load(folder).results | {"complete": False}
        for part in killed["lecture"]["parts"]:
            part.update(state="interrupted", run=None)
        (folder / "results.json").write_text(json.dumps(killed))
        unfinished = load(
            folder / stage.part("hotspot")["run"] if stage.part("hotspot")["run"] else next(folder.glob("hotspot-*"))
        )
        (unfinished.folder / "results.json").write_text(json.dumps(unfinished.results | {"complete": False}))
        _, error = stage.deliver()
        assert error is None
        assert stage.called == ["hotspot"]


class TestFolder:
    """Which lecture is continued, and which is not."""

    @pytest.mark.parametrize(
        ("changes", "says"), [({"seed": 2}, "seed 1, now 2"), ({"size": "default"}, "size quick, now default")]
    )
    def test_a_lecture_asked_otherwise_begins_anew_and_says_why(self, stage, changes, says):
        """Numbers of two plans do not make one lecture."""
        stage.does["hotspot"] = LabError("no luck")
        stage.deliver()
        told, _ = stage.deliver(**changes)
        assert says in told
        assert stage.called == list(stage.NAMES)
        assert len(stage.lectures()) == 2

    def test_another_machine_begins_anew(self, stage):
        """Nor do numbers of two machines."""
        stage.does["hotspot"] = LabError("no luck")
        stage.deliver()
        path = stage.lectures()[0] / "results.json"
        found = json.loads(path.read_text())
        found["run"]["machine"]["cpus"] += 1
        path.write_text(json.dumps(found))
        told, _ = stage.deliver()
        assert "on another machine" in told
        assert len(stage.lectures()) == 2

    def test_fresh_begins_anew(self, stage):
        """Also where an unfinished lecture could be continued."""
        stage.does["hotspot"] = LabError("no luck")
        stage.deliver()
        stage.deliver(fresh=True)
        assert stage.called == list(stage.NAMES)
        assert len(stage.lectures()) == 2

    def test_a_complete_lecture_is_not_continued(self, stage):
        """The same command after it is a new lecture."""
        stage.deliver()
        told, _ = stage.deliver()
        assert "continuing" not in told
        assert len(stage.lectures()) == 2

    def test_a_damaged_lecture_is_left_alone(self, stage):
        """What cannot be read is not continued."""
        folder = stage.out / "lecture-20260101T000000Z"
        folder.mkdir()
        (folder / "results.json").write_text("{")
        _, error = stage.deliver()
        assert error is None
        assert len(stage.lectures()) == 2

    def test_two_labs_do_not_carry_out_one_lecture(self, tmp_path):
        """The second is told in one line; when the first has gone, however it went, it may."""
        asks = (
            "import pathlib, sys; from lab.experiments.lecture.folder import held\n"
            "with held(pathlib.Path(sys.argv[1])): print('mine')"
        )
        command = [sys.executable, "-c", asks, str(tmp_path)]
        with held(tmp_path):
            other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "another lab is carrying out" in other.stderr
        assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "mine\n"


def test_a_page_without_any_part_says_what_is_to_come(stage):
    """What a lab that was killed at once left can be looked at."""
    stage.does["compare"] = KeyboardInterrupt()
    stage.deliver()
    text = render(load(stage.lectures()[0]))
    assert text.count("has not been carried out yet") >= 2
    assert "This experiment was begun, and has not finished." in text
    assert not re.search(r"\b(None|nan|undefined)\b", text)
