"""What can be told of the containers without an engine: secrets, the balancer's settings, and what names what."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from lab.cli import main
from lab.containers import DockerMissing, compose, env_file, images
from lab.engines import nginx, postgresql, redis
from lab.engines.nginx import Settings, Upstream
from lab.servers.environment import cookie_name
from strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
BALANCER = (ROOT / "containers" / "balancer" / "nginx.conf").read_text(encoding="utf-8")


def test_secrets_are_written_once_and_for_their_owner_alone(tmp_path):
    """A second call changes nothing, since a store's volume knows the first password."""
    path = tmp_path / ".env"
    assert env_file.write(path)
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not env_file.write(path)
    assert path.read_text() == first
    assert list(tmp_path.iterdir()) == [path]
    values = dict(line.split("=", 1) for line in first.splitlines() if "=" in line and not line.startswith("#"))
    assert set(values) == set(env_file.NAMES)
    assert len(set(values.values())) == len(values)
    assert min(map(len, values.values())) >= 32


def test_a_file_of_an_older_version_gets_the_secrets_that_it_lacks(tmp_path, monkeypatch, capsys):
    """Compose says `run make .env` then, so that must help; what stands in it stays, whatever it is."""
    path = tmp_path / ".env"
    before = b'SERVERS=2 # two\xe9\nexport SECRET_KEY=mine\nPEER_SECRET=\nLAB_SECRET=""\n#REDIS_PASSWORD=out of use'
    path.write_bytes(before)
    path.chmod(0o644)
    monkeypatch.setattr(env_file, "PATH", path)
    monkeypatch.setattr(env_file.write, "__defaults__", (path,))
    assert env_file.main() == 0
    assert "PEER_SECRET, LAB_SECRET, REDIS_PASSWORD, POSTGRES_PASSWORD" in capsys.readouterr().out
    after = path.read_bytes()
    assert after.startswith(before + b"\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    added = re.findall(rb"^(\w+)=\S{32,}$", after[len(before) :], re.MULTILINE)
    assert [name.decode() for name in added] == [name for name in env_file.NAMES if name != "SECRET_KEY"]
    assert env_file.main() == 0
    assert "stays as it is" in capsys.readouterr().out
    assert path.read_bytes() == after
    assert list(tmp_path.iterdir()) == [path]


def test_make_completes_a_file_that_exists(tmp_path):
    """To make, a file that is there is up to date, unless told otherwise."""
    (tmp_path / ".env").touch()
    command = ["make", "--dry-run", f"--file={ROOT / 'Makefile'}", ".env"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "lab.containers.env_file" in done.stdout


def test_the_image_of_all_web_servers_is_built_for_one_service():
    """For several, Compose 2 makes several images of one name, and at the next `up` every container anew."""
    services = re.findall(r"^  ([\w-]+):\n    <<: (.*)$", COMPOSE, re.MULTILINE)
    assert [name for name, merged in services if "*built" in merged] == ["web-redis", "web-redis-cluster"]
    assert len(re.findall(r"^ +dockerfile: containers/Dockerfile$", COMPOSE, re.MULTILINE)) == 1


def test_the_compose_file_insists_on_every_secret():
    """None has a default, and what is missing leads to `make .env`."""
    for name in env_file.NAMES:
        assert f"${{{name}:?is not set - run make .env}}" in COMPOSE
        assert not re.search(rf"(?<!\$)\$\{{{name}(:-|\}})", COMPOSE)


@pytest.mark.parametrize("words", [("docker", "compose"), ("docker-compose",)], ids=" ".join)
def test_every_compose_that_is_here_reads_the_files(words):
    """Compose 2 refuses what 1.29 takes, and the other way round. This asks no engine."""
    if (
        shutil.which(words[0]) is None
        or subprocess.run([*words, "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"no `{' '.join(words)}` on this machine")
    for overlay in ([], ["containers/measure.yml"], ["containers/load.yml"], ["containers/swarm.yml"]):
        files = ["docker-compose.yml", *overlay]
        unset = re.findall(r"\$\{(\w+)\}", (ROOT / files[-1]).read_text(encoding="utf-8"))
        done = subprocess.run(
            [*words, *(word for file in files for word in ("--file", file)), "--profile", "load", "config", "--quiet"],
            cwd=ROOT,
            env=os.environ | env_file.fresh() | dict.fromkeys(unset, "20000"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (overlay, done.stderr)


def test_no_shell_stands_between_postgresql_and_its_health_check():
    """One that is ended for taking too long leaves a child to PostgreSQL, which takes that for a crash of its own."""
    service = COMPOSE.split("\n  postgres:\n")[1].split("\n\n  ")[0]
    assert re.search(r"test: \[CMD, pg_isready, ", service)


def directives(config, skip):
    """Return the directives of a configuration as lines, without those that name places."""
    bare = re.sub(r"#.*", "", config).replace("}", ";")
    last = {re.sub(r"\s+", " ", line.rpartition("{")[2]).strip() for line in bare.split(";")}
    return {line for line in last if line and not line.startswith(skip)}


def test_the_balancer_in_a_container_behaves_as_the_labs_own(tmp_path):
    """Time limits, kept connections, what is tried again: a setting of one that the other lacks is seen here."""
    servers = (Upstream("127.0.0.1:1", "r"),)
    Settings(folder=tmp_path, access_log=tmp_path / "log", port=1, servers=servers, sticky_cookie="c").write()
    skip = ("daemon", "user", "pid", "error_log", "access_log", "log_format", "listen", "server", "proxy_pass", "root")
    skip += ("location", "include", "zone", "sticky", "return", '"', "\\t", "resolver", "worker_connections")
    skip += ("client_body_temp", "proxy_temp", "fastcgi_temp", "uwsgi_temp", "scgi_temp", "text/", "image/", "font/")
    local, container = directives((tmp_path / "nginx.conf").read_text(), skip), directives(BALANCER, skip)
    assert local == container
    assert len(local) > 20
    limits = f"max_fails={nginx.MAX_FAILS} fail_timeout={nginx.FAIL_TIMEOUT_SECONDS}s;"
    upstreams = re.findall(r"^\s+server \S+:8000 resolve (.*)$", BALANCER, re.MULTILINE)
    assert len(upstreams) >= len(STRATEGIES)
    assert set(upstreams) == {limits}


def test_the_balancer_writes_what_the_lab_reads(tmp_path):
    """The first seven fields of its log are those of the lab's own; the strategy follows."""
    formats = [
        re.findall(r'log_format lab "(.*?)"', text)[0].split(r"\t")
        for text in ((ROOT / "lab/engines/nginx.conf.j2").read_text(), BALANCER)
    ]
    assert formats[1] == [*formats[0], "$server_name"]


def test_sticky_has_the_cookie_that_belongs_to_its_sessions():
    """Alike in length and form, as in the lab's own clusters."""
    assert (
        f"sticky cookie {cookie_name('sticky').replace('session', 'server')} httponly samesite=lax path=/;" in BALANCER
    )


def test_every_strategy_has_a_service_and_an_upstream():
    """A strategy that the registry has and the containers lack would be missed here."""
    for name in STRATEGIES:
        assert re.search(rf"^  web-{name}:$", COMPOSE, re.MULTILINE)
        assert f"server web-{name}:8000 resolve" in BALANCER


def test_stores_in_containers_have_the_settings_of_the_labs_own():
    """So that numbers mean the same. What places them on the lab's machine is left out."""
    here = {"listen_addresses", "unix_socket_directories"}
    for name, value in postgresql._CONFIG.items():
        assert name in here or f"- {name}={value}\n" in COMPOSE
    for name in ("appendonly", "appendfsync", "maxmemory-policy"):
        assert f"--{name} {redis._CONFIG[name]}" in COMPOSE


def test_images_are_named_with_their_version_and_in_one_place():
    """`latest` is another thing tomorrow."""
    named = images.official()
    assert {name.partition(":")[0] for name in named} == {"python", "nginx", "redis", "postgres"}
    assert len(named) == len({name.partition(":")[0] for name in named})
    assert all(re.fullmatch(r"\w+:\d+(\.\d+)*(-slim)?", name) for name in named)


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        ({}, "no `docker` on the PATH"),
        ({"docker": "exit 1"}, "Docker's engine does not answer"),
        ({"docker": '[ "$1" = info ] && echo 20'}, "Compose is not"),
        ({"docker": '[ "$1" = info ] && echo 20', "docker-compose": "echo 1.25.0"}, "docker-compose 1.25.0 is too old"),
    ],
)
def test_without_an_engine_or_compose_it_is_one_clear_line(programs, says, tmp_path, monkeypatch, capsys):
    """What is missing, and what to do; nothing is started, and no secret is written."""
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    compose.find_compose.cache_clear()
    try:
        status = main(["up", "--engine", "docker"])
    finally:
        compose.find_compose.cache_clear()
    told = capsys.readouterr()
    assert status == 1
    assert says in told.err
    assert told.err.count("\n") == 1


def test_either_compose_will_do(tmp_path, monkeypatch):
    """The plugin first; else the old program, from 1.29 on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for script, found in (
        ('[ "$2" != x ] && echo 2', ("docker", "compose")),
        ('[ "$1" = info ] && echo 20', ("docker-compose",)),
    ):
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker-compose").write_text("#!/bin/sh\necho 1.29.2\n")
        for name in ("docker", "docker-compose"):
            (tmp_path / name).chmod(0o755)
        compose.find_compose.cache_clear()
        assert compose.find_compose() == found
    compose.find_compose.cache_clear()
    assert DockerMissing.__doc__
