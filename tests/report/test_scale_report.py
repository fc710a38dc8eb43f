"""The report of a scale run: charts, tables, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import itertools
import re

import made_up_scale
import pytest
from reading import assert_inside, shown

from lab.report import charts, page, scale

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "points": {"points": True},
    "unmeasured": {"unmeasured": True},
    "interrupted": {"complete": False},
}


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("scale", made_up_scale.write, VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    for caption in filter(None, told.captions(variant).values()):
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption))
    for table in scale.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert not re.search(r"\b(None|nan|undefined)\b", page.render(run, []))
    assert not re.search(r"\b(None|nan)\b", shown(run))


def test_a_whole_run_has_every_chart_and_an_unmeasured_one_leaves_some_out(told):
    """Without CPU time there is nothing to model from, without trials no stale reads."""
    assert all(told.captions("usual").values())
    missing = {name for name, caption in told.captions("unmeasured").items() if caption is None}
    assert missing == {"cpu-by-servers", "stale-reads", "where-each-stops"}


def test_titles_say_what_the_data_say(told):
    """All-to-all grows, is stale and stops; and the other way round nothing of that is claimed."""
    usual, opposite = told.captions("usual"), told.captions("opposite")
    assert usual["copies"].title == (
        "With 8 servers all-to-all keeps 8 copies of a session; sticky, database and redis keep one"
    )
    assert "all-to-all keeps one" in opposite["copies"].title
    assert usual["between-servers"].title.startswith("A write costs 7.0 times as many bytes between 8 servers as")
    assert opposite["between-servers"].title.startswith("A write costs 0 messages between 8 servers")
    assert (
        "every further server adds 0.20 ms of CPU time to a request under all-to-all, and nothing clear"
        in usual["cpu-by-servers"].title
    )
    assert "under database, 0.20 ms or less under the others" in opposite["cpu-by-servers"].title
    assert "100 % are stale" in usual["stale-reads"].title
    assert "0 % are stale" in opposite["stale-reads"].title
    assert "all-to-all stops at" in usual["where-each-stops"].title
    assert usual["where-each-stops"].title.endswith("sticky goes on")
    assert "sticky and all-to-all go on" in opposite["where-each-stops"].title


def test_whether_the_smaller_sizes_foretell_the_largest_is_told_both_ways(told):
    """Where the CPU time was not foretold, table and model say that the model is rough; else they do not."""
    for variant, right in (("usual", "right"), ("opposite", "wrong")):
        table = next(table for table in scale.tables(told(variant)) if table.title.startswith("Do the smaller sizes"))
        assert {row[-1] for row in table.rows} == {right}
        assert table.rows[-1][1] == "per peer from 2 and 4"
        rough = "was foretold 30 % too low"
        assert (rough in table.note) == (rough in told.captions(variant)["where-each-stops"].note) == (right == "wrong")


def test_a_foretelling_that_is_too_close_to_call_is_no_success(told):
    """Further off than 15 % with intervals that meet: the model is called rough, and the reason is no effect."""
    run = told("usual")
    unsure = [{**one, "off": 0.64, "verdict": "cannot tell"} for one in run.get("scale", "checked")]
    found = {**run.results["scale"], "checked": unsure}
    text = scale.cpu_not_foretold(type(run)(run.folder, {**run.results, "scale": found}))
    assert text == (
        "Whether CPU time with 8 servers was foretold is too close to call (+64 %), so where all-to-all stops is rough."
    )


def test_a_page_of_a_run_that_checks_no_carts_says_nothing_of_broken_ones(told):
    """That no rule was seen broken would be true, and say more than was looked at."""
    text = page.render(told("usual"), [])
    assert "Broken carts" not in text
    assert "No rule was seen broken" not in text


def test_points_without_intervals_claim_no_growth(told):
    """A run that is too short for intervals cannot tell growth from noise."""
    assert told.captions("points")["cpu-by-servers"].title.startswith("No further server clearly adds")


def test_the_headline_tells_growth_staleness_and_the_limit(told):
    """With the word modelled where nothing was measured."""
    usual = scale.headline(told("usual"))
    assert "With 8 servers all-to-all holds 8 copies of a session, and each write costs 3.0 kB" in usual
    assert "100 % of the looks through another server are stale (servers 20 ms apart, emulated)" in usual
    assert "Modelled: all-to-all never serves more than about 3,500 requests/s" in usual
    opposite = scale.headline(told("opposite"))
    assert "holds one copy of a session" in opposite
    assert "no CPU time per further server that would stop all-to-all" in opposite
    assert "interrupted" in shown(told("interrupted"))


@pytest.mark.parametrize("variant", ["usual", "opposite"])
def test_text_never_leaves_the_picture_and_labels_do_not_overlap(told, variant):
    """Every text of every chart lies within its figure, and names beside lines are apart."""
    figures = told.figures(variant)
    assert set(figures) == set(charts.CHARTS["scale"])
    for name, figure in figures.items():
        assert_inside(figure, name)
        for axes in figure.axes:
            names = [text.get_window_extent() for text in axes.texts if text.get_weight() == "bold"]
            names.sort(key=lambda box: box.y0)
            assert all(below.y1 <= above.y0 + 14 for below, above in itertools.pairwise(names)), name


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_keeps_to_its_width(told, width):
    """No line is longer than the terminal is wide."""
    assert max(len(line) for line in shown(told("usual"), width, force_terminal=True).splitlines()) <= max(width, 80)


def test_modelled_and_emulated_are_called_so(told):
    """Nobody takes a model for a measurement."""
    caption = told.captions("usual")["where-each-stops"]
    assert caption.title.startswith("Modelled")
    assert "Modelled" in caption.note
    assert "emulated" in told.captions("usual")["stale-reads"].note
    titles = [table.title for table in scale.tables(told("usual"))]
    assert any(title.startswith("Modelled") for title in titles)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (85_432, "85,000"),
        (1_249_000, "1.2 million"),
        (14_400_000, "14 million"),
        (2.4e9, "2.4 billion"),
        (None, "\N{EN DASH}"),
    ],
)
def test_counts_of_a_model_are_rounded(value, words):
    """Two digits: more would pretend to know."""
    assert scale.rounded(value) == words
