"""What engines promise about the disk can be changed for a while, and comes back."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest

from lab.cluster import ClusterSpec, Lab
from lab.engines.keeper import Keeper
from lab.engines.redis import Redis
from lab.errors import LabError
from lab.probes.storage import fill


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    """A Redis that nobody else writes to: its settings are changed here."""
    with Keeper(tmp_path_factory.mktemp("redis")) as keeper:
        yield Redis.start(keeper)


def settings(engine):
    """Return what it says of its append-only file."""
    with engine.connect() as client:
        return client.config_get("append*")


@pytest.mark.parametrize(
    ("promise", "kept"), [("always", ("yes", "always")), ("everysec", ("yes", "everysec")), ("none", ("no", None))]
)
def test_redis_keeps_another_promise_for_a_while(own_redis, promise, kept):
    """While the context lasts, and after an error in it the usual one is back; what was written is still there."""
    usual = settings(own_redis)
    with suppress(ZeroDivisionError), own_redis.promising(promise):
        found = settings(own_redis)
        assert found["appendonly"] == kept[0]
        assert kept[1] in {None, found["appendfsync"]}
        with own_redis.connect() as client:
            assert client.info("persistence")["aof_enabled"] == (kept[0] == "yes")
            client.set(f"kept:{promise}", 1)
        raise ZeroDivisionError
    assert settings(own_redis)["appendonly"] == usual["appendonly"] == "yes"
    assert settings(own_redis)["appendfsync"] == usual["appendfsync"] == "everysec"
    with own_redis.connect() as client:
        assert client.get(f"kept:{promise}") == b"1"


def test_a_redis_that_is_not_the_labs_own_keeps_its_promise(own_redis):
    """Nobody changes the settings of a server that serves others, too."""
    stranger = Redis(own_redis.url)
    with pytest.raises(LabError, match="not the lab's own"), stranger.promising("none"):
        pass
    assert settings(own_redis)["appendonly"] == "yes"


@pytest.mark.parametrize(("commit", "persistence"), [("on", "p"), ("off", "p"), ("unlogged", "u")])
def test_sessions_may_be_less_durable_than_the_shops_orders(tmp_path, commit, persistence):
    """The session table is logged or not; only the connections of sessions commit without waiting."""
    spec = ClusterSpec(name=f"database {commit}", strategy="database", servers=1, commit=commit)
    with Lab(tmp_path, redis=False) as lab, psycopg.connect(lab.postgresql.url, autocommit=True) as connection:
        (cluster,) = lab.start(spec)
        fill(cluster.url, 2, "p")
        tables = dict(connection.execute("SELECT relname, relpersistence::text FROM pg_class WHERE relkind = 'r'"))
        assert tables[cluster.namespace] == persistence
        assert tables["orders"] == tables["order_items"] == "p"
        options = cluster._wiring.of_sessions().get("options")
        assert options == ("-c synchronous_commit=off" if commit == "off" else None)
        with psycopg.connect(lab.postgresql.url, **cluster._wiring.of_sessions()) as own:
            assert own.execute("SHOW synchronous_commit").fetchone() == ("off" if commit == "off" else "on",)
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sessions'"
        assert connection.execute(sessions).fetchone() != (0,)
