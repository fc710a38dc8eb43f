"""Permanent sessions and the settings of the cookie, as Flask has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import flask
import pytest
from flask_apps import begin_permanent, calls, make_app, run, shown
from waiting import wait_until

from strategies.contract import StoreSettings
from strategies.local import LocalStore


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
