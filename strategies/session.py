"""The session that a view sees: a dict that loads itself at first use and remembers what the request did to it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Self

import msgspec
from flask.sessions import SessionMixin
from werkzeug.exceptions import ServiceUnavailable

from strategies.contract import Changes, SessionRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from strategies.contract import WritePolicy

MAX_NESTING = 64
"""How many lists and objects a value may hold inside one another; far below what any store or parser gives up at."""

_PERMANENT = "_permanent"
_SCALARS = frozenset({str, int, bool, type(None)})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Identity(msgspec.Struct, frozen=True):
    """What a cookie says: which session, and the proof that it was handed to this shopper.

    Attributes:
        handle: names the record; 128 random bits in base64url.
        secret: 256 random bits in base64url; a store only ever sees its SHA-256.
        in_browser: the browser has sent this cookie, signed as we would sign it now: no need to send it back.
    """

    handle: str
    secret: str
    in_browser: bool = False


class Found(msgspec.Struct, frozen=True):
    """A live session as it stood when the request first touched it."""

    identity: Identity
    record: SessionRecord

    @property
    def version(self) -> str:
        """The version it had."""
        return self.record.version

    @property
    def origin(self) -> str:
        """The server that had saved it last."""
        return self.record.origin


class Written(msgspec.Struct, frozen=True):
    """What a save left behind: who may present it from now on, its new version, and which server wrote it."""

    identity: Identity
    version: str
    origin: str


class StoredSession(SessionMixin):
    """A request's session. Untouched it costs nothing; the first access of any kind loads it, once.

    Only top-level changes are noticed, as in Flask: after changing a list or dict *inside* the session set
    `session.modified = True`, and every field whose value differs by then is saved.

    `clear()` is the logout: it ends the session, record and cookie. Removing the fields one by one leaves an empty
    session that lives on, because another request may be adding a field at this moment.

    Copies and pickles of it are plain dicts of its fields.

    Args:
        find: loads the session, or returns None where there is none alive.

    Attributes:
        found: the session as the store had it when the request first looked, None if there was none alive.
        written: what this request's save left behind, None before it and where there was nothing to save.
        failure: why the session could not be loaded; every access raises it.
    """

    def __init__(self, find: Callable[[], Found | None]) -> None:
        self._find = find
        self.failure: Exception | None = None
        self._packed: Mapping[str, bytes] = {}
        self._values: dict[str, Any] = {}
        self._written: dict[str, bytes | None] = {}  # name to packed value, None where that can still change
        self._dropped: set[str] = set()
        self._modified = self._flagged = self._cleared = self._rotated = False
        self.loaded = False
        self.found: Found | None = None
        self.written: Written | None = None

    def _load(self) -> None:
        if self.loaded:
            return
        if self.failure is not None:  # ask a store that is down once a request, not once an access
            raise self.failure
        try:
            self.found = self._find()
        except Exception as error:
            self.failure = error
            raise
        if self.found is not None:
            self._packed = self.found.record.fields
        self.loaded = True

    def __getitem__(self, name: str) -> Any:
        values = self._values
        if name in values:
            return values[name]
        if not self.loaded:
            self._load()
        if name in self._dropped:
            raise KeyError(name)
        value = values[name] = unpack(name, self._packed[name])
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._load()
        packed = pack(name, value)  # refuse here, in the line that is wrong, rather than when the response leaves
        self._values[name] = value
        self._written[name] = packed if type(value) in _SCALARS else None
        self._dropped.discard(name)
        self._modified = True

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._values.pop(name, None)
        self._written.pop(name, None)
        self._dropped.add(name)
        self._modified = True

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._values or (name in self._packed and name not in self._dropped)

    def __iter__(self) -> Iterator[str]:
        self._load()
        yield from [name for name in self._packed if name not in self._dropped]
        yield from [name for name in self._values if name not in self._packed]

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self}

    def __ior__(self, other: Mapping[str, Any]) -> Self:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {dict(self) if self.loaded else '(not loaded)'}>"

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last field and return its name and value."""
        for name in reversed(self):
            return name, self.pop(name)
        raise KeyError("popitem(): the session is empty")

    def copy(self) -> dict[str, Any]:
        """Return the fields as a plain dict."""
        return dict(self)

    def clear(self) -> None:
        """Empty the session. If it is still empty when the response leaves, it ends: record and cookie are gone."""
        self._dropped.update(self)
        self._values.clear()
        self._written.clear()
        self._cleared = self._modified = True

    def rotate(self) -> None:
        """Give the session a new secret with this request's save: call it at login, so that an old cookie is dead."""
        self._load()
        self._rotated = self._modified = True

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser, for Flask's `PERMANENT_SESSION_LIFETIME`; kept as a field.

        Saying again what is so already changes nothing, so that it may be said at the beginning of every request.
        """
        return _PERMANENT in self and bool(self[_PERMANENT])

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self.permanent != bool(value):
            self[_PERMANENT] = bool(value)

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether there is no live session behind this request yet."""
        self._load()
        return self.found is None

    @property
    def modified(self) -> bool:
        """Whether this request changed the session; set it to True after changing something inside a field."""
        return self._modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = self._flagged = value

    @property
    def rotated(self) -> bool:
        """Whether `rotate` was called."""
        return self._rotated

    @property
    def permanence_changed(self) -> bool:
        """Whether this request has said anew whether the cookie outlives the browser."""
        return _PERMANENT in self._written or _PERMANENT in self._dropped

    @property
    def ended(self) -> bool:
        """Whether this request logged out: it cleared the session and put nothing into it afterwards."""
        return self._modified and self._cleared and not self

    @property
    def worth_creating(self) -> bool:
        """Whether there is anything to keep; that it is permanent alone is not, or every passer-by had a session."""
        return any(name != _PERMANENT for name in self)

    def contents(self) -> dict[str, bytes]:
        """Return the whole session as this request leaves it, packed."""
        return {name: self._packed_now(name) if name in self._values else self._packed[name] for name in self}

    def changes(self, policy: WritePolicy) -> Changes | None:
        """Return what is to be saved under a write policy, without a rotation; None if nothing is.

        A cleared session is saved as a whole under every policy: what other requests added is to go as well.
        """
        if not self._modified:
            return None
        if policy != "fields" or self._cleared:
            return Changes(set=self.contents(), whole=True)
        names = filter(self._is_changed, self._values) if self._flagged else self._written
        changed = {name: self._packed_now(name) for name in names}
        if not changed and not self._dropped:
            return None
        return Changes(set=changed, deleted=frozenset(self._dropped))

    def _is_changed(self, name: str) -> bool:
        if name in self._written:
            return True
        # Both sides are packed afresh: PostgreSQL returns the keys of an object in an order of its own.
        return pack(name, self._values[name]) != repack(self._packed[name])

    def _packed_now(self, name: str) -> bytes:
        return self._written.get(name) or pack(name, self._values[name])


