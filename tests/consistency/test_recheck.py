"""`python -m lab check RUN`: verdicts and witnesses of a saved run, and an exit status."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console
from stories import Story

from lab.consistency.checks import RULES, check
from lab.consistency.command import recheck
from lab.consistency.history import HistoryError, write_history
from lab.consistency.scenarios import SCENARIOS


@pytest.fixture(autouse=True)
def _content(monkeypatch):
    """The scenario is content with few opportunities."""
    monkeypatch.setitem(SCENARIOS, "shopping", dict.fromkeys(SCENARIOS["shopping"], 1))


@pytest.fixture
def run(tmp_path):
    """Give a function that saves stories as a run, checks it again, and returns exit status and output."""

    def save_and_check(*stories, results=None, **options):
        operations = [op for story in stories for op in story.operations]
        for i, op in enumerate(operations):
            op.i = i
        write_history(tmp_path / "history.jsonl", operations)
        (tmp_path / "results.json").write_bytes(msgspec.json.encode(results))
        output = io.StringIO()
        status = recheck(tmp_path, Console(file=output, width=100), **options)
        return status, output.getvalue()

    return save_and_check


def good(strategy="sticky"):
    """A run in which nothing is wrong."""
    story = Story("shopping", strategy=strategy).add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b")
    return story.view(4, 5, "a b").final("a b", "a b")


def bad():
    """A run with one stale view."""
    return Story("shopping", strategy="redis").add("a", 0, 1, cart="a").view(2, 3, "", server=2).final("a", "a")


def test_good_run_exits_with_0(run):
    """Every check is ok."""
    status, output = run(good())

    assert status == 0
    assert "sticky · shopping · 5 requests: ok" in output
    assert "rate < 1 (3/n, n = 1 shoppers)" in output


def test_broken_promise_exits_with_1_and_tells_the_witness(run):
    """One bad arm is enough; the others are still told."""
    status, output = run(good(), bad())

    assert status == 1
    assert "redis · shopping · 4 requests: violated" in output
    assert "however the view on web-2, by the same tab, does not show it." in output
    assert "sticky · shopping · 5 requests: ok" in output


def test_too_little_exits_with_2(run):
    """Nothing was seen, so nothing is known."""
    status, output = run(Story("shopping").final(""))

    assert status == 2
    assert "0 opportunities, 1 needed" in output


def test_history_without_a_request_exits_with_2(run):
    """Unknown is not ok."""
    assert run()[0] == 2


def test_saved_witnesses_alone_are_violated_again(run):
    """Wherever in the results they stand."""
    witnesses = check(bad().operations, "shopping")["witnesses"]
    results = {"strategies": {"redis": {"consistency": {"witnesses": witnesses}}}, "arms": {}}
    status, output = run(good(), results=results, witnesses_only=True)

    assert status == 1
    assert output.count(": violated") == len(witnesses) + 1
    assert "strategies redis consistency read_your_writes: violated" in output


def test_run_without_witnesses_says_so_and_exits_with_2(run):
    """Nothing to check again is not a pass."""
    status, output = run(good(), results={"strategies": {}}, witnesses_only=True)

    assert status == 2
    assert "no witness is saved in this run" in output


@pytest.mark.parametrize("options", [{}, {"witnesses_only": True}])
def test_folder_that_is_no_run_is_one_clear_line(tmp_path, options):
    """The text names the file that is missing."""
    with pytest.raises(HistoryError, match=str(tmp_path)):
        recheck(tmp_path, Console(file=io.StringIO()), **options)


def test_results_that_are_no_json_are_one_clear_line(tmp_path):
    """The text names the file."""
    (tmp_path / "results.json").write_text("hello")

    with pytest.raises(HistoryError, match=r"results\.json: not a results file"):
        recheck(tmp_path, Console(file=io.StringIO()), witnesses_only=True)


def lecture(folder, **runs):
    """Write a lecture: experiment to the operations of its run's history, None for a run without one."""
    parts = [{"experiment": name, "run": f"{name}-1"} for name in runs] + [{"experiment": "cache", "run": None}]
    (folder / "results.json").write_bytes(msgspec.json.encode({"lecture": {"parts": parts}}))
    for name, story in runs.items():
        (folder / f"{name}-1").mkdir()
        done = msgspec.json.encode({"complete": True, "experiment": name})
        (folder / f"{name}-1" / "results.json").write_bytes(done)
        if story:
            write_history(folder / f"{name}-1" / "history.jsonl", story.operations)


@pytest.mark.parametrize(("second", "status"), [(good(), 0), (bad(), 1)])
def test_a_lecture_is_checked_run_by_run(tmp_path, second, status):
    """The worst of all runs counts; those without a history are named, and so is what was not carried out."""
    lecture(tmp_path, compare=good(), scale=None, hotspot=second)
    output = io.StringIO()
    assert recheck(tmp_path, Console(file=output, width=100)) == status
    text = output.getvalue()
    assert "=== compare (compare-1)" in text
    assert "=== hotspot (hotspot-1)" in text
    assert "scale: keeps no history" in text
    assert "cache: not carried out yet" in text


def test_a_lecture_without_any_history_is_one_clear_line(tmp_path):
    """Nothing to check is no pass."""
    lecture(tmp_path, scale=None)
    with pytest.raises(HistoryError, match="none of this lecture's runs has a history"):
        recheck(tmp_path, Console(file=io.StringIO()))


def test_a_run_that_keeps_no_history_says_which_ones_do(tmp_path):
    """Not that it was interrupted: it is complete."""
    lecture(tmp_path, scale=None)
    with pytest.raises(HistoryError, match=r"a scale run keeps no history: .* compare, failover and hotspot do"):
        recheck(tmp_path / "scale-1", Console(file=io.StringIO()))


def test_every_verdict_line_names_its_check(run):
    """One line for each check that the scenario exercises."""
    output = run(good())[1]

    assert [name for name in RULES if f"  {name}" in output] == [
        n for n in RULES if n in SCENARIOS["shopping"] and n != "divergence"
    ]
