"""PostgreSQL and Redis: one shape, the same promises."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis

from lab.engines import find, ports, postgresql, user
from lab.engines import redis as redis_module
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis
from lab.errors import EngineFailed, EngineMissing, LabError
from tests.processes import alive, sockets

ENGINES = pytest.mark.parametrize("engine", [Redis, PostgreSQL], ids=["redis", "postgresql"])
VARIABLE = {Redis: "LAB_REDIS_URL", PostgreSQL: "LAB_DATABASE_URL"}


def answers(url):
    """Return whether an engine answers the simplest question."""
    try:
        if url.startswith("redis"):
            with redis.Redis.from_url(url, socket_timeout=1, retry=None) as client:
                return client.ping()
        with psycopg.connect(url, connect_timeout=2) as connection:
            return connection.execute("SELECT true").fetchone()[0]
    except (redis.RedisError, psycopg.Error):
        return False


def talks(url, seconds=0.3):
    """Return whether an engine says anything at all to a new connection within a moment."""
    where = urlsplit(url)
    hello = b"PING\r\n" if where.scheme == "redis" else (8).to_bytes(4) + (80877103).to_bytes(4)  # SSLRequest
    with socket.create_connection((where.hostname, where.port), timeout=seconds) as connection:
        connection.sendall(hello)
        try:
            return bool(connection.recv(1))
        except TimeoutError:
            return False


def shared_memory_segments():
    """Return the creators of all System V segments, where the system lists them."""
    table = Path("/proc/sysvipc/shm")
    return {int(line.split()[4]) for line in table.read_text().splitlines()[1:]} if table.exists() else set()


@ENGINES
def test_starts_answers_and_stops(engine, own_keeper):
    """An engine answers once `start` has returned, tells its version, and is gone once `stop` has."""
    running = engine.start(own_keeper)
    pids = running.pids()
    assert answers(running.url)
    assert running.pid in pids
    assert running.version[0].isdigit()
    running.stop()
    running.stop()
    assert not answers(running.url)
    assert alive(pids) == []
    assert running.pids() == ()


@ENGINES
def test_listens_on_loopback_only(engine, own_keeper):
    """No other machine reaches an engine, and none makes a socket in the file system."""
    running = engine.start(own_keeper)
    seen = sockets(running.pid, urlsplit(running.url).port)
    listening = [one for one in seen if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    assert not [one for one in seen if one.family == socket.AF_UNIX and one.laddr]


@ENGINES
def test_killed_is_gone_at_once_with_its_children(engine, own_keeper):
    """A killed engine refuses; no process of it stays, and no shared memory, which the kernel would keep for good."""
    before = shared_memory_segments()
    running = engine.start(own_keeper)
    pids = running.pids()
    running.kill()
    with pytest.raises(ConnectionRefusedError):
        talks(running.url)
    deadline = time.monotonic() + 5
    while alive(pids):
        assert time.monotonic() < deadline, alive(pids)
        time.sleep(0.01)
    assert running.pid not in shared_memory_segments() - before


def put(url, count):
    """Keep so many values in an engine, each acknowledged."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            for number in range(count):
                assert client.set(f"n{number}", number)
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int PRIMARY KEY)")
            for number in range(count):
                connection.execute("INSERT INTO kept VALUES (%s)", [number])


def count_kept(url):
    """Return how many values an engine has, asked once: it is to answer as soon as `restart` returns."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url, retry=None) as client:
            return client.dbsize()
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM kept").fetchone()[0]


@ENGINES
def test_killed_comes_back_on_its_port_with_all_that_was_acknowledged(engine, own_keeper):
    """An engine that was killed, or is paused, or runs, answers as before once `restart` returns, and lost nothing."""
    running = engine.start(own_keeper)
    url = running.url
    put(url, 300)
    before = shared_memory_segments() - {running.pid}
    for harm in (running.kill, running.pause, lambda: None):
        pids = running.pids()
        harm()
        running.restart()
        assert running.url == url
        assert count_kept(url) == 300
        assert not set(pids) & set(alive(pids))
        assert not set(pids) & (shared_memory_segments() - before)
        assert running.pid in running.pids()
    running.stop()
    assert not answers(url)


@ENGINES
def test_a_kill_on_purpose_is_not_complained_about(engine, own_keeper):
    """The keeper is content while an engine is dead that the lab has killed, and after it has come back."""
    running = engine.start(own_keeper)
    running.kill()
    own_keeper.check()
    running.restart()
    own_keeper.check()
    psutil.Process(running.pid).kill()
    with pytest.raises(EngineFailed, match="has ended while it was needed"):
        wait_until_it_complains(own_keeper)


def wait_until_it_complains(keeper):
    """Let the keeper check until it raises."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        keeper.check()
        time.sleep(0.01)


