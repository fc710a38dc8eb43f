"""The glue's own rules, whatever the store: Flask's behaviour, the cookie, and errors."""

from __future__ import annotations

import hashlib

import flask
import msgspec
import pytest
from behind_flask import Shop, cookie_of
from conformance import packed
from werkzeug.exceptions import HTTPException

from strategies.contract import Changes, ReplicatedStore, StoreSettings, StoreUnavailable, UnsupportedPolicy
from strategies.local import LocalStore
from strategies.session import Identity
from strategies.session_interface import ServerSideSessions, _write_cookie, short_hash


@pytest.fixture
def store():
    """Return a store in memory."""
    store = LocalStore.open(StoreSettings())
    yield store
    store.close()


@pytest.fixture
def shop(store):
    """Return a shop over it."""
    return Shop(store)


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
def test_deleted_with_the_same_attributes(store, config):
    """A logout deletes the cookie with the attributes it was set with: otherwise browsers keep it."""
    shop = Shop(store, **config)
    begun = shop.do(None, lambda session: session.update(a=1))
    ended = shop.do(cookie_of(begun), lambda session: session.clear())
    assert cookie_of(ended) == ""
    assert "Max-Age=0" in ended.headers["Set-Cookie"]
    assert attributes_of(ended) == attributes_of(begun)


def test_cookie_name(store):
    """The cookie's name is Flask's setting."""
    shop = Shop(store, SESSION_COOKIE_NAME="sid_redis")
    assert shop.do(None, lambda session: session.update(a=1)).headers["Set-Cookie"].startswith("sid_redis=")


def test_cookie_length(store):
    """Every cookie is as long as every other, whatever the session holds."""
    lengths = {len(Shop(store).begin(**{f"f{i}": "x" * i})) for i in range(1, 20)}
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


def test_lab_headers_are_off(store):
    """Outside the lab nothing about the session is told."""
    shop = Shop(store)
    shop.app.session_interface = ServerSideSessions(store)
    headers = shop.do(None, lambda session: session.update(a=1)).headers
    assert not [name for name in headers.keys() if name.startswith("X-")]  # noqa: SIM118 - headers iterate as pairs


def test_without_secret_key(store):
    """Without a secret key a session fails with Flask's own explanation."""
    shop = Shop(store, SECRET_KEY=None, TESTING=True)
    with pytest.raises(RuntimeError, match="no secret key"):
        shop.do(None, lambda session: session.update(a=1))


def test_key_fallbacks(store):
    """After the secret key was changed, old cookies are good while the old key is a fallback, and are signed anew."""
    shop = Shop(store)
    old = shop.begin(a=1)
    shop.app.config |= {"SECRET_KEY": "another", "SECRET_KEY_FALLBACKS": ["a secret key"]}
    assert shop.shown(old) == {"a": 1}
    new = cookie_of(shop.do(old, lambda session: session.update(b=2)))
    shop.app.config["SECRET_KEY_FALLBACKS"] = None
    assert shop.shown(new) == {"a": 1, "b": 2}
    assert shop.shown(old) == {}


def test_permanent(store):
    """A permanent session's cookie has Flask's expiry and is sent with every answer that used the session."""
    shop = Shop(store)

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


def test_flash(shop):
    """Flask's `flash` works: a message is shown once, by another request."""
    cookie = cookie_of(shop.do(None, lambda _: flask.flash("hello", "info")))
    show = lambda _: flask.get_flashed_messages(with_categories=True)  # noqa: E731
    assert shop.do(cookie, show).json == [["info", "hello"]]
    assert shop.do(cookie, show).json == []


def test_session_transaction(shop):
    """Flask's test client can look into the session and change it."""
    client = shop.app.test_client()
    with client.session_transaction() as session:
        assert session.new
        session["a"] = [1]
    with client.session_transaction() as session:
        assert not session.new
        assert session["a"] == [1]
        session["a"].append(2)
        session.modified = True
    with client.session_transaction() as session:
        assert dict(session) == {"a": [1, 2]}


def test_reading_only_in_a_transaction(shop):
    """Opening the session in a test without looking into it costs nothing."""
    with shop.app.test_client().session_transaction():
        pass
    assert shop.calls() == (0, 0, 0, 0, 0)


