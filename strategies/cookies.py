"""The two cookies of a session: found among those that a browser sends, signed, and checked.

The session's own is `<handle>.<secret>.<signature>`, and always as long as any other. The clock's, where servers hold
copies, is `<version>.<signature>`, signed for one handle.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from strategies.session import Identity
from strategies.signing import PreparedSigner

if TYPE_CHECKING:
    from flask import Flask, Request

_COOKIE = re.compile(r"([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
_MAX_CLOCK_COOKIE = 256


def sent_cookie(request: Request, name: str) -> str:
    """Return the value of a cookie that a browser has sent, "" where it has not: as `request.cookies`, in less time.

    `request.cookies` looks through all headers and takes all cookies apart. Where none of them is quoted, a cookie is
    simply what stands between two semicolons, and the first one of a name counts.
    """
    header = request.environ.get("HTTP_COOKIE", "")
    if '"' in header:
        return request.cookies.get(name, "")
    found = _pattern(name).search(header)
    return (found[1] or "") if found else ""


@functools.lru_cache(maxsize=16)
def _pattern(name: str) -> re.Pattern[str]:
    # Nothing is ever tried twice ("*+"): a browser that sends many spaces must not keep a server busy.
    return re.compile(rf"(?:\A|;)[ \t]*+{re.escape(name)}[ \t]*+(?:=[ \t]*+([^ \t;]*+)[ \t]*+)?(?:;|\Z)")


def write_cookie(app: Flask, identity: Identity) -> str:
    """Return the cookie that says who a shopper is, signed with the newest key."""
    return _signer_of(app).sign(f"{identity.handle}.{identity.secret}").decode()


def read_cookie(app: Flask, cookie: str) -> Identity | None:
    """Return what a cookie that we signed says; None for every other, without asking any store."""
    parts = _COOKIE.fullmatch(cookie)
    if parts is None:
        return None
    handle, secret, signature = parts.groups()
    signed = f"{handle}.{secret}".encode()
    signer = _signer_of(app)
    newest = signer.is_newest(signed, signature.encode())
    if not newest and not signer.verify_signature(signed, signature):
        return None
    return Identity(handle, secret, in_browser=newest)


def write_clock(app: Flask, handle: str, version: str) -> str:
    """Return the cookie that carries the version of a shopper's last save, signed for this handle."""
    return f"{version}.{_clock_signer(app).get_signature(f'{handle}.{version}').decode()}"


def read_clock(app: Flask, handle: str, cookie: str) -> str:
    """Return the version in a clock cookie that we signed for this handle; "" for every other."""
    version, _, signature = cookie.rpartition(".")
    if not version or len(cookie) > _MAX_CLOCK_COOKIE:
        return ""
    return version if _clock_signer(app).verify_signature(f"{handle}.{version}", signature) else ""


_signer = functools.lru_cache(maxsize=16)(PreparedSigner)


def _signer_of(app: Flask, salt: str = "server-side-session") -> PreparedSigner:
    return _signer((*(app.config["SECRET_KEY_FALLBACKS"] or ()), app.secret_key), salt)  # the last one signs


def _clock_signer(app: Flask) -> PreparedSigner:
    return _signer_of(app, "server-side-session-clock")
