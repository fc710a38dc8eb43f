"""Sessions in Redis: layout, round trips by Redis's own count, and what happens when Redis refuses."""

from __future__ import annotations

import itertools
import secrets
import socket

import pytest
import redis
from behind_flask import Shop
from faults import EngineFails, open_when_up
from records import SECRET_HASH, begin, new_handle, packed, shown
from redis_servers import Address, launch_redis
from waiting import at_once, wait_until

from lab.engines.redis import Redis
from strategies.contract import Changes, NewSession, SessionGone, StoreSettings, StoreUnavailable
from strategies.redis import RedisStore


@pytest.fixture
def open_redis_store(redis_url):
    """Return a factory of stores with a namespace of their own."""
    opened = []

    def open_store(**settings):
        namespace = f"test_{secrets.token_hex(6)}"
        opened.append(RedisStore.open(StoreSettings(redis_url=redis_url, namespace=namespace, **settings)))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def client(redis_url):
    """Return a client for looking into Redis."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class TestRedisFails(EngineFails):
    """Redis pauses, dies and comes back."""

    engine_class = Redis
    store_class = RedisStore

    @pytest.mark.parametrize(
        ("refuse", "allow"),
        [
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        ],
        ids=["out of memory", "read-only replica"],
    )
    def test_refused_writes(self, engine, open_own_store, refuse, allow):
        """Redis that refuses writes is unavailable for them, changes nothing, and still serves reads."""
        store = open_when_up(open_own_store, timeout_seconds=5.0)
        handle = begin(store, a=1)
        with redis.Redis.from_url(engine.url) as client:
            client.execute_command(*refuse)
            for write in (
                lambda: store.save(handle, Changes(set=packed(a=2, b=2))),
                lambda: store.create(new_handle(), NewSession(SECRET_HASH, packed(a=1))),
            ):
                with pytest.raises(StoreUnavailable):
                    write()
            assert shown(store, handle) == {"a": 1}
            client.execute_command(*allow)
        store.save(handle, Changes(set=packed(b=2)))
        assert shown(store, handle) == {"a": 1, "b": 2}

    def test_opened_while_loading(self, engine, open_own_store):
        """A Redis that still reads its data cannot be opened yet, though it answers INFO."""
        open_when_up(open_own_store)
        with redis.Redis.from_url(engine.url) as client, client.pipeline(transaction=False) as commands:
            for number in range(20_000):
                commands.set(f"key-{number}", "")
            commands.execute()
        engine.kill()
        engine.revive("--key-load-delay", "500")  # microseconds for each command: ten seconds in all
        with redis.Redis.from_url(engine.url) as client:
            wait_until(lambda: info(client))
            with pytest.raises(StoreUnavailable, match="loading"):
                open_own_store()
            assert info(client)["loading"] == 1
        engine.kill()


def info(client):
    """Return what Redis says of itself; nothing while it does not."""
    try:
        return client.info()
    except redis.ConnectionError:
        return {}


def test_layout(open_redis_store, client):
    """HGETALL shows a session in plain text, and every key has an expiry."""
    store = open_redis_store(server="web-3", idle_seconds=100, absolute_seconds=1000)
    handle = begin(store, user="ann")
    key = f"{store.settings.namespace}:{handle}"
    found = client.hgetall(key)
    assert 99_000 < client.pttl(key) <= 100_000
    assert client.pexpiretime(key) == int(found.pop("_idle"))
    assert int(found.pop("_absolute")) - client.pexpiretime(key) == 900_000
    assert found == {"_version": "1", "_secret": SECRET_HASH, "_origin": "web-3", "f:user": '"ann"'}


def test_expired_keys_vanish(open_redis_store, client):
    """An expired session leaves nothing behind, without any sweeper of ours."""
    store = open_redis_store(idle_seconds=0.1)
    handle = begin(store, user="ann")
    store.save(handle, Changes(set=packed(a=1)))
    wait_until(lambda: not client.keys(f"{store.settings.namespace}:*"))


def test_no_key_without_expiry(open_redis_store, client):
    """A save at the very moment of the absolute deadline leaves no part of a session behind that never expires."""
    for _ in range(20):
        store = open_redis_store(idle_seconds=10, absolute_seconds=0.02)
        handle = begin(store, a=1)
        with pytest.raises(SessionGone):  # noqa: PT012 - somewhere in there the session ends
            while True:
                store.save(handle, Changes(set=packed(a=2)))
        assert client.keys(f"{store.settings.namespace}:*") == []


def test_round_trips(open_redis_store, client, redis_url):
    """Redis itself counts one command for a read, two for a write, one for a first write and none if untouched."""
    store = open_redis_store()
    shop = Shop(store)
    cookie = shop.begin(a=1)

    def cost(cookie, action):
        """Return the commands that arrive over the network, as MONITOR shows them, and not those within scripts."""
        with redis.Redis.from_url(redis_url) as watcher, watcher.monitor() as monitor:
            shop.do(cookie, action)
            client.echo("end")
            seen = iter(monitor.next_command, None)
            before_echo = itertools.takewhile(lambda entry: not entry["command"].startswith("ECHO"), seen)
            return [entry["command"].split()[0] for entry in before_echo if entry["client_type"] != "lua"]

    shop.do(cookie, lambda session: session.update(a=1))  # Redis has met both scripts by now
    client.ping()  # and both clients are connected
    assert cost(cookie, lambda _: None) == []
    assert cost(cookie, dict) == ["HGETALL"]
    assert cost(cookie, lambda session: session.update(a=2, b=3)) == ["HGETALL", "EVALSHA"]
    assert cost(cookie, lambda session: [session.rotate(), session.pop("b")]) == ["HGETALL", "EVALSHA"]
    assert cost(None, lambda session: session.update(a=1)) == ["EVALSHA"]


def test_forgotten_scripts(open_redis_store, client):
    """A Redis that has forgotten the scripts (a restart does that) is told them again."""
    store = open_redis_store()
    handle = begin(store, a=1)
    store.save(handle, Changes(set=packed(a=2)))
    client.script_flush()
    store.save(handle, Changes(set=packed(a=3)))
    assert shown(store, handle) == {"a": 3}


def test_no_url():
    """Without a URL the store says what is missing."""
    with pytest.raises(StoreUnavailable, match="redis_url"):
        RedisStore.open(StoreSettings())


def test_hung_listener():
    """A listener that accepts and never answers makes opening fail within the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(StoreUnavailable):
            RedisStore.open(StoreSettings(redis_url=url, timeout_seconds=0.2))


