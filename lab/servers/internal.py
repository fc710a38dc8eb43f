"""The routes that shoppers never reach: what the lab asks a server, and what its peers tell it.

They have a listener and threads of their own, on a port that the balancer does not know.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request, Response

from lab.probes.sockets import own_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from lab.shop.catalogue import Catalogue
    from strategies.contract import SessionStore
    from strategies.losses import Losses


def internal_app(store: SessionStore, losses: Losses, origin: Sequence[Catalogue] = ()) -> WSGIApplication:
    """Return the application for a server's internal listener.

    `GET /_lab/health` says that it lives, `/_lab/census` what its store holds, `/_lab/counters` CPU time, traffic,
    lost sessions and what the shop asked of its origin, `/_lab/quiet` whether its copies have reached the peers.
    `/peers/...` is the store's own, where it has peers.
    """
    routes: dict[str, Callable[[], object]] = {
        "/_lab/health": lambda: {"ok": True},
        "/_lab/census": store.census,
        "/_lab/counters": lambda: _counters(losses, origin),
        "/_lab/quiet": lambda: {"quiet": _is_quiet(store)},
    }

    def lab_app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        route = routes.get(Request(environ).path)
        if route is None:
            return Response("not found\n", 404)(environ, start_response)
        return Response(msgspec.json.encode(route()), mimetype="application/json")(environ, start_response)

    peer_app = getattr(store, "peer_app", None)
    return DispatcherMiddleware(lab_app, {"/peers": peer_app} if peer_app else {})


def _counters(losses: Losses, origin: Sequence[Catalogue]) -> dict[str, Any]:
    used = [catalogue.used for catalogue in origin]
    return {
        "cpu_seconds": time.process_time(),
        "sockets": own_sockets(),
        "cookies_without_session": losses.cookies_without_session,
        "sessions_replaced": losses.sessions_replaced,
        "origin_queries": sum(one.queries for one in used),
        "origin_seconds": sum(one.seconds for one in used),
    }


def _is_quiet(store: SessionStore) -> bool:
    queues_empty = getattr(store, "queues_empty", None)
    return queues_empty is None or bool(queues_empty())
