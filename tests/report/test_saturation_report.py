"""The report of a saturation run: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import itertools
import re

import made_up_saturation
import matplotlib as mpl
import pytest
from reading import shown

from lab.report import charts, page, results, saturation
from lab.report.charts import saturation as drawn

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "quick": {"how": "quick"},
    "ends before the knee": {"how": "short"},
    "one strategy": {"strategies": ("redis",), "how": "quick"},
    "requests fail, nothing frozen": {
        "failing": True,
        "frozen": False,
        "how": "quick",
        "strategies": ("sticky", "all-to-all", "redis"),
        "uncounted": ("LAB_REDIS_URL",),
    },
}
NAMES = tuple(charts.CHARTS["saturation"])


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("saturation", made_up_saturation.write, VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    captions = [caption for caption in told.captions(variant).values() if caption]
    assert len(captions) >= 3
    for caption in captions:
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption))
    tables = saturation.tables(run)
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    text = page.render(run, []) + shown(run)
    assert not re.search(r"\b(None|nan|inf|undefined)\b", text)
    assert "<saturation>" not in text


@pytest.mark.parametrize("variant", ["usual", "quick"])
def test_no_writing_lies_on_other_writing(told, variant):
    """Titles, subtitles, notes, panel titles, legends and tick labels keep apart, and within the picture."""
    for name, figure in told.figures(variant).items():
        renderer = figure.canvas.get_renderer()
        parts = [text for text in figure.texts if text.get_text()]
        parts += [axes.title for axes in figure.axes if axes.title.get_text()]
        parts += [axes._left_title for axes in figure.axes if axes._left_title.get_text().strip()]
        parts += [legend for axes in figure.axes if (legend := axes.get_legend())]
        parts += [axes.xaxis.label for axes in figure.axes if axes.xaxis.label.get_text()]
        boxes = [(part, tight(part, renderer)) for part in parts]
        for i, (one, box) in enumerate(boxes):
            assert box.x0 >= 0 <= box.y0, (name, one)
            assert box.x1 <= figure.bbox.x1, (name, one)
            assert box.y1 <= figure.bbox.y1, (name, one)
            for other, there in boxes[i + 1 :]:
                assert not (box.x0 < there.x1 and there.x0 < box.x1 and box.y0 < there.y1 and there.y0 < box.y1), (
                    name, one, other,
                )  # fmt: skip
        for axes in figure.axes:
            labels = [label.get_window_extent(renderer) for label in axes.get_xticklabels() if label.get_text()]
            labels.sort(key=lambda box: box.x0)
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(labels)), name


def tight(part, renderer):
    """Return where a part stands; of a panel's title only its last line, since the first keeps room for the legend."""
    box = part.get_window_extent(renderer)
    text = part.get_text() if hasattr(part, "get_text") else ""
    if text.startswith("\n"):
        return mpl.transforms.Bbox.from_extents(box.x0, box.y0, box.x1, (box.y0 + box.y1) / 2)
    return box


