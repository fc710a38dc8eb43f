"""What a Flask developer is used to, with sessions in a store: on memory, PostgreSQL and Redis alike."""

from __future__ import annotations

import copy
import os
import pickle
import secrets
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import flask
import msgspec
import pytest
from conformance import wait_until
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

import strategies
from strategies.contract import (
    Changes,
    SessionConflict,
    SessionGone,
    SessionTooLarge,
    StoreSettings,
    StoreUnavailable,
)
from strategies.local import LocalStore
from strategies.session_interface import ServerSideSessions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["isolated", "database", "redis"])
def store(request):
    """Return a store of each kind in turn."""
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


def make_app(store, policy="fields", **config):
    """Return an application over a store."""
    app = flask.Flask(__name__)
    app.secret_key = "a secret key"
    app.config |= config
    app.session_interface = ServerSideSessions(store, policy)
    return app


def run(app, action, client=None, **kwargs):
    """Run an action on the session in a request of its own; return the response."""
    app.view_functions["run"] = lambda: action(flask.session) or "done"
    if "run" not in app.url_map._rules_by_endpoint:
        app.url_map.add(app.url_rule_class("/run", endpoint="run"))
    return (client or app.test_client(use_cookies=False)).get("/run", **kwargs)


def shown(client):
    """Return what is in a client's session."""
    with client.session_transaction() as session:
        return dict(session)


def calls(store):
    """Return how many creates, loads and saves a store has seen."""
    census = store.census()
    return census.creates, census.loads, census.saves


# A session is a dict


def test_flash(store):
    """Flashed messages, of any category, are shown once, after the redirect, also in a template."""
    app = make_app(store)

    @app.post("/save")
    def save():
        flask.flash("saved & done", "success")
        flask.flash("almost full", "warning")
        return flask.redirect("/")

    @app.get("/")
    def index():
        return flask.render_template_string("{% for m in get_flashed_messages() %}<p>{{ m }}</p>{% endfor %}")

    client = app.test_client()
    assert client.post("/save", follow_redirects=True).text == "<p>saved &amp; done</p><p>almost full</p>"
    assert client.get("/").text == ""
    client.post("/save")
    warnings = {"category_filter": ["warning"]}
    assert run(app, lambda _: flask.get_flashed_messages(**warnings), client).json == ["almost full"]


def test_flashed_markup(memory):
    """Markup, which would come back as plain text, is refused where it is flashed, not shown with its tags later."""
    app = make_app(memory, TESTING=True)
    with pytest.raises(TypeError, match="'_flashes' cannot be kept as JSON: Markup is neither"):
        run(app, lambda _: flask.flash(Markup("<b>saved</b>")))


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


# permanent, and the cookie


def begin_permanent(session):
    """Begin a session that outlives the browser."""
    session.permanent = True
    session["user"] = "ann"


def test_permanent_cookie(store):
    """A permanent session's cookie lives for PERMANENT_SESSION_LIFETIME, and is kept as a field like any other."""
    app = make_app(store, PERMANENT_SESSION_LIFETIME=timedelta(days=7))
    client = app.test_client()
    header = run(app, begin_permanent, client).headers["Set-Cookie"]
    expires = parsedate_to_datetime(header.split("Expires=")[1].split(";")[0])
    assert abs(expires - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=1)
    assert shown(client) == {"_permanent": True, "user": "ann"}
    assert run(app, lambda session: [session.permanent], client).json == [True]


def test_permanent_in_every_request(store):
    """`session.permanent = True` at the beginning of each request costs a load and no save."""
    app = make_app(store)

    @app.before_request
    def make_permanent():
        flask.session.permanent = True

    client = app.test_client()
    run(app, lambda session: session.update(user="ann"), client)
    before = calls(store)
    assert "Expires=" in run(app, lambda _: None, client).headers["Set-Cookie"]
    assert calls(store) == (before[0], before[1] + 1, before[2])


def test_permanent_alone_is_no_session(store):
    """A passer-by whose session is only said to be permanent gets no record and no cookie."""
    app = make_app(store)
    before = calls(store)

    def say_so(session):
        session.permanent = True

    assert "Set-Cookie" not in run(app, say_so).headers
    assert calls(store) == before


def test_permanent_does_not_outlive_the_server():
    """However long the cookie lives, the session ends by the store's lifetimes."""
    store = LocalStore.open(StoreSettings(idle_seconds=0.2))
    app = make_app(store, PERMANENT_SESSION_LIFETIME=timedelta(days=31))
    client = app.test_client()
    assert "Expires=" in run(app, begin_permanent, client).headers["Set-Cookie"]
    wait_until(lambda: not store.census().handles)
    assert run(app, lambda session: [dict(session)], client).json == [{}]
    store.close()


