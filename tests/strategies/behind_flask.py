"""What every strategy promises through Flask: the same requests over every store, by overlapping and late browsers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest
from waiting import at_once

from strategies.cookies import write_cookie
from strategies.session import Identity
from strategies.session_interface import ServerSideSessions, short_hash


class Shop:
    """A small application over a store. `do` runs a function on the session within a request of its own.

    Args:
        store: an open store.
        policy: the write policy.
    """

    def __init__(self, store, policy="fields", **config):
        self.store = store
        self.app = flask.Flask(__name__)
        self.app.secret_key = "a secret key"
        self.app.config |= config
        self.app.session_interface = ServerSideSessions(store, policy, lab_headers=True)
        self.app.add_url_rule("/", "run", self._run)
        self._action = threading.local()

    def _run(self):
        result = self._action.now(flask.session)
        return result if isinstance(result, flask.Response) else flask.jsonify(result)

    def do(self, cookie, action, **kwargs):
        """Run an action in a request with this cookie (None: without one); return the response."""
        headers = {} if cookie is None else {"Cookie": f"session={cookie}"}
        self._action.now = action
        return self.app.test_client(use_cookies=False).get("/", headers=headers, **kwargs)

    def begin(self, **fields):
        """Begin a session with these fields; return its cookie."""
        return cookie_of(self.do(None, lambda session: session.update(fields)))

    def shown(self, cookie):
        """Return what a request with this cookie sees."""
        response = self.do(cookie, dict)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        return response.json

    def calls(self):
        """Return the store's calls so far: creates, loads, saves, touches, deletes."""
        census = self.store.census()
        return census.creates, census.loads, census.saves, census.touches, census.deletes

    def cost(self, cookie, action):
        """Return the store's calls during one request."""
        before = self.calls()
        assert self.do(cookie, action).status_code == 200
        return tuple(after - before for after, before in zip(self.calls(), before, strict=True))


def cookie_of(response):
    """Return the session cookie that a response sets; "" if it deletes it, None if it does neither."""
    sent = [header for header in response.headers.getlist("Set-Cookie") if header.startswith("session=")]
    return sent[0].partition(";")[0].removeprefix("session=") if sent else None


def overlapping(shop, cookie, slow, between):
    """Run `slow(session, wait)` in a request; while it waits, run `between()`; return its response."""
    waiting, go_on = threading.Event(), threading.Event()

    def wait():
        waiting.set()
        assert go_on.wait(5)

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(shop.do, cookie, lambda session: slow(session, wait))
        assert waiting.wait(5)
        between()
        go_on.set()
        return late.result()


