"""A saturation run, small but real: two strategies up a short ladder, and a server that stands still."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab import samples
from lab.cli import main
from lab.errors import LabError
from lab.experiments.saturation import experiment as saturation
from lab.measuring import capacity
from lab.report import draw

TINY = saturation.Size(
    search=capacity.Search(start_rps=60, factor=2, slice_seconds=0.4, passes=1, steps=1, most_rps=130),
    shoppers=12,
    freeze_seconds=2,
    freezes=1,
)


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny run of two strategies on two servers each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(saturation.SIZES, "quick", TINY)
        patch.setattr(capacity, "LEAST_REQUESTS", 20)
        return carry_out("saturation", "--quick", "--servers", "2", "--strategies", "isolated sticky redis")


def test_the_folder_has_every_file(run):
    """Results, samples, charts in both forms, the page, the log and the engines' logs."""
    for name in ("results.json", "samples.npz", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    found = {path.stem for path in (run / "charts").glob("*.svg")}
    assert found == {"latency-by-load", "capacity", "cpu-by-load", "closed-loop"}
    assert found == {path.stem for path in (run / "charts").glob("*.png")}
    assert list((run / "engines").glob("*.log"))


def test_every_strategy_but_the_control_was_offered_every_level_until_it_was_past_its_knee(results):
    """`isolated` serves empty carts; the others get the same loads, and every request that fell due was sent."""
    assert set(results["strategies"]) == set(results["saturation"]["arms"]) == {"sticky", "redis"}
    for name, one in results["saturation"]["arms"].items():
        points = one["points"]
        assert points[0]["load_rps"] == 60
        assert all(point["requests"] > 5 for point in points)
        assert one["capacity"]["bound"] in {"between", "at least", "at most"}
        assert results["strategies"][name]["requests"]["sent"] == sum(point["requests"] for point in points)


def test_the_cpu_time_of_every_component_was_counted(results):
    """Web servers, engines, balancer and the load generator itself; the shares add up to all CPU time."""
    for one in results["saturation"]["arms"].values():
        for point in one["points"]:
            assert all(point["cpu_ms"][name] > 0 for name in capacity.COMPONENTS)
        assert sum(one["busy"].values()) > 0.99
        assert one["bounds_rps"]["machine"] < one["bounds_alone_rps"]["machine"]


def test_both_clients_saw_the_freeze_and_only_the_closed_loop_left_requests_out(results, run):
    """The schedule sends all that fell due meanwhile, and counts its wait; the closed loop never sends it."""
    told = results["saturation"]["freeze"]["clients"]
    assert told["schedule"]["omitted"] == 0
    assert told["closed loop"]["omitted"] > 0
    assert told["schedule"]["requests"] == told["closed loop"]["requests"] + told["closed loop"]["omitted"]
    assert told["schedule"]["slow"] > told["closed loop"]["slow"] > 0
    assert min(one["latency_ms"]["max"] or math.inf for one in told.values()) > 400  # null: one was never answered
    columns = samples.load(run)
    for name, one in told.items():
        assert np.count_nonzero(columns.rows(name)) == one["requests"] - one["failed"]


def test_the_samples_hold_every_request_of_the_search(results, run):
    """What is drawn comes from the run's files alone; each slice is a block of its own."""
    columns = samples.load(run)
    for name, one in results["saturation"]["arms"].items():
        rows = columns.arms[columns.arm] == name
        counted = {point["block"]: point["requests"] for point in one["points"]}
        assert {int(block): int(np.count_nonzero(rows & (columns.block == block))) for block in counted} == counted


def test_the_report_is_drawn_again_from_the_files(run):
    """Redrawn pictures are the same bytes."""
    before = (run / "charts" / "capacity.svg").read_bytes()
    draw(run)
    assert (run / "charts" / "capacity.svg").read_bytes() == before


def test_the_control_alone_is_refused(tmp_path):
    """One clear line."""
    with pytest.raises(LabError, match="isolated alone has no capacity"):
        saturation.settings(strategies=("isolated",), size="quick", servers=2, seed=1, out=tmp_path, command="")
    assert main(["saturation", "--quick", "--strategies", "isolated", "--out", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())