@pytest.mark.parametrize(("refresh", "sent"), [(True, True), (False, False)])
def test_refresh_each_request(memory, refresh, sent):
    """A permanent cookie comes with every use of the session; without SESSION_REFRESH_EACH_REQUEST, with writes."""
    app = make_app(memory, SESSION_REFRESH_EACH_REQUEST=refresh)
    client = app.test_client()
    run(app, begin_permanent, client)
    assert ("Set-Cookie" in run(app, lambda session: session.get("user"), client).headers) is sent
    assert "Set-Cookie" not in run(app, lambda _: None, client).headers
    assert "Set-Cookie" in run(app, lambda session: session.update(user="bob"), client).headers


@pytest.mark.parametrize(
    ("config", "attributes"),
    [
        ({}, {"HttpOnly", "Path=/", "SameSite=Lax"}),
        ({"SESSION_COOKIE_DOMAIN": "shop.test"}, {"HttpOnly", "Path=/", "SameSite=Lax", "Domain=shop.test"}),
        ({"SESSION_COOKIE_PATH": "/admin"}, {"HttpOnly", "Path=/admin", "SameSite=Lax"}),
        ({"APPLICATION_ROOT": "/app"}, {"HttpOnly", "Path=/app", "SameSite=Lax"}),
        ({"SESSION_COOKIE_HTTPONLY": False}, {"Path=/", "SameSite=Lax"}),
        ({"SESSION_COOKIE_SECURE": True}, {"HttpOnly", "Path=/", "SameSite=Lax", "Secure"}),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, {"HttpOnly", "Path=/", "SameSite=Strict"}),
        (
            {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True},
            {"HttpOnly", "Path=/", "SameSite=None", "Secure"},
        ),
        ({"SESSION_COOKIE_PARTITIONED": True}, {"HttpOnly", "Path=/", "SameSite=Lax", "Secure", "Partitioned"}),
    ],
)
def test_cookie_settings(memory, config, attributes):
    """Every SESSION_COOKIE_* setting is an attribute of the cookie, when it is set and when it is deleted."""
    app = make_app(memory, **config)
    url = {"base_url": "http://shop.test"}
    begun = run(app, lambda session: session.update(a=1), **url).headers["Set-Cookie"]
    assert set(begun.split("; ")[1:]) == attributes
    name_and_value = begun.split(";")[0]
    ended = run(app, lambda session: session.clear(), headers={"Cookie": name_and_value}, **url).headers["Set-Cookie"]
    parts = {part for part in ended.split("; ")[1:] if not part.startswith(("Expires", "Max-Age"))}
    assert parts == attributes
    assert ended.startswith("session=;")


def test_host_prefix(store):
    """A `__Host-` name keeps what browsers ask of it: Secure, Path=/, no Domain, also in the cookie's deletion."""
    app = make_app(store, SESSION_COOKIE_NAME="__Host-id", SESSION_COOKIE_SECURE=True)
    client = app.test_client()
    headers = [
        run(app, action, client, base_url="https://shop.test").headers["Set-Cookie"]
        for action in (lambda session: session.update(a=1), lambda session: session.clear())
    ]
    for header in headers:
        assert header.startswith("__Host-id=")
        assert {"Secure", "Path=/"} <= set(header.split("; "))
        assert "Domain" not in header


# Requests, handlers, blueprints


def shop_with_users(store):
    """Return an application with users, as Flask's tutorial has them: a blueprint, `g.user`, a login, a logout."""
    app = make_app(store)
    users = flask.Blueprint("users", __name__, url_prefix="/users")

    @app.before_request
    def who():
        flask.g.user = flask.session.get("user")

    @users.post("/login")
    def login():
        flask.session.clear()
        flask.session["user"] = flask.request.form["name"]
        flask.session.rotate()
        return flask.redirect("/users/me")

    @users.get("/me")
    def me():
        return flask.g.user or flask.abort(401)

    @users.post("/logout")
    def logout():
        flask.session.clear()
        return "bye"

    @users.errorhandler(401)
    def please_log_in(error):
        return f"log in, {flask.session.get('user', 'stranger')}", 401

    app.register_blueprint(users)
    return app


