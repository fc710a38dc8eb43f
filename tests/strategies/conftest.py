"""Stores: of each kind in turn (`store`), or of the strategy that a test class names (`open_store`)."""

from __future__ import annotations

import os
import secrets
import signal

import msgspec
import psutil
import pytest
from behind_flask import Shop

import strategies
from lab.engines.keeper import Keeper
from strategies.contract import StoreSettings
from strategies.local import LocalStore


@pytest.fixture(scope="module", params=["isolated", "database", "redis"])
def store(request):
    """Return a store of each kind in turn, for what a Flask developer sees alike on all."""
    needs = strategies.find(request.param).needs
    urls = {
        "redis_url": request.getfixturevalue("redis_url") if "redis" in needs else None,
        "database_url": request.getfixturevalue("database_url") if "postgresql" in needs else None,
    }
    settings = StoreSettings(namespace=f"flask_{secrets.token_hex(6)}", **urls)
    store = strategies.load_store_class(request.param).open(settings)
    yield store
    store.close()


@pytest.fixture
def memory():
    """Return a store in memory, for what no store has a say in."""
    store = LocalStore.open(StoreSettings())
    yield store
    store.close()


@pytest.fixture
def shop(memory):
    """Return a shop with its sessions in memory."""
    return Shop(memory)


@pytest.fixture
def engine_url(request):
    """Return the settings that say where the strategy's engine answers; start no other engine."""
    needs = strategies.find(request.cls.strategy).needs
    if "redis" in needs:
        return {"redis_url": request.getfixturevalue("redis_url")}
    if "postgresql" in needs:
        return {"database_url": request.getfixturevalue("database_url")}
    return {}


@pytest.fixture
def cluster(request, engine_url):
    """Opens the stores of one cluster: `open(server)` and `settle()`, which waits until every server knows all."""
    if request.cls.strategy == "all-to-all":
        opener = AllToAllServers()
    else:
        store_class = strategies.load_store_class(request.cls.strategy)
        opener = SingleCopyServers(store_class, namespace=f"test_{secrets.token_hex(6)}", **engine_url)
    yield opener
    opener.close()


@pytest.fixture
def open_store(cluster):
    """Return the factory `open_store(server="web-1", **settings)`; what it opens is closed at the end."""
    return cluster.open


class SingleCopyServers:
    """Servers that share an engine, or share nothing."""

    def __init__(self, store_class, **settings):
        self._store_class = store_class
        self._settings = StoreSettings(**settings)
        self._opened = []

    def open(self, server="web-1", **settings):
        """Open the store of one server."""
        store = self._store_class.open(msgspec.structs.replace(self._settings, server=server, **settings))
        self._opened.append(store)
        return store

    def settle(self):
        """Nothing is under way after a save has returned."""

    def close(self):
        """Close what was opened."""
        for store in self._opened:
            store.close()


class AllToAllServers:
    """Three servers with HTTP links between them, started with the first that is opened."""

    def __init__(self):
        self._cluster = None

    def open(self, server="web-1", **settings):
        """Return the store of one server; the settings of the first call are those of the cluster."""
        from all_to_all_cluster import Cluster

        if self._cluster is None:
            self._cluster = Cluster(3, **settings)
        return self._cluster.stores[int(server.removeprefix("web-")) - 1]

    def settle(self):
        """Wait until every server has applied what the others saved."""
        self._cluster.quiet()

    def close(self):
        """Stop the cluster."""
        if self._cluster is not None:
            self._cluster.close()


class Breakable:
    """An engine for a class of tests to pause, kill and start again on its port and data.

    Args:
        keeper: starts it.
        engine: a running engine of `lab.engines`, the lab's own.
    """

    def __init__(self, keeper, engine):
        self.url = engine.url
        self._keeper = keeper
        self._process = engine._process
        started = psutil.Process(engine.pid)
        self._command = started.cmdline()
        self._user = started.username() if started.uids().real != os.getuid() else None

    def pause(self):
        """Freeze it and its children."""
        self._process.signal(signal.SIGSTOP)

    def resume(self):
        """Thaw them."""
        self._process.signal(signal.SIGCONT)

    def kill(self):
        """End it as a crash would."""
        self._process.kill()

    def revive(self, *options):
        """Start it again if it is dead, this once with more options; return before it answers."""
        if not self._process.alive:
            self._process = self._keeper.launch("revived", [*self._command, *options], user=self._user)


@pytest.fixture(scope="class")
def own_engine(request, tmp_path_factory):
    """Start an engine of the test class's own, of the kind that it names in `engine_class`."""
    with pytest.MonkeyPatch.context() as patch, Keeper(tmp_path_factory.mktemp("own")) as keeper:
        patch.delenv("LAB_REDIS_URL", raising=False)
        patch.delenv("LAB_DATABASE_URL", raising=False)
        yield Breakable(keeper, request.cls.engine_class.start(keeper))


@pytest.fixture
def engine(own_engine):
    """Return the class's engine, alive."""
    own_engine.resume()
    own_engine.revive()
    return own_engine


@pytest.fixture
def open_own_store(request, engine):
    """Return a factory of stores of the class's `store_class` on its own engine."""
    opened = []

    def open_store(**settings):
        settings = StoreSettings(redis_url=engine.url, database_url=engine.url, **settings)
        opened.append(request.cls.store_class.open(settings))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()