def test_nested_changes(shop):
    """A change inside a field is saved if the session is flagged as modified, and only then, as in Flask."""
    cookie = shop.begin(cart=[1], other=[1])

    def unflagged(session):
        session["cart"].append(2)
        session["x"] = 1

    shop.do(cookie, unflagged)
    assert shop.shown(cookie) == {"cart": [1], "other": [1], "x": 1}

    def flagged(session):
        session["cart"].append(2)
        session.modified = True

    assert shop.cost(cookie, flagged) == (0, 1, 1, 0, 0)
    assert shop.shown(cookie) == {"cart": [1, 2], "other": [1], "x": 1}


def test_flagged_without_change(shop):
    """A flag alone saves nothing, however the store writes the JSON of the fields that were read."""
    cookie = shop.begin(a=1, b=[2])
    shop.store.save(cookie.split(".")[0], Changes(set={"a": b'{ "x" : 1.0 }'}))

    def look(session):
        assert session["a"]
        assert session["b"]
        session.modified = True

    assert shop.cost(cookie, look) == (0, 1, 0, 0, 0)


def test_flag_taken_back(shop):
    """`session.modified = False` keeps a change from being saved, as in Flask."""
    cookie = shop.begin(a=1)

    def change(session):
        session["a"] = 2
        session.modified = False

    assert shop.cost(cookie, change) == (0, 1, 0, 0, 0)
    assert shop.shown(cookie) == {"a": 1}


def test_set_default(shop):
    """A list made with `setdefault` and filled afterwards is saved as it is at the end of the request."""
    cookie = cookie_of(shop.do(None, lambda session: session.setdefault("cart", []).append(1)))
    assert shop.shown(cookie) == {"cart": [1]}


def test_dict_methods(shop):
    """The session is a dict: membership, length, items, pop and friends agree with one another."""

    def check(session):
        assert "a" in session
        assert "x" not in session
        assert session.get("x", 7) == 7
        assert session.pop("a") == 1
        assert "a" not in session
        assert sorted(session) == ["b", "c"]
        assert len(session) == 2
        with pytest.raises(KeyError):
            session["a"]
        with pytest.raises(KeyError):
            del session["a"]
        session["a"] = 9
        assert dict(session) == {"a": 9, "b": 2, "c": 3}
        del session["a"]

    cookie = shop.begin(a=1, b=2, c=3)
    assert shop.do(cookie, check).status_code == 200
    assert shop.shown(cookie) == {"b": 2, "c": 3}


def test_cleared_and_filled_again(shop):
    """A session that is cleared and filled again lives on with the new fields alone, whoever added others meanwhile."""
    cookie = shop.begin(user="ann", cart=1)

    def refill(session):
        session.clear()
        shop.store.save(cookie.split(".")[0], Changes(set=packed(late=1)))
        session["message"] = "bye"

    assert cookie_of(shop.do(cookie, refill)) is None
    assert shop.shown(cookie) == {"message": "bye"}


def test_clearing_without_a_session(shop):
    """A logout without a session, or with a dead cookie, is no error, and removes the cookie if there is one."""
    assert cookie_of(shop.do(None, lambda session: session.clear())) is None
    cookie = shop.begin(a=1)
    shop.do(cookie, lambda session: session.clear())
    assert cookie_of(shop.do(cookie, lambda session: session.clear())) == ""


def test_empty_sessions_are_not_created(shop):
    """A request that writes nothing, or takes back what it wrote, creates no session."""

    def write_and_remove(session):
        session["a"] = 1
        del session["a"]

    for action in (dict, write_and_remove, lambda session: session.rotate(), lambda session: session.pop("a", None)):
        response = shop.do(None, action)
        assert (response.status_code, cookie_of(response)) == (200, None)
    assert shop.store.census().creates == 0


def test_shape_of_handles(shop):
    """Even a cookie with a good signature costs no store call unless it looks like one of ours."""
    for identity in (Identity("../etc", "N" * 43), Identity("x" * 23, "N" * 42), Identity("*" * 22, "N" * 43)):
        assert shop.cost(_write_cookie(shop.app, identity), dict) == (0, 0, 0, 0, 0)


