"""Fields of a session as one `jsonb` object, and back to the byte.

What `jsonb` cannot hold as it is goes in as `{"$json": "<the packed value, as text>"}`: the character U+0000, which
PostgreSQL refuses; numbers with an exponent, which come back as thousands of digits and as integers; minus zero. Names
are escaped likewise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ESCAPE = "$json"
_ESCAPE_IN_JSON = b'"$json'
_ESCAPED = b'{"$json"'
_COLUMNS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WRAPPED = msgspec.json.Decoder(dict[str, str])
_encode = msgspec.json.Encoder().encode
_NUL = rb"\u0000"
_UNFAITHFUL_NUMBER = re.compile(rb"-?[0-9.]+[eE]|-0\.0")
_UNFAITHFUL_NUMBER_INSIDE = re.compile(rb"[\[,:](?:-?[0-9.]+[eE]|-0\.0)")


def to_jsonb(fields: Mapping[str, bytes]) -> bytes:
    """Return packed fields as the text of a `jsonb` object."""
    return _encode({_column_key(name): _column_value(value) for name, value in fields.items()})


def to_names(fields: Iterable[str]) -> bytes:
    """Return the text of a `text[]` that holds the names of fields, as the object's keys have them."""
    quoted = ('"' + _column_key(name).replace("\\", "\\\\").replace('"', '\\"') + '"' for name in fields)
    return ("{" + ",".join(quoted) + "}").encode()


def from_jsonb(data: bytes) -> dict[str, bytes]:
    """Return the packed fields of a `jsonb` object, as PostgreSQL prints it."""
    columns = _COLUMNS.decode(data)
    if _holds(data, _ESCAPE_IN_JSON, b"$"):
        return {_field_name(key): _unescaped(bytes(value)) for key, value in columns.items()}
    if data.find(b"{", 1) < 0 and b"[" not in data:  # texts and numbers alone
        return {name: bytes(value) for name, value in columns.items()}
    return {name: _without_spaces(bytes(value)) for name, value in columns.items()}


def _holds(text: bytes, rare: bytes, character: bytes) -> bool:
    """Whether a text holds something rare; to look for one of its characters first takes a tenth of the time."""
    return character in text and rare in text


def _column_key(name: str) -> str:
    if "\0" in name or name.startswith(_ESCAPE):
        return _ESCAPE + msgspec.json.encode(name).decode()
    return name


def _column_value(packed: bytes) -> msgspec.Raw | dict[str, str]:
    if _is_faithful(packed):
        return msgspec.Raw(packed)
    return {_ESCAPE: packed.decode()}


def _is_faithful(packed: bytes) -> bool:
    """Whether `jsonb` gives a value back as it is; False now and then where it would."""
    if _holds(packed, _NUL, b"\\") or _holds(packed, _ESCAPE_IN_JSON, b"$"):
        return False
    if packed.startswith(b'"'):  # no numbers in a text, and to look for them takes long
        return True
    return not (_UNFAITHFUL_NUMBER.match(packed) or _UNFAITHFUL_NUMBER_INSIDE.search(packed))


def _field_name(key: str) -> str:
    return msgspec.json.decode(key[len(_ESCAPE) :], type=str) if key.startswith(_ESCAPE) else key


def _unescaped(value: bytes) -> bytes:
    if value.startswith(_ESCAPED):
        return _WRAPPED.decode(value)[_ESCAPE].encode()
    return _without_spaces(value)


def _without_spaces(value: bytes) -> bytes:
    """Return a value as msgspec packs it: jsonb prints objects and lists with spaces."""
    return msgspec.json.format(value, indent=-1) if value[:1] in (b"{", b"[") else value
