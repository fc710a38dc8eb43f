"""How servers in containers find each other, with addresses of this machine in the place of containers."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress

import pytest

from lab.engines.ports import bound_socket
from lab.servers import neighbours as module
from lab.servers.listener import PEERS, listen
from lab.servers.neighbours import Neighbours, numbered
from lab.servers.standalone import SECRET_HEADER, Gate


@contextmanager
def serving(gate):
    """Serve a gate on a port of its own, which it gives."""
    with bound_socket() as bound:
        server = listen(gate, bound, **PEERS)
        threading.Thread(target=server.run, daemon=True).start()
        yield bound.getsockname()[1]
        with suppress(OSError):  # it has been woken by something else, and has closed all before it was to be woken
            server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map))


@pytest.mark.parametrize(
    ("full", "name"),
    [
        ("lab_web-redis_3.lab_inside", "web-3"),
        ("lab-web-redis-12.lab_inside", "web-12"),
        ("stack_web-redis.2.k3j5.stack_inside", "web-2"),
        ("a-web-redis-1_web-redis_4.net", "web-4"),
        ("web-redis-cluster-7.net", "web-9"),
        ("", "web-9"),
    ],
)
def test_a_container_is_called_by_its_number(full, name):
    """As Compose 1, Compose 2 and a swarm write it; where DNS tells none, by the last number of its address."""
    assert numbered(full, "web-redis", "172.18.0.9") == name
    assert numbered(full, "tasks.web-redis", "172.18.0.9") == name


def test_who_is_listed_and_answers_is_found_once_and_another_in_its_place_again(monkeypatch):
    """A container may be another one under the same address: it says so itself."""
    listed = {"127.0.0.1", "127.0.0.2"}
    monkeypatch.setattr(module, "addresses_of", lambda _: listed)
    gate = Gate("web-1-aaaa", "")
    with serving(gate) as port:
        around = Neighbours("service", "127.0.0.2", port)
        assert [(peer.name, peer.url) for peer in around.look()] == [("web-1-aaaa", f"http://127.0.0.1:{port}")]
        assert around.look() == []
        gate._who = b'{"server":"web-1-bbbb"}'
        assert [peer.name for peer in around.look()] == ["web-1-bbbb"]


def test_who_is_not_listed_any_more_is_gone_after_a_while(monkeypatch):
    """Not at once: DNS may fail for a moment. And who returns in time is not gone."""
    listed = {"127.0.0.1"}
    monkeypatch.setattr(module, "addresses_of", lambda _: listed)
    with serving(Gate("web-1-aaaa", "")) as port:
        around = Neighbours("service", "127.0.0.2", port)
        around.look()
        listed = set()
        around.look()
        assert around.gone() == []
        listed = {"127.0.0.1"}
        around.look()
        listed = set()
        monkeypatch.setattr(module, "FORGET_SECONDS", 0.0)
        around.look()
        assert around.gone() == ["web-1-aaaa"]
        assert around.gone() == []


def test_who_has_moved_is_found_at_the_new_address_and_is_not_gone(monkeypatch):
    """An engine that takes a container out of a network and puts it back may give it another address."""
    there = {"10.0.0.1": "web-1-aaaa"}
    monkeypatch.setattr(module, "addresses_of", lambda _: set(there))
    monkeypatch.setattr(Neighbours, "_ask", lambda _, address: there[address])
    monkeypatch.setattr(module, "FORGET_SECONDS", 0.0)
    around = Neighbours("service", "10.0.0.9", 8001)
    around.look()
    there = {"10.0.0.2": "web-1-aaaa"}
    assert [(peer.name, peer.url) for peer in around.look()] == [("web-1-aaaa", "http://10.0.0.2:8001")]
    assert around.gone() == []
    there = {"10.0.0.3": "web-2-bbbb"}
    around.look()
    assert around.gone() == ["web-1-aaaa"]


def test_only_whoever_knows_the_labs_secret_learns_of_sessions():
    """Who it is and whether it serves, it tells anybody; without a secret of its own, it tells the rest to nobody."""
    from werkzeug.test import Client

    def inner(_, start_response):
        start_response("200 OK", [])
        return [b"told"]

    for secret, shown, status in (("s", "s", 200), ("s", "x", 403), ("s", "", 403), ("", "", 403)):
        gate = Gate("web-1-aaaa", secret)
        gate.inner = inner
        client = Client(gate)
        assert client.get("/_lab/census", headers={SECRET_HEADER: shown}).status_code == status
        assert client.get("/_lab/who").json == {"server": "web-1-aaaa"}
        assert client.get("/_lab/ready").status_code == 503
        gate.serving = True
        assert client.get("/_lab/ready").status_code == 200


def test_a_server_without_a_store_yet_says_so():
    """A peer that greets it too early tries again."""
    from werkzeug.test import Client

    assert Client(Gate("web-1-aaaa", "s")).post("/peers/hello").status_code == 503
