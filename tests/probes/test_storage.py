"""Copies and bytes of sessions: a known number is stored, and counted back, under every strategy."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace
from wsgiref.simple_server import WSGIRequestHandler, make_server

import psutil
import pytest

from lab.cluster import ClusterSpec, Lab
from lab.errors import LabError
from lab.measuring.usage import _occupied, shared_store, storage_ladder
from lab.probes.storage import ADDS_PER_SESSION, Ladder, climb, fill, holding, memory_of
from strategies import STRATEGIES, Strategy
from strategies.contract import Census

SESSIONS = 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Engines of their own for this file."""
    with Lab(tmp_path_factory.mktemp("storage")) as lab:
        yield lab


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_sessions_made_through_the_balancer_are_all_found(lab, strategy):
    """N sessions give N ids, `servers` times as many copies where every server holds all, and bytes that rise."""
    (cluster,) = lab.start(ClusterSpec(name=f"{strategy} probe", strategy=strategy, servers=2))
    try:
        found = storage_ladder(lab, cluster, (4, SESSIONS))
    finally:
        lab.stop(cluster)

    # Under `isolated` a shopper's session is begun anew on each server, so there are more of them.
    lost_on_the_way = strategy == "isolated"
    assert found.holding.sessions == SESSIONS or lost_on_the_way
    assert found.holding.copies_per_session == (2 if strategy == "all-to-all" else 1)
    assert found.ladder.sessions == [4, SESSIONS]
    assert found.holding.logical_bytes_per_session > 10
    in_store = shared_store(strategy)
    assert (in_store in found.holding.held) == (in_store is not None)
    if strategy == "database":
        assert found.engine["live_rows"] == SESSIONS
        assert 0 < found.engine["dead_rows"] <= 3 * SESSIONS
        assert found.engine["wal_bytes"] > 0


def test_a_shared_place_that_is_no_engine_counts_once(monkeypatch):
    """Where all servers keep their sessions in one file, each lists all; the registry names it, the store weighs it."""
    own = Strategy("one-file", "module:Class", "a file", "round robin", ("fields",), shared="one file")
    monkeypatch.setitem(STRATEGIES, "one-file", own)
    listed = dict.fromkeys(("web-1", "web-2"), census(["a", "b"], 200))
    cluster = SimpleNamespace(
        spec=SimpleNamespace(strategy="one-file"),
        namespace="s1",
        url="http://127.0.0.1:9",
        census=lambda: listed,
        quiet=lambda: None,
    )
    found = storage_ladder(SimpleNamespace(postgresql=None, redis=None), cluster, ())

    assert found.holding.copies_per_session == 1
    assert found.holding.held == {"web-1": [], "web-2": [], "one file": ["a", "b"]}
    occupied = _occupied(SimpleNamespace(postgresql=None, redis=None), cluster)
    assert occupied() == listed["web-1"].physical_bytes


def test_copies_on_servers_are_counted_one_by_one():
    """Two servers that share one session and hold one each alone make four copies of three sessions."""
    found = holding({"web-1": census(["a", "b"], 200), "web-2": census(["a", "c"], 240)}, None)

    assert (found.sessions, found.copies) == (3, 4)
    assert found.copies_per_session == pytest.approx(4 / 3)
    assert found.logical_bytes_per_session == pytest.approx(440 / 4)


def test_a_shared_store_is_scanned_once():
    """What every server reports of the shared store is one copy, and the servers hold none."""
    found = holding({"web-1": census(["a", "b"], 200), "web-2": census(["a", "b"], 200)}, "Redis")

    assert (found.sessions, found.copies) == (2, 2)
    assert found.held == {"web-1": [], "web-2": [], "Redis": ["a", "b"]}


def test_the_slope_of_the_ladder_leaves_out_what_an_empty_holder_occupies():
    """Bytes per session are the slope; the intercept does not matter, and one rung has no slope."""
    sizes = iter([1_000_000 + 150 * n for n in (10, 20, 40)])

    assert climb([10, 20, 40], lambda _: None, lambda: next(sizes)).bytes_per_session == pytest.approx(150)
    assert Ladder([10], [5]).bytes_per_session is None


def test_sessions_that_seem_to_occupy_less_than_they_say_were_too_few():
    """A holder that gives memory back while a short ladder is climbed tells nothing of what a session occupies."""
    ladder = Ladder([10, 20, 30], [50_000, 45_000, 56_000])
    assert ladder.bytes_per_session_above(299) == pytest.approx(300)  # to the last bit it depends on the machine
    assert ladder.bytes_per_session_above(301) is None
    assert Ladder([10, 20], [50_000, 45_000]).bytes_per_session_above(0) is None
    assert Ladder([10], [5]).bytes_per_session_above(0) is None


def test_rungs_say_how_many_more_sessions_to_make():
    """Each rung is a total: the ladder asks for the difference only."""
    asked = []
    climb([10, 25, 60], asked.append, lambda: 0)

    assert asked == [10, 15, 35]


@pytest.mark.parametrize("system", ["this one", "darwin"])
def test_memory_is_read_back(monkeypatch, system):
    """A process that fills 200 MB more occupies about 200 MB more (huge pages round up), also by what macOS tells."""
    if system == "darwin":
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.delattr(psutil.Process, "memory_full_info")  # there it fails, or never returns
    code = """if True:
        import sys
        print("ready", flush=True)
        sys.stdin.readline()
        x = bytearray(200_000_000)
        print("full", flush=True)
        sys.stdin.readline()
    """
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        process.stdout.readline()
        before = memory_of([process.pid])
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        grown = memory_of([process.pid]) - before
        process.communicate("\n")

    assert grown == pytest.approx(200_000_000, rel=0.03)


def test_a_server_that_died_is_one_clear_line():
    """Measuring the memory of a dead process says what happened."""
    process = subprocess.Popen(["true"])
    process.wait()

    with pytest.raises(LabError, match="ended while its memory was measured"):
        memory_of([process.pid])


def test_a_shop_that_does_not_answer_is_one_clear_line():
    """A ladder on a balancer that is gone says so."""
    with pytest.raises(LabError, match="did not answer"):
        fill("http://127.0.0.1:9", 1, "x")


def test_a_balancer_that_finds_nobody_for_a_moment_is_asked_again():
    """A busy machine does that; every session is made all the same, and an answer that is none ends the ladder."""
    asked = []

    def app(environ, start_response):
        asked.append(environ["PATH_INFO"])
        start_response("502 Bad Gateway" if len(asked) == 2 else answer, [])
        return [b""]

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, answer = f"http://127.0.0.1:{server.server_port}", "200 OK"
        fill(url, 1, "x")
        assert asked == ["/api/login", *(["/api/cart"] * (1 + ADDS_PER_SESSION))]
        answer = "404 Not Found"
        with pytest.raises(LabError, match="the shop answered 404 Not Found to POST /api/login"):
            fill(url, 1, "x")
        server.shutdown()


def census(handles, size):
    """Make up what a server reports."""
    return Census(tuple(handles), size, None, 0, 0, 0, 0, 0)
