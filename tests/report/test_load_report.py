"""What a load run tells, for runs that went well and for runs that did not."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lab.report import load, terminal
from lab.report.results import Run
from lab.report.words import NONE


def of_worker(**changes):
    """What a worker did."""
    late = {"p50": 0.2, "p95": 1.0, "p99": 2.0, "max": 3.0}
    one = {"host": "here", "here": True, "shoppers": 50, "blocks": 30, "sent": 6000, "failed": 0, "cpu_seconds": 3.0}
    return {**one, "lateness_ms": late, "core_share": 0.1, "round_trip_ms": late, **changes}


def results(**changes):
    """Make up a run of two workers, 400 requests/s for 30 s."""
    latency = {"p50": {"estimate": 4.0, "low": 3.9, "high": 4.1}, "p95": {"estimate": 21.0}, "p99": None}
    told = {
        "target": "http://127.0.0.1:8085",
        "strategy": "redis",
        "shoppers": 100,
        "requests": {"scheduled": 12000, "sent": 12000, "ok": 12000, "failed": 0},
        "block_seconds": 1.0,
        "drain_seconds": {"p50": 0.02, "p95": 0.1, "p99": 0.1, "max": 0.1},
        "answered_rps": 392.0,
        "latency_ms": {"all": latency, "view": latency},
        "operations": {
            "visit": {"sent": 3000, "failed": 0},
            "all": {"sent": 12000, "failed": 0},
            "view": {"sent": 9000, "failed": 0},
        },
        "workers": {"worker-1": of_worker(), "worker-2": of_worker()},
        "apart_ms": {"p50": 0.5, "p95": 1.0, "p99": 1.0, "max": 1.4},
        "lost": [],
        "machine_busy": 0.4,
    }
    return {
        "experiment": "load",
        "complete": True,
        "run": {"rate_rps": 400, "blocks": 30},
        "validity": {"ok": True, "warnings": []},
        "strategies": {},
        "load": {**told, **changes},
        "claims": [],
    }


def headline(**changes):
    """Return the headline of such a run."""
    return load.headline(Run(Path(), results(**changes)))


def test_the_headline_says_who_sent_what_and_how_it_was_answered():
    """Numbers with units; percentiles that the sample carries, and no others."""
    assert headline() == (
        "2 workers sent 12,000 requests to redis, 400 a second. The shop kept up: the last answer of a block came "
        "0.02 s after its end (median). None failed. Half of the answers took over 4.0 ms, 1 in 20 over 21.0 ms. "
        "The workers began each block within 1.4 ms of each other."
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"drain_seconds": {"p50": 1.25}}, "The shop did not keep up: the last answer of a block came 1.25 s after"),
        ({"drain_seconds": {"p50": 1.25}}, "and 392 requests/s were answered"),
        ({"requests": {"sent": 12000, "failed": 7}}, "7 failed."),
        ({"strategy": None}, "requests to http://127.0.0.1:8085, 400 a second"),
        ({"latency_ms": {"all": {"p50": None, "p95": None, "p99": None}}}, "Too few requests to speak of percentiles."),
        ({"workers": {"worker-1": of_worker()}}, "1 worker sent"),
    ],
)
def test_the_headline_is_true_of_other_runs(changes, says):
    """What went wrong, or was less, is said."""
    assert says in headline(**changes)


def test_one_worker_alone_began_apart_from_nobody():
    """There is nothing to say of the start."""
    assert "of each other" not in headline(workers={"worker-1": of_worker()})


def test_a_run_that_ended_early_has_no_tables():
    """It says so."""
    early = {**results(), "load": None}
    assert load.tables(Run(Path(), early)) == []
    assert load.headline(Run(Path(), early)) == "This run ended before any load was sent."


def test_the_tables_hold_every_operation_and_every_worker():
    """All together first; a dash where a percentile is not carried."""
    answers, workers = load.tables(Run(Path(), results()))
    assert [row[0] for row in answers.rows] == ["all", "view", "visit"]
    assert answers.rows[0][3:] == ("4.0 (3.9 to 4.1)", "21", NONE)
    assert [row[0] for row in workers.rows] == ["worker-1", "worker-2"]
    assert workers.rows[0][5] == "0.2 / 1.0 / 2.0"


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_shows_it_within_its_width(width, monkeypatch):
    """In words that need no colour."""
    file = io.StringIO()
    monkeypatch.setattr(terminal, "WIDTH", width)
    terminal.show(results(), Console(file=file, width=width))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("worker-2" in line for line in lines)
