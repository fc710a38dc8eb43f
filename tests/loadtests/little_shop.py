"""A shop of one page: the JSON API over a dict, on real sockets, with faults to order."""

import json
import re
import secrets
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus

from waitress import create_server


class LittleShop:
    """Serves the shop's JSON API from memory; `fault(method, path)` may sleep, or return a status to answer with."""

    cookie_name = "little"

    def __init__(self, name="web-1", sessions=None):
        self.name = name
        self.sessions = {} if sessions is None else sessions
        self.requests = []
        self.fault = lambda method, path: None
        self.lock = threading.Lock()
        self.sockets = {}
        self.server = create_server(
            self, host="127.0.0.1", port=0, threads=8, map=self.sockets, clear_untrusted_proxy_headers=True
        )
        self.url = f"http://127.0.0.1:{self.server.effective_port}"
        self.open = True
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.open = False
        self.server.pull_trigger()
        self.thread.join()
        self.server.task_dispatcher.shutdown()
        for socket in list(self.sockets.values()):
            socket.close()

    def _serve(self):
        while self.open:
            self.server.asyncore.loop(timeout=1, map=self.sockets, count=1)

    def __call__(self, environ, start_response):
        """Answer one request, or do what `fault` says."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        cookie = environ.get("HTTP_COOKIE", "")
        with self.lock:
            self.requests.append((method, path, cookie, environ["REMOTE_PORT"]))
        status = self.fault(method, path)
        size = int(environ.get("CONTENT_LENGTH") or 0)
        sent = json.loads(environ["wsgi.input"].read(size) or "{}")
        found = re.search(rf"{self.cookie_name}=(\w+)", cookie)
        headers, answer = [], {"error": "ordered"}
        if status is None:
            with self.lock:
                status, answer, headers = self.answer(method, path, sent, found and found[1])
        body = json.dumps(answer).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("X-Served-By", self.name),
            ("Content-Length", str(len(body))),
            *headers,
        ]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def answer(self, method, path, sent, handle):
        """Do what is asked, as the real shop does it."""
        session = self.sessions.get(handle)
        if path.startswith("/api/products") or path == "/api/search":
            return 200, {"products": []}, []
        headers = []
        if method == "POST" and session is None:
            handle = secrets.token_hex(8)
            session = self.sessions[handle] = {"user": None, "cart": {}, "recent": []}
            headers.append(("Set-Cookie", f"{self.cookie_name}={handle}; Path=/; HttpOnly"))
        if session is None:
            return 200, {"user": None, "cart": [], "recent": []}, []
        if path == "/api/visit":
            session["recent"].append(sent["product"])
            return 200, {"recent": session["recent"]}, headers
        if path == "/api/logout":
            self.sessions.pop(handle)
            headers = [("Set-Cookie", f"{self.cookie_name}=; Path=/; Max-Age=0")]
            return 200, {"user": None, "cart": []}, headers
        if path == "/api/login":
            session["user"] = sent["user"]
        elif path == "/api/checkout":
            session["cart"] = {}
        elif path.endswith("/bump"):
            session["cart"][path.split("/")[3]] += 1
        elif path == "/api/cart" and method == "POST":
            session["cart"][sent["token"]] = sent["quantity"]
        cart = [{"token": token, "product": 1, "quantity": quantity} for token, quantity in session["cart"].items()]
        headers += [("X-Session", handle[:12]), ("X-Session-Version", "1"), ("X-Session-Saved", "1")]
        return 200, {"user": session["user"], "cart": cart, "recent": session["recent"]}, headers


@contextmanager
def frozen_once(shop, seconds):
    """Let the shop's next request, and all that come meanwhile, wait until `seconds` after it came."""
    thaw = []

    def fault(_method, _path):
        with shop.lock:
            thaw.append(time.monotonic() + seconds)
        time.sleep(max(0.0, thaw[0] - time.monotonic()))

    shop.fault = fault
    yield
    shop.fault = lambda method, path: None
