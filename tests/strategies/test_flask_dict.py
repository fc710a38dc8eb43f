"""A session is a dict, as a Flask developer is used to: on memory, PostgreSQL and Redis alike."""

from __future__ import annotations

import copy
import pickle
import secrets
from datetime import UTC, datetime

import flask
import pytest
from flask_apps import make_app, run, shown
from markupsafe import Markup


def test_operators(store):
    """`|=`, `|`, `update`, `setdefault`, `pop`, `popitem`, `get` and `==` do what they do to a dict."""
    app = make_app(store)
    client = app.test_client()

    def change(session):
        session |= {"a": 1, "b": 2}
        session.update([("c", 3)], d=4)
        assert session | {"a": 9} == {"a": 9, "b": 2, "c": 3, "d": 4}
        assert session.setdefault("e", []) == []
        session["e"].append(5)
        assert session.setdefault("a", 7) == 1
        assert session.pop("b") == 2
        assert session.pop("b", None) is None
        assert session == {"a": 1, "c": 3, "d": 4, "e": [5]}
        assert {**session} == dict(session.items()) == session.copy()
        name, value = session.popitem()
        session[name] = value
        assert session.get("nothing", 0) == 0

    assert run(app, change, client).status_code == 200
    assert shown(client) == {"a": 1, "c": 3, "d": 4, "e": [5]}


def test_order(memory):
    """`reversed` and `popitem` begin at the end, and a dict on the left of `|` gives way."""
    app = make_app(memory)

    def change(session):
        session.update(a=1, b=2, c=3)
        assert list(reversed(session)) == ["c", "b", "a"]
        assert {"a": 9, "z": 0} | session == {"a": 1, "b": 2, "c": 3, "z": 0}
        assert [session.popitem() for _ in range(3)] == [("c", 3), ("b", 2), ("a", 1)]
        with pytest.raises(KeyError):
            session.popitem()

    assert run(app, change, app.test_client()).status_code == 200


def test_assigned_through_the_proxy(memory):
    """`flask.session |= …` changes the session and leaves Flask's proxy a proxy."""
    app = make_app(memory)
    client = app.test_client()

    def change(_):
        proxy = flask.session
        flask.session |= {"a": 1}
        assert flask.session is proxy

    run(app, change, client)
    assert shown(client) == {"a": 1}


def test_truth_and_membership(store):
    """`len`, `bool`, `in`, and a missing field behave as in a dict, with and without a session."""
    app = make_app(store)
    client = app.test_client()

    def nothing(session):
        assert not session
        assert len(session) == 0
        assert "a" not in session
        assert None not in session
        with pytest.raises(KeyError, match="a"):
            session["a"]
        with pytest.raises(TypeError):
            session[[]]

    def something(session):
        assert session
        assert len(session) == 1
        assert "a" in session
        assert list(session) == ["a"]

    assert run(app, nothing, client).status_code == 200
    run(app, lambda session: session.update(a=0), client)
    assert run(app, something, client).status_code == 200


@pytest.mark.parametrize("duplicate", [dict, copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s.copy()))])
def test_copies(memory, duplicate):
    """A copy is a plain dict that no longer belongs to the request; changing it changes nothing here."""
    app = make_app(memory)
    client = app.test_client()
    run(app, lambda session: session.update(cart=[1], a=1), client)
    copies = []

    def take(session):
        copies.append(duplicate(session))
        copies[0]["a"] = 2

    run(app, take, client)
    assert copies == [{"cart": [1], "a": 2}]
    assert type(copies[0]) is dict
    assert shown(client) == {"cart": [1], "a": 1}


def test_pickled(memory):
    """Somebody's task queue gets a plain dict out of a session, and nothing of the cookie."""
    app = make_app(memory)
    pickled = []
    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    run(app, lambda session: pickled.append(pickle.dumps(session._get_current_object())), client)
    assert pickle.loads(pickled[0]) == {"a": 1}
    assert client.get_cookie("session").value.split(".")[1].encode() not in pickled[0]


def test_repr(memory):
    """Printing a session shows its fields, and never the cookie; one that was not loaded stays so."""
    app = make_app(memory)
    client = app.test_client()
    seen = []

    def look(session):
        seen.append(repr(session))
        assert session["a"] == 1
        seen.append(repr(session))

    run(app, lambda session: session.update(a=1), client)
    run(app, look, client)
    assert seen == ["<StoredSession (not loaded)>", "<StoredSession {'a': 1}>"]


def test_no_other_types(memory):
    """What Flask's cookie can hold beyond JSON is refused in its own line, by the field's name, never changed."""
    app = make_app(memory, TESTING=True)
    for value in (datetime.now(UTC), secrets.token_bytes(3), Markup("<b>"), {"a": {1}}):
        with pytest.raises(TypeError, match="session field 'when'"):
            run(app, lambda session, value=value: session.update(when=value))


def test_nested_changes(store):
    """A change inside a field is saved where `session.modified` says so, in a list, a dict and one inside the other."""
    app = make_app(store)
    client = app.test_client()
    run(app, lambda session: session.update(cart=[{"n": 1}], seen={}, other=1), client)

    def change(session):
        session["cart"][0]["n"] += 1
        session["seen"]["x"] = [1]
        session.modified = True

    run(app, change, client)
    assert shown(client) == {"cart": [{"n": 2}], "seen": {"x": [1]}, "other": 1}
