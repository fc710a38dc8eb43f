"""Engines of a test's own, to be killed and paused, and little servers behind a balancer."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lab.engines import ports
from lab.engines.keeper import Keeper


@pytest.fixture
def own_keeper(tmp_path):
    """A keeper for one test, which must leave nothing behind."""
    with Keeper(tmp_path) as keeper:
        yield keeper
    assert not keeper.folder.exists()


@pytest.fixture
def free_port():
    """A port on which nobody listens."""
    return ports.free_port()


class Backend:
    """A web server that answers every request with its own name."""

    def __init__(self, name):
        self.name = name
        self.seconds = 0.0
        self.paths = []

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(backend):  # noqa: N805 - inside, self is the handler
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                backend.paths.append(f"{self.command} {self.path}")
                time.sleep(backend.seconds)
                body = backend.name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def backends():
    """Three little servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(Backend(f"web-{number}")) for number in (1, 2, 3)]
