"""How a web server leaves: nothing that was begun is lost, and no connection is closed under the balancer's hands."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import suppress

import pytest

from lab.engines.ports import bound_socket
from lab.servers import farewell as module
from lab.servers.farewell import Farewell
from lab.servers.listener import SHOPPERS, listen

PATIENCE_SECONDS = 60.0


class Shop:
    """An application that answers `/slow` only when released."""

    def __init__(self):
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self, environ, start_response):
        """Answer one request."""
        if environ["PATH_INFO"] == "/slow":
            self.begun.set()
            self.released.wait(PATIENCE_SECONDS)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def shop():
    """Return an application."""
    shop = Shop()
    yield shop
    shop.released.set()


@pytest.fixture
def bound():
    """Return a socket to serve on."""
    with bound_socket() as sock:
        yield sock


@pytest.fixture
def farewell(shop, bound):
    """Serve the application; every socket is closed in the end."""
    listener = listen(shop, bound, **SHOPPERS)
    farewell = Farewell(listener)
    farewell.serve()
    yield farewell
    shop.released.set()
    with suppress(OSError):  # woken by something else, it has closed all before it was to be woken
        listener.trigger.pull_trigger(lambda: listener.asyncore.close_all(listener._map))
    for thread in threading.enumerate():
        if thread.name == "shoppers":
            thread.join(PATIENCE_SECONDS)


@pytest.fixture
def connection(farewell, bound):
    """Return an open connection, kept alive, on which one request was answered."""
    connection = http.client.HTTPConnection(*bound.getsockname(), timeout=PATIENCE_SECONDS)
    answer = ask(connection, "/")
    assert answer.getheader("Connection") is None
    yield connection
    connection.close()


def ask(connection, path):
    """Send a request and return the whole answer."""
    connection.request("POST", path, body=b"{}")
    answer = connection.getresponse()
    assert answer.read() == b"ok"
    return answer


def leaving(farewell):
    """Let it leave, in the background."""
    thread = threading.Thread(target=farewell.leave)
    thread.start()
    return thread


def refused(address):
    """Tell whether nobody listens there any more."""
    try:
        socket.create_connection(address, PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it had been let in when the port was closed
        return False
    return False


def test_what_was_begun_is_answered_and_the_connection_given_up(shop, farewell, bound, connection):
    """A request that came before the goodbye gets its answer, which says that there will be no other."""
    address, answers = bound.getsockname(), []
    asking = threading.Thread(target=lambda: answers.append(ask(connection, "/slow")))
    asking.start()
    assert shop.begun.wait(PATIENCE_SECONDS)
    thread = leaving(farewell)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not refused(address):
        assert time.monotonic() < deadline
    assert thread.is_alive()
    shop.released.set()
    asking.join()
    thread.join()
    assert answers[0].getheader("Connection") == "close"


def test_an_idle_connection_is_still_good_for_one_request(monkeypatch, farewell, bound, connection):
    """The balancer may use it at the very moment of the goodbye; it is told with the answer."""
    monkeypatch.setattr(module, "QUIET_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(module, "FAREWELL_SECONDS", PATIENCE_SECONDS)
    address = bound.getsockname()
    thread = leaving(farewell)
    while not refused(address):
        pass
    assert ask(connection, "/").getheader("Connection") == "close"
    thread.join()


def test_nobody_waits_for_a_connection_that_nobody_uses(monkeypatch, farewell, connection):
    """It takes its leave although the balancer holds on to it in silence."""
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(module, "FAREWELL_SECONDS", PATIENCE_SECONDS)
    thread = leaving(farewell)
    thread.join(PATIENCE_SECONDS / 2)
    assert not thread.is_alive()


def test_it_goes_when_somebody_has_been_refused(monkeypatch, farewell):
    """From then on the balancer leaves the address alone for a while; until then it would be sent to nobody."""
    refusals = [7]
    monkeypatch.setattr(module, "REFUSAL_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(module, "_resets", lambda: refusals[0])
    farewell.leave()
    waiting = threading.Thread(target=farewell.wait_for_a_refusal)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    refusals[0] += 1
    waiting.join(PATIENCE_SECONDS / 2)
    assert not waiting.is_alive()


@pytest.mark.skipif(module._resets() is None, reason="this system does not count refusals")
def test_refusals_are_counted():
    """The kernel tells how many resets it has sent; whoever connects where nobody listens gets one."""
    with bound_socket() as nobody:
        before = module._resets()
        assert refused(nobody.getsockname())
        assert module._resets() > before
