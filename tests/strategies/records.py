"""Sessions as a store gets them, and as a test reads them."""

from __future__ import annotations

import hashlib
import secrets

import msgspec

from strategies.contract import NewSession

SECRET_HASH = hashlib.sha256(b"secret").hexdigest()


def packed(**fields):
    """Return fields as a store gets them."""
    return {name: msgspec.json.encode(value) for name, value in fields.items()}


def new_handle():
    """Return a handle as the session interface makes them."""
    return secrets.token_urlsafe(16)


def begin(store, **fields):
    """Create a session; return its handle."""
    handle = new_handle()
    store.create(handle, NewSession(SECRET_HASH, packed(**fields)))
    return handle


def shown(store, handle):
    """Return a session's fields as Python values; None if there is no such session."""
    record = store.load(handle)
    return record and {name: msgspec.json.decode(value) for name, value in record.fields.items()}


def canonical(value):
    """Return a value with the keys of its objects in order: JSON objects have none."""
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    return [canonical(inner) for inner in value] if isinstance(value, list) else value