def pack(name: str, value: Any) -> bytes:
    """Return the JSON of a field's value.

    Raises:
        TypeError: JSON cannot hold the name or the value, or not without changing it; the text names the field.
    """
    try:
        if type(name) is not str:
            raise TypeError(f"the name is {type(name).__name__}, not str")  # noqa: TRY301 - one place words it all
        name.encode()
        _refuse_what_json_changes(value, MAX_NESTING)
        return _encode(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"session field {name!r} cannot be kept as JSON: {error}") from error


def unpack(name: str, packed: bytes) -> Any:
    """Return a field's value.

    Raises:
        ServiceUnavailable: what the store holds is no JSON. The session can still be cleared.
    """
    try:
        return _decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        logging.getLogger(__name__).warning("session field %r is damaged: %s", name, error)
        raise ServiceUnavailable("the session is damaged: log out, and in again") from error


def repack(packed: bytes) -> bytes:
    """Return packed JSON as `pack` writes the same value."""
    return _encode(_decode(packed))


def _refuse_what_json_changes(value: Any, depth: int) -> None:
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is no JSON number")
    elif depth == 0:
        raise ValueError(f"nested more than {MAX_NESTING} deep")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if type(key) is not str:
                raise TypeError(f"the key {key!r} is {type(key).__name__}, not str")
            _refuse_what_json_changes(inner, depth - 1)
    elif isinstance(value, (list, tuple)):  # a tuple comes back as a list, as ever in JSON; Flask's flash() uses one
        for inner in value:
            _refuse_what_json_changes(inner, depth - 1)
    else:
        raise TypeError(f"{kind.__name__} is neither str, int, float, bool, None, list nor dict")
