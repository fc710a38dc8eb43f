"""The session's cookie, and the headers that go with it, whatever the store."""

from __future__ import annotations

import pytest
from behind_flask import Shop, cookie_of

from strategies.cookies import write_cookie
from strategies.session import Identity
from strategies.session_interface import ServerSideSessions, short_hash


def attributes_of(response):
    """Return the attributes of a cookie, without its value and expiry."""
    parts = response.headers["Set-Cookie"].split("; ")[1:]
    return {part for part in parts if not part.startswith(("Expires", "Max-Age"))}


def test_cookie_attributes(shop):
    """The cookie is HttpOnly, SameSite=Lax, for the whole site and the browser's session; Secure over TLS only."""
    plain = shop.do(None, lambda session: session.update(a=1))
    assert plain.headers["Set-Cookie"].split("; ")[1:] == ["HttpOnly", "Path=/", "SameSite=Lax"]
    tls = shop.do(None, lambda session: session.update(a=1), base_url="https://shop.test")
    assert attributes_of(tls) == {"HttpOnly", "Path=/", "SameSite=Lax", "Secure"}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Strict", "SESSION_COOKIE_PARTITIONED": True},
        {"SESSION_COOKIE_DOMAIN": "shop.test", "SESSION_COOKIE_PATH": "/shop", "SESSION_COOKIE_HTTPONLY": False},
    ],
)
def test_deleted_with_the_same_attributes(memory, config):
    """A logout deletes the cookie with the attributes it was set with: otherwise browsers keep it."""
    shop = Shop(memory, **config)
    begun = shop.do(None, lambda session: session.update(a=1))
    ended = shop.do(cookie_of(begun), lambda session: session.clear())
    assert cookie_of(ended) == ""
    assert "Max-Age=0" in ended.headers["Set-Cookie"]
    assert attributes_of(ended) == attributes_of(begun)


def test_cookie_name(memory):
    """The cookie's name is Flask's setting."""
    shop = Shop(memory, SESSION_COOKIE_NAME="sid_redis")
    assert shop.do(None, lambda session: session.update(a=1)).headers["Set-Cookie"].startswith("sid_redis=")


def test_cookie_length(memory):
    """Every cookie is as long as every other, whatever the session holds."""
    lengths = {len(Shop(memory).begin(**{f"f{i}": "x" * i})) for i in range(1, 20)}
    assert lengths == {110}


def test_cookie_is_sent_once(shop):
    """Writes after the first do not send the cookie again."""
    cookie = shop.begin(a=1)
    assert cookie_of(shop.do(cookie, lambda session: session.update(a=2))) is None


def test_caching_headers(shop):
    """An answer that used the session varies by cookie and is not stored; one that did not is left alone."""
    cookie = shop.begin(a=1)
    for action in (dict, lambda session: session.update(a=2), lambda session: "a" in session, len, bool):
        for presented in (cookie, None, "forged"):
            headers = shop.do(presented, action).headers
            assert (headers["Vary"], headers["Cache-Control"]) == ("Cookie", "no-store")
    untouched = shop.do(cookie, lambda _: None).headers
    assert "Cache-Control" not in untouched


def test_varies_without_loading(shop):
    """Whoever asks the session anything gets an answer that varies by cookie, also if it need not be loaded."""
    cookie = shop.begin(a=1)
    assert shop.do(cookie, lambda session: session.modified).headers["Vary"] == "Cookie"
    assert shop.calls() == (1, 0, 0, 0, 0)


def test_no_session_no_vary(shop):
    """A view that never mentions the session does not vary by cookie, as in Flask 3.1.3."""
    shop.app.add_url_rule("/plain", "plain", lambda: "plain")
    headers = shop.app.test_client().get("/plain").headers
    assert {"Vary", "Cache-Control", "Set-Cookie"}.isdisjoint(headers.keys())


def test_lab_headers_are_off(memory):
    """Outside the lab nothing about the session is told."""
    shop = Shop(memory)
    shop.app.session_interface = ServerSideSessions(memory)
    headers = shop.do(None, lambda session: session.update(a=1)).headers
    assert not [name for name in headers.keys() if name.startswith("X-")]  # noqa: SIM118 - headers iterate as pairs


def test_key_fallbacks(memory):
    """After the secret key was changed, old cookies are good while the old key is a fallback, and are signed anew."""
    shop = Shop(memory)
    old = shop.begin(a=1)
    shop.app.config |= {"SECRET_KEY": "another", "SECRET_KEY_FALLBACKS": ["a secret key"]}
    assert shop.shown(old) == {"a": 1}
    new = cookie_of(shop.do(old, lambda session: session.update(b=2)))
    shop.app.config["SECRET_KEY_FALLBACKS"] = None
    assert shop.shown(new) == {"a": 1, "b": 2}
    assert shop.shown(old) == {}


def test_permanent(memory):
    """A permanent session's cookie has Flask's expiry and is sent with every answer that used the session."""
    shop = Shop(memory)

    def begin(session):
        session.permanent = True
        session["a"] = 1

    cookie = cookie_of(shop.do(None, begin))
    again = shop.do(cookie, dict)
    assert "Expires=" in again.headers["Set-Cookie"]
    assert cookie_of(again) == cookie
    assert "Set-Cookie" not in shop.do(cookie, lambda _: None).headers
    shop.app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    assert "Set-Cookie" not in shop.do(cookie, dict).headers
    assert "Expires=" in shop.do(cookie, lambda session: session.update(a=2)).headers["Set-Cookie"]

    def no_longer(session):
        session.permanent = False

    assert "Expires=" not in shop.do(cookie, no_longer).headers["Set-Cookie"]


def test_shape_of_handles(shop):
    """Even a cookie with a good signature costs no store call unless it looks like one of ours."""
    for identity in (Identity("../etc", "N" * 43), Identity("x" * 23, "N" * 42), Identity("*" * 22, "N" * 43)):
        assert shop.cost(write_cookie(shop.app, identity), dict) == (0, 0, 0, 0, 0)


def test_short_hash():
    """Logs and headers name a session by 12 hex digits that do not reveal its handle."""
    assert short_hash("handle") == "c2a116aa910d"
