"""What the lab, the fork server and a web server tell each other."""

from __future__ import annotations

import socket
from typing import NamedTuple

import msgspec

from lab.shop.cache import CacheSettings
from strategies.contract import StoreSettings, WritePolicy

_LENGTH_BYTES = 4
PID_BYTES = 8
"""The fork server answers each plan with the new process's id, in so many bytes, the highest first."""


class ServerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that one web server needs to know.

    Attributes:
        server: its name, such as `web-2`.
        servers: the names of all servers of its cluster.
        strategy: where sessions live.
        writes: what a request saves.
        settings: how to open the store.
        secret_key: signs the cookies; the same on every server of a cluster.
        cookie_name: of the session cookie.
        shop_database_url: the shop's origin database.
        cache: of the shop's catalogue; None for a shop without.
        log: path of its log.
    """

    server: str
    servers: tuple[str, ...]
    strategy: str
    writes: WritePolicy
    settings: StoreSettings
    secret_key: str
    cookie_name: str
    shop_database_url: str
    log: str
    cache: CacheSettings | None = None


class Report(msgspec.Struct, frozen=True):
    """What a web server says once, when it serves shoppers or cannot.

    Attributes:
        error: why it cannot, in one line; None when it serves.
    """

    error: str | None = None


class Descriptors(NamedTuple):
    """The open files that go with a plan.

    Attributes:
        public: bound socket for shoppers.
        internal: bound socket for the lab and the peers.
        report: pipe for the one `Report`; its end tells the lab that the process has ended.
    """

    public: int
    internal: int
    report: int


def send_plan(control: socket.socket, plan: ServerPlan, descriptors: Descriptors) -> None:
    """Send a plan with its open files."""
    body = msgspec.msgpack.encode(plan)
    socket.send_fds(control, [len(body).to_bytes(_LENGTH_BYTES, "big")], descriptors)
    control.sendall(body)


def receive_plan(control: socket.socket) -> tuple[ServerPlan, Descriptors] | None:
    """Receive a plan and its open files; None when the lab has closed the connection."""
    header, descriptors, _, _ = socket.recv_fds(control, _LENGTH_BYTES, maxfds=len(Descriptors._fields))
    if not header:
        return None
    body = receive_exactly(control, int.from_bytes(header, "big"))
    return msgspec.msgpack.decode(body, type=ServerPlan), Descriptors(*descriptors)


def receive_exactly(control: socket.socket, size: int) -> bytes:
    """Receive exactly this many bytes.

    Raises:
        EOFError: the other side closed the connection before.
    """
    received = control.recv(size, socket.MSG_WAITALL)
    if len(received) < size:
        raise EOFError("the connection was closed")
    return received