@ENGINES
def test_what_is_dead_is_neither_paused_nor_resumed(engine, own_keeper):
    """Pausing a dead engine is one clear line; killing it again is no error."""
    running = engine.start(own_keeper)
    running.kill()
    running.kill()
    for act in (running.pause, running.resume):
        with pytest.raises(EngineFailed, match=r"^(Redis|PostgreSQL) does not run, so it cannot be (paused|resumed)$"):
            act()


@ENGINES
def test_an_engine_whose_port_is_taken_does_not_come_back(engine, own_keeper):
    """When another program has the port meanwhile, `restart` says so in one line and leaves nothing half alive."""
    running = engine.start(own_keeper)
    port = urlsplit(running.url).port
    running.kill()
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        with pytest.raises(EngineFailed, match=r"^(Redis|PostgreSQL) did not come back\. Its last words: .+$"):
            running.restart()
    assert running.pids() == ()
    running.restart()
    assert answers(running.url)


def test_redis_has_read_its_data_when_it_is_back(own_keeper):
    """Reading takes Redis a while, in which it refuses everything: `restart` waits until that is over."""
    running = Redis.start(own_keeper)
    with running.connect() as client:
        client.eval("for n = 1, 300000 do redis.call('SET', 'n' .. n, n) end return 0", 0)
    running.kill()
    running.restart()
    assert count_kept(running.url) == 300_000


@ENGINES
def test_paused_says_nothing_until_resumed(engine, own_keeper):
    """A paused engine accepts connections and says nothing; resumed, it goes on; paused, it can still be stopped."""
    running = engine.start(own_keeper)
    pids = running.pids()
    running.pause()
    assert not talks(running.url)
    running.resume()
    assert talks(running.url)
    running.pause()
    running.stop()
    assert alive(pids) == []


def test_redis_is_as_durable_as_it_says(redis_engine):
    """Redis never evicts, appends to its file every second, and says what that means."""
    with redis_engine.connect() as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
    assert "everysec" in redis_engine.durability
    assert "noeviction" in redis_engine.durability


def test_redis_durability_is_asked_not_assumed(own_keeper):
    """The sentence follows the engine's settings."""
    running = Redis.start(own_keeper)
    with running.connect() as client:
        client.config_set("appendonly", "no")
        assert "a crash loses everything" in redis_module._durability(client)


