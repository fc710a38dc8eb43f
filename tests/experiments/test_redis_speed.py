"""A run of `redis-speed`, small but real: both engines, emulated links, pipelined requests, writers at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lab.cli import main
from lab.errors import LabError
from lab.experiments.redis_speed import experiment as redis_speed
from lab.experiments.redis_speed import pipeline, sessions, types
from lab.experiments.redis_speed.findings import assemble
from lab.experiments.redis_speed.wire import packed, wires
from lab.probes.sockets import own_sockets
from lab.report import draw
from strategies.contract import logical_bytes
from tests.processes import alive

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
TINY = redis_speed.Size(
    blocks=2, slice_seconds=0.001, stretches=2, stretch_seconds=0.02, distant_blocks=2, changes=2, races=4
)
BENCHMARK = """#!/bin/sh
echo '"test","rps","avg_latency_ms"'
echo '"SET","40000.50","0.1"'
echo '"GET","50000.25","0.1"'
"""
"""Stands in for `redis-benchmark`, which the lab's wheel does not bring: prints what version 8 prints."""


def carried_out(out, patch):
    """Carry out a tiny run; return its folder."""
    patch.setitem(redis_speed.SIZES, "quick", TINY)
    assert main(["redis-speed", "--quick", "--out", str(out)]) == 0
    return (out / "latest").resolve()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One tiny run, with a `redis-benchmark` on the PATH."""
    tools = tmp_path_factory.mktemp("tools")
    (tools / "redis-benchmark").write_text(BENCHMARK)
    (tools / "redis-benchmark").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tools), prepend=os.pathsep)
        return carried_out(tmp_path_factory.mktemp("results"), patch)


@pytest.fixture(scope="module")
def results(run):
    """Its results.json."""
    return json.loads((run / "results.json").read_text())


@pytest.fixture
def lab(redis_engine):
    """What the parts need of a lab: a Redis and a namespace of this test's own."""
    made = SimpleNamespace(redis=redis_engine, namespace=f"t{time.monotonic_ns()}_")
    yield made
    with redis_engine.connect() as client:
        for key in client.scan_iter(match=f"{made.namespace}*", count=1000):
            client.delete(key)


def test_the_folder_has_every_file_and_every_chart(run):
    """Results, samples, charts in both forms, the page, the log."""
    for name in ("results.json", "samples.npz", "report.html", "lab.log"):
        assert (run / name).stat().st_size > 0, name
    expected = {"session-times", "operations-per-second", "native-types", "network"}
    for kind in ("svg", "png"):
        assert {path.stem for path in (run / "charts").glob(f"*.{kind}")} == expected


def test_every_cell_was_timed(results):
    """Three stores, three operations and four sizes; two stores, two operations and five distances."""
    told = results["redis_speed"]
    assert len(told["sessions"]["cells"]) == 36
    assert len(told["network"]["cells"]) == 20
    cells = told["sessions"]["cells"] + told["network"]["cells"]
    least = sessions.LEAST_CALLS * TINY.blocks
    assert all(cell["calls"] >= least and cell["mean_ms"]["estimate"] > 0 for cell in cells)
    assert set(results["strategies"]) == {"sticky", "database", "redis"}
    assert set(results["strategies"]["redis"]["latency_ms"]) == {"read", "write", "write all"}


def test_an_emulated_round_trip_is_waited_for(results):
    """No operation through a link is quicker than the delay that was asked for."""
    for cell in results["redis_speed"]["network"]["cells"]:
        if cell["round_trip_ms"]:
            assert cell["mean_ms"]["estimate"] >= cell["round_trip_ms"]


def test_operations_were_counted_in_every_way(results):
    """Three commands one at a time and in four depths, by the clock and by Redis's CPU time."""
    cells = results["redis_speed"]["pipeline"]["cells"]
    assert len(cells) == 15
    assert {cell["command"] for cell in cells} == {"GET", "SET", "SET, no log"}
    for cell in cells:
        assert cell["per_second"]["estimate"] > 0
        assert cell["per_core_second"]["estimate"] > 0
        assert cell["busy"] > 0


def test_redis_benchmark_is_asked_where_it_is_on_the_path(results):
    """The same ways as the lab's own requests, and what it printed."""
    told = results["redis_speed"]["pipeline"]["benchmark"]
    assert {(one["depth"], one["connections"]) for one in told} == {(1, 1), (1, 8), (16, 8), (64, 8), (128, 8)}
    assert {(one["command"], one["per_second"]) for one in told} == {("GET", 50000.25), ("SET", 40000.5)}