def test_more_fields_than_fit_at_once(open_redis_store):
    """A session is created, saved and emptied whole also where Lua's stack does not hold all its fields at once."""
    store = open_redis_store()
    fields = {f"{number:04}": number for number in range(2500)}
    handle = begin(store, **fields)
    assert shown(store, handle) == fields
    doubled = {name: 2 * number for name, number in fields.items()}
    store.save(handle, Changes(set=packed(**doubled)))
    assert shown(store, handle) == doubled
    store.save(handle, Changes(set=packed(last=1), deleted=frozenset(fields)))
    assert shown(store, handle) == {"last": 1}


def test_failover(keeper):
    """After a failover the old primary refuses one save; the next one finds the new primary at the same address."""
    old, old_port = launch_redis(keeper, "redis-old")
    new, new_port = launch_redis(keeper, "redis-new", "--replicaof", "127.0.0.1", str(old_port))
    address = Address(old_port)
    store = RedisStore.open(StoreSettings(redis_url=f"redis://127.0.0.1:{address.port}", timeout_seconds=5.0))
    handle = begin(store, a=1)
    at_once(*[lambda: store.load(handle)] * 4)
    with redis.Redis(port=old_port) as primary, redis.Redis(port=new_port) as replica:
        wait_until(lambda: replica.exists(f"sessions:{handle}"), seconds=20)
        replica.replicaof("NO", "ONE")
        primary.replicaof("127.0.0.1", str(new_port))
    address.target = new_port
    with pytest.raises(StoreUnavailable, match="read only"):
        store.save(handle, Changes(set=packed(a=2)))
    for _ in range(5):
        at_once(*[lambda: store.save(handle, Changes(set=packed(b=2)))] * 4)
    assert shown(store, handle) == {"a": 1, "b": 2}
    with redis.Redis(port=new_port) as now_primary:
        assert now_primary.hget(f"sessions:{handle}", "_version") == b"21"
    store.close()
    for process in (address, new, old):
        process.stop()
