"""A contention run, small but real: sessions in the catalogue's database and in Redis, with everything behind it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from lab import samples
from lab.cli import main
from lab.errors import LabError
from lab.experiments.contention import experiment as contention
from lab.experiments.contention.report import LINES, REPORT, Reports, remember_the_past
from lab.experiments.contention.watch import Looks
from lab.report import draw
from lab.shop import catalogue

PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.timeout(300)

TINY = contention.Size(
    blocks=2,
    pair_blocks=1,
    loads_rps=(100,),
    report_rps=(100,),
    pair_rps=100,
    slice_requests=40,
    twin=True,
    look_seconds=0.2,
    orders=300,
)


@pytest.fixture(scope="module")
def run(carry_out):
    """One tiny run on one server per arm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contention.SIZES, "quick", TINY)
        patch.setattr(contention, "PAIRS", (contention.PAIRS[0], contention.PAIRS[-1]))
        return carry_out("contention", "--quick", "--servers", "1")


def test_the_folder_has_every_file(run):
    """Results, samples, charts in both forms, the page, the log and the engines' logs."""
    for name in ("results.json", "samples.npz", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    charts = {path.stem for path in (run / "charts").glob("*.svg")}
    assert {"catalogue-ratio", "machine-cpu", "database-work", "equal-promises"} <= charts
    assert list((run / "engines").glob("*.log"))


def test_both_arms_had_the_same_load_and_every_request_is_kept(run, results):
    """At each load and in each pair: as many of every kind, none left out."""
    columns = samples.load(run)
    measured = results["contention"]["points"] + results["contention"]["pairs"]
    assert len(measured) == 4
    assert [(one["load_rps"], one["report"]) for one in measured[:2]] == [(100, False), (100, True)]
    kept = 0
    for one in measured:
        sent = {arm: told["sent"] for arm, told in one["arms"].items()}
        assert sent["database"] == sent["redis"] > 0
        for told in one["arms"].values():
            assert told["catalogue"]["requests"] + told["session"]["requests"] + told["failed"] == told["sent"]
            assert told["catalogue"]["requests"] > 0
        kept += 2 * sent["redis"]
    assert kept == np.count_nonzero(~columns.twin)
    arms = {name.partition(",")[0] for name in columns.arms}
    assert arms == {"database", "redis", "database on", "redis always", "database unlogged", "redis none"}


def test_sessions_in_the_database_are_written_to_its_log_and_those_in_redis_are_not(results):
    """But for the shop's orders; an unlogged table writes less than one that is logged."""
    for one in results["contention"]["points"]:
        log = {arm: told["wal_bytes_per_request"] for arm, told in one["arms"].items()}
        assert log["database"] > 2 * log["redis"]
    by_commit = {one["promise"]["commit"]: one["arms"]["database"] for one in results["contention"]["pairs"]}
    assert by_commit["unlogged"]["wal_bytes_per_request"] < by_commit["on"]["wal_bytes_per_request"]


def test_who_used_the_machine_is_known_and_the_report_ran(results):
    """CPU time of each part, the share of the whole machine, and reports that came to an end."""
    for one in results["contention"]["points"]:
        for told in one["arms"].values():
            assert all(told["cpu_ms_per_request"][part] > 0 for part in ("servers", "postgresql", "redis", "balancer"))
            assert 0 < told["cpu_share"] < 1.001  # of clocks that are not read at one moment
            assert told["waits"]["looks"] > 0
        assert not one["judged"]  # so few pages carry no 95th percentile
        assert (one["reports"] > 0) == one["report"]


def test_pairs_promise_the_same_and_redis_is_compared_with_itself(results):
    """From losing nothing to losing everything."""
    promises = [(one["promise"]["commit"], one["promise"]["redis"]) for one in results["contention"]["pairs"]]
    assert promises == [("on", "always"), ("unlogged", "none")]
    assert results["contention"]["same_against_same"]["estimate"] > 0
    for times in results["contention"]["commit_ms"].values():
        assert all(ms > 0 for ms in times.values())


def test_two_blocks_judge_nothing(results):
    """Without intervals nobody can tell, and the evidence has a number all the same."""
    claim = next(claim for claim in results["claims"] if claim["id"] == "database-slows")
    assert claim["verdict"] == "cannot tell"
    assert claim["evidence"]


def test_the_report_is_drawn_from_the_files_alone_and_comes_out_the_same(run):
    """Drawing again, without engines, gives the same page to the byte."""
    before = (run / "report.html").read_bytes()
    draw(run)
    assert (run / "report.html").read_bytes() == before


def chosen(**options):
    """Return what a user asked for."""
    usual = {"size": "default", "seed": 1, "out": Path(), "command": "", "servers": 4}
    return contention.settings(**{**usual, **options})


def test_slices_are_longer_where_requests_are_rare():
    """So that each has a 95th percentile, within limits; pairs and the report's loads are cases like any other."""
    planned = contention.cases(chosen())
    seconds = {case.load_rps: case.seconds for case in planned}
    assert seconds[100] == contention.LONGEST_SLICE
    assert seconds[500] == contention.SHORTEST_SLICE
    assert [case.twin for case in planned].count(True) == 1
    assert len({case.title for case in planned}) == len(planned)


def test_loads_that_a_user_asks_for_are_measured_with_and_without_the_report():
    """Each once, the lowest first; the pairs at the one in the middle."""
    planned = contention.cases(chosen(loads=(400, 100, 200, 100)))
    assert [case.load_rps for case in planned if not case.report and not case.pair] == [100, 200, 400]
    assert [case.load_rps for case in planned if case.report] == [100, 200, 400]
    assert {case.load_rps for case in planned if case.pair} == {200}


@pytest.mark.parametrize(("own", "named"), [("redis", "LAB_DATABASE_URL"), ("postgresql", "LAB_REDIS_URL")])
def test_engines_of_others_keep_their_promises(own, named):
    """Then the pairs are left out, and why is told."""
    assert named in contention._cannot_promise({"redis": False, "postgresql": False, own: True})
    assert contention._cannot_promise({"redis": True, "postgresql": True}) == ""


@pytest.mark.parametrize(
    ("loads", "said"), [("100 many", "'many' is no load"), ("1", "'1' is no load"), (" ", "one load")]
)
def test_a_load_that_is_none_is_one_clear_line(loads, said, capsys):
    """And status 2."""
    assert main(["contention", "--loads", loads]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def shop_url(postgresql_engine):
    """Give a database of its own with a shop in it."""
    with psycopg.connect(postgresql_engine.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE contention")
    url = make_conninfo(postgresql_engine.url, dbname="contention")
    catalogue.prepare(url, products=50)
    remember_the_past(url, 200)
    return url


def test_the_report_counts_every_line_of_every_order_of_the_past(shop_url):
    """Its sums are those of the orders; asked for a second past, the shop has still one."""
    remember_the_past(shop_url, 200)
    with psycopg.connect(shop_url) as connection:
        lines, cents = connection.execute(
            "SELECT count(*), sum(quantity * price_cents) FROM shop.order_items"
        ).fetchone()
        rows = connection.execute(REPORT).fetchall()
    assert lines == 200 * LINES
    assert sum(row[2] for row in rows) == cents
    assert len({row[0] for row in rows}) > 1


def test_reports_run_until_they_are_no_longer_wanted(shop_url):
    """One after the other, on one connection that is gone afterwards."""
    reports = Reports(shop_url)
    with reports.running():
        wait_until(lambda: len(reports.seconds) > 2)
    with psycopg.connect(shop_url) as connection:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'report'"
        wait_until(lambda: connection.execute(left).fetchone() == (0,))


def test_a_report_that_fails_ends_the_run(database_url):
    """With one clear line; where there is no shop, there is nothing to report."""
    url = make_conninfo(database_url, dbname="template1")
    reports = Reports(url)
    with pytest.raises(LabError, match="the report failed: relation"), reports.running():
        wait_until(lambda: reports._failure)


def test_who_waits_for_a_row_is_seen(shop_url):
    """A transaction that another one keeps waiting counts as a row lock."""
    looks = Looks(shop_url)
    with psycopg.connect(shop_url) as first, psycopg.connect(shop_url) as second:
        first.execute("UPDATE shop.products SET name = name WHERE id = 1")
        second.execute("SET statement_timeout = 600")
        with looks.looking(), suppress(psycopg.errors.QueryCanceled):
            second.execute("UPDATE shop.products SET name = name WHERE id = 1")
    assert looks.waits.seen["row lock"] > 0
    assert looks.waits.looks > 0


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
