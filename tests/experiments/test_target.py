"""A deployment that runs already: the file that names it, and a comparison of one that really runs."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from lab.cli import main
from lab.cluster import ClusterSpec, Lab
from lab.errors import LabError
from lab.experiments.compare import experiment as compare
from lab.target import read
from lab.target.deployment import _greet
from lab.target.file import TargetShop
from loadtests.lifecycle import Roles

ROOT = Path(__file__).parents[2]

TINY = compare.Size(
    blocks=1,
    slice_seconds=0.4,
    warmup_seconds=0.2,
    control_seconds=0.5,
    sync_seconds=0.5,
    affinity_seconds=0.5,
    two_tabs_seconds=0.5,
    lifetimes=(3, 7),
    begin_seconds=1,
    roles=Roles(2, 1, 1, 1),
    rungs=(2, 4),
)

pytestmark = pytest.mark.timeout(300)

SMALL = '[strategies.sticky]\nurl = "http://127.0.0.1:8082"\n'


def file(tmp_path, text):
    """Write a target's file."""
    path = tmp_path / "target.toml"
    path.write_text(text)
    return path


def test_the_example_can_be_read_as_it_stands():
    """Whoever copies it begins with a file that is right, and it names what the compose file publishes."""
    target = read(ROOT / "containers" / "target.example.toml", needed="sticky")
    assert set(target.strategies) == {"isolated", "sticky", "all-to-all", "database", "redis"}
    assert len({shop.url for shop in target.strategies.values()}) == 5


