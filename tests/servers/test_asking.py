"""How the lab asks servers: one that cannot tell now is asked again, and not for ever."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest
import requests

from lab.servers import asking

NUMBER = msgspec.json.Decoder(int)


@pytest.fixture
def server():
    """Give a server that answers with the statuses in its list, one after another."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.statuses.pop(0))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"17")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def asked(server, monkeypatch):
    """Return what asks it, without a pause."""
    monkeypatch.setattr(asking, "PAUSE_SECONDS", 0.0)

    def ask(*statuses):
        server.statuses = list(statuses)
        with requests.Session() as http:
            http.trust_env = False
            return asking.ask(http, f"http://127.0.0.1:{server.server_port}/_lab/census", NUMBER)

    return ask


def test_a_server_that_cannot_tell_now_is_asked_again(asked, server):
    """A busy store has it answer 500: the run goes on."""
    assert asked(500, 503, 500, 500, 200, 200) == 17
    assert server.statuses == [200]


@pytest.mark.parametrize(("statuses", "left"), [([500] * 5 + [200], [200]), ([403, 200], [200])], ids=["5xx", "403"])
def test_refusals_end_it(asked, server, statuses, left):
    """After the last try, and at once where asking again would not help."""
    with pytest.raises(requests.HTTPError):
        asked(*statuses)
    assert server.statuses == left
