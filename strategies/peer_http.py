"""What servers of an all-to-all cluster say to each other over HTTP: both ends of the wire.

Five requests, msgpack in and out, each with the cluster's secret: `POST /peers/hello` (I am here), `/peers/meet`
(there will be one more server), `/peers/apply` (merge these), `/peers/ask` (what do you know of these handles?) and
`GET /peers/state` (everything, in frames).
"""

from __future__ import annotations

import hmac
import re
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from strategies.contract import Peer
from strategies.replica import Copy, Handle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

    Answer = tuple[HTTPStatus, Iterable[bytes]]

T = TypeVar("T")

Kind = Literal["create", "save", "touch", "delete", "state", "relay"]
"""What a copy that travels is for: only counted, as all are merged alike."""

HELLO = "/peers/hello"
MEET = "/peers/meet"
APPLY = "/peers/apply"
ASK = "/peers/ask"
STATE = "/peers/state"

MAX_BODY_BYTES = 4 * 1024 * 1024
_FRAME_COPIES = 256
_LENGTH_BYTES = 4
_SECRET_HEADER = "X-Peer-Secret"  # noqa: S105  a header's name, no secret
_END_OF_HEAD = b"\r\n\r\n"
_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})\b.*?\r\ncontent-length: *(\d{1,9}) *\r\n", re.DOTALL | re.IGNORECASE)
_MAX_HEAD_BYTES = 16 * 1024
_RECEIVE_BYTES = 64 * 1024
_LEAST_TIMEOUT_SECONDS = 0.001

Handles = Annotated[list[Handle], msgspec.Meta(min_length=1, max_length=64)]


class PeerError(Exception):
    """A peer could not be spoken to."""


class PeerAbsent(PeerError):
    """Nobody listens there, or the connection broke."""


class PeerSilent(PeerError):
    """The peer did not answer in time."""


class PeerRefused(PeerError):
    """The peer did not accept what was said."""


class NotUnderstood(PeerError):
    """What arrived is no message of this protocol."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A copy on its way to a peer."""

    kind: Kind
    copy: Copy


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """How servers greet each other.

    Attributes:
        server: its name.
        incarnation: differs after every start, so that peers notice that it has forgotten everything.
        ready: it has the state and may give it to others.
    """

    server: Annotated[str, msgspec.Meta(max_length=64)]
    incarnation: Annotated[str, msgspec.Meta(max_length=64)]
    ready: bool


encode = msgspec.msgpack.Encoder().encode


def _decoder(kind: type[T]) -> Callable[[bytes | msgspec.Raw], T]:
    decode = msgspec.msgpack.Decoder(kind).decode

    def understand(body: bytes | msgspec.Raw) -> T:
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotUnderstood(f"not understood: {error}") from error

    return understand


_decode_hello = _decoder(Hello)
_decode_peer = _decoder(Peer)
_decode_parts = _decoder(list[msgspec.Raw])
_decode_message = _decoder(Message)
_decode_copies = _decoder(list[Copy])
_decode_handles = _decoder(Handles)