def test_every_key_of_a_target_stands_in_the_example():
    """What the example does not show, nobody finds."""
    text = (ROOT / "containers" / "target.example.toml").read_text()
    target = read(ROOT / "containers" / "target.example.toml", needed="sticky")
    shop = target.strategies["sticky"]
    keys = {*target.__struct_fields__, *shop.__struct_fields__, "internal_url"}
    assert not [key for key in keys if key not in text]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[strategies", r"Expected '\]'"),
        ("", r"missing required field `strategies`"),
        ("[strategies.redis]\nurl = 'http://h:1'\n", r"expected \[strategies.sticky\], .*, got redis"),
        (f"{SMALL}[strategies.rediss]\nurl = 'http://h:1'\n", "unknown strategy 'rediss'. Did you mean redis"),
        (f"{SMALL}colour = 'red'\n", "unknown field `colour`"),
        (f"writes = 'all'\n{SMALL}", "writes"),
        ("[strategies.sticky]\nurl = 8082\n", r"Expected `str`, got `int`"),
        ("[strategies.sticky]\nurl = '127.0.0.1:8082'\n", r"strategies.sticky.url: expected http://host:port"),
        ("[strategies.sticky]\nurl = 'http://h:1/shop'\n", "strategies.sticky.url: expected http://host:port"),
        ("[strategies.sticky]\nurl = 'http://h:port'\n", "strategies.sticky.url: expected http://host:port"),
        (f"redis_url = 'http://h:1'\n{SMALL}", "redis_url: expected redis:// or rediss://host:port"),
        (f"{SMALL}[strategies.redis]\nurl = 'http://127.0.0.1:8082/'\n", "redis and sticky have the same url"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, capsys, text, says):
    """It names the file, what is wrong with it and where to look; nothing is measured."""
    path = file(tmp_path, text)
    assert main(["compare", "--target", str(path), "--out", str(tmp_path / "results")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"TARGET={path}: " in said
    assert "containers/target.example.toml" in said
    assert re.search(says, said), said
    assert not (tmp_path / "results").exists()


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path, capsys):
    """The same holds for a name that was mistyped."""
    assert main(["compare", "--target", str(tmp_path / "nowhere.toml"), "--out", str(tmp_path)]) == 1
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_target_and_an_engine_exclude_each_other(tmp_path, capsys):
    """A deployment that runs already is not started by anything."""
    assert main(["compare", "--target", "x.toml", "--engine", "docker", "--out", str(tmp_path)]) == 2
    assert "exclude each other" in capsys.readouterr().err


DEPLOYED = ("sticky", "all-to-all", "database", "redis")
"""One strategy of each kind: bound, copied, and kept in either store."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """A deployment of four strategies, two servers each, and what is known of it."""
    folder = tmp_path_factory.mktemp("deployment")
    with Lab(folder) as lab:
        specs = [ClusterSpec(name=name, strategy=name, servers=2) for name in DEPLOYED]
        yield lab, {cluster.spec.strategy: cluster for cluster in lab.start(*specs)}


def described(lab, clusters, *, internal):
    """Describe it as a target's file does."""
    lines = ['name = "four small shops"', f'redis_url = "{lab.redis.url}"', f'database_url = "{lab.postgresql.url}"']
    lines += [f'session_table = "{clusters["database"].namespace}"']
    for name, cluster in clusters.items():
        lines += [f"[strategies.{name}]", f'url = "{cluster.url}"']
        lines += [f"[strategies.{name}.servers]"]
        lines += [
            f'{server.name} = {{ url = "{server.url}"'
            + (f', internal_url = "{server.internal_url}" }}' if internal else " }")
            for server in cluster.servers
        ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def run(deployment, tmp_path_factory):
    """A tiny comparison of it."""
    out = tmp_path_factory.mktemp("results")
    path = file(out, described(*deployment, internal=True))
    patch = pytest.MonkeyPatch()
    patch.setitem(compare.SIZES, "quick", TINY)
    try:
        assert main(["compare", "--quick", "--target", str(path), "--rate", "60", "--out", str(out)]) == 0
    finally:
        patch.undo()
    return (out / "latest").resolve()


@pytest.fixture(scope="module")
def results(run):
    """Its results.json."""
    return json.loads((run / "results.json").read_text())


def test_a_deployment_that_runs_is_measured_as_it_is(results, deployment):
    """Latency, consistency and stored copies come from the deployment itself, which goes on afterwards."""
    assert results["run"]["engine"] == "target"
    assert results["run"]["target"] == "four small shops"
    assert tuple(results["strategies"]) == DEPLOYED
    for name, found in results["strategies"].items():
        assert found["requests"]["sent"] == found["requests"]["scheduled"] > 0, name
        assert found["latency_ms"]["all"]["p50"]["estimate"] > 0, name
        assert found["consistency"]["verdict"] != "violated" or name == "all-to-all", name
        assert found["storage"]["copies_per_session"] == (2 if name == "all-to-all" else 1), name
        assert found["session_operations_per_request"]["loads"] > 0, name
        assert set(found["servers"]) == {"web-1", "web-2"}, name
    _, clusters = deployment
    assert all(server.alive for cluster in clusters.values() for server in cluster.servers)


def test_what_a_deployment_does_not_show_is_null_and_said(results, run):
    """No invented numbers: null in the results, sentences in the report, and a warning not to compare."""
    for found in results["strategies"].values():
        assert found["cpu_ms_per_request"] == {"servers": None, "store": None, "balancer": None, "total": None}
        links = found["traffic"]["bytes_per_request"]
        assert links["client_balancer"] is None
        assert links["balancer_server"] is None
    assert results["strategies"]["redis"]["traffic"]["bytes_per_request"]["server_store"] > 0
    for stored in ("redis", "database"):
        assert len(results["strategies"][stored]["storage"]["ladder"]["bytes"]) > 1, stored
    assert results["strategies"]["sticky"]["storage"]["ladder"]["bytes"] == []
    assert results["strategies"]["sticky"]["storage"]["physical_bytes_per_session"] is None
    page = (run / "report.html").read_text()
    assert "the lab does not see them" in page
    assert "must not be compared" in page


def test_arms_that_a_deployment_is_not_are_named(results, run):
    """Each with the reason: other ways to write, and lifetimes of the lab's own."""
    left = results["run"]["left_out"]
    assert {"redis blob", "redis versioned", "sticky lifecycle", "redis lifecycle"} <= set(left)
    assert set(results["strategies"]["redis"]["two_tabs"]) == {"fields"}
    assert results["strategies"]["redis"]["lifecycle"] == {}
    assert "redis lifecycle" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("set_cookies", "given", "found"),
    [
        (["session_1"], None, "session_1"),
        (["session_1", "session_1_clock"], None, "session_1"),
        (["server_1", "session_1"], None, "session_1"),
        (["a", "b"], "b", "b"),
    ],
)
def test_the_cookie_with_the_session_is_found(set_cookies, given, found):
    """Under all-to-all there is a second one beside it, under sticky the balancer's."""
    with shop_that_sets(set_cookies) as url:
        assert _greet("some", TargetShop(url=url, cookie_name=given)).cookie_name == found


def test_cookies_that_cannot_be_told_apart_are_one_clear_line():
    """The file can say which it is."""
    with shop_that_sets(["session_1", "session_2"]) as url, pytest.raises(LabError, match="Say which with cookie_name"):
        _greet("some", TargetShop(url=url))


@contextmanager
def shop_that_sets(names):
    """Serve something that sets these cookies at a login; gives its address."""

    def app(_, start_response):
        start_response("200 OK", [("Set-Cookie", f"{name}=x; Path=/") for name in names])
        return [b"{}"]

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_where_nobody_answers_is_one_clear_line(tmp_path, capsys):
    """It names the strategy and the address, and the run's folder says that nothing was measured."""
    path = file(tmp_path, '[strategies.sticky]\nurl = "http://127.0.0.1:9"\n')
    assert main(["compare", "--quick", "--target", str(path), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "strategies.sticky: http://127.0.0.1:9 does not answer" in said


def test_a_web_site_that_is_not_the_shop_is_one_clear_line(deployment, tmp_path, capsys):
    """The server's internal port answers, but not as a shop."""
    _, clusters = deployment
    other = clusters["sticky"].servers[0].internal_url
    path = file(tmp_path, f'[strategies.sticky]\nurl = "{other}"\n')
    assert main(["compare", "--quick", "--target", str(path), "--out", str(tmp_path)]) == 1
    assert "is not the lab's shop: POST /api/login gave 404, expected 200" in capsys.readouterr().err


def test_a_store_that_does_not_answer_is_one_clear_line(deployment, tmp_path, capsys):
    """The key in the file is named."""
    lab, clusters = deployment
    text = described(lab, clusters, internal=False).replace(lab.redis.url, "redis://127.0.0.1:9/0")
    path = file(tmp_path, text)
    assert main(["compare", "--quick", "--target", str(path), "--out", str(tmp_path)]) == 1
    assert "redis_url names a Redis that does not answer" in capsys.readouterr().err