class TestTitles:
    """Titles say what this run's data say, the expected and the opposite."""

    def test_who_carries_most(self, told):
        """From the one that carries most to the one that carries least; or the other way round."""
        usual, opposite = (told.caption(variant, "latency-by-load").title for variant in ("usual", "opposite"))
        order = ["sticky", "redis", "database", "all-to-all"]
        assert sorted(order, key=usual.index) == order
        assert usual.startswith("Requests/s before one in twenty waits 50 ms: ")
        assert opposite.index("redis") < opposite.index("sticky") < opposite.index("database")
        assert "at least" in told.caption("ends before the knee", "latency-by-load").title

    def test_capacity(self, told):
        """How many times as much; with brackets that overlap, about the same; who uses the CPUs."""
        usual = told.caption("usual", "capacity").title
        assert usual.startswith("Sticky carries 2.")
        assert re.search(r" times the load of all-to-all; at capacity \d+ % of the CPU time is used", usual)
        assert usual.endswith("most by the web servers")
        assert told.caption("opposite", "capacity").title.startswith("Redis carries 2.")
        assert re.match(r"Redis carries \d+ requests/s; at capacity", told.caption("one strategy", "capacity").title)

        def carried(low, high):
            found = {"bound": "between", "estimate": (low + high) / 2, "low": low, "high": high}
            return {"capacity": found, "busy": {}}

        alike = {"sticky": carried(500, 700), "redis": carried(400, 520)}
        assert drawn.capacity_title(alike) == "All strategies carry about the same load"
        apart = {"sticky": carried(600, 700), "redis": carried(400, 520)}
        assert drawn.capacity_title(apart) == "Sticky carries 1.4 times the load of redis"
        bracket = {"bound": "between", "estimate": 800, "low": None, "kept_rps": 780, "missed_rps": 820}
        once = {"sticky": {"capacity": bracket, "busy": {}}, "redis": carried(400, 400)}
        assert drawn.capacity_title(once) == "In a single pass sticky carries 2.0 times the load of redis"

        unended = {name: {"capacity": {"bound": "at least", "estimate": 900}, "busy": {}} for name in ("a", "b")}
        assert drawn.capacity_title(unended) == (
            "Every strategy carries at least 900 requests/s: where it would end was not reached"
        )
        assert drawn.capacity_title({"a": unended["a"]}).startswith("A carries at least 900 requests/s")

    def test_a_crowded_machine_compares_nothing(self):
        """Where other programs took more than a quarter of the CPU time, the title says so, and no more."""
        capacity = {"bound": "between", "estimate": 500, "low": 480, "high": 520}
        shares = {"servers": 0.3, "store": 0.1, "balancer": 0.05, "generator": 0.1, "others": 0.42, "idle": 0.03}
        assert drawn.capacity_title({"redis": {"capacity": capacity, "busy": shares}}) == (
            "Other programs used up to 42 % of the CPU time: this run compares no capacities"
        )

    def test_nobody_is_at_its_end_where_the_ladder_was_too_short(self, told):
        """What is used at "at least" says nothing about a capacity."""
        assert "at capacity" not in told.caption("ends before the knee", "capacity").title

    @pytest.mark.parametrize(
        ("by_arm", "expected"),
        [
            ({"sticky": [1.0, 1.1], "redis": [1.5, 1.6]}, "hardly depends on the load; redis needs 1.5 times sticky's"),
            ({"sticky": [1.0, 2.0], "redis": [1.5, 1.5]}, "varies with the load, by up to 2.0 times"),
            ({"sticky": [1.5, 1.5], "redis": [1.0, 1.0]}, "hardly depends on the load; sticky needs 1.5 times redis's"),
            ({"redis": [1.0, 1.1]}, "hardly depends on the load"),
        ],
    )  # fmt: skip
    def test_cpu(self, by_arm, expected):
        """Whether the cost is steady, and whose is highest."""
        assert drawn.cpu_title(by_arm) == f"The CPU time of a request {expected}"

    def test_freeze(self, told):
        """Hidden by the closed loop; or, the opposite, seen as well; or no request was slow."""
        assert told.caption("usual", "closed-loop").title == (
            "The closed loop hides the frozen server: 4 of 700 requests over 100 ms, "
            "180 of 1,000 under the schedule; it never sent 300"
        )
        assert told.caption("opposite", "closed-loop").title.startswith(
            "Here the closed loop saw the frozen server almost as the schedule did: "
        )
        swift = {"slow": 0, "requests": 100, "omitted": 0}
        alike = {"slow_ms": 100.0, "clients": {"schedule": swift, "closed loop": swift}}
        assert drawn.freeze_title(alike).startswith("Here the closed loop saw the frozen server almost")
        assert told.caption("requests fail, nothing frozen", "closed-loop") is None


class TestWords:
    """The headline and the tables."""

    def test_headline(self, told):
        """Capacities, who is busy, the law, the freeze; each only where it was measured."""
        text = saturation.headline(told("usual"))
        for part in (
            "With the 95th percentile below 50 ms",
            "by the load generator itself",
            "utilisation law",
            "stood still",
        ):
            assert part in text
        assert "stood still" not in saturation.headline(told("requests fail, nothing frozen"))
        assert "utilisation law" not in saturation.headline(told("ends before the knee"))
        empty = {
            "experiment": "saturation",
            "complete": False,
            "strategies": {},
            "run": {},
            "validity": {},
            "schema": 1,
        }
        run = results.Run(told("usual").folder, empty)
        assert saturation.headline(run) == "This run saw too little to say what a strategy carries."
        assert saturation.tables(run) == []
        assert all(one.missing for one in (charts.draw_one(run, name, run.folder) for name in NAMES))

    def test_a_capacity_is_written_as_sure_as_it_is(self):
        """An interval, a bracket, or one end."""
        found = {
            "bound": "between",
            "estimate": 812.3,
            "low": 790.0,
            "high": 835.0,
            "kept_rps": 780.0,
            "missed_rps": 840.0,
        }
        assert saturation.carried({"capacity": found}) == "812 (790 to 835)"
        assert saturation.carried({"capacity": found | {"low": None, "high": None}}) == "780 to 840"
        assert saturation.carried({"capacity": found | {"bound": "at least"}}) == "at least 812"

    def test_late_points_and_failing_requests_are_marked(self, told):
        """A star where the generator was late; `never` where one request in twenty got no answer."""
        cells = [cell for table in saturation.tables(told("usual")) for row in table.rows for cell in row]
        assert any(re.fullmatch(r"[\d,.]+\*", cell) for cell in cells)
        assert "never" in shown(told("requests fail, nothing frozen"))
        assert "LAB_REDIS_URL" in shown(told("requests fail, nothing frozen"))

    def test_who_is_busy_adds_up(self, told):
        """Shares of all CPU time, idle time included."""
        for one in saturation.arms(told("usual")).values():
            assert sum(one["busy"].values()) == pytest.approx(1)
