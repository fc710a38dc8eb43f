"""The report of a run on hot servers: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import re

import made_up_hotspot
import matplotlib as mpl
import pytest
from reading import composed, shown

from lab.report import charts, hotspot, page, results
from lab.report.charts import hotspot as drawn
from lab.report.charts import hotspot_new_server

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "few": {"populations": 3},
    "one": {"strategies": ("redis",), "populations": 3},
    "all": {"strategies": ("isolated", *made_up_hotspot.STRATEGIES), "populations": 3},
    "slow": {"strategies": ("sticky", "redis"), "slow": 3.0},
    "broken": {"strategies": ("sticky", "redis"), "broken": True, "populations": 3},
}
NAMES = tuple(charts.CHARTS["hotspot"])


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("hotspot", made_up_hotspot.write, VARIANTS)


@pytest.fixture
def unfinished(tmp_path):
    """Give a run that was interrupted."""
    folder = tmp_path / "hotspot-20260101T000000Z"
    folder.mkdir()
    bare = {"schema": 1, "experiment": "hotspot", "complete": False, "run": {"id": folder.name}, "validity": {}}
    results.write(folder, {**bare, "strategies": {}, "claims": []})
    return results.load(folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_charts_a_page_and_tables(told, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    for name in NAMES:
        figure, caption = told.chart(variant, name)
        if figure is not None:
            assert caption.rows
            assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption).replace("nothing", ""))
    for table in hotspot.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    text = page.render(run, []) + shown(run, 100)
    assert not re.search(r"\b(None|nan|inf|undefined)\b", text)
    assert "<hotspot>" not in page.render(run, [])


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_keeps_its_width_and_its_characters(told, width):
    """No line is wider, and what is printed is ASCII without a mark for what ASCII lacks."""
    text = shown(told("usual"), width)
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    assert "?" not in text


def test_an_interrupted_run_says_so_and_draws_nothing(unfinished):
    """Nothing is told of what it did not get to."""
    assert all(composed(unfinished, name)[0] is None for name in NAMES)
    assert list(hotspot.tables(unfinished)) == []
    assert hotspot.headline(unfinished) == "This run saw too little to say whether work was uneven."
    assert "was interrupted" in page.render(unfinished, [])
    assert "was interrupted" in shown(unfinished, 100)


def test_the_headline_is_true_both_ways(told):
    """It names who concentrates, who takes, and who stays; the other way round in the opposite run."""
    usual, opposite = (hotspot.headline(told(variant)) for variant in ("usual", "opposite"))
    assert re.search(r"busiest of 4 servers served 1\.\d\d times the mean under sticky and 1\.0\d times", usual)
    assert re.search(r"was 0 % under sticky and 20 % under all-to-all, database and redis", usual)
    assert re.search(r"with it: \d\d % under sticky and none under all-to-all, database and redis\.", usual)
    assert re.search(r"served 1\.0\d times the mean under sticky and 1\.[3-9]\d", opposite)
    assert re.search(r"was 20 % under sticky and 0 % under all-to-all, database and redis", opposite)
    assert "none under sticky" in opposite


def checked(run, **found):
    """Return a copy of a run with these counts: strategy to sessions lost, items lost, stale looks."""
    strategies = {}
    for name, record in run.results["strategies"].items():
        counts = zip(("sessions_lost", "lost_writes", "stale_reads"), found.get(name, (0, 0, 0)), strict=True)
        checks = {check: {"violations": some, "opportunities": 50} for check, some in counts}
        strategies[name] = {**record, "consistency": {**record["consistency"], **checks}}
    return results.Run(run.folder, {**run.results, "strategies": strategies})


def test_whether_carts_were_lost_is_told_both_ways(told):
    """Nobody's; somebody's, with how many; and who looked too early."""
    kept = hotspot.headline(checked(told("usual")))
    assert kept.endswith("While servers came and went, nobody lost a session or an item of the cart.")
    late = hotspot.headline(checked(told("usual"), **{"all-to-all": (0, 0, 21)}))
    assert "nobody lost a session or an item of the cart; 21 of 50 looks at the cart under all-to-all came" in late
    lost = hotspot.headline(checked(told("usual"), redis=(2, 3, 0)))
    assert lost.endswith("under redis 2 requests found their session gone and 3 of 50 items were lost.")
    table = next(table for table in hotspot.tables(checked(told("usual"))) if "came and went" in table.title)
    assert table.rows[0] == ("sticky", "0 of 50", "0 of 50", "0 of 50")


def test_a_page_of_a_run_that_checks_carts_has_a_section_for_broken_ones(told):
    """Every answer was looked at, and what was found stands there, also if it is nothing."""
    text = page.render(told("usual"), [])
    assert 'id="witnesses"' in text
    assert "Every answer that showed a cart was checked. No rule was seen broken in this run." in text


def test_the_titles_are_true_both_ways(told):
    """What moves and what stays, who is uneven, whom a new server helps."""
    usual, opposite = told.captions("usual"), told.captions("opposite")
    assert usual["share-over-time"].title.startswith("Under sticky neither a new server nor a drained one moves")
    assert usual["share-over-time"].title.endswith("under all-to-all, database and redis both do, at once")
    assert opposite["share-over-time"].title.startswith("Under all-to-all, database and redis neither")
    assert usual["busiest-over-mean"].title.startswith("Under sticky the busiest of 4 servers had 1.")
    assert not opposite["busiest-over-mean"].title.startswith("Under sticky")
    assert usual["new-server"].title.startswith("A new server takes nothing from the others under sticky; under all-")
    assert opposite["new-server"].title.startswith("A new server takes nothing from the others under all-to-all")
    assert "40 bound shoppers load the busiest server 1." in usual["crowd-size"].title
    assert "40 bound shoppers load the busiest server 1.0" in opposite["crowd-size"].title


def test_waits_are_told_both_ways(told):
    """Longer at the hot server, where the whole interval says so; else no difference is claimed."""
    assert told.caption("usual", "hot-server-waits").title.startswith("At this load nobody can be seen to wait longer")
    slow = told.caption("slow", "hot-server-waits").title
    assert re.match(r"One request in twenty waits \d\.\d\d times as long under sticky", slow)


def test_titles_of_every_mixture():
    """Even work everywhere; a new server that takes some; one strategy alone."""
    even = drawn.concentration_title({"sticky": 1.05, "redis": 1.02}, 4)
    assert even == "Work was even: no server had more than 1.05 times the mean, whatever the strategy"
    assert (
        drawn.concentration_title({"sticky": 1.6}, 4) == "Under sticky the busiest of 4 servers had 1.60 times the mean"
    )
    some = hotspot_new_server.new_server_title({"sticky": 0.05, "redis": 0.19}, 0.2)
    assert some == "A new server takes less than half its share under sticky; under redis it takes 19 %"
    assert hotspot_new_server.new_server_title({"redis": 0.2, "database": 0.18}, 0.2) == (
        "A new server takes 18 % to 20 % of the work under redis and database"
    )
    assert (
        hotspot_new_server.new_server_title({"sticky": 0.0}, 0.2)
        == "A new server takes nothing from the others under sticky"
    )


def test_without_binding_there_is_no_crowd_to_model(told):
    """The chart says why it is left out."""
    title = told.caption("one", "share-over-time").title
    assert title.endswith(" a new server and a drained one both move the load, at once"), title
    assert told.chart("one", "crowd-size") == (None, "No strategy of this run binds shoppers to servers.")


def test_few_populations_are_points_without_intervals(told):
    """And no verdict hangs on them."""
    run = told("few")
    assert run.get("hotspot", "strategies", "sticky", "concentration", "low") is None
    assert claim(run)["verdict"] == "cannot tell"


def claim(run):
    """Return the claim that this experiment judges."""
    return next(one for one in run.results["claims"] if one["id"] == "sticky-hotspot")


def test_the_claim_is_judged_from_the_same_numbers(told):
    """It cannot hold in the opposite run; there the new server takes its share from bound shoppers, too."""
    assert claim(told("usual"))["numbers"]["new_server_share"] == 0
    assert claim(told("opposite"))["verdict"] == "does not hold"
    assert claim(told("one"))["verdict"] == "not tested"


@pytest.mark.parametrize("variant", ["usual", "all"])
def test_labels_do_not_overlap(told, variant):
    """No two texts of a chart cover each other, and none leaves the picture."""
    figures = told.figures(variant)
    assert set(figures) == set(NAMES) - ({"hot-server-waits"} if variant == "all" else set())
    for name, figure in figures.items():
        boxes = written(figure)
        for index, (text, box) in enumerate(boxes):
            assert box.y0 >= -1, (name, text)
            assert box.y1 <= figure.bbox.height + 1, (name, text)
            for other, its in boxes[index + 1 :]:
                across = min(box.x1, its.x1) - max(box.x0, its.x0)
                down = min(box.y1, its.y1) - max(box.y0, its.y0)
                assert across <= 1 or down <= 1, (name, text, other)


def written(figure):
    """Return the texts of a chart that are seen, and where each stands."""
    texts = [text for text in figure.findobj(mpl.text.Text) if text.get_text().strip() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    # A tick beyond the axis' ends has a text, and is not drawn.
    return [(text, box) for text, box in boxes if box.width and box.x0 >= -1 and box.x1 <= figure.bbox.width + 1]
