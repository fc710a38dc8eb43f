"""The report of a run of `redis-speed`: charts, page and terminal, on made-up runs of every kind."""

from __future__ import annotations

import itertools
import re

import made_up_redis_speed
import numpy as np
import pytest
from reading import shown

from lab import samples
from lab.report import charts, page, redis_speed
from lab.report.charts import redis_speed as drawn

VARIANTS = {
    "usual": {},
    "opposite": {"opposite": True},
    "few blocks": {"blocks": 3},
    "remote": {"remote": True},
    "cluster": {"remote": True, "cluster": True},
    "benchmark": {"benchmark": True},
}
NAMES = tuple(charts.CHARTS["redis-speed"])


@pytest.fixture(scope="session")
def told(made_up_of):
    """Return such runs by variant, written and drawn once."""
    return made_up_of("redis-speed", made_up_redis_speed.write, VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_has_a_page_and_charts_with_numbers(told, variant):
    """Tables have a cell per column, and no word of the machine's for nothing stands anywhere."""
    run = told(variant)
    for found in filter(None, told.captions(variant).values()):
        assert found.rows
        assert all(len(row) == len(found.columns) for row in found.rows)
        assert not re.search(r"\b(nan|None|inf)\b", repr(found))
    for table in redis_speed.tables(run):
        assert all(len(row) == len(table.columns) for row in table.rows)
    text = page.render(run, [])
    assert not re.search(r"\b(None|nan|undefined)\b", text)
    assert "<redis-speed>" not in text
    assert not re.search(r"\b(None|nan)\b", shown(run))


def test_a_whole_run_has_every_chart_and_a_cluster_only_what_can_be_asked_there(told):
    """What is left out says why."""
    assert set(told.figures("usual")) == set(NAMES)
    assert set(NAMES) - set(told.figures("cluster")) == {"operations-per-second", "native-types"}
    assert "left out: LAB_REDIS_URL leads to a Redis Cluster" in shown(told("cluster"))
    assert len(redis_speed.tables(told("cluster"))) == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_text_never_leaves_the_picture_and_nothing_overlaps(told, variant):
    """Every text of every chart lies within its figure, and texts and legends of one panel keep apart."""
    for name, figure in told.figures(variant).items():
        words = [text for text in figure.texts if text.get_text()]
        for axes in figure.axes:
            own = [text for text in axes.texts if text.get_text()]
            words += own
            boxes = [text.get_window_extent().padded(-1) for text in own]
            if axes.get_legend():
                boxes.append(axes.get_legend().get_window_extent().padded(-1))
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), (name, variant)
        for box in [text.get_window_extent() for text in words]:
            assert min(box.x0, box.y0) > -2, (name, variant)
            assert box.x1 < figure.bbox.width + 2, (name, variant)
            assert box.y1 < figure.bbox.height + 2, (name, variant)


def test_the_headline_is_true_either_way(told):
    """Quick or slow, few bytes or many, losses here or there, network or engine."""
    usual, opposite = redis_speed.headline(told("usual")), redis_speed.headline(told("opposite"))
    assert "read a session of 1 KB in 0.06" in usual
    assert "million GETs a second of one core" in usual
    assert "native types lost none, one value 570" in usual
    assert "native types lost 570, one value none" in opposite
    assert "read a session of 1 KB in 1.8" in opposite
    assert "by the clock" in redis_speed.headline(told("remote"))
    assert "network" not in redis_speed.headline(told("remote"))


def test_the_claims_come_out_both_ways(told):
    """Holds in the usual run, does not hold in the opposite one, where each says when it would turn."""
    judged = {variant: {c["id"]: c for c in told(variant).results["claims"]} for variant in ("usual", "opposite")}
    for claim in ("redis-under-1ms", "redis-millions", "redis-native-types"):
        assert judged["usual"][claim]["verdict"] == "holds", claim
        assert judged["opposite"][claim]["verdict"] == "does not hold", claim
        assert judged["opposite"][claim]["turns"].startswith("It would hold")


def test_a_run_with_few_blocks_has_points_and_tells_nothing_of_means(told):
    """No interval, no verdict on what an interval decides; bytes and losses are counted all the same."""
    claims = {claim["id"]: claim["verdict"] for claim in told("few blocks").results["claims"]}
    assert claims["redis-under-1ms"] == claims["redis-millions"] == "cannot tell"
    assert claims["redis-native-types"] == "holds"


def test_a_redis_that_is_not_the_labs_own_is_judged_by_the_clock(told):
    """The evidence, the table and the chart say so."""
    claims = {claim["id"]: claim for claim in told("remote").results["claims"]}
    assert "its CPU time cannot be seen from here" in claims["redis-millions"]["evidence"]
    assert "not the lab's own" in shown(told("remote"))
    caption = told.caption("remote", "operations-per-second")
    assert "not the lab's own" in caption.note
    assert "of one core" not in caption.title


def test_redis_benchmark_has_a_column_where_there_is_one(told):
    """Beside the lab's own figures, where it asked the same; elsewhere there is no column."""
    assert "redis-benchmark" not in shown(told("usual"))
    assert "redis-benchmark" in shown(told("benchmark"))
    table = next(table for table in redis_speed.tables(told("benchmark")) if table.title.startswith("Operations"))
    by_name = {row[0]: row[-1] for row in table.rows}
    assert by_name["GET, 64 in a request"] == "1,400"
    assert by_name["SET, one at a time"] == "\N{EN DASH}"


