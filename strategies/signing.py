"""itsdangerous signatures at a fraction of the price: keys are derived once, and hashed as far as they go.

`Signer` derives its key anew for every signature and goes through `hmac`'s Python class. The signatures made here are
the same to the byte.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import hmac
import importlib
from typing import TYPE_CHECKING, cast

from itsdangerous import Signer
from itsdangerous.encoding import want_bytes
from itsdangerous.signer import SigningAlgorithm

if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import Callable, Iterable

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _leanest_sha256() -> Callable[[bytes], HASH]:
    """Return Python's own SHA-256, else OpenSSL's, which `hashlib` prefers.

    The hashes are the same. OpenSSL's is the faster one for long texts, but finds its way through so many layers that
    in a web server, where the processor's caches hold something else by then, a cookie's 66 bytes take twice as long.
    """
    for module in ("_sha2", "_sha256"):  # from Python 3.12 on, and before
        with contextlib.suppress(ImportError):
            return cast("Callable[[bytes], HASH]", importlib.import_module(module).sha256)
    return hashlib.sha256


sha256 = _leanest_sha256()
"""SHA-256 of something short; used as `hashlib.sha256`."""


class PreparedSigner(Signer):
    """A `Signer` with SHA-256 and derivation by HMAC.

    Args:
        keys: secret keys; the last one signs, all of them verify.
        salt: keeps signatures for different purposes apart.
    """

    def __init__(self, keys: Iterable[str | bytes], salt: str) -> None:
        bare = [want_bytes(key) for key in keys]
        super().__init__(bare, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256, algorithm=_OneCallHmac())
        self._derived = {key: super(PreparedSigner, self).derive_key(key) for key in bare}
        self._newest = _Hmac(self._derived[bare[-1]])

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        """Return the key that was derived from one of the secret keys, the last if none is named."""
        return self._derived[self.secret_keys[-1] if secret_key is None else want_bytes(secret_key)]

    def get_signature(self, value: str | bytes) -> bytes:
        """Return the signature that the last key makes."""
        return _base64(self._newest.digest(want_bytes(value)))

    def is_newest(self, value: bytes, signature: bytes) -> bool:
        """Whether the last key has made this signature; one of the others may have, see `verify_signature`."""
        return hmac.compare_digest(signature, _base64(self._newest.digest(value)))


def _base64(digest: bytes) -> bytes:
    """Return what itsdangerous' `base64_encode` does, past its layers and those of Python's `base64`."""
    return binascii.b2a_base64(digest, newline=False).translate(_URL_SAFE).rstrip(b"=")


class _OneCallHmac(SigningAlgorithm):
    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(key, value, "sha256")


class _Hmac:
    """HMAC with SHA-256, its two hashes begun with the key once; `hmac.digest` begins them every time.

    Source: RFC 2104.

    Args:
        key: no longer than a block of the hash, which is 64 bytes.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, value: bytes) -> bytes:
        """Return the code of a value."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(value)
        outer.update(inner.digest())
        return outer.digest()