def test_users(store):
    """Users of Flask's tutorial log in, are known in `before_request`, and log out; a blueprint's handler sees them."""
    client = shop_with_users(store).test_client()
    assert client.get("/users/me").text == "log in, stranger"
    assert client.post("/users/login", data={"name": "ann"}, follow_redirects=True).text == "ann"
    cookie = client.get_cookie("session").value
    assert client.post("/users/login", data={"name": "bob"}, follow_redirects=True).text == "bob"
    assert client.get_cookie("session").value != cookie
    assert client.post("/users/logout").text == "bye"
    assert client.get_cookie("session") is None
    assert client.get("/users/me").status_code == 401


def test_flask_login(store):
    """Flask-Login keeps its user in the session as in any other."""
    flask_login = pytest.importorskip("flask_login")
    app = make_app(store)
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        id = "ann"

    manager.user_loader(lambda name: User() if name == "ann" else None)

    def log_in(session):
        flask_login.login_user(User())
        session.rotate()

    client = app.test_client()
    run(app, log_in, client)
    assert run(app, lambda _: flask_login.current_user.get_id(), client).text == "ann"
    run(app, lambda _: [flask_login.logout_user()], client)
    assert run(app, lambda _: [flask_login.current_user.is_authenticated], client).json == [False]


def test_view_that_crashes(store):
    """What a view that crashes had changed is saved, and its error page can read and flash, as in Flask."""
    app = make_app(store)

    @app.errorhandler(500)
    def sorry(error):
        flask.flash("we are sorry")
        return f"sorry, {flask.session['user']}", 500

    def crash(session):
        session["user"] = "ann"
        raise ZeroDivisionError

    client = app.test_client()
    answer = run(app, crash, client)
    assert (answer.status_code, answer.text) == (500, "sorry, ann")
    assert shown(client) == {"user": "ann", "_flashes": [["message", "we are sorry"]]}


def test_teardown(store):
    """After the answer the session can still be read; what is changed then is too late, as in Flask."""
    app = make_app(store)
    seen = []

    @app.teardown_request
    def late(_):
        seen.append(flask.session.get("a"))
        flask.session["late"] = 1

    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    run(app, lambda _: None, client)
    assert seen == [1, 1]
    with client.session_transaction() as session:
        assert dict(session) == {"a": 1}


def test_streaming(store):
    """A stream reads the session while it is sent; what it changes is too late, as in Flask."""
    app = make_app(store)

    def stream(session):
        def parts():
            yield session["a"]
            session["late"] = 1
            yield "!"

        return flask.Response(flask.stream_with_context(parts()))

    client = app.test_client()
    run(app, lambda session: session.update(a="hello"), client)
    answer = run(app, stream, client)
    assert answer.text == "hello!"
    assert shown(client) == {"a": "hello"}


def test_async_views(memory):
    """An async view uses the session as any other; it needs `flask[async]`."""
    pytest.importorskip("asgiref", reason="flask[async] is not installed")
    app = make_app(memory)

    @app.get("/count")
    async def count():
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    client = app.test_client()
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]


def test_saved_once(store):
    """Where something fails after the save, and Flask answers a second time, no second session begins."""
    app = make_app(store)

    def fail(*_, **__):
        raise ZeroDivisionError

    before = calls(store)[0]
    client = app.test_client()
    with flask.request_finished.connected_to(fail, app):
        answer = run(app, lambda session: session.update(a=1), client)
    assert answer.status_code == 500
    assert calls(store)[0] == before + 1
    assert shown(client) == {"a": 1}


def test_saved_before_the_answer_leaves(store):
    """When the first byte of an answer leaves, another server already sees what its request saved: redirects work."""
    app, other = make_app(store), make_app(store)
    client = app.test_client()
    run(app, lambda session: session.update(n=0), client)
    cookie = client.get_cookie("session").value
    seen = []
    inner = app.wsgi_app

    def watched(environ, start_response):
        def starting(*arguments):
            look = run(other, lambda session: [session["n"]], headers={"Cookie": f"session={cookie}"})
            seen.extend(look.json)
            return start_response(*arguments)

        return inner(environ, starting)

    app.wsgi_app = watched
    for n in (1, 2):
        run(app, lambda session, n=n: session.update(n=n), client)
    assert seen == [1, 2]


