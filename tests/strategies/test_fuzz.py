"""Whatever a browser or a peer sends: no 500, no crash, and no session that nobody began. On every kind of store."""

from __future__ import annotations

import json
import secrets

import flask
import msgspec
import pytest
from behind_flask import Shop, cookie_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from records import canonical
from werkzeug.test import Client

from strategies.clock import HybridClock
from strategies.cookies import write_clock, write_cookie
from strategies.peer_http import Message, encode
from strategies.replica import Copy
from strategies.session import Identity

bounded = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),  # one store for all examples, and one test for all stores, are wanted
)

noise = st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
edits = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 30), st.binary(max_size=6) | st.sampled_from([b".", b";", b'"', b"="])
    ),
    min_size=1,
    max_size=4,
)
letter = st.sampled_from("ABCabc019_-").map(str.encode)
slips = st.tuples(st.integers(0, 400), letter)
urlsafe = st.text(st.sampled_from("ABCabc019_-.=%"), max_size=60)
names = st.text(max_size=20).filter(lambda name: name != "_permanent")  # Flask's own field
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def edited(text, changes):
    """Return bytes with pieces replaced."""
    for where, length, piece in changes:
        at = where % (len(text) + 1)
        text = text[:at] + piece + text[at + length :]
    return text


class Fuzzed:
    """What a browser may send to a server over this store."""

    @pytest.fixture
    def shop(self, open_store):
        """Return a shop over the store whose view keeps what it is sent."""
        shop = Shop(open_store())
        shop.app.add_url_rule("/keep", "keep", keep, methods=["POST"])
        return shop

    def answer(self, shop, header, action=dict):
        """Return the answer to a request with this Cookie header, in bytes."""
        shop._action.now = action
        overrides = {"HTTP_COOKIE": header.translate(None, b"\r\n").decode("latin-1")}
        return shop.app.test_client(use_cookies=False).get("/", environ_overrides=overrides)

    @bounded
    @given(cookie=noise, clock=noise)
    def test_noise_as_cookies(self, shop, cookie, clock):
        """Noise as a cookie is no session: it asks the store nothing and creates nothing."""
        before = shop.calls()
        answer = self.answer(shop, b"session=" + cookie + b"; session_clock=" + clock)
        assert (answer.status_code, answer.json, cookie_of(answer)) == (200, {}, None)
        assert shop.calls() == before

    @bounded
    @given(changes=edits, write=st.booleans())
    def test_damaged_cookies(self, shop, changes, write):
        """A genuine cookie with a few bytes changed shows nothing of its session, and writes into another one."""
        genuine = shop.begin(a=1)
        header = edited(b"session=" + genuine.encode(), changes).translate(None, b"\r\n")
        assume(genuine.encode()[:-1] not in header)  # the last letter has bits to spare: another one may mean the same
        answer = self.answer(shop, header, lambda session: [dict(session), write and session.update(b=2)])
        assert answer.status_code == 200
        assert answer.json[0] == {}
        assert bool(cookie_of(answer)) is write
        assert shop.shown(genuine) == {"a": 1}

    @bounded
    @given(handle=urlsafe | st.just(""), secret=urlsafe, seen=st.text(max_size=80))
    def test_signed_nonsense(self, shop, handle, secret, seen):
        """A cookie signed with the real key that names nothing real shows nothing and creates nothing."""
        known = shop.begin(a=1).split(".")[0]
        handles = set(shop.store.census().handles)
        for name in (handle, known, secrets.token_urlsafe(16)):
            cookie = write_cookie(shop.app, Identity(name, secret))
            clock = write_clock(shop.app, name, seen.encode("utf-8", "replace").decode())
            answer = self.answer(shop, f"session={cookie}; session_clock={clock}".encode("utf-8", "replace"))
            assert (answer.status_code, answer.json) == (200, {})
        assert set(shop.store.census().handles) == handles

    @bounded
    @given(slip=slips)
    def test_mistyped_cookies(self, shop, slip):
        """A genuine cookie with one letter changed into another one still looks like a cookie, and opens nothing."""
        genuine = shop.begin(a=1).encode()
        at = slip[0] % (len(genuine) - 1)
        mistyped = genuine[:at] + slip[1] + genuine[at + 1 :]
        assume(mistyped != genuine)
        before = shop.calls()
        assert self.answer(shop, b"session=" + mistyped).json == {}
        assert shop.calls() == before

    @bounded
    @given(seen=st.text(max_size=80) | st.from_regex(r"[0-9a-f]{16}[^\n]{1,8}", fullmatch=True), changes=edits)
    def test_clocks(self, shop, seen, changes):
        """Whatever clock a browser claims to have seen, signed or damaged, it has its session, and can write to it."""
        cookie = shop.begin(a=1)
        clock = write_clock(shop.app, cookie.split(".")[0], seen.encode("utf-8", "replace").decode()).encode()
        for shown in (clock, edited(clock, changes)):
            header = b"session=" + cookie.encode() + b"; session_clock=" + shown.replace(b";", b"")
            answer = self.answer(shop, header, lambda session: [dict(session), session.update(a=1)])
            assert (answer.status_code, answer.json[0]) == (200, {"a": 1})

    @bounded
    @given(body=noise | json_values.map(lambda value: json.dumps(value).encode()))
    def test_bodies(self, shop, body):
        """Whatever a view is sent and keeps is refused as a whole, or comes back as it was."""
        answer = shop.app.test_client(use_cookies=False).post("/keep", data=body)
        assert answer.status_code in (200, 400, 413)
        cookie = cookie_of(answer)
        assert (cookie is None) is (answer.status_code != 200)
        if cookie:
            kept = shop.shown(cookie)["kept"]
            assert repr(canonical(kept)) == repr(canonical(json.loads(body)))

    @bounded
    @given(fields=st.dictionaries(names, json_values, max_size=5))
    def test_names_and_values(self, shop, fields):
        """Fields of any name are refused in the view's line, or come back as they were."""
        refused = []

        def keep_all(session):
            for name, value in fields.items():
                try:
                    session[name] = value
                except TypeError:
                    refused.append(name)

        answer = shop.do(None, keep_all)
        assert answer.status_code == 200
        expected = {name: value for name, value in fields.items() if name not in refused}
        cookie = cookie_of(answer)
        assert repr(canonical(shop.shown(cookie) if cookie else {})) == repr(canonical(expected))


