"""The report of a contention run: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import re
from itertools import pairwise

import made_up_contention
import pytest
from reading import assert_inside, shown

from lab.report import contention, page
from lab.report.charts import contention as drawn

VARIANTS = {
    "usual": {},
    "opposite": {"times": 0.7},
    "alike": {"times": 1.0, "noise": 0.005},
    "noisy": {"times": 1.05, "noise": 0.9},
    "quick": {"blocks": 3, "loads": (100, 300)},
    "lucky": {"blocks": 9, "loads": (100, 300), "times": 3.0, "requests": 54},
    "one load": {"loads": (100,)},
    "few requests": {"blocks": 1, "loads": (100,), "requests": 12},
    "crowded": {"full_rps": 100.0},
    "others' engines": {"own": False},
}


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("contention", made_up_contention.write, VARIANTS)


def judged(run):
    """Return how the run judges its claim."""
    return next(claim for claim in run.results["claims"] if claim["id"] == "database-slows")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    for caption in filter(None, told.captions(variant).values()):
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption))
    for table in contention.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    text = page.render(run, [])
    assert not re.search(r"\b(None|nan|undefined)\b", text)
    assert "<contention>" not in text
    assert not re.search(r"\b(None|nan)\b", shown(run))


@pytest.mark.parametrize("variant", ["usual", "quick", "lucky", "crowded"])
def test_text_never_leaves_the_picture_and_nothing_overlaps(told, variant):
    """Every text of every chart lies within its figure; no tick label lies over another."""
    for name, figure in told.figures(variant).items():
        assert_inside(figure, name)
        for axes in figure.axes:
            labels = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
            assert all(left.x1 < right.x0 for left, right in pairwise(labels)), name


@pytest.mark.parametrize(
    ("variant", "verdict", "title"),
    [
        ("usual", "holds", "slower at 5 of 5 loads (1.4"),
        ("opposite", "does not hold", "faster at 5 of 5 loads (0."),
        ("alike", "does not hold", "about as slow at 5 of 5 loads"),
        ("noisy", "cannot tell", "too close to call at"),
        ("quick", "cannot tell", "Too few catalogue pages to say whether sessions in the database slow them: 180 of"),
        ("lucky", "cannot tell", "243 of the 600 needed on each arm, at most"),
        ("crowded", "cannot tell", "nothing can be said about the catalogue's pages"),
    ],
)
def test_the_verdict_and_the_title_say_what_the_numbers_say(told, variant, verdict, title):
    """Whichever way it came out."""
    run = told(variant)
    assert judged(run)["verdict"] == verdict
    assert title in told.caption(variant, "catalogue-ratio").title


def test_the_ratio_is_what_was_made_up(told):
    """1.4 at every judged load, and redis takes as long as itself."""
    for point in contention.points(told("usual")):
        ratio = point["ratio"]
        assert ratio["low"] < 1.4 < ratio["high"]
        assert point["ratio_for_all"] is None or point["ratio_for_all"]["low"] <= ratio["low"]
    same = told("usual").get("contention", "same_against_same")
    assert same["low"] < 1 < same["high"]


def test_the_headline_says_what_became_of_the_pages_and_what_the_database_did(told):
    """Slower, faster or too close to call; which loads are not judged; what the sessions cost."""
    headline = contention.headline(told("usual"))
    assert "1 catalogue page in 20 is slower than with Redis at 100/s, 250/s, 500/s" in headline
    assert "Not judged, with 80 % of all CPU time in use or more: 750/s and 400/s with the report" in headline
    assert "1.5 times as much CPU time per request, and 500 B of log instead of 33 B" in headline
    assert "is faster at" in contention.headline(told("opposite"))
    assert "nothing can be said" in contention.headline(told("crowded"))


def test_loads_that_are_not_judged_are_hollow(told):
    """And the table says so."""
    caption = told.caption("usual", "catalogue-ratio")
    assert [row[-1] for row in caption.rows] == ["yes", "yes", "yes", "no", "yes", "yes", "no"]
    assert "nothing is judged" in caption.note
    assert "Redis against itself" in caption.note
    assert "not judged" not in told.caption("one load", "catalogue-ratio").note


def test_loads_with_too_few_pages_are_faded_and_nothing_is_claimed_of_them(told):
    """Three times as long with a narrow interval: with 243 pages no title, headline or table says slower is judged."""
    run = told("lucky")
    captions = told.captions("lucky")
    assert all(row[-1] == "no" for row in captions["catalogue-ratio"].rows)
    assert contention.points(run)[0]["ratio"]["low"] > 2
    assert "Faded: fewer than 600 catalogue pages" in captions["catalogue-ratio"].note
    assert "Hollow" not in captions["catalogue-ratio"].note
    assert captions["catalogue-latency"].title.endswith("too few pages to tell that from chance")
    assert "at no load more than 243 of the 600 needed on each arm" in contention.headline(run)
    assert "slower" not in contention.headline(run).partition(". At an equal")[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_charts_and_rule_judge_the_same_loads(told, variant):
    """As many loads as the claim counts are drawn as judged."""
    run = told(variant)
    drawn_as_judged = sum(point["judged"] for point in contention.points(run))
    assert judged(run)["numbers"].get("judged", 0) == drawn_as_judged


def test_engines_of_others_have_no_pairs_and_no_cpu_time(told):
    """The charts that need them say why they are missing, or do without."""
    run = told("others' engines")
    captions = told.captions("others' engines")
    assert captions["equal-promises"] is None
    assert captions["catalogue-ratio"] is not None
    assert "pairs of equal promise were left out: LAB_REDIS_URL" in shown(run)
    assert "modelled" not in judged(run)["evidence"]


def test_pairs_say_what_each_promise_changes(told):
    """From losing nothing to losing everything, and the unlike pair beside them."""
    caption = told.caption("usual", "equal-promises")
    assert caption.title == (
        "At an equal promise the catalogue's pages are slower with sessions in the database where nothing is lost, "
        "about the last second is lost and everything is lost"
    )
    assert len(caption.rows) == 3
    assert "0.50 ms with the disk" in caption.subtitle
    assert "too few blocks" in told.caption("quick", "equal-promises").note


def test_what_the_database_did_is_told_per_load(told):
    """How much more CPU time and log, at the highest judged load without the report."""
    caption = told.caption("usual", "database-work")
    assert caption.title == (
        "At 500/s PostgreSQL needs 1.5 times the CPU time and 15.0 times the log when the sessions lie in it"
    )
    assert "Autovacuum was on, its rounds: 7; checkpoints: 0." in caption.note


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_keeps_to_its_width(told, width):
    """In a pipe it is a hundred columns; nothing is cut off, and every sign can be shown."""
    text = shown(told("usual"), width)
    assert max(map(len, text.splitlines())) <= 100
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "?" not in text
    assert any(line.startswith("database-slows: holds") for line in text.splitlines())


class TestTitles:
    """Titles that a made-up run does not reach."""

    def test_a_machine_that_is_never_full(self):
        """Nothing is left to judge, or nothing is crowded."""
        calm = {"judged": False, "cpu_share": 0.3, "load_rps": 100, "report": False, "arms": {}}
        assert drawn.machine_title([calm], 80) == "Total CPU stays below 80 % at every load"

    def test_a_single_load(self):
        """It is not called the busiest."""
        waits = {"catalogue": {"p95_ms": {"estimate": 4.0}}}
        point = {"judged": True, "cpu_share": 0.3, "load_rps": 100, "report": True}
        point["arms"] = {"database": waits, "redis": waits}
        assert drawn.latency_title([point]).endswith("at 100/s with the report")
        crowded = {**point, "judged": False, "cpu_share": 0.9}
        assert drawn.latency_title([crowded]).startswith("No load left the machine room")
