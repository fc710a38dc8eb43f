"""A lecture's parts: every experiment with a door, and how long each takes."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from lab.cli import doors
from lab.experiments.lecture import experiment as lecture
from lab.experiments.lecture.display import Estimate, in_words

ROOT = Path(__file__).resolve().parents[2]


class TestDoors:
    """A lecture knows every experiment."""

    def test_every_door_that_is_an_experiment_is_part_of_a_lecture(self):
        """A new experiment that nobody put into the lecture is seen here."""
        others = {"lecture", "load"}  # a load of one's own answers no question of the textbook
        rooms = {door: f"lab.experiments.{door.replace('-', '_')}" for door in doors.cli.commands if door not in others}
        experiments = {door: f"{room}.experiment" for door, room in rooms.items() if importlib.util.find_spec(room)}
        assert len(experiments) > 1
        assert experiments.items() <= lecture.EXPERIMENTS.items()
        assert set(lecture.EXPERIMENTS) == set(lecture.SECONDS)
        assert all(set(seconds) == {"quick", "default"} for seconds in lecture.SECONDS.values())

    def test_failover_comes_after_the_comparison_that_it_reads(self):
        """Otherwise two claims would lack their other half."""
        order = list(lecture.EXPERIMENTS)
        assert order.index("compare") < order.index("failover")

    def test_every_part_is_asked_what_its_door_asks_by_default(self):
        """Defaults stand in one place, the door; size and seed are the lecture's."""
        for door in (door for door in lecture.EXPERIMENTS if door in doors.cli.commands):
            asked = doors._asked(door, ["--quick", "--seed=7"])
            assert (asked.size, asked.seed) == ("quick", 7)
            assert asked.command == f"python -m lab {door} --quick --seed=7"
        assert doors._asked("compare", []).servers == 4

    def test_make_passes_the_options_on(self):
        """FRESH is a make variable like the others."""
        stand_ins = ["PYTHON=true", "LAB=printf '<%s>\\n'"]
        command = ["make", "--no-print-directory", "lecture", "QUICK=1", "FRESH=1", "SEED=3", *stand_ins]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["<lecture>", "<--seed=3>", "<--quick>", "<--fresh>"]


class TestEstimate:
    """Roughly how long it still takes."""

    def test_it_begins_with_what_is_usual_and_counts_down(self):
        """Before any part has ended, nothing is known of this machine."""
        now = [0.0]
        estimate = Estimate({"compare": 60, "failover": 40}, lambda: now[0])
        assert estimate.seconds_left() == 100
        estimate.begin("compare")
        now[0] = 20
        assert estimate.seconds_left() == 80
        now[0] = 500
        assert estimate.seconds_left() == 40

    def test_a_slow_machine_is_taken_to_be_slow_in_the_rest(self):
        """A part that took twice as long doubles the others; one that failed says nothing."""
        now = [0.0]
        estimate = Estimate({"compare": 60, "failover": 40, "cache": 10}, lambda: now[0])
        estimate.begin("compare")
        now[0] = 120
        assert estimate.end(whole=True) == 120
        assert estimate.seconds_left() == 100
        estimate.begin("failover")
        now[0] = 121
        estimate.end(whole=False)
        assert estimate.seconds_left() == 20

    @pytest.mark.parametrize(
        ("seconds", "words"), [(0, "about 5 s left"), (42, "about 40 s left"), (100, "about 2 min left")]
    )
    def test_it_is_said_roughly(self, seconds, words):
        """An estimate to the second would promise too much."""
        assert in_words(seconds) == words


class TestPage:
    """What docs/lecture.md says of time is what the display reckons with."""

    @pytest.mark.parametrize(("size", "row"), [("quick", "`QUICK=1`"), ("default", "default")])
    def test_the_table_of_seconds(self, size, row):
        """`SECONDS` is where figures are kept; the page has them in the lecture's order, and their sum."""
        seconds = [lecture.SECONDS[name][size] for name in lecture.EXPERIMENTS]
        cells = [row, *map(str, seconds), f"{sum(seconds) / 60:.0f} min"]
        assert f"| {' | '.join(cells)} |" in (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8").splitlines()