def keep():
    """Keep a JSON body in the session."""
    try:
        flask.session["kept"] = json.loads(flask.request.get_data())
    except (TypeError, ValueError, RecursionError):
        flask.abort(400)
    return "kept"


class TestMemory(Fuzzed):
    """Memory of one server."""

    strategy = "isolated"


class TestDatabase(Fuzzed):
    """PostgreSQL."""

    strategy = "database"


class TestRedis(Fuzzed):
    """Redis."""

    strategy = "redis"


class TestAllToAll(Fuzzed):
    """One server of three; what its peers may send."""

    strategy = "all-to-all"

    @bounded
    @given(
        value=st.binary(max_size=20) | json_values.map(msgspec.json.encode),
        name=st.text(max_size=20),
        changes=st.just([]) | edits,
        whole=st.booleans(),
    )
    def test_messages_about_a_session(self, shop, value, name, changes, whole):
        """Whatever a peer sends about a live session, its shopper never sees a 500, on any of its requests."""
        cookie = shop.begin(a=1)
        handle = cookie.split(".")[0]
        record = shop.store.load(handle)
        stamp = HybridClock("web-2").next()
        deadlines = record.idle_deadline, record.absolute_deadline
        body = encode(
            [
                Message(
                    "save", Copy(handle, *deadlines, stamp, {name.encode("utf-8", "replace").decode(): (stamp, value)})
                )
            ]
        )
        peer = Client(shop.store.peer_app)
        secret = {"X-Peer-Secret": shop.store.settings.peer_secret}
        assert peer.post("/peers/apply", data=edited(body, changes), headers=secret).status_code in (200, 400)
        for action in (dict, lambda session: session.update(b=2), lambda session: session.clear()):
            assert shop.do(cookie, action).status_code in (200, 401, 503)
