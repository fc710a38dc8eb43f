"""The report of a failover run: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import json
import re

import made_up_failover
import pytest
from reading import assert_inside, shown

from lab.report import charts, failover, page, results
from lab.report.charts import failover as drawn
from strategies import STRATEGIES, Strategy

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "one fault": {"faults": ("kill-server",), "strategies": ("sticky", "redis")},
    "no engine of its own": {
        "faults": ("kill-server", "stop-server"),
        "left_out": {"kill-redis": "LAB_REDIS_URL names it"},
    },
    "control only": {"faults": ("kill-server",), "strategies": ("isolated",)},
}


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("failover", made_up_failover.write, VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    for caption in filter(None, told.captions(variant).values()):
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption))
    text = page.render(run, [])
    assert not re.search(r"\b(None|nan|undefined)\b", text)
    assert "<failover>" not in text
    assert not re.search(r"\b(None|nan)\b", shown(run))


def test_text_never_leaves_the_picture(told):
    """Every text of every chart lies within its figure."""
    figures = told.figures("usual")
    assert {"sessions-lost", "timeline-kill-postgresql", "timeline-rolling-restart", "recovery"} <= set(figures)
    for name, figure in figures.items():
        assert_inside(figure, name)


def test_a_whole_run_has_every_chart_and_no_chart_of_a_comparison(told):
    """One timeline per fault among them."""
    assert all(told.captions("usual").values())
    assert charts.charts_of(told("usual")) is charts.CHARTS["failover"]
    assert not set(charts.CHARTS["failover"]) & set(charts.COMPARE)


def test_faults_that_were_not_struck_say_why(told):
    """The chart is left out, the promises are not tested, and the page has the reason."""
    run = told("no engine of its own")
    assert told.caption("no engine of its own", "timeline-kill-redis") is None
    assert "LAB_REDIS_URL names it" in page.render(run, [])
    assert failover.promises(run.results)["not tested"] > 0
    assert "kill-redis was left out" in shown(run)


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_narrow_terminal_cuts_off_no_figure(told, width):
    """Whole columns are left out instead, and named."""
    text = shown(told("usual"), width=width, force_terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert ("Not shown, as the terminal is narrow: " in text) == (width < 80)
    assert "sync | " in text


def test_a_strategy_of_ones_own_is_no_control(told, monkeypatch, tmp_path):
    """Nothing is promised in its name; of the control alone the page says that it promises nothing."""
    own = Strategy("one-file", "module:Class", "a file", "round robin", ("fields",), shared="one file")
    monkeypatch.setitem(STRATEGIES, "one-file", own)
    written = made_up_failover.write(tmp_path / "own", strategies=("sticky", "one-file"), faults=("kill-server",))
    text = page.render(results.load(written), [])
    assert text.count("nothing is promised in its name") == 1
    assert "the control promises nothing" not in text
    assert "the control promises nothing" in page.render(told("control only"), [])


def test_the_headline_says_who_lost_what(told):
    """A quarter of the sessions under sticky, nothing elsewhere; and the other way round."""
    assert "sticky lost 25 % of its sessions" in failover.headline(told("usual"))
    assert "When Redis died, redis failed for" in failover.headline(told("usual"))
    opposite = failover.headline(told("opposite"))
    assert "When all were restarted, one by one, sticky lost 100 % of its sessions" in failover.headline(told("usual"))
    assert "sticky lost none" in opposite
    assert "redis lost 25 % of its sessions" in opposite


def test_broken_promises_are_told_one_by_one(told):
    """In the terminal as sentences, on the page beside the evidence; in a run where all were kept there are none."""
    assert failover.broken(told("usual").results) == []
    found = failover.broken(told("opposite").results)
    assert any(line.startswith("redis (kill -9 one server, restart it) broke its promise") for line in found)
    assert "Broken: redis" in shown(told("opposite"))
    assert "3 of 12 sessions lost" in page.render(told("opposite"), [])


def test_every_loss_has_a_witness_on_the_page(told):
    """Request by request, under the arm and the fault."""
    titles = [story.title for story in page.stories(told("usual"))]
    assert "sticky, kill-server: lost writes" in titles
    assert "sticky, kill-server: sessions lost" in titles


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_keeps_to_its_width(told, width):
    """In a pipe it is a hundred columns; nothing is cut off."""
    lines = shown(told("usual"), width).splitlines()
    assert max(map(len, lines)) <= 100
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)
    assert any(line.startswith("sticky-loses: ") for line in lines)


def test_results_can_be_written_as_json(told):
    """They are plain values; what was made up is read back."""
    assert json.loads(json.dumps(told("usual").results))["experiment"] == "failover"


class TestTitles:
    """Titles say what was found, whichever way it came out."""

    def test_sessions(self):
        """Who lost how much; or nobody."""
        lost, kept = {"lost": 10, "alive": 40}, {"lost": 0, "alive": 40}
        assert drawn.sessions_title({"kill-server": {"sticky": lost, "redis": kept}}, 4) == (
            "Sticky lost up to 25 % of its sessions (1 in 4 is 25 %); redis lost none"
        )
        assert drawn.sessions_title({"kill-server": {"redis": kept}}, 4) == "No fault cost any strategy a session"

    def test_sessions_of_a_rolling_restart_are_told_apart(self):
        """One in so many is the measure of one server's death alone."""
        lost, all_lost, kept = {"lost": 10, "alive": 40}, {"lost": 40, "alive": 40}, {"lost": 0, "alive": 40}
        both = {"kill-server": {"sticky": lost, "redis": kept}, "rolling-restart": {"sticky": all_lost, "redis": kept}}
        assert drawn.sessions_title(both, 4) == (
            "Sticky lost up to 25 % of its sessions (1 in 4 is 25 %), 100 % in a rolling restart; redis lost none"
        )
        assert drawn.sessions_title({"rolling-restart": {"sticky": all_lost, "redis": kept}}, 4) == (
            "Sticky lost 100 % of its sessions in a rolling restart; redis lost none"
        )

    @pytest.mark.parametrize(
        ("failed", "expected"),
        [
            ({"sticky": 0, "redis": 0}, "no request failed under any strategy"),
            ({"sticky": 0, "redis": 50}, "25 % of the requests failed under redis, none elsewhere"),
            ({"sticky": 2, "redis": 50}, "25 % of the requests failed under redis, 1.0 % under sticky"),
        ],
    )
    def test_timeline(self, failed, expected):
        """How many requests failed under whom; those for want of the catalogue are set apart."""

        def told(count, origin=0):
            answers = {window: {"views": 9, "wrong": 0} for window in ("before", "during", "after")}
            failures = {"requests": 200, "failed": count + origin, "by_cause": {"origin": origin}}
            return {"failures": failures, "answers": answers}

        assert drawn.timeline_title("it", {arm: told(count) for arm, count in failed.items()}) == f"It: {expected}"
        apart = drawn.timeline_title("it", {arm: told(count, origin=30) for arm, count in failed.items()})
        assert apart == f"It: {expected} besides those for the catalogue"

    def test_timeline_names_who_began_to_show_wrong_carts(self):
        """Not the control, which always does."""

        def told(before, after):
            answers = {"before": {"wrong": before, "views": 20}, "during": {"wrong": after, "views": 20}}
            answers["after"] = {"wrong": 0, "views": 20}
            return {"failures": {"requests": 9, "failed": 0, "by_cause": {"origin": 0}}, "answers": answers}

        title = drawn.timeline_title("it", {"isolated": told(0, 9), "sticky": told(0, 9), "redis": told(0, 0)})
        assert title.endswith("; sticky began to show wrong carts")
        chance = drawn.timeline_title("it", {"sticky": told(0, 3), "redis": told(1, 9)})
        assert "wrong carts" not in chance, "three of sixty views may fall after the stroke by chance"

    def test_timeline_of_a_single_strategy_speaks_of_no_other(self):
        """There is no elsewhere."""
        answers = {window: {"views": 9, "wrong": 0} for window in ("before", "during", "after")}
        story = {"failures": {"requests": 200, "failed": 50, "by_cause": {"origin": 0}}, "answers": answers}
        assert drawn.timeline_title("it", {"redis": story}) == "It: 25 % of the requests failed under redis"

    def test_recovery(self):
        """Who failed for how long; those who did not recover come first; or nobody failed."""
        calm = {"kill-redis": {"redis": 0.0, "sticky": 0.0}}
        assert drawn.recovery_title(calm) == "No fault made a request fail under any strategy"
        some = {"kill-redis": {"redis": 2.0, "sticky": 0.0}, "kill-postgresql": {"redis": 2.5, "sticky": 3.0}}
        assert drawn.recovery_title(some) == (
            "Redis killed: failures for 2.0 s under redis; "
            "PostgreSQL killed: failures for 2.5 to 3.0 s under every strategy"
        )
        moment = {"kill-server": {"redis": 0.02, "sticky": 0.0, "database": 1.0}}
        assert (
            drawn.recovery_title(moment)
            == "Server killed: failures for less than 0.1 to 1.0 s under redis and database"
        )
        most = {"stop-server": {"isolated": 2.8, "sticky": 0.0, "database": 3.1, "redis": 3.0}}
        assert drawn.recovery_title(most) == "Server stopped: failures for 2.8 to 3.1 s under all but sticky"
        assert drawn.recovery_title({"kill-redis": {"redis": None, "sticky": 0.0}}).startswith("Redis (Redis killed): ")

    def test_recovery_takes_single_failures_of_a_rolling_restart_for_no_duration(self):
        """Servers are restarted in turn: a failure at the first and one at the last are not one long failure."""
        single = {"rolling-restart": {"redis": 6.0, "sticky": 0.0}}
        assert drawn.recovery_title(single) == "Requests failed only here and there"
        both = {**single, "kill-redis": {"redis": 2.0, "sticky": 0.0}}
        assert drawn.recovery_title(both) == "Redis killed: failures for 2.0 s under redis"

    def test_waiting(self):
        """Who waited longest, and what was usual."""
        waits = {window: {"p95": value} for window, value in (("before", 20.0), ("during", 2500.0), ("after", 30.0))}
        assert drawn.waiting_title({"stop-server": {"redis": waits}}) == (
            "Server stopped: one request in twenty waited 2.5 s or longer under redis, 20 ms before"
        )
        few = {window: {"p95": None} for window in ("before", "during", "after")}
        assert drawn.waiting_title({"stop-server": {"redis": few}}).startswith("Too few")
