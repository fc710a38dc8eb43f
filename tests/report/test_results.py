"""Reading and writing a run's files: whole or not at all, and one clear line when there is nothing to read."""

from __future__ import annotations

import dataclasses
import math

import made_up_run
import numpy as np
import pytest

from lab import samples, statistics
from lab.report import ReportError, draw, results


def test_a_folder_without_results_says_what_to_give(tmp_path):
    """An empty folder, a missing one and a file give one line that names results.json."""
    file = tmp_path / "file"
    file.touch()
    for place in (tmp_path, tmp_path / "nowhere", file):
        with pytest.raises(ReportError, match=r"holds no results\.json") as error:
            draw(place)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"schema": 1}', b"\xff\xfe"])
def test_damaged_results_are_one_clear_line(tmp_path, content):
    """Truncated, foreign or binary content is refused, never drawn."""
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ReportError, match=r"results\.json") as error:
        results.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("twist", [{"strategies": {"redis": 5}}, {"strategies": []}, {"arms": 5}, {"claims": [5]}])
def test_what_only_looks_like_results_is_refused(made_up, tmp_path, twist):
    """A file that somebody has changed by hand gets one clear line, not a chart's error."""
    results.write(tmp_path, {**results.load(made_up("quick")).results, **twist})
    with pytest.raises(results.ReportError, match=r"is not the results of a run \(Expected"):
        results.load(tmp_path)


def test_another_schema_is_refused(made_up, tmp_path):
    """Results of another lab's making are not guessed at."""
    other = {**results.load(made_up("quick")).results, "schema": 2}
    results.write(tmp_path, other)
    with pytest.raises(ReportError, match="schema 2"):
        results.load(tmp_path)


def test_results_come_back_as_they_were_written(made_up, tmp_path):
    """Writing and reading changes nothing, and leaves no other file behind."""
    found = results.load(made_up("quick")).results
    results.write(tmp_path, found)
    assert results.load(tmp_path).results == found
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_what_is_not_a_number_is_null(made_up, tmp_path):
    """JSON has no NaN: what could not be computed is null, which readers expect."""
    found = {**results.load(made_up("quick")).results, "odd": math.nan}
    results.write(tmp_path, found)
    assert results.load(tmp_path).results["odd"] is None


def test_a_failed_write_leaves_the_old_results(made_up, tmp_path):
    """What cannot be encoded does not harm what stands there."""
    found = results.load(made_up("quick")).results
    results.write(tmp_path, found)
    with pytest.raises(TypeError):
        results.write(tmp_path, {**found, "odd": object()})
    assert results.load(tmp_path).results == found


def test_samples_come_back_as_they_were_written(tmp_path):
    """Every column survives, with its names."""
    columns = made_up_run.make_samples({"sticky": 1.0, "redis": 1.2}, blocks=2, seed=1)
    samples.save(columns, tmp_path)
    again = samples.load(tmp_path)
    assert list(again.arms) == ["sticky", "redis"]
    assert np.array_equal(again.latency_ms, columns.latency_ms)
    assert np.array_equal(again.lateness_ms, columns.lateness_ms, equal_nan=True)


def test_damaged_samples_are_one_clear_line(tmp_path):
    """A truncated archive is refused."""
    columns = made_up_run.make_samples({"sticky": 1.0}, blocks=2, seed=1)
    path = samples.save(columns, tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(samples.SamplesError, match=r"samples\.npz is damaged"):
        samples.load(tmp_path)


def test_rows_leave_out_failures_and_tell_slices_apart():
    """A failed request has no latency worth comparing, and the repeated slice is not the arm's own."""
    columns = made_up_run.make_samples({"sticky": 1.0}, blocks=2, seed=1, requests=10)
    columns.failed[0] = True
    assert columns.rows("sticky", twin=None).sum() == 39
    assert columns.rows("sticky").sum() + columns.rows("sticky", twin=True).sum() == 39
    assert columns.rows("nobody").sum() == 0


def test_the_pace_of_the_machine_is_taken_out_of_ratios():
    """Requests that a slow moment made slow compare as they would have otherwise; the plain ratio stands beside."""
    _, columns, _ = made_up_run.build(blocks=60)
    calm = dataclasses.replace(
        columns, latency_ms=columns.latency_ms / columns.slowness, slowness=np.ones_like(columns.slowness)
    )
    found = statistics.latency(columns, "redis").latency_ratio["p50"]
    expected = statistics.latency(calm, "redis").latency_ratio["p50"]
    assert found["estimate"] == pytest.approx(expected["estimate"])
    assert expected["uncorrected"]["estimate"] == expected["estimate"]
    assert found["uncorrected"]["high"] - found["uncorrected"]["low"] > 1.5 * (found["high"] - found["low"])