def test_native_types_send_less_and_lose_nothing(results):
    """Facts of the protocol, however busy the machine is."""
    ways = results["redis_speed"]["types"]["ways"]
    confirmed = TINY.races * types.WRITERS * types.CHANGES
    assert [way["confirmed"] for way in ways.values()] == [confirmed, confirmed]
    assert ways["native types"]["lost"] == 0
    assert ways["one value"]["sent_bytes"] > types.SESSION_BYTES
    assert ways["one value"]["received_bytes"] > types.SESSION_BYTES
    assert ways["native types"]["sent_bytes"] < 0.5 * ways["one value"]["sent_bytes"]


def test_the_claims_are_judged_with_the_numbers_of_the_run(results):
    """Two blocks carry no interval, so nothing is told of means; the rest of the table belongs to other experiments."""
    claims = {claim["id"]: claim for claim in results["claims"]}
    assert claims["redis-under-1ms"]["verdict"] == claims["redis-millions"]["verdict"] == "cannot tell"
    assert claims["redis-under-1ms"]["numbers"]["read_ms"] > 0
    assert claims["redis-native-types"]["numbers"]["native_lost"] == 0
    assert claims["cart-flickers"]["verdict"] == "not tested"


def test_the_report_is_drawn_from_the_files_alone_and_comes_out_the_same(run):
    """Drawing again, without engines, gives the same page to the byte."""
    before = (run / "report.html").read_bytes()
    draw(run)
    assert (run / "report.html").read_bytes() == before


def test_a_redis_that_is_not_the_labs_own_is_measured_as_it_is(tmp_path, redis_engine, monkeypatch):
    """By the clock, with its settings left alone, and without a key left behind; links lead to it as well."""
    monkeypatch.setenv("LAB_REDIS_URL", redis_engine.url)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setitem(redis_speed.SIZES, "quick", TINY)
    with redis_engine.connect() as client:
        before = client.config_get("append*"), client.dbsize()
    chosen = redis_speed.settings(size="quick", seed=1, out=tmp_path, command="")
    quiet = SimpleNamespace(begin=lambda *_, **__: None, advance=lambda: None)
    cells = assemble(redis_speed.procedure(chosen, tmp_path, quiet), tmp_path)["redis_speed"]["pipeline"]["cells"]
    assert {cell["command"] for cell in cells} == {"GET", "SET"}
    assert {cell["per_core_second"] for cell in cells} == {None}
    with redis_engine.connect() as client:
        assert (client.config_get("append*"), client.dbsize()) == before


