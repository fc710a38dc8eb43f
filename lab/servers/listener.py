"""What a web server listens with: waitress, set so that connections are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waitress.server import create_server

if TYPE_CHECKING:
    import socket
    from wsgiref.types import WSGIApplication

THREADS = 4
"""Worker threads for shoppers, and as many for the lab and the peers: a replication never waits for a shopper."""

SHOPPERS: dict[str, Any] = {"max_request_body_size": 64 * 1024, "max_request_header_size": 32 * 1024}
PEERS: dict[str, Any] = {"max_request_body_size": 64 * 1024 * 1024}  # a batch of sessions, 64 KiB at most each


def listen(app: WSGIApplication, bound: socket.socket, **limits: Any) -> Any:
    """Open a listener for an application on a bound socket; `run` serves until SystemExit.

    Args:
        app: what is served.
        bound: a TCP socket, bound and not yet listening.
        limits: of a request: `SHOPPERS` or `PEERS`.
    """
    return create_server(
        app,
        sockets=[bound],
        threads=THREADS,
        ident=None,
        connection_limit=1000,
        channel_timeout=24 * 60 * 60,  # the balancer and the peers keep their connections through quiet phases
        asyncore_use_poll=True,
        **limits,
    )
