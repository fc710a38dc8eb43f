"""What servers of an all-to-all cluster say to each other over HTTP: both ends of the wire.

Four requests, msgpack in and out, each with the cluster's secret: `POST /peers/hello` (I am here), `/peers/apply`
(merge these), `/peers/ask` (what do you know of these handles?) and `GET /peers/state` (everything, in frames).
"""

from __future__ import annotations

import hmac
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar

import msgspec
import requests
from requests.adapters import HTTPAdapter

from strategies.replica import Copy, Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from strategies.contract import Peer

    Answer = tuple[HTTPStatus, Iterable[bytes]]

T = TypeVar("T")

Kind = Literal["create", "save", "touch", "delete", "state", "relay"]
"""What a copy that travels is for: only counted, as all are merged alike."""

HELLO = "/peers/hello"
APPLY = "/peers/apply"
ASK = "/peers/ask"
STATE = "/peers/state"

MAX_BODY_BYTES = 4 * 1024 * 1024
_FRAME_COPIES = 256
_LENGTH_BYTES = 4
_SECRET_HEADER = "X-Peer-Secret"  # noqa: S105  a header's name, no secret


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


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    decode = msgspec.msgpack.Decoder(kind).decode

    def understand(body: bytes) -> T:
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotUnderstood(f"not understood: {error}") from error

    return understand


_decode_hello = _decoder(Hello)
_decode_messages = _decoder(list[Message])
_decode_copies = _decoder(list[Copy])
_decode_handles = _decoder(Handles)


class PeerClient:
    """Speaks to one peer over kept-alive connections; safe to use from several threads.

    It stays below `requests.Session`, on the adapter and with requests prepared once: no cookies, no redirects and no
    proxies from the environment, which would cost about as much again as the request itself.

    Args:
        peer: whom.
        secret: the cluster's secret.
        timeout_seconds: how long to wait for the connection, and for each part of an answer.

    Attributes:
        requests_sent: how many requests it has made, answered or not.
    """

    def __init__(self, peer: Peer, secret: str, timeout_seconds: float) -> None:
        self.requests_sent = 0
        self._counting = threading.Lock()
        self._url = peer.url
        self._timeout_seconds = timeout_seconds
        self._adapter = HTTPAdapter(pool_connections=1)
        headers = {_SECRET_HEADER: secret, "Accept-Encoding": "identity"}
        self._prepared = {
            path: requests.Request(method, peer.url + path, headers).prepare()
            for method, path in (("POST", HELLO), ("POST", APPLY), ("POST", ASK), ("GET", STATE))
        }

    def hello(self, mine: Hello) -> Hello:
        """Greet the peer and return its greeting. Raises `PeerError`, as all of these do."""
        return _decode_hello(self._request(HELLO, encode(mine)).content)

    def apply(self, messages: bytes) -> None:
        """Have the peer merge encoded messages; returns when it has."""
        self._request(APPLY, messages)

    def ask(self, handles: list[str]) -> list[Copy]:
        """Return the peer's copies of these sessions, tombstones included."""
        return _decode_copies(self._request(ASK, encode(handles)).content)

    def state(self) -> Iterator[list[Copy]]:
        """Yield all of the peer's copies, in portions.

        Raises:
            PeerError: it broke off; what was yielded is good.
        """
        response = self._request(STATE, stream=True)
        with response:
            while size := int.from_bytes(self._read(response, _LENGTH_BYTES)):
                yield _decode_copies(self._read(response, size))

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def _read(self, response: requests.Response, size: int) -> bytes:
        try:
            data: bytes = response.raw.read(size)
        except Exception as error:  # urllib3's own errors, which requests passes through on the raw stream
            raise PeerAbsent(f"{self._url} broke off: {error}") from error
        if len(data) < size:
            raise PeerAbsent(f"{self._url} broke off")
        return data

    def _request(self, path: str, body: bytes | None = None, *, stream: bool = False) -> requests.Response:
        prepared = self._prepared[path].copy()
        if body is not None:
            prepared.body = body
            prepared.headers["Content-Length"] = str(len(body))
        with self._counting:
            self.requests_sent += 1
        try:
            response = self._adapter.send(prepared, stream=stream, timeout=self._timeout_seconds)
            if not stream:
                response.content  # noqa: B018  reads the answer, which frees the connection
        except requests.Timeout as error:
            raise PeerSilent(f"{self._url} did not answer within {self._timeout_seconds:g} s") from error
        except requests.RequestException as error:
            raise PeerAbsent(f"{self._url} cannot be reached: {error}") from error
        if not response.ok:
            response.close()
            raise PeerRefused(f"{self._url} answered {path} with {response.status_code}")
        return response


class Node(Protocol):
    """What the peer routes need of the store behind them."""

    def greeted(self, hello: Hello) -> Hello:
        """Take note of a peer's greeting and return one's own."""

    def received(self, messages: list[Message], size_bytes: int) -> None:
        """Merge what a peer has sent."""

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

    def _apply(self, body: bytes) -> Answer:
        self._node.received(_decode_messages(body), len(body))
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
