"""Redis Cluster: three nodes, keys that move from one to another, and a node that goes away."""

from __future__ import annotations

import threading

import pytest
from conformance import Keeps
from conformance_servers import Shared
from conformance_writers import Compares, Merges
from faults import answers
from records import begin, new_handle, packed, shown
from redis_servers import RedisCluster
from waiting import wait_until

from strategies.contract import Changes, SessionConflict, StoreSettings, StoreUnavailable
from strategies.redis import RedisStore

TIMEOUT_SECONDS = 1.0


@pytest.fixture(scope="module")
def nodes(keeper):
    """Return three nodes that have found one another."""
    nodes = RedisCluster(keeper)
    yield nodes
    nodes.stop()


@pytest.fixture
def store(nodes):
    """Return a store on the cluster."""
    store = RedisStore.open(StoreSettings(redis_url=nodes.url, timeout_seconds=TIMEOUT_SECONDS))
    yield store
    store.close()


class TestRedisCluster(Keeps, Merges, Compares, Shared):
    """The contract, on three nodes."""

    strategy = "redis"

    @pytest.fixture
    def engine_url(self, nodes):
        """Return the settings that say where one of the nodes answers."""
        return {"redis_url": nodes.url}


def key(store, handle):
    """Return a session's key."""
    return f"{store.settings.namespace}:{handle}"


def test_spread(nodes, store):
    """Sessions live on all nodes, and a census counts every one of them."""
    handles = {begin(store, a=1) for _ in range(40)}
    assert {nodes.owner(key(store, handle))[0] for handle in handles} == set(nodes.ports)
    census = store.census()
    assert handles <= set(census.handles)
    assert census.physical_bytes > census.logical_bytes


def test_moving_key(nodes, store):
    """While a slot moves and after it has moved, loads and saves find the session, and no save counts twice."""
    handle = begin(store, a=1)
    name = key(store, handle)
    source, target = nodes.owner(name)
    slot = nodes.ask(source, "CLUSTER", "KEYSLOT", name)

    def use():
        before = int(store.load(handle).version)
        assert int(store.save(handle, Changes(set=packed(n=before)), str(before))) == before + 1
        assert shown(store, handle) == {"a": 1, "n": before}
        with pytest.raises(SessionConflict):
            store.save(handle, Changes(set=packed(n=0)), str(before))

    use()
    nodes.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", nodes.id_of(source))
    nodes.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", nodes.id_of(target))
    use()  # still where it was
    nodes.ask(source, "MIGRATE", "127.0.0.1", target, name, 0, 5000)
    nodes.ask(target, "SCRIPT", "FLUSH")
    use()  # the source answers ASK, and the target does not know the scripts
    for port in (target, source):
        nodes.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", nodes.id_of(target))
    use()  # the source answers MOVED
    assert nodes.ask(target, "CLUSTER", "COUNTKEYSINSLOT", slot) == 1


def test_dead_node(nodes, store):
    """While a node is frozen its sessions are unavailable within a bound, and there again when it is back."""
    handle = begin(store, a=1)
    port, _ = nodes.owner(key(store, handle))
    process = nodes.process(port)
    process.signal(19)
    try:
        done = threading.Event()

        def ask():
            for operation in (lambda: store.load(handle), lambda: store.save(handle, Changes(set=packed(b=1)))):
                with pytest.raises(StoreUnavailable):
                    operation()
            done.set()

        threading.Thread(target=ask, daemon=True).start()
        assert done.wait(20)
    finally:
        process.signal(18)
    wait_until(nodes.is_whole, seconds=20)
    wait_until(lambda: answers(store), seconds=20)
    assert shown(store, handle)["a"] == 1


def test_no_node(nodes, store):
    """With every node gone a call is unavailable, not broken; and none is left waiting."""
    for port in nodes.ports:
        nodes.process(port).signal(19)
    try:
        with pytest.raises(StoreUnavailable):
            store.load(new_handle())
    finally:
        for port in nodes.ports:
            nodes.process(port).signal(18)
    wait_until(nodes.is_whole, seconds=20)
    wait_until(lambda: answers(store), seconds=20)