def test_postgresql_is_as_durable_as_it_says(postgresql_engine):
    """PostgreSQL has everything on that makes a commit durable, cleans up by itself, and says so."""
    with psycopg.connect(postgresql_engine.url) as connection:
        for name in ("fsync", "synchronous_commit", "autovacuum"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("on",)
    assert "fsync on, synchronous_commit on" in postgresql_engine.durability
    assert "survives" in postgresql_engine.durability


def test_postgresql_durability_is_asked_not_assumed(postgresql_engine):
    """The sentence follows the engine's settings."""
    with psycopg.connect(postgresql_engine.url, options="-c synchronous_commit=off") as connection:
        assert "can lose" in postgresql._durability(connection)


def test_postgresql_asks_for_a_password(postgresql_engine):
    """Another user of the machine cannot become the database's superuser."""
    wrong = psycopg.conninfo.make_conninfo(postgresql_engine.url, password="guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


@ENGINES
def test_an_existing_engine_is_used_and_left_running(engine, redis_engine, postgresql_engine, own_keeper, monkeypatch):
    """With its variable set, the lab uses the engine named there, and stopping leaves it alone."""
    existing = {Redis: redis_engine, PostgreSQL: postgresql_engine}[engine]
    monkeypatch.setenv(VARIABLE[engine], existing.url)
    borrowed = engine.start(own_keeper)
    assert answers(borrowed.url)
    assert borrowed.pid is None
    assert borrowed.pids() == ()
    for act in (borrowed.pause, borrowed.resume, borrowed.kill, borrowed.restart):
        with pytest.raises(LabError, match=r"^this (Redis|PostgreSQL) is not the lab's own, so it is not \w+$"):
            act()
    borrowed.stop()
    assert answers(existing.url)


def test_a_database_of_the_labs_own_on_an_existing_server_is_dropped(postgresql_engine, own_keeper, monkeypatch):
    """On a server that is not the lab's own, the lab works in a database that it makes, and drops in the end."""
    monkeypatch.setenv("LAB_DATABASE_URL", postgresql_engine.url)
    borrowed = PostgreSQL.start(own_keeper)
    with psycopg.connect(borrowed.url) as connection:
        name = connection.info.dbname
    borrowed.stop()
    with psycopg.connect(postgresql_engine.url) as connection:
        assert name != connection.info.dbname
        assert not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall()


@ENGINES
def test_an_existing_engine_that_does_not_answer_is_one_clear_line(engine, own_keeper, monkeypatch, free_port):
    """A variable that names a dead engine is the error's first word."""
    scheme = {Redis: "redis", PostgreSQL: "postgresql"}[engine]
    monkeypatch.setenv(VARIABLE[engine], f"{scheme}://127.0.0.1:{free_port}/")
    with pytest.raises(EngineFailed, match=rf"^{VARIABLE[engine]} names .*$"):
        engine.start(own_keeper)


@ENGINES
def test_an_engine_that_dies_at_start_tells_its_last_words(engine, own_keeper, monkeypatch):
    """The error carries the last line of the engine's log, and is one line."""
    module = {Redis: redis_module, PostgreSQL: postgresql}[engine]
    monkeypatch.setattr(module, "_CONFIG", module._CONFIG | {"no-such-setting": "1"})
    with pytest.raises(EngineFailed, match=r"^\w+ did not start\. Its last words: .+ \(log: .+\.log\)$"):
        engine.start(own_keeper)


@ENGINES
def test_a_port_that_was_taken_meanwhile_is_not_the_end(engine, own_keeper, monkeypatch):
    """When another program binds the chosen port first, the engine tries another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = ports.free_port()
        offered = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(ports, "free_port", lambda: next(offered))
        running = engine.start(own_keeper)
    assert f":{free}/" in running.url
    assert answers(running.url)


@ENGINES
def test_a_missing_engine_is_named_with_how_to_get_it(engine, own_keeper, monkeypatch, tmp_path):
    """Neither wheel nor PATH nor the usual place: one line names the program and the remedy."""
    monkeypatch.setattr(find, "WHEELS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgresql, "_OFF_THE_PATH", str(tmp_path / "*"))
    with pytest.raises(EngineMissing, match=r"^(redis-server|postgres) is missing: .* `make setup`.*$"):
        engine.start(own_keeper)


def test_without_a_wheel_the_path_is_used(monkeypatch, tmp_path):
    """A program on the PATH serves where there is no wheel, and only there."""
    wheel = Redis.find()
    (tmp_path / "redis-server").symlink_to(wheel)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Redis.find() == wheel
    monkeypatch.setattr(find, "WHEELS", tmp_path / "none")
    assert Redis.find() == tmp_path / "redis-server"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_runs_postgresql_from_beneath_a_private_home(own_keeper, monkeypatch, tmp_path):
    """Programs that another user cannot reach are copied to where they can, and no permission is changed."""
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    package = PostgreSQL.find().parents[2]
    for name in (f"{package.name}/pginstall18", f"{package.name}.libs"):
        shutil.copytree(package.parent / name, private / name, symlinks=True)
    monkeypatch.setattr(find, "WHEELS", private)
    assert not user.open_to_all(PostgreSQL.find())
    running = PostgreSQL.start(own_keeper)
    assert answers(running.url)
    assert psutil.Process(running.pid).uids().real != 0
    assert private.stat().st_mode & 0o777 == 0o700
