"""Signatures are itsdangerous's own, whichever of the two makes or reads them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import BadSignature, Signer

from strategies.signing import PreparedSigner, sha256


def plain(*keys):
    """Return the signer that the prepared one stands for."""
    return Signer(list(keys), salt="a salt", key_derivation="hmac", digest_method=hashlib.sha256)


@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_same_signatures(old, new, text):
    """The last key signs, as with itsdangerous, and what either signs the other one accepts."""
    prepared = PreparedSigner((old, new), "a salt")
    signed = plain(old, new).sign(text)
    assert prepared.sign(text) == signed
    assert prepared.unsign(signed) == text.encode()
    assert prepared.unsign(plain(old).sign(text)) == text.encode()


def test_newest():
    """What the last key has signed is told from what an earlier one has, and from what nobody has."""
    prepared = PreparedSigner(("old", "new"), "a salt")
    newest, older = (plain(key).get_signature(b"text") for key in ("new", "old"))
    assert [prepared.is_newest(b"text", signature) for signature in (newest, older, b"", b"\xff")] == [
        True,
        False,
        False,
        False,
    ]


def test_forged():
    """Another key, another salt or another text is refused."""
    prepared = PreparedSigner(("key",), "a salt")
    for forged in (
        plain("other").sign("text"),
        PreparedSigner(("key",), "another salt").sign("text"),
        prepared.sign("text").replace(b"text", b"next"),
        prepared.sign("text")[:-1],
        b"text",
    ):
        with pytest.raises(BadSignature):
            prepared.unsign(forged)


@given(st.binary(max_size=200))
def test_same_hashes(text):
    """The SHA-256 that signs is the one that everybody knows."""
    assert sha256(text).digest() == hashlib.sha256(text).digest()
