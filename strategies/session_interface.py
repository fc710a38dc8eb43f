"""Flask's `SessionInterface` over any session store: cookie, secret, write policies and lifetimes on the wire.

Use it in any Flask application:

    app.session_interface = ServerSideSessions(RedisStore.open(settings))

The cookie holds a *handle*, which names the record and never changes, and a *secret*, of which the store sees only the
SHA-256; both are signed, so that a forged cookie costs no store call. What each request costs: nothing if it leaves the
session alone, one load if it reads, one load and one save if it writes.

Where servers hold copies, a second cookie, `<name>_clock`, carries the version of the shopper's last save, signed for
this handle. It is a cookie of its own because every save sends it: an answer that comes late would otherwise bring back
the secret from before a login.
"""

from __future__ import annotations

import functools
import hmac
import logging
import os
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, TypedDict

import flask
import msgspec
from flask.sessions import SessionInterface
from werkzeug.exceptions import HTTPException, ServiceUnavailable, default_exceptions

from strategies.contract import (
    MAX_SESSION_BYTES,
    Changes,
    NewSession,
    ReplicatedStore,
    SessionConflict,
    SessionError,
    SessionGone,
    SessionTooLarge,
    StoreUnavailable,
    UnsupportedPolicy,
    logical_bytes,
)
from strategies.cookies import read_clock, read_cookie, sent_cookie, write_clock, write_cookie
from strategies.losses import Losses
from strategies.session import Found, Identity, StoredSession, Written
from strategies.signing import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask, Request, Response
    from flask.sessions import SessionMixin
    from werkzeug.wrappers import Response as BaseResponse

    from strategies.contract import SessionRecord, SessionStore, WritePolicy

__all__ = ["ServerSideSessions", "short_hash"]

_HANDLE_BYTES = 16
_SECRET_BYTES = 32
_WITHOUT_SESSION = "strategies.cookie_without_session"
_TOUCHES_PER_IDLE_LIFETIME = 10

_STATUS: tuple[tuple[type[SessionError], int, str], ...] = (
    (SessionGone, 401, "the session has ended: it was logged out or has expired"),
    (SessionConflict, 409, "another request saved this session first: load it again and repeat"),
    (SessionTooLarge, 413, f"the session would hold more than {MAX_SESSION_BYTES} bytes"),
    (SessionError, 503, "the session store is not available: try again later"),
)
_OF_THE_LOST_ANSWER = ("Content-Encoding", "Content-Disposition", "Content-Range", "ETag", "Last-Modified", "Location")


class _Attributes(TypedDict):
    domain: str | None
    path: str
    secure: bool
    httponly: bool
    samesite: str | None
    partitioned: bool


