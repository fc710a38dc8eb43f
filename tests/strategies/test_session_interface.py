"""How the session interface asks its store, and what becomes of the store's answers."""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta

import flask
import msgspec
import pytest
from behind_flask import Shop
from werkzeug.exceptions import HTTPException

from strategies.contract import ReplicatedStore, StoreSettings, StoreUnavailable, UnsupportedPolicy
from strategies.cookies import write_cookie
from strategies.local import LocalStore
from strategies.session import Identity
from strategies.session_interface import ServerSideSessions


class Down(LocalStore):
    """A store that never answers, and counts how often it was asked."""

    asked = 0

    def load(self, handle):
        """Fail."""
        self.asked += 1
        raise StoreUnavailable("down")


def test_asked_once_a_request():
    """A view that goes on after the store failed does not wait for it again, and its answer is its own."""
    store = Down.open(StoreSettings())
    shop = Shop(store)

    def insist(session):
        failures = []
        for _ in range(3):
            try:
                session["a"] = 1
            except HTTPException as error:
                failures.append(error.code)
        return failures

    response = shop.do(shop.begin(a=1), insist)
    assert (response.status_code, response.json) == (200, [503, 503, 503])
    assert store.asked == 1
    store.close()


def test_policy_that_a_store_cannot_promise():
    """A policy that the store cannot promise is refused in one clear line."""
    from strategies.all_to_all import AllToAllStore

    store = AllToAllStore.open(StoreSettings())
    with pytest.raises(UnsupportedPolicy, match="AllToAllStore cannot promise 'versioned' writes; it supports: blob"):
        ServerSideSessions(store, "versioned")
    store.close()


def test_error_replaces_the_whole_answer(memory):
    """When the save is refused, nothing of the view's answer is left: no body, no redirect, no download, no stream."""
    shop = Shop(memory)
    cookie = shop.begin(a=1)
    closed = []

    class Page(list):
        def close(self):
            closed.append(True)

    def view(session):
        session["a"] = 2
        memory.delete(cookie.split(".")[0])
        body = Page([b"secret page"])
        return flask.Response(body, status=302, headers={"Location": "/x", "ETag": '"1"'}, direct_passthrough=True)

    refused = shop.do(cookie, view)
    assert refused.status_code == 401
    assert refused.is_json
    assert int(refused.headers["Content-Length"]) == len(refused.data)
    assert {"Location", "ETag"}.isdisjoint(refused.headers.keys())
    assert closed


class Replicated(LocalStore, ReplicatedStore):
    """A store whose peers know of a newer secret, and which writes down how it was asked."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.newer = None
        self.asked = []
        self.seen = []

    def load(self, handle, *, ask_peers=False, seen=""):
        """Load; from the peers if told so."""
        self.asked.append(ask_peers)
        self.seen.append(seen)
        record = super().load(handle)
        return msgspec.structs.replace(record, secret_hash=self.newer) if ask_peers and self.newer else record


def test_peers_are_asked_about_another_secret():
    """Where servers hold copies, a genuine cookie with another secret than the copy's has the peers asked, once."""
    store = Replicated.open(StoreSettings())
    shop = Shop(store)
    cookie = shop.begin(a=1)
    assert shop.shown(cookie) == {"a": 1}
    assert store.asked == [False]
    rotated = Identity(cookie.split(".")[0], "N" * 43)
    newer = write_cookie(shop.app, rotated)
    assert shop.shown(newer) == {}
    assert store.asked == [False, False, True]
    store.newer = hashlib.sha256(rotated.secret.encode()).hexdigest()
    assert shop.shown(newer) == {"a": 1}
    store.close()


def test_one_copy_is_not_asked_twice(shop):
    """Where there is one copy, a cookie with another secret costs one load."""
    stale = write_cookie(shop.app, Identity(shop.begin(a=1).split(".")[0], "N" * 43))
    assert shop.cost(stale, dict) == (0, 1, 0, 0, 0)


@pytest.mark.parametrize("name", ["idle_seconds", "absolute_seconds", "sweep_seconds", "timeout_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1800", timedelta(minutes=30), None])
def test_times_that_are_none(name, value):
    """A time that would end every session at once, or is not in seconds, is refused by name."""
    with pytest.raises(ValueError, match=rf"{name} is .*expected a number of seconds"):
        StoreSettings(**{name: value})


def test_no_connections():
    """A store without connections could only wait."""
    with pytest.raises(ValueError, match="database_connections is 0"):
        StoreSettings(database_connections=0)
