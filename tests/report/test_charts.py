"""The charts: drawn for every kind of run, stable to the byte, with titles that are true either way."""

from __future__ import annotations

import itertools
import re
import struct

import matplotlib as mpl
import msgspec
import pytest
from made_up_run import VARIANTS
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lab.report import charts, results, style
from lab.report.charts import consistency, cpu, noise, ratios, servers, storage, tail, traffic, two_tabs, visibility
from lab.report.charts import where as places
from lab.report.charts import witness as broken
from strategies import STRATEGIES, Strategy


@pytest.fixture(scope="session")
def captions(made_up):
    """Return a function from a variant's name to its captions by chart, None where one was left out."""
    known = {}

    def of(variant):
        if variant not in known:
            known[variant] = {name: composed(results.load(made_up(variant)), name)[1] for name in charts.COMPARE}
        return known[variant]

    return of


@pytest.fixture
def settings():
    """Use the charts' settings of matplotlib, and put them back."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style.SETTINGS)
        yield


def composed(run, name):
    """Compose a chart without saving it; nothing where there is nothing to draw."""
    try:
        return charts.compose(run, name)
    except charts.NothingToDraw:
        return None, None


@pytest.mark.parametrize("variant", VARIANTS)
def test_captions_are_complete_in_every_kind_of_run(captions, variant):
    """Tables have a cell per column and at least a row, and no word of the machine's for nothing."""
    for caption in filter(None, captions(variant).values()):
        assert caption.rows
        assert all(len(row) == len(caption.columns) for row in caption.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(caption))


def test_drawing_leaves_two_files_per_chart(made_up):
    """Each chart is saved as SVG and PNG, and returned with its words, which are kept beside the charts."""
    run = results.load(made_up("unmeasured"))
    drawn = charts.draw_all(run)
    files = sorted(path.name for path in (run.folder / "charts").iterdir())
    kept = [chart.name for chart in drawn if chart.caption]
    assert files == sorted([charts.CAPTIONS, *(f"{name}.{kind}" for name in kept for kind in ("png", "svg"))])
    assert all(chart.missing for chart in drawn if not chart.caption)
    for path in (run.folder / "charts").glob("*.png"):
        assert struct.unpack(">II", path.read_bytes()[16:24]) == (1920, 1080)


def test_charts_that_were_drawn_are_read_back_and_others_drawn(made_up, monkeypatch):
    """A page that shows a run's charts does not draw them again, unless one of their files is missing."""
    monkeypatch.setitem(charts.CHARTS, "compare", {name: charts.COMPARE[name] for name in ("storage", "cpu")})
    run = results.load(made_up("unmeasured"))
    drawn = charts.draw_all(run)
    picture = run.folder / "charts" / "storage.svg"
    picture.write_bytes(b"<svg>as it was left</svg>")

    assert charts.drawn_before(run) == [msgspec.structs.replace(drawn[0], svg=picture.read_bytes()), drawn[1]]
    picture.unlink()
    assert charts.drawn_before(run) == drawn


def test_a_full_run_has_every_chart(captions):
    """Nothing is left out where everything was measured."""
    assert [name for name, caption in captions("usual").items() if caption is None] == []


def test_unmeasured_things_are_left_out(captions):
    """Where a platform cannot measure CPU or traffic there is no empty chart."""
    assert {name for name, caption in captions("unmeasured").items() if caption is None} == {"cpu", "traffic"}


def test_the_same_run_gives_the_same_picture(made_up, tmp_path):
    """An SVG holds no date and no random id, so that redrawing changes nothing."""
    run = results.load(made_up("quick"))
    first, second = (charts.draw_one(run, "cpu", tmp_path).svg for _ in range(2))
    assert first == second
    assert b"<text" not in first