def test_other_programs_are_warned_of(told):
    """Where they took more than a quarter of the CPU."""
    assert "other programs used 40 % of the CPU" in shown(told("opposite"))
    assert told("usual").results["validity"]["ok"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_keeps_to_its_width(told, width):
    """In a pipe it is a hundred columns; nothing is cut off."""
    lines = shown(told("usual"), width).splitlines()
    assert max(map(len, lines)) <= 100
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)
    assert any(line.startswith("redis-millions: ") for line in lines)


def test_every_timed_call_is_in_the_samples(told):
    """As many as the figures speak of, by cell."""
    run = told("usual")
    kept = samples.load(run.folder)
    cells = redis_speed.cells(run.results, "sessions") + redis_speed.cells(run.results, "network")
    assert len(kept.latency_ms) == sum(cell["calls"] for cell in cells)
    read = kept.latency_ms[kept.rows("redis 2 ms away read 1024")]
    mean = redis_speed.mean_of(run.results, "redis", "read", 1024, part="network", away=2.0)
    assert read.mean() == pytest.approx(mean["estimate"])


def test_the_samples_of_each_cell_are_its_own(told):
    """What is timed in both parts, without a link, has a name in each: its calls and their mean are found again."""
    run = told("usual")
    kept = samples.load(run.folder)
    for part, behind in (("sessions", ""), ("network", " no link")):
        for cell in redis_speed.cells(run.results, part):
            away = cell["round_trip_ms"]
            link = "" if away is None else f" {away:g} ms away"
            name = f"{cell['store']}{link} {cell['operation']} {cell['size']}{behind if away is None else ''}"
            rows = kept.rows(name)
            assert rows.sum() == cell["calls"], name
            by_block = [kept.latency_ms[rows & (kept.block == block)].mean() for block in np.unique(kept.block[rows])]
            assert np.mean(by_block) == pytest.approx(cell["mean_ms"]["estimate"]), name


class TestTitles:
    """Titles say what was found, whichever way it came out."""

    @pytest.mark.parametrize(
        ("read", "write", "expected"),
        [
            (0.06, 0.07, "reads in 0.06 ms and writes in 0.07 ms on average at 1 KB, under 1 ms"),
            (
                0.06,
                1.4,
                "reads in 0.06 ms and writes in 1.40 ms on average at 1 KB, not under 1 ms for writes",
            ),
            (1.2, 1.4, "reads in 1.20 ms and writes in 1.40 ms on average at 1 KB, not under 1 ms"),
        ],
    )
    def test_sessions(self, read, write, expected):
        """On which side of 1 ms, and what PostgreSQL takes."""
        found = {
            "read": {"redis": {1024: {"estimate": read}}},
            "write": {"redis": {1024: {"estimate": write}}, "database": {1024: {"estimate": 0.5}}},
        }
        assert drawn.sessions_title(found, 1024) == f"Redis {expected}; PostgreSQL writes in 0.50 ms"
        assert drawn.sessions_title({}, 1024) == "Redis was not timed"

    def test_operations(self):
        """The most of each, and one at a time by the clock."""

        def cell(command, depth, core, clock):
            per_core = None if core is None else {"estimate": core}
            shape = {"command": command, "depth": depth, "connections": 8 if depth > 1 else 1}
            return {**shape, "per_core_second": per_core, "per_second": {"estimate": clock}, "busy": 0.9}

        found = [cell("GET", 1, 60_000, 30_000), cell("GET", 64, 1_500_000, 9e5), cell("SET", 64, 500_000, 4e5)]
        assert drawn.operations_title(found) == (
            "Sent many at a time, Redis carries out 1.50 million GETs and 0.50 million SETs a second of one core; "
            "one at a time, 30,000 GETs by the clock"
        )
        found = [cell("GET", 64, None, 9e5)]
        assert drawn.operations_title(found) == "Sent many at a time, Redis carries out 0.90 million GETs a second"

    @pytest.mark.parametrize(
        ("sent", "lost", "bytes_told", "losses_told"),
        [
            ((8400, 300), (60, 0), "28 times fewer bytes per change than", ", and lost none {of}; one value 60 %"),
            ((300, 600), (0, 5), "2.0 times as many bytes per change as", ", and lost 5.0 % {of}; one value none"),
            ((300, 300), (0, 0), "about as many bytes per change as", "; neither lost a concurrent change"),
            ((900, 300), (0, 0), "3.0 times fewer bytes per change than", "; neither lost a concurrent change"),
        ],
    )
    def test_types(self, sent, lost, bytes_told, losses_told):
        """Bytes and losses, in every combination."""
        ways = {
            name: {"sent_bytes": sent[index], "lost": lost[index], "confirmed": 100}
            for index, name in enumerate(("one value", "native types"))
        }
        losses = losses_told.format(of="of the concurrent changes")
        assert drawn.types_title(ways) == f"Native types send {bytes_told} one value{losses}"

    def test_network(self):
        """Who decides: the round trip where it is longer than the engine takes; what the emulation adds is left out."""
        far = {"redis": {None: {"engine": 0.1}, 2.0: {"engine": 0.1, "network": 2.0, "relay": 9.0}}}
        assert drawn.network_title(far) == (
            "Redis and its client take 0.10 ms: behind a longer round trip the network decides; "
            "at 2 ms (emulated) it is 95 % of the wait"
        )
        near = {"redis": {None: {"engine": 5.0}, 2.0: {"engine": 5.0, "network": 2.0, "relay": 0.1}}}
        assert drawn.network_title(near) == (
            "Redis and its client take 5.00 ms: even behind a round trip of 2 ms (emulated) the engine decides; the "
            "network is 29 % of the wait"
        )
