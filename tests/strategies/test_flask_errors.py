"""What goes wrong in a store is an answer that the application may word."""

from __future__ import annotations

import flask
import pytest
from flask_apps import make_app, run
from werkzeug.exceptions import HTTPException

from strategies.contract import SessionConflict, SessionGone, SessionTooLarge, StoreSettings, StoreUnavailable
from strategies.local import LocalStore

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


def test_session_transaction_that_cannot_be_saved(refusing):
    """A transaction that is not saved says so: there is no answer that could."""
    _, client = refusing
    with pytest.raises(SessionGone), client.session_transaction() as session:
        session["a"] = 2
    with pytest.raises(SessionTooLarge), make_app(refusing[0]).test_client().session_transaction() as session:
        session["a"] = "x" * 70_000