def test_a_chart_without_data_removes_what_an_earlier_drawing_left(made_up, tmp_path):
    """Redrawing never leaves a picture that no longer belongs to the data."""
    for name in ("cpu.svg", "cpu.png"):
        (tmp_path / name).touch()
    assert charts.draw_one(results.load(made_up("unmeasured")), "cpu", tmp_path).missing
    assert list(tmp_path.iterdir()) == []


class TestLooks:
    """One look per strategy, told apart by more than colour."""

    def test_every_strategy_has_its_own_colour_marker_and_line(self):
        """No two strategies share a colour, a marker or a line style."""
        assert set(style.LOOKS) == set(STRATEGIES)
        for part in ("colour", "marker", "line"):
            assert len({getattr(look, part) for look in style.LOOKS.values()}) == len(STRATEGIES)

    def test_a_variant_keeps_its_strategys_colour(self):
        """`all-to-all sync` is drawn as all-to-all, hatched."""
        assert style.look("all-to-all sync").colour == style.look("all-to-all").colour
        assert style.look("all-to-all sync").hatch

    def test_a_strategy_of_ones_own_is_told_apart_before_it_has_a_look(self, monkeypatch):
        """Those that a student adds to the registry get spare looks, each another; a variant of one is hatched."""
        for name in ("one-file", "forgetful"):
            own = Strategy(name, "module:Class", "a file", "round robin", ("fields",))
            monkeypatch.setitem(STRATEGIES, name, own)
        looks = [style.look(name) for name in (*style.LOOKS, "one-file", "forgetful")]
        for part in ("colour", "marker", "line"):
            assert len({getattr(look, part) for look in looks}) == len(looks)
        assert not any(look.hatch for look in looks)
        assert style.look("one-file blob").hatch
        assert style.look("one-file blob").colour == style.look("one-file").colour

    def test_labels_in_colour_are_legible(self):
        """Text has a contrast of at least 4.5 to 1 on white."""
        for look in (*style.LOOKS.values(), *style.SPARE):
            red, green, blue = (int(look.ink[at : at + 2], 16) / 255 for at in (1, 3, 5))
            luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
            assert 1.05 / (luminance + 0.05) >= 4.5

    def test_spread_keeps_labels_apart_in_order_and_near(self):
        """Labels end at least the asked distance apart, in their order, and do not move without need."""
        placed = style.spread([0.5, 0.51, 0.9, 0.49], 0.1)
        ordered = sorted(placed)
        assert all(high - low >= 0.1 - 1e-9 for low, high in itertools.pairwise(ordered))
        assert placed[3] < placed[0] < placed[1] < placed[2] == pytest.approx(0.9)
        assert style.spread([0.1, 0.9], 0.2) == pytest.approx([0.1, 0.9])


def ratio(estimate, verdict):
    """Return an arm's ratios."""
    return {"p50": {"estimate": estimate, "verdict": verdict}}