class ServerSideSessions(SessionInterface):
    """Keeps sessions in a store. The cookie's name and attributes come from Flask's `SESSION_COOKIE_*` settings.

    Store errors become answers: 503 when the store is down, 401 when the session ended while the request ran, 409 when
    `versioned` refused, 413 when the session would grow too large. They are Werkzeug's HTTP exceptions, so that the
    application's own error handlers can word them; where there are none, the body is JSON, `{"error": ...}`.

    Open the store in the process that serves: after a fork, another process has none of its threads, and must not use
    its connections.

    Args:
        store: an open store; its settings carry the lifetimes.
        policy: what a request saves, see `WritePolicy`.
        lab_headers: describe the session in response headers (`X-Session`, `X-Session-Version`, `X-Session-Origin`,
            `X-Session-Saved`), for measurements only.

    Attributes:
        losses: counts genuine cookies whose session is not there.

    Raises:
        UnsupportedPolicy: the store cannot keep this policy's promise.
    """

    def __init__(self, store: SessionStore, policy: WritePolicy = "fields", *, lab_headers: bool = False) -> None:
        if policy not in store.policies:
            allowed = ", ".join(sorted(store.policies))
            raise UnsupportedPolicy(f"{type(store).__name__} cannot promise {policy!r} writes; it supports: {allowed}")
        self._store = store
        self._replicated = store if isinstance(store, ReplicatedStore) else None
        self._policy = policy
        self._lab_headers = lab_headers
        self._process = os.getpid()
        self.losses = Losses()

    def open_session(self, app: Flask, request: Request) -> StoredSession | None:
        """Return a session that loads itself when first used; None without a secret key, as in Flask."""
        if not app.secret_key:
            return None
        return StoredSession(functools.partial(self._find, app, request))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Save what the request changed, before the response leaves; turn store errors into answers."""
        if session.accessed:
            _vary_by_cookie(response)
        if not isinstance(session, StoredSession):
            return
        failure = session.failure
        if isinstance(failure, ServiceUnavailable) and response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            # An error page that looks at the session once more fails once more; then Flask gives up on it.
            _turn_into(response, app.make_response(failure))
        if not session.loaded:
            return
        if not session.accessed:
            _vary_by_cookie(response)
        _forbid_storing(response)
        try:
            self._settle(app, session, response)
        except SessionError as error:
            if not session.accessed:  # no request is answered here: a test's `session_transaction` is
                raise
            _turn_into(response, app.make_response(app.handle_user_exception(_as_http(error))))
            # The cookie stays even when the session is gone: it is dead, and removing it could hit a newer login's.
            self._describe(response, None if isinstance(error, SessionGone) else session.found)

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return True also without being told where the request came over TLS."""
        return super().get_cookie_secure(app) or flask.request.is_secure

    def get_cookie_samesite(self, app: Flask) -> str | None:
        """Return Flask's setting, or `Lax` where it is not set."""
        return super().get_cookie_samesite(app) or "Lax"

    def _find(self, app: Flask, request: Request) -> Found | None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "the session store was opened before this process was forked; open it in each worker process "
                "(gunicorn: in post_fork, or without --preload; uWSGI: lazy-apps = true)"
            )
        identity = read_cookie(app, sent_cookie(request, self.get_cookie_name(app)))
        if identity is None:
            return None
        try:
            record = self._load(app, request, identity)
        except StoreUnavailable as error:
            raise _as_http(error) from error
        if record is None:
            self.losses.count_cookie()
            request.environ[_WITHOUT_SESSION] = True
        if record is None or not _matches(identity.secret, record.secret_hash):
            return None
        return Found(identity, record)

    def _load(self, app: Flask, request: Request, identity: Identity) -> SessionRecord | None:
        store = self._replicated
        if store is None:
            return self._store.load(identity.handle)
        seen = read_clock(app, identity.handle, sent_cookie(request, self._clock_name(app)))
        record = store.load(identity.handle, seen=seen)
        if record is not None and not _matches(identity.secret, record.secret_hash):
            record = store.load(identity.handle, ask_peers=True)
        return record

    def _settle(self, app: Flask, session: StoredSession, response: Response) -> None:
        """Do to the store what the request did to the session, and set or delete the cookie accordingly."""
        found = session.found
        if session.ended:
            if found is not None:
                self._store.delete(found.identity.handle)
                self._describe(response, None, saved=True)
            for name in (self.get_cookie_name(app), self._clock_name(app)):
                if name in flask.request.cookies:
                    response.delete_cookie(name, **self._attributes(app))
            return
        written = self._write(session)
        if written is None and found is not None:
            self._touch_now_and_then(found)
        self._describe(response, written or found, saved=written is not None)
        self._refresh_cookie(app, session, written, response)
        if written is not None and self._replicated is not None:
            clock = write_clock(app, written.identity.handle, written.version)
            self._set_cookie(app, session, response, self._clock_name(app), clock)

    def _write(self, session: StoredSession) -> Written | None:
        """Save what was changed, once: Flask asks again where something fails after the first time."""
        if session.written is None:
            session.written = self._write_changes(session)
        return session.written

    def _write_changes(self, session: StoredSession) -> Written | None:
        changes = session.changes(self._policy)
        if session.found is None:
            return self._create(session.contents()) if changes is not None and session.worth_creating else None
        if session.rotated:
            rotated = Identity(session.found.identity.handle, secrets.token_urlsafe(_SECRET_BYTES))
            changes = msgspec.structs.replace(changes or Changes(), secret_hash=_sha256(rotated.secret))
            return self._save(session.found, changes, rotated)
        if changes is not None:
            return self._save(session.found, changes, session.found.identity)
        return None

    def _create(self, fields: dict[str, bytes]) -> Written:
        _refuse_growth_past_limit({}, Changes(set=fields))
        identity = Identity(secrets.token_urlsafe(_HANDLE_BYTES), secrets.token_urlsafe(_SECRET_BYTES))
        version = self._store.create(identity.handle, NewSession(_sha256(identity.secret), fields))
        if _WITHOUT_SESSION in flask.request.environ:
            self.losses.count_session()
        return Written(identity, version, self._store.settings.server)

    def _save(self, found: Found, changes: Changes, identity: Identity) -> Written:
        _refuse_growth_past_limit(found.record.fields, changes)
        expected = found.record.version if self._policy == "versioned" else None
        version = self._store.save(identity.handle, changes, expected)
        return Written(identity, version, self._store.settings.server)

    def _touch_now_and_then(self, found: Found) -> None:
        """Extend the idle deadline of a session that is only read, at most once per tenth of the idle lifetime."""
        record = found.record
        idle_seconds = self._store.settings.idle_seconds
        unextended_seconds = time.time() + idle_seconds - record.idle_deadline
        if (
            unextended_seconds >= idle_seconds / _TOUCHES_PER_IDLE_LIFETIME
            and record.idle_deadline < record.absolute_deadline
        ):
            self._store.touch(found.identity.handle)

    def _refresh_cookie(self, app: Flask, session: StoredSession, written: Written | None, response: Response) -> None:
        """Send the cookie if it is new, rotated or to be signed anew; and one with an expiry, as Flask's rules say."""
        holder = written or session.found
        if holder is None or not (written or (session.permanent and app.config["SESSION_REFRESH_EACH_REQUEST"])):
            return
        if holder.identity.in_browser and not (session.permanence_changed or session.permanent):
            return
        self._set_cookie(app, session, response, self.get_cookie_name(app), write_cookie(app, holder.identity))

    def _set_cookie(self, app: Flask, session: StoredSession, response: Response, name: str, value: str) -> None:
        response.set_cookie(name, value, expires=self.get_expiration_time(app, session), **self._attributes(app))

    def _clock_name(self, app: Flask) -> str:
        return f"{self.get_cookie_name(app)}_clock"

    def _attributes(self, app: Flask) -> _Attributes:
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }

    def _describe(self, response: Response, session: Found | Written | None, *, saved: bool = False) -> None:
        if not self._lab_headers:
            return
        if saved:
            response.headers["X-Session-Saved"] = "1"
        if session is not None:
            response.headers["X-Session"] = short_hash(session.identity.handle)
            response.headers["X-Session-Version"] = session.version
            response.headers["X-Session-Origin"] = session.origin