def test_ctrl_c_leaves_nothing(tmp_path):
    """While links are up and sessions are timed: status 130, one line, a folder that says so, no process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "redis-speed", "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal does: Ctrl-C reaches the whole group
    )
    wait_until(lambda: any("by size" in path.read_text() for path in tmp_path.glob("redis-speed-*/lab.log")))
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 130
    assert told.strip() == "lab: interrupted; everything that was started has been stopped."
    (folder,) = tmp_path.glob("redis-speed-*")
    assert json.loads((folder / "results.json").read_text())["complete"] is False
    assert not (tmp_path / "latest").exists()
    wait_until(lambda: not alive(children))


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", sessions.SIZES_BYTES)
def test_a_session_has_exactly_the_size_asked_for(size):
    """In logical bytes, in as many fields, each of them JSON; and another one has other content."""
    made = sessions.fields_of(size, seed=1)
    assert logical_bytes(made) == size
    assert len(made) == sessions.FIELDS
    assert all(isinstance(json.loads(value), str) for value in made.values())
    assert sessions.fields_of(size, seed=2) != made == sessions.fields_of(size, seed=1)


def test_the_one_value_has_exactly_its_size():
    """8 KB as JSON, with all three kinds in it."""
    made = types.content()
    assert len(types._ENCODE(made)) == types.SESSION_BYTES
    assert min(len(made.cart), len(made.recent), len(made.categories)) > 50


@pytest.mark.parametrize("way", types.WAYS, ids=lambda way: way.name)
def test_both_ways_keep_the_same_session(way, lab):
    """What is put is read again; a change of each kind is there, the newest page first; every key lives longer then."""
    key, expected = f"{lab.namespace}kept", types.content()
    with lab.redis.connect() as client, wires(client, 1) as (wire,):
        way.put(wire, key, expected)
        for name in client.scan_iter(match=f"{key}*"):
            client.pexpire(name, 60_000)
        for kind in types.KINDS:
            way.change(wire, key, kind, f"new-{kind}")
            expected.add(kind, f"new-{kind}")
        found = way.read(wire, key)
        lives = [client.pttl(name) for name in client.scan_iter(match=f"{key}*")]
    assert (found.cart, found.recent) == (expected.cart, expected.recent)
    assert sorted(found.categories) == sorted(expected.categories)
    assert found.recent[0] == "new-recent"
    assert lives
    assert min(lives) > 60_000


def test_of_two_writers_who_read_the_same_value_one_loses_his_change(lab):
    """The very interleaving that a race waits for."""
    way, key = types.OneValue(), f"{lab.namespace}both"
    with lab.redis.connect() as client, wires(client, 2) as (one, other):
        way.put(one, key, types.content())
        early, late = way.read(one, key), way.read(other, key)
        early.add("cart", "early")
        late.add("cart", "late")
        way.put(one, key, early)
        way.put(other, key, late)
        shown = way.read(one, key)
    assert shown.has("cart", "late")
    assert not shown.has("cart", "early")


def test_a_race_counts_every_change_that_is_not_there(lab, monkeypatch):
    """A way that changes nothing loses all; one that works one writer after the other would lose none."""

    class Forgetful(types.NativeTypes):
        name = "forgetful"

        def change(self, wire, key, kind, item):
            wire.ask(("PING",))

    monkeypatch.setattr(types, "WAYS", (Forgetful(), types.NativeTypes()))
    forgetful, native = types.race(lab, rounds=2)
    each = 2 * types.WRITERS * types.CHANGES // len(types.KINDS)
    assert forgetful.lost == dict.fromkeys(types.KINDS, each)
    assert native.lost == dict.fromkeys(types.KINDS, 0)
    assert forgetful.confirmed == native.confirmed == 3 * each


def test_bytes_are_those_that_the_kernel_counts(lab):
    """What the connection says it sent and received is what went through its socket."""
    if own_sockets() is None:
        pytest.skip("this system does not count bytes of a socket")
    port = lab.redis.connect().connection_pool.connection_kwargs["port"]

    def counted(local):
        (found,) = [one for one in own_sockets() if (one.local_port, one.remote_port) == (local, port)]
        return found.bytes_sent, found.bytes_received

    with lab.redis.connect() as client, wires(client, 1) as (wire,):
        local = wire._socket.getsockname()[1]
        sent, received = counted(local)
        types.NativeTypes().put(wire, f"{lab.namespace}counted", types.content())
        types.NativeTypes().change(wire, f"{lab.namespace}counted", "recent", "page")
        assert counted(local) == (sent + wire.sent, received + wire.received)


def test_an_answer_that_is_not_the_expected_one_ends_the_measurement(lab):
    """A refusal of the same length is noticed, too: nothing is counted that was not done."""
    with lab.redis.connect() as client, wires(client, 1) as (wire,):
        wire.send(packed("PING"))
        with pytest.raises(LabError, match="Redis refuses what is measured"):
            pipeline._take(wire, bytearray(7), b"+PINK\r\n")
        with pytest.raises(LabError, match="wrong number of arguments"):
            wire.ask(("GET",))


def test_a_redis_that_goes_away_is_one_clear_line(own_redis):
    """Whoever waits for its answer learns of it."""
    with own_redis.connect() as client, wires(client, 1) as (wire,):
        own_redis.kill()
        with pytest.raises(LabError, match="Redis does not answer while it is measured"):
            wire.ask(("PING",))


@pytest.fixture
def own_redis(tmp_path):
    """A Redis of a test's own, to be killed."""
    from lab.engines.keeper import Keeper
    from lab.engines.redis import Redis

    with Keeper(tmp_path) as keeper:
        yield Redis.start(keeper, own=True)


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:5/0"),
        ("redis://me:se%40cret@store.example:7000/2?client_name=x", "redis://me:se%40cret@127.0.0.1:5/2?client_name=x"),
        ("redis://store.example", "redis://127.0.0.1:5"),
    ],
)
def test_a_link_keeps_user_password_database_and_options(url, through):
    """Only the place changes."""
    assert sessions._moved(url, 5) == through


def test_links_lead_to_plain_tcp_only():
    """Elsewhere the reason is told, and nothing is measured through a link."""
    left_out = {}
    urls = {"redis_url": "rediss://store.example:6380", "database_url": "postgresql:///lab?host=/run/postgresql"}
    assert sessions._targets(urls, left_out) == {}
    assert set(left_out) == {"redis", "database"}
    found = sessions._targets({"redis_url": "redis://store.example", "database_url": "postgresql://db:99/lab"}, {})
    assert {name: target for name, (target, _) in found.items()} == {
        "redis": ("store.example", 6379),
        "database": ("db", 99),
    }
    assert "port=5" in found["database"][1](5)["database_url"]


def test_what_redis_benchmark_prints_is_read():
    """With a head and quotes, as since version 6.2, or without; other commands are not asked for."""
    assert pipeline.rates_of('"test","rps"\n"SET","4.5","1"\n"GET","7"\n"PING","9"\n') == {"SET": 4.5, "GET": 7.0}
    assert pipeline.rates_of("WARNING: no config\n") == {}
