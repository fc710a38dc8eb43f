"""The report of a scale run: charts, tables, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import io
import itertools
import re

import made_up_scale
import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from lab.report import charts, page, results, scale, style, terminal

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "points": {"points": True},
    "unmeasured": {"unmeasured": True},
    "interrupted": {"complete": False},
}


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """Return a function from a variant's name to such a run, written once."""
    runs = {}

    def run(variant):
        if variant not in runs:
            folder = tmp_path_factory.mktemp("scale") / "scale-20260101T000000Z"
            runs[variant] = results.load(made_up_scale.write(folder, **VARIANTS[variant]))
        return runs[variant]

    return run


@pytest.fixture(scope="session")
def captions(told):
    """Return a function from a variant to the captions of its charts, None where one was left out; composed once."""
    known = {}

    def caption(run, name):
        try:
            return charts.compose(run, name)[1]
        except charts.NothingToDraw:
            return None

    def of(variant):
        if variant not in known:
            known[variant] = {name: caption(told(variant), name) for name in charts.CHARTS["scale"]}
        return known[variant]

    return of


def shown(run, width=160):
    """Return what the terminal prints into a file."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=True)
    terminal.show(run.results, console)
    return console.file.getvalue()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, captions, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    for caption in filter(None, captions(variant).values()):
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption))
    for table in scale.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert not re.search(r"\b(None|nan|undefined)\b", page.render(run, []))
    assert not re.search(r"\b(None|nan)\b", shown(run))


def test_a_whole_run_has_every_chart_and_an_unmeasured_one_leaves_some_out(captions):
    """Without CPU time there is nothing to model from, without trials no stale reads."""
    assert all(captions("usual").values())
    missing = {name for name, caption in captions("unmeasured").items() if caption is None}
    assert missing == {"cpu-by-servers", "stale-reads", "where-each-stops"}


def test_titles_say_what_the_data_say(captions):
    """All-to-all grows, is stale and stops; and the other way round nothing of that is claimed."""
    usual, opposite = captions("usual"), captions("opposite")
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


def test_whether_the_smaller_sizes_foretell_the_largest_is_told_both_ways(told, captions):
    """Where the CPU time was not foretold, table and model say that the model is rough; else they do not."""
    for variant, right in (("usual", "yes"), ("opposite", "no")):
        table = next(table for table in scale.tables(told(variant)) if table.title.startswith("Do the smaller sizes"))
        assert {row[-1] for row in table.rows} == {right}
        assert table.rows[-1][1] == "in proportion to N - 1, from 2 and 4 servers"
        rough = "was foretold 30 % too low"
        assert (rough in table.note) == (rough in captions(variant)["where-each-stops"].note) == (right == "no")


def test_points_without_intervals_claim_no_growth(captions):
    """A run that is too short for intervals cannot tell growth from noise."""
    assert captions("points")["cpu-by-servers"].title.startswith("No further server clearly adds")


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
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style.SETTINGS)
        for name in charts.CHARTS["scale"]:
            figure, _ = charts.compose(told(variant), name)
            FigureCanvasAgg(figure).draw()
            boxes = [text.get_window_extent() for text in figure.texts] + [a.get_tightbbox() for a in figure.axes]
            for box in boxes:
                assert min(box.x0, box.y0) > -2, (name, box)
                assert box.x1 < figure.bbox.width + 2, (name, box)
                assert box.y1 < figure.bbox.height + 2, (name, box)
            for axes in figure.axes:
                names = [text.get_window_extent() for text in axes.texts if text.get_weight() == "bold"]
                names.sort(key=lambda box: box.y0)
                assert all(below.y1 <= above.y0 + 14 for below, above in itertools.pairwise(names)), name


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_keeps_to_its_width(told, width):
    """No line is longer than the terminal is wide."""
    assert max(len(line) for line in shown(told("usual"), width).splitlines()) <= max(width, 80)


def test_modelled_and_emulated_are_called_so(told, captions):
    """Nobody takes a model for a measurement."""
    caption = captions("usual")["where-each-stops"]
    assert caption.title.startswith("Modelled")
    assert "Modelled" in caption.note
    assert "emulated" in captions("usual")["stale-reads"].note
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