def test_varies_by_cookie(store):
    """An answer varies by cookie exactly if the session was asked anything, also in a template; Flask 3.1.3."""
    app = make_app(store)
    app.add_url_rule("/none", "none", lambda: flask.render_template_string("no session"))
    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    asked = (
        lambda session: [session["a"]],
        lambda session: ["a" in session],
        lambda session: [len(session)],
        lambda session: [session.modified],
        lambda session: [session.new],
        lambda session: [session.permanent],
        lambda _: flask.render_template_string("{{ session.a }}"),
        lambda _: flask.get_flashed_messages(),
    )
    for action in asked:
        assert run(app, action, client).headers["Vary"] == "Cookie"
    assert "Vary" not in client.get("/none").headers


# Errors as answers


ERRORS = [(SessionGone, 401), (SessionConflict, 409), (SessionTooLarge, 413), (StoreUnavailable, 503)]


class Refusing(LocalStore):
    """A store whose every save is refused."""

    error = SessionGone

    def save(self, handle, changes, expected_version=None):
        """Refuse."""
        raise self.error("refused")


class Down(LocalStore):
    """A store that does not answer loads."""

    def load(self, handle):
        """Fail."""
        raise StoreUnavailable("secret-host:6379 refused")


def client_with_session(store):
    """Return a client with a session `a=1`, of an application that has not seen a request yet."""
    begun = make_app(store).test_client()
    run(begun.application, lambda session: session.update(a=1), begun)
    client = make_app(store).test_client()
    client.set_cookie("session", begun.get_cookie("session").value)
    return client


@pytest.fixture
def refusing():
    """Return a store that refuses to save, and a client with a session in it."""
    store = Refusing.open(StoreSettings())
    yield store, client_with_session(store)
    store.close()


@pytest.fixture
def down():
    """Return a client with a session in a store that does not answer."""
    store = Down.open(StoreSettings())
    yield client_with_session(store)
    store.close()


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_refused_saves(refusing, error, status):
    """A save that is refused is an answer in JSON, with its status, that no cache keeps."""
    store, client = refusing
    store.error = error
    answer = run(client.application, lambda session: session.update(a=2), client)
    assert (answer.status_code, answer.json.keys()) == (status, {"error"})
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_own_pages_for_refused_saves(refusing, error, status):
    """The application's handler for that status words it, may redirect, and sees the session; headers of hooks stay."""
    store, client = refusing
    store.error = error
    app = client.application

    @app.errorhandler(status)
    def page(error):
        return flask.redirect(f"/login?was={flask.session['a']}&code={error.code}", 303)

    @app.after_request
    def sign(response):
        response.headers["X-Signed"] = "yes"
        return response

    answer = run(app, lambda session: session.update(a=2), client)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/login?was=2&code={status}")
    assert answer.headers["X-Signed"] == "yes"
    assert "Redirecting" in answer.text


def test_one_handler_for_all_http_errors(refusing, down):
    """A handler for all HTTP errors, as Flask's manual has it for APIs, gets the session's errors, too."""
    for client, status in ((refusing[1], 401), (down, 503)):

        @client.application.errorhandler(HTTPException)
        def explain(error):
            return {"code": error.code, "text": error.description}, error.code

        answer = run(client.application, lambda session: session.update(a=2), client)
        assert (answer.status_code, answer.json["code"]) == (status, status)
        assert "session" in answer.json["text"]


def test_own_page_when_the_store_is_down(down):
    """A store that is down is a 503 that the application may word; the engine's own words stay in the log."""

    @down.application.errorhandler(503)
    def page(error):
        return f"back soon: {error.description}", 503

    text = run(down.application, lambda session: session["a"], down).text
    assert text.startswith("back soon")
    assert "secret-host" not in text


def test_error_page_that_uses_the_session(down):
    """An error page that asks the store that is down once more becomes a 503, not a 500."""

    @down.application.errorhandler(503)
    def page(_):
        return flask.render_template_string("back soon, {{ session.user }}"), 503

    answer = run(down.application, lambda session: session["a"], down)
    assert (answer.status_code, answer.json.keys()) == (503, {"error"})


# Tests with Flask's test client


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


def test_session_transaction_that_cannot_be_saved(refusing):
    """A transaction that is not saved says so: there is no answer that could."""
    _, client = refusing
    with pytest.raises(SessionGone), client.session_transaction() as session:
        session["a"] = 2
    with pytest.raises(SessionTooLarge), make_app(refusing[0]).test_client().session_transaction() as session:
        session["a"] = "x" * 70_000


def test_request_context_by_hand(store):
    """In a shell, `test_request_context` has a session that is saved with the response, as in Flask."""
    app = make_app(store)
    with app.test_request_context():
        flask.session["a"] = 1
        response = app.process_response(app.response_class())
    assert "session=" in response.headers["Set-Cookie"]


# One key, several applications


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