class PeerClient:
    """Speaks to one peer over kept-alive connections; safe to use from several threads.

    Requests are written to the socket as prepared bytes, and of an answer's head only status and length are read: a
    general client costs several times as much as the merge that the request is for (`docs/all-to-all.md`).

    Args:
        peer: whom.
        secret: the cluster's secret.
        timeout_seconds: how long to wait for a connection, and then for a whole answer; of `state`, for each part.

    Attributes:
        requests_sent: how many requests it has made, answered or not.
    """

    def __init__(self, peer: Peer, secret: str, timeout_seconds: float) -> None:
        self.requests_sent = 0
        self._url = peer.url
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        self._idle: list[HTTPConnection] = []
        self._closed = False
        self._lock = threading.Lock()
        address = urlsplit(peer.url)
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._new_connection = partial(kind, address.hostname or "", address.port, timeout=timeout_seconds)
        lines = "POST {} HTTP/1.1\r\nHost: {}\r\n{}: {}\r\nContent-Length: "
        self._heads = {
            path: lines.format(path, address.netloc, _SECRET_HEADER, secret).encode("latin-1")
            for path in (HELLO, MEET, APPLY, ASK)
        }

    def hello(self, mine: Hello) -> Hello:
        """Greet the peer and return its greeting. Raises `PeerError`, as all of these do."""
        return _decode_hello(self._post(HELLO, encode(mine)))

    def meet(self, newcomer: Peer) -> None:
        """Have the peer expect one more server."""
        self._post(MEET, encode(newcomer))

    def apply(self, messages: bytes) -> None:
        """Have the peer merge encoded messages; returns when it has."""
        self._post(APPLY, messages)

    def ask(self, handles: list[str]) -> list[Copy]:
        """Return the peer's copies of these sessions, tombstones included."""
        return _decode_copies(self._post(ASK, encode(handles)))

    def state(self) -> Iterator[list[Copy]]:
        """Yield all of the peer's copies, in portions.

        Raises:
            PeerError: it broke off; what was yielded is good.
        """
        self._count()
        with closing(self._new_connection()) as connection, self._failures():
            connection.request("GET", STATE, headers={_SECRET_HEADER: self._secret})
            response = connection.getresponse()
            self._check(STATE, response.status)
            while size := int.from_bytes(self._read(response, _LENGTH_BYTES)):
                yield _decode_copies(self._read(response, size))

    def close(self) -> None:
        """Close the connections, those that are in use after their answer."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _read(self, response: HTTPResponse, size: int) -> bytes:
        data = response.read(size)
        if len(data) < size:
            raise PeerAbsent(f"{self._url} broke off")
        return data

    def _post(self, path: str, body: bytes) -> bytes:
        self._count()
        request = b"%b%d\r\n\r\n%b" % (self._heads[path], len(body), body)
        with self._failures():
            connection, (status, answer) = self._exchange(request)
        with self._lock:
            keep = status == HTTPStatus.OK and not self._closed
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()
        self._check(path, status)
        return answer

    def _exchange(self, request: bytes) -> tuple[HTTPConnection, tuple[int, bytes]]:
        """Send a request on a connection that is open, or else on a new one: whatever is sent may arrive twice."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            try:
                return idle, _exchange_on(idle, request)
            except TimeoutError:
                idle.close()
                raise
            except OSError:  # the peer has closed it meanwhile
                idle.close()
        connection = self._new_connection()
        try:
            connection.connect()
            return connection, _exchange_on(connection, request)
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise PeerSilent(f"{self._url} did not answer within {self._timeout_seconds:g} s") from error
        except (OSError, HTTPException) as error:
            raise PeerAbsent(f"{self._url} cannot be reached: {error}") from error

    def _check(self, path: str, status: int) -> None:
        if status != HTTPStatus.OK:
            raise PeerRefused(f"{self._url} answered {path} with {status}")

    def _count(self) -> None:
        with self._lock:
            self.requests_sent += 1


def _exchange_on(connection: HTTPConnection, request: bytes) -> tuple[int, bytes]:
    """Send a request and return the answer's status and body, all of it within the connection's timeout."""
    deadline = time.monotonic() + (connection.timeout or 0.0)
    sock = connection.sock
    sock.settimeout(connection.timeout)
    sock.sendall(request)
    received = bytearray()
    while (end := received.find(_END_OF_HEAD)) < 0:
        received += _receive(sock, deadline)
    found = _HEAD.match(received, 0, end + len(_END_OF_HEAD))
    if found is None or end > _MAX_HEAD_BYTES:
        raise ConnectionError("its answer is not one of this protocol")
    status, start = int(found[1]), end + len(_END_OF_HEAD)
    size = int(found[2])
    while len(received) < start + size:
        received += _receive(sock, deadline)
    return status, bytes(received[start : start + size])


