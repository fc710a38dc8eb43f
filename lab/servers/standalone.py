"""One web server in the foreground, configured by its environment: what a container runs.

    STRATEGY=redis SECRET_KEY=… python -m lab.servers.standalone

Shoppers come to one port, which is bound when the server has its peers' sessions, and not before; the peers and the lab
to the other. SIGTERM ends it when the requests that have begun are answered.
"""

from __future__ import annotations

import hmac
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from werkzeug.wrappers import Request, Response

from lab.errors import LabError, from_os_error
from lab.servers.environment import INTERNAL_PORT, PUBLIC_PORT, Environment, cookie_name, read
from lab.servers.farewell import Farewell
from lab.servers.internal import internal_app
from lab.servers.listener import PEERS, SHOPPERS, listen
from lab.servers.neighbours import Neighbours, Who, name_among_peers, name_of, own_address
from lab.shop import catalogue
from lab.shop.app import ShopConfig, create_shop
from strategies import find, load_store_class
from strategies.contract import SessionError
from strategies.session_interface import ServerSideSessions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from strategies.contract import Peer, SessionStore

DATABASE_SECONDS = 60.0
"""How long the origin database may take to answer."""

SECRET_HEADER = "X-Lab-Secret"  # noqa: S105 - a header's name, no secret
"""What the lab shows on the internal routes that tell of sessions."""


class Gate:
    """The application on the internal port: there from the beginning, while all else comes later.

    `GET /_lab/who` tells the name among peers, `/_lab/ready` whether shoppers are served; both answer anybody. The
    lab's other routes want its secret, and the peers' have their own.

    Args:
        server: this server's name among its peers.
        lab_secret: the lab's secret; empty to answer nobody.

    Attributes:
        server: this server's name among its peers.
        inner: the routes of the store, as soon as there is one.
        serving: whether shoppers are served.
    """

    def __init__(self, server: str, lab_secret: str) -> None:
        self.server = server
        self.inner: WSGIApplication | None = None
        self.serving = False
        self._who = msgspec.json.encode(Who(server))
        self._secret = lab_secret.encode()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        if request.path == "/_lab/who":
            return Response(self._who, mimetype="application/json")(environ, start_response)
        if request.path == "/_lab/ready":
            body = msgspec.json.encode({"ready": self.serving})
            return Response(body, 200 if self.serving else 503, mimetype="application/json")(environ, start_response)
        if request.path.startswith("/_lab/") and not self._knows(request.headers.get(SECRET_HEADER, "")):
            return Response(f"{SECRET_HEADER} is missing or wrong\n", 403)(environ, start_response)
        if self.inner is None:
            return Response("not ready yet\n", 503)(environ, start_response)
        return self.inner(environ, start_response)

    def _knows(self, shown: str) -> bool:
        return bool(self._secret) and hmac.compare_digest(shown.encode("latin-1", "replace"), self._secret)


def main() -> int:
    """Serve until SIGTERM; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is what load looks like
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        run(read(os.environ), ended)
    except (LabError, SessionError, catalogue.CatalogueUnavailable) as error:
        print(f"web server: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(told: Environment, ended: threading.Event, *, public: int = PUBLIC_PORT, internal: int = INTERNAL_PORT) -> None:
    """Serve until told to end.

    Args:
        told: what this server is to be.
        ended: set when it is to leave.
        public: the port for shoppers; bound last.
        internal: the port for the lab and the peers.

    Raises:
        LabError: a port is taken, or what it needs is not there.
    """
    address = own_address(told.service) if told.service else told.listen
    name = told.server_name or (name_of(told.service, address) if told.service else "web-1")
    gate = Gate(name_among_peers(name), told.lab_secret)
    inner = listen(gate, _bound(told.listen, internal), **PEERS)
    threading.Thread(target=inner.run, name="internal", daemon=True).start()
    _wait_for_catalogue(told.origin_url(), ended)
    store, shop = _open(told, name, gate, Neighbours(told.service, address, internal) if told.service else None)
    farewell = None
    if not ended.is_set():
        farewell = Farewell(listen(shop, _bound(told.listen, public), **SHOPPERS))
        farewell.serve()
        gate.serving = True
        logging.getLogger(__name__).info("%s serves shoppers; sessions: %s", name, find(told.strategy).lives_in)
        ended.wait()
        gate.serving = False
        farewell.leave()
    store.close()
    if farewell:
        farewell.wait_for_a_refusal()


def _open(told: Environment, name: str, gate: Gate, around: Neighbours | None) -> tuple[SessionStore, WSGIApplication]:
    """Open the store, with its peers' sessions where servers have copies, and make the shop."""
    kind = load_store_class(told.strategy)
    settings = told.store_settings(name)
    copies = find(told.strategy).copies != "1" and around is not None
    peers: list[Peer] = []
    if copies and around is not None:
        peers = around.look()
        settings = msgspec.structs.replace(settings, server=gate.server, peers=tuple(peers))
    store: Any = kind.open(settings)
    sessions = ServerSideSessions(store, told.writes, lab_headers=True)
    origin: list[catalogue.Catalogue] = []
    gate.inner = internal_app(store, sessions.losses, origin)
    if copies and around is not None:
        around.introduce(gate.server, told.peer_secret, peers)
        store.join()
        around.keep_looking(store)
    shop = create_shop(_shop_config(told, name), sessions)
    origin.append(shop.extensions["catalogue"])
    return store, shop


def _shop_config(told: Environment, name: str) -> ShopConfig:
    known = [f"web-{number}" for number in range(1, told.servers + 1)]
    return ShopConfig(
        server=name,
        servers=tuple(known if name in known else [*known, name]),
        secret_key=told.secret_key,
        cookie_name=cookie_name(told.namespace or told.strategy),
        database_url=told.origin_url(),
    )


def _wait_for_catalogue(url: str, ended: threading.Event) -> None:
    deadline = time.monotonic() + DATABASE_SECONDS
    while not ended.is_set():
        try:
            catalogue.prepare(url)
        except catalogue.CatalogueUnavailable:
            if time.monotonic() > deadline:
                raise
            ended.wait(0.5)
        else:
            return


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise from_os_error(error) from error
    return sock


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main())
