"""What a store with an engine does when the engine pauses, dies or refuses, and when it comes back."""

from __future__ import annotations

import threading
import time

import pytest
from behind_flask import Shop
from records import SECRET_HASH, begin, new_handle, packed, shown
from waiting import at_once, wait_until

from strategies.contract import Changes, NewSession, StoreUnavailable

TIMEOUT_SECONDS = 1.0
BOUND_SECONDS = 1.9  # the time-out, and what a busy machine adds; two time-outs in a row would leave it hardly any


class EngineFails:
    """A test class that inherits this names its `engine_class` and its `store_class`."""

    @pytest.fixture
    def store(self, open_own_store):
        """Return a store on an engine that the test may break."""
        return open_when_up(open_own_store)

    def test_paused(self, engine, store):
        """While the engine is frozen every operation fails within its time; then the session is there."""
        handle = begin(store, a=1)
        engine.pause()
        try:
            for operation in operations(store, handle):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    operation()
                assert time.monotonic() - began < BOUND_SECONDS
        finally:
            engine.resume()
        wait_until(lambda: answers(store))
        assert shown(store, handle)["a"] == 1  # whether the save was applied is nobody's to know

    def test_paused_under_load(self, engine, store):
        """Also of many callers at once each has its answer in time."""
        handle = begin(store, a=1)
        engine.pause()

        def load():
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.load(handle)
            return time.monotonic() - began

        try:
            assert max(at_once(*[load] * 12)) < BOUND_SECONDS
        finally:
            engine.resume()
        wait_until(lambda: answers(store))
        assert shown(store, handle) == {"a": 1}

    def test_behind_flask(self, engine, store):
        """A shopper gets 503 in time and keeps the cookie; afterwards the session is there."""
        shop = Shop(store)
        cookie = shop.begin(a=1)
        engine.pause()
        try:
            for action in (dict, lambda session: session.update(b=1), lambda session: session.clear()):
                began = time.monotonic()
                response = shop.do(cookie, action)
                assert time.monotonic() - began < BOUND_SECONDS
                assert response.status_code == 503
                assert "not available" in response.json["error"]
                assert "Set-Cookie" not in response.headers
            assert shop.do(cookie, lambda _: "untouched").status_code == 200
        finally:
            engine.resume()
        wait_until(lambda: answers(store))
        assert shop.shown(cookie)["a"] == 1

    def test_fails_while_saving(self, engine, store):
        """Where the engine fails between load and save, the answer is 503 too, and not the view's."""
        shop = Shop(store)
        cookie = shop.begin(a=1)

        def write(session):
            session["b"] = session["a"] + 1
            engine.pause()

        try:
            response = shop.do(cookie, write)
        finally:
            engine.resume()
        assert (response.status_code, response.json.keys()) == (503, {"error"})

    def test_killed_and_restarted(self, engine, store):
        """While the engine is dead calls fail at once; when it is back, the store recovers without being reopened."""
        handle = begin(store, a=1)
        at_once(*[lambda: store.load(handle)] * 4)  # several connections that will all be stale
        engine.kill()
        began = time.monotonic()
        for operation in operations(store, handle):
            with pytest.raises(StoreUnavailable):
                operation()
        assert time.monotonic() - began < BOUND_SECONDS
        engine.revive()
        wait_until(lambda: answers(store), seconds=20.0)
        for _ in range(4):
            assert shown(store, begin(store, b=2)) == {"b": 2}

    def test_cannot_be_opened(self, engine, store, open_own_store):
        """Opening a store whose engine is dead fails with a clear error."""
        engine.kill()
        with pytest.raises(StoreUnavailable):
            open_own_store(timeout_seconds=TIMEOUT_SECONDS)

    def test_closed_while_down(self, engine, store):
        """A store can be closed while its engine is down, and leaves no thread behind."""
        engine.kill()
        store.close()
        assert not [thread for thread in threading.enumerate() if "session-sweeper" in thread.name]


def operations(store, handle):
    """Return every operation as a function without arguments."""
    return (
        lambda: store.load(handle),
        lambda: store.save(handle, Changes(set=packed(b=2))),
        lambda: store.touch(handle),
        lambda: store.create(new_handle(), NewSession(SECRET_HASH, {})),
        lambda: store.delete(new_handle()),
    )


def open_when_up(open_store, timeout_seconds=TIMEOUT_SECONDS):
    """Open a store on an engine that may still be starting."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return open_store(timeout_seconds=timeout_seconds)
        except StoreUnavailable:
            assert time.monotonic() < deadline


def answers(store):
    """Return whether the store answers again."""
    try:
        store.load(new_handle())
    except StoreUnavailable:
        return False
    return True
