"""What measuring in containers needs and no engine: ports, settings, counters, one log for five clusters."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
from types import SimpleNamespace

import pytest

from lab.cluster import ClusterSpec
from lab.docker import place
from lab.docker.counters import Counters
from lab.engines.nginx import read_access_log
from lab.errors import EngineFailed, LabError
from lab.experiments.compare.findings import _container_engine, _containers, _cpu
from lab.probes.containers import Use, engine_processes, since
from strategies import STRATEGIES

OLD = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
    "memory_stats": {"usage": 900, "stats": {"cache": 200, "total_rss": 700}},
    "networks": {"eth0": {"rx_bytes": 10, "tx_bytes": 20}, "eth1": {"rx_bytes": 1, "tx_bytes": 2}},
}
"""As an engine on cgroups of version 1 answers."""

NEW = {**OLD, "memory_stats": {"usage": 900, "stats": {"anon": 650, "file": 250}}}
"""As one on version 2 does."""


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers as a container engine does, with what it was given."""

    daemon_threads = True

    def __init__(self, path, answers):
        self.answers = answers
        self.asked = []
        super().__init__(str(path), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """Answer with the JSON for the container in the path."""
        self.server.asked.append(self.path)
        body = json.dumps(self.server.answers[self.path.split("/")[2]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        """Return who asks: sockets in the file system have no address."""
        return "lab"

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """Counters that read from an engine of the test's own."""
    path = tmp_path / "engine.sock"
    with Engine(path, {"old": OLD, "new": NEW, "gone": {"message": "No such container: gone"}}) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield Counters(), engine
        engine.shutdown()


def test_the_counters_of_several_containers_are_read(counters):
    """Nanoseconds become seconds, networks are added up, and the file cache is nobody's memory."""
    read, engine = counters
    old, new = read.read(["old", "new"])
    assert old.cpu_seconds == new.cpu_seconds == 2.5
    assert (old.received_bytes, old.sent_bytes) == (11, 22)
    assert (old.memory_bytes, new.memory_bytes) == (700, 650)
    assert all("one-shot=true" in path for path in engine.asked)


def test_a_container_that_is_gone_is_one_clear_line(counters):
    """The engine's own words are in it."""
    with pytest.raises(EngineFailed, match="No such container: gone"):
        counters[0].read(["gone"])


def test_an_engine_on_another_machine_is_refused(monkeypatch):
    """Its ports would be published over there."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(LabError, match=r"needs an engine on this machine.*tcp://10.0.0.1:2375"):
        Counters()


def test_what_containers_used_is_a_difference():
    """A container that came meanwhile is left out."""
    before = {"web-1": Use("servers", 1.0, 100, 200)}
    now = {"web-1": Use("servers", 1.5, 150, 260), "web-2": Use("servers", 9.0, 9, 9)}
    assert since(now, before) == {"web-1": Use("servers", 0.5, 50, 60)}


def test_cpu_comes_from_the_containers_where_there_are_any():
    """Of the stretch in which each strategy was alone, by component; without containers and slices it is null."""
    used = {
        "web-1": Use("servers", 0.2, 1000, 2000),
        "web-2": Use("servers", 0.3, 1000, 2000),
        "redis": Use("store", 0.1, 500, 500),
    }
    found = _cpu([], used, 100)
    assert found == {"servers": 5.0, "store": 1.0, "balancer": 0.0, "total": 6.0}
    assert _containers(used, 100)["web-2"]["cpu_ms_per_request"] == 3.0
    assert _containers(used, 100)["redis"]["received_bytes_per_request"] == 5.0
    assert set(_cpu([], {}, 0).values()) == {None}
    assert _containers({}, 0) is None


def test_what_the_engine_itself_used_is_told_apart():
    """It is no strategy's CPU time, and no other program's; without containers it is null."""
    requests = [None] * 50
    pieces = [SimpleNamespace(operations=requests, cpu={"servers": 1.0, "engine": spent}) for spent in (0.1, 0.3)]
    assert _container_engine(pieces) == {"cpu_ms_per_request": pytest.approx(4.0)}
    assert _container_engine([SimpleNamespace(operations=requests, cpu={"servers": 1.0})]) is None
    assert _container_engine([]) is None


def test_the_engines_own_processes_are_known_by_their_names(tmp_path):
    """Those that forward ports among them; what calls itself otherwise is a stranger."""
    program = tmp_path / "docker-proxy"
    program.symlink_to(shutil.which("sleep"))
    with subprocess.Popen([program, "60"]) as proxy, subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            found = engine_processes()
        finally:
            proxy.kill()
            stranger.kill()
    assert proxy.pid in found
    assert not {stranger.pid, os.getpid()} & set(found)


def test_one_log_tells_the_strategies_apart(tmp_path):
    """Lines of other strategies, marks, and what the container said beside them are not counted."""
    log = tmp_path / "access.log"
    log.write_text(
        "10.1\t172.1.0.2:8000\t200\t300\t500\t310\t480\tredis\n"
        "10.2\t172.1.0.3:8000\t200\t30\t50\t31\t48\tsticky\n"
        "10.3\t172.1.0.2:8000, 172.1.0.4:8000\t200\t300\t500\t310, 310\t0, 480\tredis\n"
        "mark\tabc\tredis\n"
        "2026/01/01 nginx: [warn] something else\n"
    )
    found = read_access_log(log, server_name="redis")
    assert (found.requests, found.client_received_bytes, found.server_sent_bytes) == (2, 600, 930)
    assert found.by_server == {"172.1.0.2:8000": 1, "172.1.0.4:8000": 1}


def test_arms_side_by_side_must_agree():
    """One compose project has one environment."""

    def spec(strategy, name=None, **more):
        return ClusterSpec(name=name or strategy, strategy=strategy, **more)

    alike = place._settings_of([spec("redis", writes="blob"), spec("sticky", writes="blob")])
    assert alike["WRITES"] == "blob"
    assert alike["IDLE_SECONDS"] == "1800"
    with pytest.raises(LabError, match="cannot be told different things"):
        place._settings_of([spec("redis", writes="blob"), spec("sticky")])
    with pytest.raises(LabError, match="cannot stand side by side: redis, other"):
        place._settings_of([spec("redis"), spec("redis", "other")])


def test_every_server_gets_two_ports_of_its_own():
    """Ranges are as long as there are servers, so that a server that is started again finds its own; none overlap."""
    found = place._ports(3)
    taken = [port for text in found.values() for port in range(int(text.split("-")[0]), int(text.split("-")[-1]) + 1)]
    assert len(taken) == len(set(taken)) == 3 + len(STRATEGIES) * (1 + 3 + 3)
    assert {f"{kind}_ALL_TO_ALL" for kind in ("PORT", "SHOPPERS", "INTERNAL")} <= set(found)
    assert all(text.isdigit() for text in place._ports(1).values())
