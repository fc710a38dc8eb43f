"""Flask's test client and its contexts, and several applications, keys and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import flask
import msgspec
import pytest
from flask_apps import make_app, run, shown

from strategies.contract import Changes, StoreSettings
from strategies.local import LocalStore
from strategies.session_interface import ServerSideSessions

ROOT = Path(__file__).resolve().parents[2]


def test_with_client(store):
    """Within `with client:` the session of the last request can be looked at, whatever that request did."""
    app = make_app(store)
    with app.test_client() as client:
        run(app, lambda session: session.update(a=1), client)
        assert dict(flask.session) == {"a": 1}
        assert flask.session.new
        run(app, lambda _: None, client)
        assert flask.session["a"] == 1
        assert not flask.session.new
        run(app, lambda session: session.clear(), client)
        assert dict(flask.session) == {}


def test_session_transaction(store):
    """`session_transaction` prepares a session for the next request, and sees what the last one left."""
    app = make_app(store)
    client = app.test_client()
    with client.session_transaction() as session:
        session["user"] = "ann"
    assert run(app, lambda session: session["user"], client).text == "ann"
    with client.session_transaction() as session:
        session.clear()
    assert client.get_cookie("session") is None


def test_request_context_by_hand(store):
    """In a shell, `test_request_context` has a session that is saved with the response, as in Flask."""
    app = make_app(store)
    with app.test_request_context():
        flask.session["a"] = 1
        response = app.process_response(app.response_class())
    assert "session=" in response.headers["Set-Cookie"]


def test_without_secret_key(memory):
    """Without a secret key reading is allowed, writing fails with Flask's own explanation, as in Flask."""
    app = make_app(memory, TESTING=True, SECRET_KEY=None)
    answer = run(app, lambda session: [session.get("a"), len(session), "a" in session])
    assert answer.json == [None, 0, False]
    assert "Set-Cookie" not in answer.headers
    with pytest.raises(RuntimeError, match="no secret key was set"):
        run(app, lambda session: session.update(a=1))
    with pytest.raises(RuntimeError, match="did not open a session"), app.test_client().session_transaction():
        pass


def test_applications_that_share_a_store(store):
    """Two applications with keys of their own share a store and see nothing of each other's sessions."""
    shop, blog = make_app(store), make_app(store, SECRET_KEY="another")
    answer = run(shop, lambda session: session.update(a=1))
    cookie = answer.headers["Set-Cookie"].split(";")[0]
    ask = {"headers": {"Cookie": cookie}}
    assert run(blog, lambda session: [dict(session)], **ask).json == [{}]
    run(blog, lambda session: session.clear(), **ask)
    assert run(shop, lambda session: [dict(session)], **ask).json == [{"a": 1}]


def test_interface_that_serves_two_applications(store):
    """One interface serves several applications: it remembers nothing of them. With one key they are one shop."""
    one, two = make_app(store), make_app(store)
    two.session_interface = one.session_interface
    cookie = run(one, lambda session: session.update(a=1)).headers["Set-Cookie"].split(";")[0]
    assert run(two, lambda session: [dict(session)], headers={"Cookie": cookie}).json == [{"a": 1}]


def test_interface_that_is_replaced(memory):
    """An application has one interface, the last: what the one before it kept is not seen, and not touched."""
    app = make_app(memory)
    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    other = LocalStore.open(StoreSettings())
    app.session_interface, first = ServerSideSessions(other), app.session_interface
    assert shown(client) == {}
    app.session_interface = first
    assert shown(client) == {"a": 1}
    other.close()


def test_key_that_is_replaced(store):
    """Sessions outlive a new secret key while the old one is among SECRET_KEY_FALLBACKS."""
    app = make_app(store, SECRET_KEY="old")
    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    app.config |= {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"]}
    assert shown(client) == {"a": 1}
    app.config["SECRET_KEY_FALLBACKS"] = None
    assert shown(client) == {}


FORKS = """
    import os, sys
    import flask
    from strategies import LocalStore, ServerSideSessions, StoreSettings

    app = flask.Flask(__name__)
    app.secret_key = "x"
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule("/", "write", lambda: flask.session.update(a=1) or "done")

    def open_store():
        app.session_interface = ServerSideSessions(LocalStore.open(StoreSettings()))

    open_store()
    assert app.test_client().get("/").status_code == 200
    child = os.fork()
    if child == 0:
        try:
            app.test_client().get("/")
        except RuntimeError as error:
            open_store()
            print(error, app.test_client().get("/").text, sep="\\n", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_store_that_was_opened_before_a_fork():
    """A worker that was forked after the store was opened says so in one line; opened in the worker, it serves."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", textwrap.dedent(FORKS)]
    said = subprocess.check_output(command, env=environment, text=True, timeout=60).splitlines()
    assert "opened before this process was forked" in said[0]
    assert said[1:] == ["done"]


def test_record_that_somebody_else_wrote(store):
    """A field that an operator put into the store by hand is read like any other."""
    app = make_app(store)
    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    handle = client.get_cookie("session").value.split(".")[0]
    store.save(handle, Changes(set={"message": msgspec.json.encode("from the operator")}))
    assert shown(client) == {"a": 1, "message": "from the operator"}
