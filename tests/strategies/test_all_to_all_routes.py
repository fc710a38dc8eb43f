"""The peer routes face anything that can reach them."""

from __future__ import annotations

import ssl
import threading
import time
from wsgiref.simple_server import WSGIRequestHandler, make_server

import msgspec
import pytest
from all_to_all_cluster import SECRET
from certificate import make_certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from strategies.all_to_all import AllToAllStore
from strategies.clock import HybridClock
from strategies.contract import Changes, NewSession, Peer, StoreSettings
from strategies.peer_http import MAX_BODY_BYTES, Hello, Message, PeerAbsent, PeerClient, encode
from strategies.replica import Copy

POSTS = ("/peers/hello", "/peers/apply", "/peers/ask")
ROUTES = (*(("POST", path) for path in (*POSTS, "/peers/meet")), ("GET", "/peers/state"))
posts = st.sampled_from(POSTS)
WITH_SECRET = {"X-Peer-Secret": SECRET}


@pytest.fixture(scope="module")
def store():
    """Give a server whose peer routes are called directly."""
    opened = AllToAllStore.open(StoreSettings(peer_secret=SECRET))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(store):
    """Give somebody who can reach them."""
    return Client(store.peer_app)


def a_session(handle="h"):
    """Return a copy as a peer would send it."""
    stamp = HybridClock("web-2").next()
    later = time.time() + 1000
    return Copy(
        handle, later, later, stamp, {"cart:1": (stamp, b"1"), "gone": (stamp, None)}, (stamp, "hash"), created=True
    )


BODIES = {
    "/peers/hello": encode(Hello("web-2", "abc", True)),
    "/peers/apply": encode([Message("create", a_session()), Message("touch", Copy("h", 1e10, 1e9))]),
    "/peers/ask": encode(["h", "i"]),
    "/peers/meet": encode(Peer("web-2", "http://127.0.0.1:1")),
}


@pytest.mark.parametrize("shown", [None, "", "wrong", SECRET + "x", SECRET[:-1], "ü"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_is_answered_without_the_secret(store, client, method, path, shown):
    """A missing or wrong secret is a 403 on every route, and changes nothing."""
    headers = {} if shown is None else {"X-Peer-Secret": shown}
    response = client.open(path, method=method, headers=headers, data=BODIES.get(path))
    assert response.status_code == 403
    assert store.snapshot() == []


@pytest.mark.parametrize("shown", ["", SECRET])
def test_without_a_secret_of_its_own_a_server_answers_nobody(shown):
    """An empty secret opens no door."""
    store = AllToAllStore.open(StoreSettings())
    assert Client(store.peer_app).get("/peers/state", headers={"X-Peer-Secret": shown}).status_code == 403
    store.close()


@settings(deadline=None, max_examples=200)
@given(path=posts, body=st.binary(max_size=200))
def test_bodies_of_noise_are_refused(store, client, path, body):
    """Bytes that are no message are a 400, never a 500, and create no state."""
    response = client.post(path, data=body, headers=WITH_SECRET)
    assert response.status_code in (200, 400)
    assert store.snapshot() == []


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", encode({}), encode({"name": "web-2"}), encode(Peer("web-2", "http://127.0.0.1:port"))]
)
def test_a_newcomer_without_an_address_is_refused(store, client, body):
    """It is a 400, and nobody is expected."""
    assert client.post("/peers/meet", data=body, headers=WITH_SECRET).status_code == 400
    assert not store._peers._links


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda children: st.lists(children, max_size=6) | st.dictionaries(st.text(max_size=5), children, max_size=3),
)


@settings(deadline=None, max_examples=200)
@given(path=posts, body=json_like)
def test_well_formed_nonsense_is_refused(store, client, path, body):
    """Well-formed messages that mean nothing here are a 400, never a 500, and create no state."""
    response = client.post(path, data=msgspec.msgpack.encode(body), headers=WITH_SECRET)
    assert response.status_code in (200, 400)
    assert store.snapshot() == []