class BehindFlask:
    """One server, write policy `fields`."""

    @pytest.fixture
    def shop(self, open_store):
        """Return a shop over this strategy's store."""
        return Shop(open_store())

    def test_calls_per_request(self, shop):
        """Untouched costs nothing, a first write one create, a read one load, a write one load and one save."""
        cookie = shop.begin(a=1)
        assert shop.calls() == (1, 0, 0, 0, 0)
        assert shop.cost(cookie, lambda _: "untouched") == (0, 0, 0, 0, 0)
        assert shop.cost(None, lambda session: session.get("a")) == (0, 0, 0, 0, 0)
        assert shop.cost(cookie, lambda session: [session["a"], "b" in session, len(session)]) == (0, 1, 0, 0, 0)
        assert shop.cost(cookie, lambda session: session.update(a=2, b=3)) == (0, 1, 1, 0, 0)
        assert shop.cost(cookie, lambda session: session.clear()) == (0, 1, 0, 0, 1)

    def test_writers_of_different_fields(self, shop):
        """Two requests that both loaded before either saved keep each other's fields."""
        cookie = shop.begin(a=1)
        both_loaded = threading.Barrier(2)

        def write(name):
            def action(session):
                assert session["a"] == 1
                both_loaded.wait(5)
                session[name] = 2

            return lambda: shop.do(cookie, action)

        answers = at_once(write("b"), write("c"))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert shop.shown(cookie) == {"a": 1, "b": 2, "c": 2}

    def test_slow_reader(self, shop):
        """A slow request that only reads does not roll back what another one wrote meanwhile."""
        cookie = shop.begin(a=1)
        write = lambda: shop.do(cookie, lambda session: session.update(a=2, b=2))  # noqa: E731
        response = overlapping(shop, cookie, lambda session, wait: [session["a"], wait()], write)
        assert response.json == [1, None]
        assert "X-Session-Saved" not in response.headers
        assert shop.shown(cookie) == {"a": 2, "b": 2}

    def test_deleted_fields(self, shop):
        """A field deleted while a slow request writes another one does not come back."""
        cookie = shop.begin(a=1, b=1)

        def slow(session, wait):
            assert dict(session) == {"a": 1, "b": 1}
            wait()
            session["a"] = 2

        overlapping(shop, cookie, slow, lambda: shop.do(cookie, lambda session: session.pop("b")))
        assert shop.shown(cookie) == {"a": 2}

    def test_last_field_deleted_while_another_is_added(self, shop):
        """Removing the last field does not end the session: another request may be adding one."""
        cookie = shop.begin(a=1)

        def slow(session, wait):
            del session["a"]
            wait()

        response = overlapping(shop, cookie, slow, lambda: shop.do(cookie, lambda session: session.update(b=2)))
        assert response.status_code == 200
        assert cookie_of(response) is None
        assert shop.shown(cookie) == {"b": 2}

    def test_late_save_after_logout(self, shop):
        """A write under way at the logout is refused with 401 and no cookie; the session stays dead."""
        cookie = shop.begin(user="ann")

        def slow(session, wait):
            session["cart"] = 1
            wait()

        late = overlapping(shop, cookie, slow, lambda: shop.do(cookie, lambda session: session.clear()))
        assert (late.status_code, cookie_of(late)) == (401, None)
        assert "ended" in late.json["error"]
        assert shop.shown(cookie) == {}
        assert shop.store.census().handles == ()

    def test_logout(self, shop):
        """A logout ends the record and removes the cookie; the old cookie then begins a session of its own."""
        cookie = shop.begin(user="ann")
        assert cookie_of(shop.do(cookie, lambda session: session.clear())) == ""
        assert shop.shown(cookie) == {}
        anew = cookie_of(shop.do(cookie, lambda session: session.update(a=1)))
        assert anew.split(".")[0] != cookie.split(".")[0]
        assert shop.shown(anew) == {"a": 1}
        assert shop.shown(cookie) == {}

    def test_rotation(self, shop):
        """After a login the new cookie holds the same session, and the old one is dead: it shows and saves nothing."""
        old = shop.begin(cart=1)

        def login(session):
            session["user"] = "ann"
            session.rotate()

        new = cookie_of(shop.do(old, login))
        assert (new.split(".")[0], len(new)) == (old.split(".")[0], len(old))
        assert new != old
        assert shop.shown(new) == {"cart": 1, "user": "ann"}
        assert shop.shown(old) == {}
        shop.do(old, lambda session: session.update(evil=1))
        shop.do(old, lambda session: session.clear())
        assert shop.shown(new) == {"cart": 1, "user": "ann"}

    def test_write_during_login(self, shop):
        """A write that began before a login and ends after it survives, and does not undo the rotation."""
        old = shop.begin(cart=1)
        new = []

        def slow(session, wait):
            assert session["cart"] == 1
            wait()
            session["recent"] = [7]

        def login():
            new.append(cookie_of(shop.do(old, lambda session: [session.rotate(), session.update(user="ann")])))

        response = overlapping(shop, old, slow, login)
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert shop.shown(new[0]) == {"cart": 1, "recent": [7], "user": "ann"}
        assert shop.shown(old) == {}

    @pytest.mark.parametrize(
        "forge",
        [
            lambda cookie: "",
            lambda cookie: "x",
            lambda cookie: cookie[:-1],
            lambda cookie: cookie[:-2] + ("A" if cookie[-2] != "A" else "B") + cookie[-1],
            lambda cookie: ("A" if cookie[0] != "A" else "B") + cookie[1:],
            lambda cookie: cookie + "A",
            lambda cookie: cookie.replace(".", "", 1),
            lambda cookie: "A" * 100_000,
            lambda cookie: f"{'A' * 22}.{'A' * 43}.{'A' * 43}",
            lambda cookie: "\xff\xfe\x80binary",
            lambda cookie: "é" * 22 + cookie[22:],
            lambda cookie: "../" + cookie[3:],
            lambda cookie: "*" * 22 + cookie[22:],
        ],
    )
    def test_forged_cookies(self, shop, forge):
        """A cookie that is not ours costs no store call; a write begins a session that the server names."""
        cookie = shop.begin(a=1)
        forged = forge(cookie)
        assert shop.cost(forged, lambda session: [dict(session)]) == (0, 0, 0, 0, 0)
        assert shop.shown(forged) == {}
        response = shop.do(forged, lambda session: session.update(b=2))
        assert response.status_code == 200
        assert cookie_of(response).split(".")[0] not in (forged.split(".")[0], cookie.split(".")[0])
        assert shop.shown(cookie) == {"a": 1}
        assert len(shop.store.census().handles) == 2

    def test_secret_is_needed(self, shop):
        """A cookie that we did sign, but with another secret or for an unknown handle, opens nothing."""
        cookie = shop.begin(a=1)
        handle, secret, _ = cookie.split(".")
        for identity in (Identity(handle, "A" * 43), Identity("A" * 22, secret)):
            genuine = write_cookie(shop.app, identity)
            assert shop.shown(genuine) == {}
            assert cookie_of(shop.do(genuine, lambda session: session.update(b=2))).split(".")[0] != identity.handle
        assert "A" * 22 not in shop.store.census().handles
        assert shop.shown(cookie) == {"a": 1}

    def test_secret_is_not_stored(self, shop):
        """The store holds the secret's SHA-256, never the secret."""
        handle, secret, _ = shop.begin(a=1).split(".")
        record = shop.store.load(handle)
        assert secret not in repr(record)
        assert len(record.secret_hash) == 64

    def test_too_large(self, shop):
        """A session that would grow past 64 KiB is refused with 413 and stays as it was; it can still shrink."""
        assert shop.do(None, lambda session: session.update(a="x" * 65_536)).status_code == 413
        assert shop.store.census().handles == ()
        cookie = shop.begin(a="x" * 40_000)
        refused = shop.do(cookie, lambda session: session.update(b="x" * 30_000, c=1))
        assert refused.status_code == 413
        assert "65536" in refused.json["error"]
        assert "Set-Cookie" not in refused.headers
        assert set(shop.shown(cookie)) == {"a"}
        assert shop.do(cookie, lambda session: session.update(a="x" * 100)).status_code == 200

    def test_size_limit_is_exact(self, shop):
        """A session of exactly 64 KiB, names and packed values, is kept."""
        cookie = shop.begin(ab="x" * (65_536 - 4))
        assert len(shop.shown(cookie)["ab"]) == 65_532
        assert shop.store.census().logical_bytes == 65_536
        assert shop.do(cookie, lambda session: session.update(b=1)).status_code == 413

    def test_size_limit_counts_bytes(self, shop):
        """Characters of several bytes count as such, in names and in values."""
        for name, value in (("日" * 21_000, "x" * 3_000), ("n", "日" * 22_000)):
            assert (
                shop.do(None, lambda session, name=name, value=value: session.update({name: value})).status_code == 413
            )

    def test_headers(self, shop):
        """In the lab an answer tells the session's short hash, version and origin, and whether it was saved."""
        first = shop.do(None, lambda session: session.update(a=1))
        cookie = cookie_of(first)
        read = shop.do(cookie, dict)
        name = short_hash(cookie.split(".")[0])
        assert (first.headers["X-Session"], read.headers["X-Session"]) == (name, name)
        assert first.headers["X-Session-Version"] == read.headers["X-Session-Version"]
        assert (first.headers["X-Session-Origin"], read.headers["X-Session-Origin"]) == ("web-1", "web-1")
        assert (first.headers.get("X-Session-Saved"), read.headers.get("X-Session-Saved")) == ("1", None)
        assert "X-Session" not in shop.do(None, dict).headers
        assert "X-Session" not in shop.do(cookie, lambda _: None).headers

    def test_reading_keeps_alive(self, open_store):
        """A session that is only read lives on, by one touch per tenth of its idle lifetime at most."""
        shop = Shop(open_store(idle_seconds=5.0))
        cookie = shop.begin(a=1)
        handle = cookie.split(".")[0]
        first = latest = shop.store.load(handle).idle_deadline
        while latest < first + 0.8:
            assert shop.shown(cookie) == {"a": 1}
            latest = shop.store.load(handle).idle_deadline  # a load of the store's extends nothing
        assert 1 <= shop.store.census().touches <= (latest - first) / 0.5 + 1

    def test_reading_at_the_end(self, open_store):
        """Where a touch could extend nothing, as the session ends soon in any case, there is none."""
        shop = Shop(open_store(idle_seconds=1000.0, absolute_seconds=100.0))
        cookie = shop.begin(a=1)
        assert [shop.shown(cookie) for _ in range(3)] == [{"a": 1}] * 3
        assert shop.store.census().touches == 0