def test_shrinking_below_the_limit(shop):
    """A session that two writers together made too large can be made smaller, in steps."""
    cookie = shop.begin(a="x" * 40_000)
    shop.store.save(cookie.split(".")[0], Changes(set=packed(b="x" * 40_000)))
    assert shop.do(cookie, lambda session: session.update(a="x" * 39_000)).status_code == 200
    assert shop.do(cookie, lambda session: session.update(a="x" * 39_001)).status_code == 413
    assert shop.do(cookie, lambda session: session.pop("a")).status_code == 200


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


class Unkept:
    """Something that JSON cannot hold."""


@pytest.mark.parametrize(
    "value",
    [
        Unkept(),
        {1: "integer keys become text"},
        {"deep": [float("nan")]},
        float("inf"),
        b"bytes",
        {"a set"},
        "a lone surrogate \ud800",
        {"\ud800": 1},
        complex(1, 1),
        Exception,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_json_cannot_hold(store, value):
    """A value that JSON cannot hold, or would change, is refused in the view's own line, by the field's name."""
    shop = Shop(store, TESTING=True)
    with pytest.raises(TypeError, match="session field 'cart:1' cannot be kept as JSON"):
        shop.do(None, lambda session: session.update({"cart:1": value}))
    assert store.census().handles == ()


def test_endless_values(store):
    """A list that contains itself is refused like every other value that nests too deep."""
    shop = Shop(store, TESTING=True)
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested more than"):
        shop.do(None, lambda session: session.update(a=endless))


@pytest.mark.parametrize("name", [1, None, "\ud800"])
def test_names_that_json_cannot_hold(store, name):
    """A field's name is text that UTF-8 can write."""
    shop = Shop(store, TESTING=True)
    with pytest.raises(TypeError, match="session field"):
        shop.do(None, lambda session: session.update({name: 1}))


def test_value_made_unkeepable_later(store):
    """A value that is spoilt after it was set is refused when it is saved, by name, and nothing is saved."""
    shop = Shop(store, TESTING=True)

    def spoil(session):
        session["cart"] = cart = []
        cart.append(Unkept())

    with pytest.raises(TypeError, match="'cart'"):
        shop.do(None, spoil)
    assert store.census().handles == ()


def test_policy_that_a_store_cannot_promise():
    """A policy that the store cannot promise is refused in one clear line."""
    from strategies.all_to_all import AllToAllStore

    store = AllToAllStore.open(StoreSettings())
    with pytest.raises(UnsupportedPolicy, match="AllToAllStore cannot promise 'versioned' writes; it supports: blob"):
        ServerSideSessions(store, "versioned")
    store.close()


def test_error_replaces_the_whole_answer(store):
    """When the save is refused, nothing of the view's answer is left: no body, no redirect, no download, no stream."""
    shop = Shop(store)
    cookie = shop.begin(a=1)
    closed = []

    class Page(list):
        def close(self):
            closed.append(True)

    def view(session):
        session["a"] = 2
        store.delete(cookie.split(".")[0])
        body = Page([b"secret page"])
        return flask.Response(body, status=302, headers={"Location": "/x", "ETag": '"1"'}, direct_passthrough=True)

    refused = shop.do(cookie, view)
    assert refused.status_code == 401
    assert refused.is_json
    assert int(refused.headers["Content-Length"]) == len(refused.data)
    assert {"Location", "ETag"}.isdisjoint(refused.headers.keys())
    assert closed


def test_saved_when_the_view_fails(shop):
    """What a view saved before it raised is kept, as in Flask."""
    cookie = shop.begin(a=1)

    def fail(session):
        session["a"] = 2
        flask.abort(404)

    assert shop.do(cookie, fail).status_code == 404
    assert shop.shown(cookie) == {"a": 2}


def test_short_hash():
    """Logs and headers name a session by 12 hex digits that do not reveal its handle."""
    assert short_hash("handle") == "c2a116aa910d"


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
    newer = _write_cookie(shop.app, rotated)
    assert shop.shown(newer) == {}
    assert store.asked == [False, False, True]
    store.newer = hashlib.sha256(rotated.secret.encode()).hexdigest()
    assert shop.shown(newer) == {"a": 1}
    store.close()


def test_one_copy_is_not_asked_twice(shop):
    """Where there is one copy, a cookie with another secret costs one load."""
    stale = _write_cookie(shop.app, Identity(shop.begin(a=1).split(".")[0], "N" * 43))
    assert shop.cost(stale, dict) == (0, 1, 0, 0, 0)
