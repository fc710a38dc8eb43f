"""Flask applications over a store, and what a request does to their sessions."""

from __future__ import annotations

import flask

from strategies.session_interface import ServerSideSessions


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


def begin_permanent(session):
    """Begin a session that outlives the browser."""
    session.permanent = True
    session["user"] = "ann"