@settings(deadline=None, max_examples=300)
@given(path=posts, at=st.integers(0, 300), cut=st.integers(0, 4), noise=st.binary(max_size=4))
def test_damaged_messages_never_break_the_server(path, at, cut, noise):
    """A message with a few bytes replaced is taken or refused; the server goes on working either way."""
    store = AllToAllStore(StoreSettings(peer_secret=SECRET))
    at = at % len(BODIES[path])
    body = BODIES[path][:at] + noise + BODIES[path][at + cut :]
    assert Client(store.peer_app).post(path, data=body, headers=WITH_SECRET).status_code in (200, 400)
    store.create("another", NewSession("hash", {}))
    store.save("another", Changes(set={"a": b"1"}))
    assert "another" in store.census().handles
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        {"absolute_deadline": float("nan")},
        {"absolute_deadline": float("inf")},
        {"idle_deadline": -1.0},
        {"version": "not a stamp"},
        {"version": "zzzzzzzzzzzzzzzzweb-1"},
        {"fields": {"a": ("", "text")}},
        {"handle": ""},
        {"handle": "h" * 300},
    ],
)
def test_impossible_values_are_refused(store, client, damage):
    """Deadlines that never come, stamps that are none and names that are too long are a 400 and create no state."""
    body = encode([Message("create", msgspec.structs.replace(a_session(), **damage))])
    assert client.post("/peers/apply", data=body, headers=WITH_SECRET).status_code == 400
    assert store.snapshot() == []


def test_deeply_nested_bodies_are_refused(store, client):
    """A body that would exhaust the stack is a 400 like any other nonsense."""
    too_long = b"\x91\x93" + encode("save") + encode(a_session())  # a third element follows
    for body in (b"\x91" * 200_000, too_long + b"\x91" * 200_000):
        assert client.post("/peers/apply", data=body, headers=WITH_SECRET).status_code == 400
    assert store.snapshot() == []


def test_a_body_that_is_too_large_is_not_read(client):
    """A length beyond the bound is refused by its announcement."""
    environ = {"CONTENT_LENGTH": str(MAX_BODY_BYTES + 1)}
    response = client.post("/peers/apply", headers=WITH_SECRET, environ_overrides=environ)
    assert response.status_code == 413


@pytest.mark.parametrize("length", ["-5", "many"])
def test_lengths_that_are_none_are_refused(client, length):
    """A Content-Length that is no length is the sender's mistake."""
    response = client.post("/peers/apply", headers=WITH_SECRET, environ_overrides={"CONTENT_LENGTH": length})
    assert 400 <= response.status_code < 500


def test_unknown_routes_are_not_found(client):
    """Only the four routes are there, each with its method."""
    assert client.get("/peers/secrets", headers=WITH_SECRET).status_code == 404
    assert client.get("/peers/apply", headers=WITH_SECRET).status_code == 404


def test_messages_past_their_absolute_deadline_create_nothing(store, client):
    """A session that is over on arrival is not taken in."""
    body = encode([Message("state", msgspec.structs.replace(a_session(), absolute_deadline=time.time() - 1))])
    assert client.post("/peers/apply", data=body, headers=WITH_SECRET).status_code == 200
    assert store.snapshot() == []


def test_peers_can_speak_tls(tmp_path, monkeypatch):
    """With an `https` address the traffic is encrypted; a server whose certificate nobody vouches for is no peer."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    store = AllToAllStore.open(StoreSettings(peer_secret=SECRET))
    with make_server("127.0.0.1", 0, store.peer_app, handler_class=Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        peer = Peer("web-1", f"https://127.0.0.1:{server.server_port}")
        stranger = PeerClient(peer, SECRET, 5)
        with pytest.raises(PeerAbsent):
            stranger.ask(["h"])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = PeerClient(peer, SECRET, 5)
        client.apply(BODIES["/peers/apply"])
        assert [copy.handle for copy in client.ask(["h"])] == ["h"]
        assert [[copy.handle for copy in copies] for copies in client.state()] == [["h"]]
        client.close()
        server.shutdown()
        serving.join()
    store.close()


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_):
        """Leave it."""
