"""PostgreSQL goes down while shoppers use it, and comes back: what they see meanwhile, and what is there afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import msgspec
import psycopg
import pytest
from faults import answers, open_when_up
from records import SECRET_HASH, begin, new_handle, packed, shown
from waiting import wait_until

from lab.engines.postgresql import PostgreSQL
from strategies.contract import Changes, NewSession, StoreUnavailable
from strategies.database import DatabaseStore

BOUND_SECONDS = 10.0
"""No call may take longer: ten time-outs, for a machine on which a thread waits long for its turn."""

SAVES_PER_SESSION = 20


class Shopper(threading.Thread):
    """Begins sessions, saves field after field into each, logs out of every other, and remembers what was answered.

    Args:
        store: where; shared with other shoppers.
    """

    def __init__(self, store):
        super().__init__(daemon=True)
        self.store = store
        self.stopping = threading.Event()
        self.kept = {}  # handle -> fields that PostgreSQL acknowledged
        self.ended = set()  # handles whose deletion it acknowledged
        self.unsure = set()  # handles whose deletion failed, and may have been done all the same
        self.failures = []
        self.slowest_seconds = 0.0
        self.answered = 0
        self.start()

    def run(self):
        """Shop until stopped; a call that fails is not repeated."""
        for number in itertools.count():
            handle = new_handle()
            if not self.call(self.store.create, handle, NewSession(SECRET_HASH, {})):
                continue
            self.kept[handle] = set()
            for field in map(str, range(SAVES_PER_SESSION)):
                if self.call(self.store.save, handle, Changes(set=packed(**{field: number}))):
                    self.kept[handle].add(field)
                if self.stopping.is_set():
                    return
            if number % 2:
                (self.ended if self.call(self.store.delete, handle) else self.unsure).add(handle)

    def call(self, operation, *arguments):
        """Return whether PostgreSQL acknowledged an operation."""
        began = time.monotonic()
        try:
            operation(*arguments)
        except Exception as error:  # noqa: BLE001 - which ones came is what the test asks
            self.failures.append(error)
            self.stopping.wait(0.005)
            return False
        finally:
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        self.answered += 1
        return True

    def stop(self):
        """Come to an end."""
        self.stopping.set()
        self.join()


def crash(engine):
    """Every process dies at once; what only they remembered is gone."""
    engine.kill()


def shut_down(signum):
    """Return how an operator stops a server: SIGINT in good order (`fast`), SIGQUIT at once (`immediate`)."""

    def stop(engine):
        os.kill(engine._process.pid, signum)
        engine._process.finish()

    return stop


def lose_one_backend(engine):
    """One process of many dies, as by the kernel's memory killer; PostgreSQL then restarts all of them by itself."""
    with psycopg.connect(engine.url) as connection:
        of_a_shopper = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
        (pid,) = connection.execute(f"SELECT pid FROM pg_stat_activity WHERE {of_a_shopper} LIMIT 1").fetchone()
    os.kill(pid, signal.SIGKILL)


class TestRestart:
    """Shoppers keep coming while PostgreSQL is down."""

    engine_class = PostgreSQL
    store_class = DatabaseStore

    @pytest.mark.parametrize(
        ("go_down", "who_notices"),
        [
            (crash, all),
            (shut_down(signal.SIGINT), all),
            (shut_down(signal.SIGQUIT), all),
            (lose_one_backend, any),  # back at once: a shopper who paused meanwhile sees nothing of it
        ],
        ids=["crash", "fast shutdown", "immediate shutdown", "one backend killed"],
    )
    def test_under_load(self, engine, open_own_store, go_down, who_notices):
        """Calls fail in time, as unavailable and as nothing else; then all goes on, and what was acknowledged is there.

        Not one field that was acknowledged is missing, and not one session that was logged out is back.
        """
        stores = [open_when_up(open_own_store) for _ in range(2)]
        shoppers = [Shopper(store) for store in stores for _ in range(4)]
        try:
            wait_until(lambda: all(shopper.answered > 50 for shopper in shoppers), seconds=30.0)
            go_down(engine)
            wait_until(lambda: who_notices(shopper.failures for shopper in shoppers), seconds=30.0)
            engine.revive()
            before = [shopper.answered for shopper in shoppers]
            wait_until(
                lambda: all(shopper.answered > then + 50 for shopper, then in zip(shoppers, before, strict=True)),
                seconds=30.0,
            )
        finally:
            for shopper in shoppers:
                shopper.stop()
        store = open_when_up(open_own_store, timeout_seconds=20.0)
        for shopper in shoppers:
            assert {type(error) for error in shopper.failures} <= {StoreUnavailable}
            assert shopper.slowest_seconds < BOUND_SECONDS
            assert [handle for handle in shopper.ended if store.load(handle)] == []
            for handle, fields in shopper.kept.items():
                if handle not in shopper.ended | shopper.unsure:
                    assert fields <= set(store.load(handle).fields)


class TestCommit:
    """What an acknowledged save is worth when every process of PostgreSQL dies at once."""

    engine_class = PostgreSQL
    store_class = DatabaseStore

    @pytest.mark.parametrize(
        ("how", "left"),
        [
            ("synchronous_commit on", {"a": 2}),
            ("fsync off", {"a": 2}),
            ("synchronous_commit off", {"a": 1}),
            ("unlogged", None),
        ],
    )
    def test_crash_after_a_save(self, engine, open_own_store, how, left):
        """With `on` the save is there. With `off` it is gone, as the log had not been written. Unlogged, all is gone.

        With `fsync` off it is there as well: the operating system has what was written, and does not die here. So
        this test says nothing about a power failure. The log writer comes by every 0.2 s, which could be just now;
        here it comes every ten seconds.
        """
        for _ in range(3):
            engine.kill()
            engine.revive("-c", "wal_writer_delay=10s", "-c", f"fsync={'off' if how == 'fsync off' else 'on'}")
            store = open_when_up(open_own_store)
            with psycopg.connect(engine.url) as connection:
                logged = "UNLOGGED" if how == "unlogged" else "LOGGED"
                connection.execute(f'ALTER TABLE "{store.settings.namespace}" SET {logged}')
            handle = begin(store, a=1)
            saver = store
            if how == "synchronous_commit off":
                url = psycopg.conninfo.make_conninfo(engine.url, options="-c synchronous_commit=off")
                saver = DatabaseStore(msgspec.structs.replace(store.settings, database_url=url))
            saver.save(handle, Changes(set=packed(a=2)))
            engine.kill()
            saver.close()
            engine.revive()
            wait_until(lambda s=store: answers(s), seconds=30.0)
            found = shown(store, handle)
            if how != "synchronous_commit off" or found == left:
                break  # else the log writer came by in that moment
        assert found == left