class TestTitles:
    """Titles say what was found, whichever way it came out."""

    def test_ratios(self):
        """Slower and faster name the factor; the same and the undecided are said so."""
        slow = {"redis": ratio(1.2, "slower"), "database": ratio(1.5, "slower")}
        assert ratios.title(slow) == (
            "A median request takes 1.50 times as long under database and 1.20 times under redis as under sticky"
        )
        fast = {"redis": ratio(0.8, "faster"), "database": ratio(1.0, "about the same")}
        assert ratios.title(fast) == (
            "A median request takes 0.80 times as long under redis as under sticky; database about as long"
        )
        assert ratios.title({"redis": ratio(1.0, "about the same")}) == "Redis about as long as sticky"
        assert ratios.title({"redis": ratio(1.1, "cannot tell")}) == "Redis: too close to call, compared with sticky"

    def test_tail_calls_overlapping_intervals_noise(self):
        """Only strategies whose intervals lie apart are set against each other."""
        apart = {
            "redis": {"p99": {"estimate": 9.0, "low": 8.0, "high": 10.0}},
            "sticky": {"p99": {"estimate": 5.0, "low": 4.0, "high": 6.0}},
        }
        assert tail.title(apart) == "1 in 100 requests takes longer than 9.0 ms under redis, but 5.0 ms under sticky"
        apart["sticky"]["p99"]["high"] = 8.5
        assert "may be noise" in tail.title(apart)
        assert tail.title({"redis": {}, "sticky": {"p95": {"estimate": 5.0}}}).startswith("1 in 20 requests")

    def test_cpu(self):
        """The dearest is set against sticky, or against the cheapest where sticky is the dearest."""
        assert cpu.title({"sticky": 1.0, "redis": 1.5}).endswith(
            "Redis costs most CPU time per request: 1.5 times as much as sticky"
        )
        assert cpu.title({"sticky": 3.0, "redis": 1.5}).endswith("2.0 times as much as redis")
        assert cpu.title({"sticky": 1.0, "redis": 1.04}) == "All strategies cost about the same CPU time per request"

    def test_where(self):
        """One copy and several copies are told apart."""
        assert (
            places.title({"redis": 1.0, "all-to-all": 4.0}) == "All-to-all holds 4 copies of a session; redis holds one"
        )
        assert places.title({"redis": 1.0, "all-to-all": 1.0}) == "Redis and all-to-all hold one copy of a session"

    def test_storage(self):
        """Most and least are named, unless they are alike or unknown."""
        assert storage.title({"redis": 1000.0, "sticky": 3000.0}) == (
            "Sticky spends 3.0 kB on a session, 3.0 times as much as redis (1.0 kB)"
        )
        assert storage.title({"redis": 1000.0, "sticky": 1010.0}).endswith("under every strategy")
        assert "not measured" in storage.title({"redis": None})

    def test_storage_that_did_not_grow_is_not_measured(self, made_up):
        """A slope below zero is the holder's own bookkeeping, and no size."""
        run = results.load(made_up("quick"))
        run.results["strategies"]["redis"]["storage"]["physical_bytes_per_session"] = -56.0
        _, caption = charts.compose(run, "storage")
        assert caption.rows[-1][-1] == "\N{EN DASH}"

    def test_traffic(self):
        """Bytes between servers and to stores are named; none at all is said so."""
        moved = {"redis": {"server_store": 600.0}, "all-to-all": {"server_server": 1700.0}}
        assert traffic.title(moved) == (
            "A request moves, for its session: all-to-all 1.7 kB between servers; redis 600 B to its store"
        )
        assert traffic.title({"sticky": {}}).startswith("No strategy")

    def test_consistency(self):
        """Kept, broken, both, and neither."""
        assert consistency.title({"redis": "ok", "isolated": "violated"}) == (
            "Redis kept every promise to a shopper; isolated did not"
        )
        assert consistency.title({"isolated": "ok"}) == "Every promise to a shopper was kept under isolated"
        assert consistency.title({"redis": "violated"}).startswith("Promises to shoppers were broken under redis")
        assert consistency.title({"redis": "unknown"}).startswith("Too few chances")

    def test_two_tabs(self):
        """Lossy policies have their share; if none lost anything, that is the finding."""
        lossy, safe = {"violations": 5, "opportunities": 100}, {"violations": 0, "opportunities": 100}
        assert two_tabs.title({"blob": {"redis": lossy}, "fields": {"redis": safe}}) == (
            "Two tabs lost 5.0 % of their colliding updates under blob, none under fields"
        )
        assert two_tabs.title({"blob": {"redis": safe}}) == "Two tabs lost no update under blob"
        assert two_tabs.title({"blob": {"redis": safe, "isolated": lossy}}) == (
            "Two tabs lost no update under blob, leaving out isolated"
        )
        assert two_tabs.title({"blob": {"isolated": lossy}}) == (
            "Two tabs lost 5.0 % of their colliding updates under blob"
        )

    def test_servers(self):
        """An uneven strategy is named; even work is said so."""
        even, uneven = {"web-1": 0.5, "web-2": 0.5}, {"web-1": 0.7, "web-2": 0.3}
        assert servers.title({"sticky": uneven, "redis": even}) == (
            "Under sticky the busiest server had 1.40 times its fair share; elsewhere at most 1.00"
        )
        assert servers.title({"redis": even}).startswith("Work was even")

    def test_noise(self):
        """A restless machine with a good comparison, and a calm one."""
        restless = {"sticky": {0: 1.0, 1: 2.0}}
        assert noise.title(restless, 1.01) == (
            "The same request took 1.0 to 2.0 ms from block to block, yet same against same differs by 1.0 % only"
        )
        assert not noise.title(restless, 1.2).endswith("only")
        assert noise.title({"sticky": {0: 2.0, 1: 2.02}}, None).startswith("The machine was steady")

    def test_visibility(self):
        """Late for a while, blind for good, and always there."""
        late = [{"from_ms": 0, "views": 10, "visible": 4}, {"from_ms": 5, "views": 10, "visible": 10}]
        blind = [{"from_ms": 0, "views": 10, "visible": 1}, {"from_ms": 5, "views": 10, "visible": 2}]
        assert visibility.title({"all-to-all": late, "isolated": blind}, []) == (
            "Under isolated 90 % of the soonest views missed the latest item, some even after 5 ms; "
            "under all-to-all 60 %, none after 5 ms"
        )
        assert visibility.title({}, ["redis"]).startswith("Every view showed the latest item")

    @pytest.mark.parametrize("check", broken.STORIES)
    def test_witness(self, check):
        """Each kind of broken cart has its sentence."""
        operations = [{"server": "web-1"}, {"server": "web-1"}]
        title = broken.title("redis", {"check": check, "operations": operations})
        assert title.startswith("Redis: ")
        assert "one server to the next" not in title