def short_hash(handle: str) -> str:
    """Return what may be shown and logged in a handle's place: 12 hex digits of its SHA-256."""
    return _sha256(handle)[:12]


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _matches(secret: str, secret_hash: str) -> bool:
    return hmac.compare_digest(_sha256(secret), secret_hash)


def _refuse_growth_past_limit(before: Mapping[str, bytes], changes: Changes) -> None:
    if _at_most_bytes(before) + _at_most_bytes(changes.set) <= MAX_SESSION_BYTES:
        return  # no need to look which fields are replaced
    after = changes.set if changes.whole else {**before, **changes.set}
    after_bytes = logical_bytes({name: value for name, value in after.items() if name not in changes.deleted})
    if after_bytes > max(logical_bytes(before), MAX_SESSION_BYTES):
        raise SessionTooLarge(f"{after_bytes} bytes")


def _at_most_bytes(fields: Mapping[str, bytes]) -> int:
    """Return no less than `logical_bytes`, at half its price: no character has more than four bytes."""
    return 4 * sum(map(len, fields)) + sum(map(len, fields.values()))


def _vary_by_cookie(response: Response) -> None:
    if _has(response, "vary"):
        response.vary.add("Cookie")
    else:
        response.headers.add("Vary", "Cookie")  # the same, without parsing what is not there


def _forbid_storing(response: Response) -> None:
    if _has(response, "cache-control"):
        response.headers["Cache-Control"] = "no-store"
    else:
        response.headers.add("Cache-Control", "no-store")  # the same, without looking again for what is not there


def _has(response: Response, name: str) -> bool:
    return name in [sent.lower() for sent, _ in response.headers]


def _as_http(error: SessionError) -> HTTPException:
    """Return a store's error as what a browser is told of it."""
    status, text = next((status, text) for kind, status, text in _STATUS if isinstance(error, kind))
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        logging.getLogger(__name__).warning("session store: %s", error)
    answer = flask.Response(msgspec.json.encode({"error": text}), status, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    return default_exceptions[status](text, response=answer)


def _turn_into(response: Response, answer: BaseResponse) -> None:
    """Turn a response into another one, in place: it is too late to return it."""
    closing = getattr(response.response, "close", None)
    if closing is not None:  # a stream or a file that nobody will read any more
        closing()
    for name in _OF_THE_LOST_ANSWER:
        response.headers.pop(name, None)
    response.status = answer.status
    response.headers.update(answer.headers)
    response.set_data(answer.get_data())