class BehindFlaskBlob:
    """One server, write policy `blob`."""

    def test_last_write_wins(self, open_store):
        """The whole session is saved, so that the later of two overlapping writers undoes the other: on purpose."""
        shop = Shop(open_store(), "blob")
        cookie = shop.begin(a=1)

        def slow(session, wait):
            session["b"] = 2
            wait()

        overlapping(shop, cookie, slow, lambda: shop.do(cookie, lambda session: session.update(c=3)))
        assert shop.shown(cookie) == {"a": 1, "b": 2}

    def test_readers_write_nothing(self, open_store):
        """Also under `blob` a request that only reads saves nothing."""
        shop = Shop(open_store(), "blob")
        assert shop.cost(shop.begin(a=1), dict) == (0, 1, 0, 0, 0)


class BehindFlaskVersioned:
    """One server, write policy `versioned`."""

    def test_conflict(self, open_store):
        """The later of two overlapping writers is refused with 409, saves nothing, and succeeds when repeated."""
        shop = Shop(open_store(), "versioned")
        cookie = shop.begin(n=1)

        def slow(session, wait):
            session["n"] += 1
            wait()

        refused = overlapping(shop, cookie, slow, lambda: shop.do(cookie, lambda session: session.update(n=10)))
        assert (refused.status_code, cookie_of(refused)) == (409, None)
        assert "another request" in refused.json["error"]
        assert shop.shown(cookie) == {"n": 10}
        assert shop.do(cookie, lambda session: session.update(n=session["n"] + 1)).status_code == 200
        assert shop.shown(cookie) == {"n": 11}

    def test_conflict_at_login(self, open_store):
        """A login is no exception: it is refused as a whole, and the cookie from before stays the right one."""
        shop = Shop(open_store(), "versioned")
        cookie = shop.begin(n=1)

        def log_in(session, wait):
            session["user"] = "ann"
            session.rotate()
            wait()

        refused = overlapping(shop, cookie, log_in, lambda: shop.do(cookie, lambda session: session.update(n=10)))
        assert (refused.status_code, cookie_of(refused)) == (409, None)
        assert shop.shown(cookie) == {"n": 10}


class BehindFlaskShared:
    """Several servers of a cluster."""

    def test_round_robin(self, cluster):
        """A shopper is served by any server: session, login and logout hold on all of them."""
        one, two = Shop(cluster.open("web-1")), Shop(cluster.open("web-2"))
        cookie = one.begin(cart=1)
        cluster.settle()
        new = cookie_of(two.do(cookie, lambda session: [session.rotate(), session.update(user="ann")]))
        cluster.settle()
        assert one.shown(new) == two.shown(new) == {"cart": 1, "user": "ann"}
        assert one.shown(cookie) == {}
        one.do(new, lambda session: session.clear())
        cluster.settle()
        assert two.shown(new) == one.shown(new) == {}

    def test_late_save_elsewhere(self, cluster):
        """A late write on one server is refused after the logout on another one has arrived."""
        one, two = Shop(cluster.open("web-1")), Shop(cluster.open("web-2"))
        cookie = one.begin(user="ann")
        cluster.settle()

        def slow(session, wait):
            session["cart"] = 1
            wait()

        def logout():
            two.do(cookie, lambda session: session.clear())
            cluster.settle()

        assert overlapping(one, cookie, slow, logout).status_code == 401
        cluster.settle()
        assert one.store.census().handles == two.store.census().handles == ()