def test_opposite_results_have_other_titles(captions):
    """A run that came out the other way round does not repeat the usual story."""
    for name in ("latency-ratios", "cpu", "consistency", "witness"):
        assert captions("usual")[name].title != captions("opposite")[name].title


def test_points_without_intervals_are_said_to_be_so(captions):
    """A run of few blocks draws points, and says that they carry no verdict."""
    assert "too few blocks for intervals" in captions("quick")["latency-ratios"].note
    assert "[" not in captions("quick")["latency-ratios"].rows[0][1]


def test_the_witness_is_of_the_arm_that_broke(captions):
    """The picture tells a story that the run holds."""
    assert captions("usual")["witness"].title.startswith("Isolated:")
    assert captions("opposite")["witness"].title.startswith("Redis:")
    assert captions("usual")["witness"].rows[1][-1] == "A (s17-1)"


def test_an_unfinished_run_draws_nothing_and_fails_nowhere(tmp_path):
    """What a killed run leaves behind has no data: each chart says so."""
    unfinished = {
        "schema": 1,
        "experiment": "compare",
        "complete": False,
        "run": {"id": "x"},
        "validity": {},
        "strategies": {},
    }
    results.write(tmp_path, unfinished)
    assert all(chart.missing for chart in charts.draw_all(results.load(tmp_path)))


@pytest.mark.parametrize("variant", ["usual", "quick"])
@pytest.mark.usefixtures("settings")
def test_text_never_leaves_the_picture(made_up, variant):
    """Every text of every chart lies within its figure."""
    run = results.load(made_up(variant))
    for name in charts.COMPARE:
        figure, _ = charts.compose(run, name)
        FigureCanvasAgg(figure).draw()
        boxes = [text.get_window_extent() for text in figure.texts] + [axes.get_tightbbox() for axes in figure.axes]
        for box in boxes:
            assert min(box.x0, box.y0) > -2, (name, box)
            assert box.x1 < figure.bbox.width + 2, (name, box)
            assert box.y1 < figure.bbox.height + 2, (name, box)