def _receive(sock: socket.socket, deadline: float) -> bytes:
    sock.settimeout(max(deadline - time.monotonic(), _LEAST_TIMEOUT_SECONDS))
    part = sock.recv(_RECEIVE_BYTES)
    if not part:
        raise ConnectionError("the connection was closed")
    return part


class Node(Protocol):
    """What the peer routes need of the store behind them."""

    def greeted(self, hello: Hello) -> Hello:
        """Take note of a peer's greeting and return one's own."""

    def meet(self, newcomer: Peer) -> None:
        """Take note that there will be one more server."""

    def received(self, messages: list[Message], counts: Mapping[str, int]) -> None:
        """Merge what a peer has sent, and add what it amounts to: see `Census.details`."""

    def known(self, handles: list[str]) -> list[Copy]:
        """Return the copies held of these sessions."""

    def snapshot(self) -> list[Copy]:
        """Return every copy held."""


class PeerRoutes:
    """The peer routes as a WSGI application. Answers nobody who does not show the secret."""

    def __init__(self, node: Node, secret: str) -> None:
        self._node = node
        self._secret = secret.encode()
        self._routes: dict[tuple[str, str], Callable[[bytes], Answer]] = {
            ("POST", HELLO): self._hello,
            ("POST", MEET): self._meet,
            ("POST", APPLY): self._apply,
            ("POST", ASK): self._ask,
            ("GET", STATE): self._state,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        status, body = self._answer(environ)
        headers = [("Content-Type", "application/msgpack" if status == HTTPStatus.OK else "text/plain")]
        if isinstance(body, list):
            headers.append(("Content-Length", str(sum(map(len, body)))))
        start_response(f"{status.value} {status.phrase}", headers)
        return body

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        shown = environ.get("HTTP_X_PEER_SECRET", "").encode("latin-1", "replace")
        if not self._secret or not hmac.compare_digest(shown, self._secret):
            return _refusal(HTTPStatus.FORBIDDEN, "the cluster's secret is missing or wrong")
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        route = self._routes.get((environ["REQUEST_METHOD"], path))
        if route is None:
            return _refusal(HTTPStatus.NOT_FOUND, "no such peer route")
        try:
            size = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            return _refusal(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if not 0 <= size <= MAX_BODY_BYTES:
            return _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes")
        try:
            return route(environ["wsgi.input"].read(size))
        except NotUnderstood as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))

    def _hello(self, body: bytes) -> Answer:
        return HTTPStatus.OK, [encode(self._node.greeted(_decode_hello(body)))]

    def _meet(self, body: bytes) -> Answer:
        try:
            self._node.meet(_decode_peer(body))
        except ValueError as error:
            raise NotUnderstood(f"no address of a server: {error}") from error
        return HTTPStatus.OK, [b""]

    def _apply(self, body: bytes) -> Answer:
        packed = _decode_parts(body)
        messages = [_decode_message(part) for part in packed]
        counts = Counter(batches_received=1, bytes_received=len(body))
        for message, part in zip(messages, packed, strict=True):
            counts[f"received_{message.kind}"] += 1
            counts[f"received_{message.kind}_bytes"] += len(part)
        self._node.received(messages, counts)
        return HTTPStatus.OK, [b""]

    def _ask(self, body: bytes) -> Answer:
        return HTTPStatus.OK, [encode(self._node.known(_decode_handles(body)))]

    def _state(self, _: bytes) -> Answer:
        return HTTPStatus.OK, _frames(self._node.snapshot())


def _refusal(status: HTTPStatus, reason: str) -> Answer:
    return status, [reason.encode()]


def _frames(copies: list[Copy]) -> Iterator[bytes]:
    for start in range(0, len(copies), _FRAME_COPIES):
        frame = encode(copies[start : start + _FRAME_COPIES])
        yield len(frame).to_bytes(_LENGTH_BYTES) + frame
    yield bytes(_LENGTH_BYTES)
