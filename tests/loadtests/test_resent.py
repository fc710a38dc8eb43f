"""A request whose connection the balancer closes in that very moment goes out again, as a browser sends it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests.plans import Plan, PlannedRequest

CART = {"user": None, "cart": [], "recent": []}


class Leaver:
    """A balancer that answers so many requests on each connection, and closes it when the next one comes."""

    def __init__(self, answers):
        self.answers = answers
        self.seen = []

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(leaver):  # noqa: N805 - inside, self is the handler
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            answered = 0

            def do_POST(self):
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                leaver.seen.append((sent["token"], self.client_address[1]))
                if self.answered == leaver.answers:
                    self.close_connection = True
                    return
                self.answered += 1
                body = json.dumps(CART).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def put(generator, open_arm):
    """Put lines into a cart, one after the other, through a balancer; return what was recorded."""

    def put(balancer, *tokens):
        planned = [
            PlannedRequest(at_seconds=n / 100, shopper="s000", f="add", product=1, token=token)
            for n, token in enumerate(tokens)
        ]
        result = generator.run([(open_arm(url=balancer.url), Plan(scenario="shopping", seconds=0.1, requests=planned))])
        assert result.scheduled == result.sent == result.recorded == len(tokens)
        return result.operations

    return put


def test_a_write_that_nobody_answered_goes_out_again_on_a_new_connection(put):
    """It is one request of one shopper, which took as long as both, and its line in the history says so."""
    with Leaver(answers=1) as balancer:
        first, second = put(balancer, "a", "b")
    told = [(one.outcome, one.resent, one.error) for one in (first, second)]
    assert told == [("ok", False, None), ("ok", True, None)]
    (a, port), (b, same), (again, other) = balancer.seen
    assert (a[-1], b) == ("a", again)
    assert port == same != other
    assert second.t0_ns < second.t1_ns


def test_it_goes_out_again_once(put):
    """A balancer that closes every connection without a word fails the request; what became of it nobody knows."""
    with Leaver(answers=0) as balancer:
        (only,) = put(balancer, "a")
    assert len(balancer.seen) == 2
    assert (only.outcome, only.resent) == ("info", True)
    assert only.error.startswith("HTTPConnectionClosed")
