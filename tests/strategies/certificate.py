"""A certificate for 127.0.0.1 that vouches for itself, made of nothing but the standard library.

Not every machine has `openssl`, and Python's `ssl` reads certificates but writes none. So here is as much of elliptic
curves (P-256: FIPS 186-4, D.1.2.3; ECDSA: section 6.4) and of DER (X.690) as one certificate (RFC 5280) needs.
For tests alone: the arithmetic takes its time, and who measures that time learns the key.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
import textwrap
from datetime import UTC, datetime, timedelta

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

EC_PUBLIC_KEY, P256, ECDSA_SHA256 = "1.2.840.10045.2.1", "1.2.840.10045.3.1.7", "1.2.840.10045.4.3.2"
COMMON_NAME = "2.5.4.3"
SUBJECT_KEY_ID, KEY_USAGE, ALT_NAME, CONSTRAINTS, AUTHORITY_KEY_ID = (f"2.5.29.{n}" for n in (14, 15, 17, 19, 35))


def make_certificate(folder):
    """Write `certificate.pem` and `key.pem` into a folder; return their paths."""
    secret = 1 + secrets.randbelow(N - 1)
    x, y = times(secret, G)
    point = b"\4" + x.to_bytes(32) + y.to_bytes(32)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(pem("CERTIFICATE", signed(to_be_signed(point), secret)))
    parts = number(1), tlv(4, secret.to_bytes(32)), tlv(0xA0, oid(P256)), tlv(0xA1, bits(point))
    key.write_text(pem("EC PRIVATE KEY", sequence(*parts)))
    return certificate, key


def to_be_signed(point):
    """Return the certificate without its signature."""
    now = datetime.now(UTC)
    name = sequence(tlv(0x31, sequence(oid(COMMON_NAME), tlv(12, b"session lab's tests"))))
    moments = (now - timedelta(days=1), now + timedelta(days=1))
    key_id = hashlib.sha1(point).digest()
    extensions = (
        extension(CONSTRAINTS, sequence(tlv(1, b"\xff")), critical=True),  # its own authority
        extension(KEY_USAGE, tlv(3, b"\x02\x84"), critical=True),  # signs, also certificates
        extension(ALT_NAME, sequence(tlv(0x87, ipaddress.ip_address("127.0.0.1").packed))),
        extension(SUBJECT_KEY_ID, tlv(4, key_id)),
        extension(AUTHORITY_KEY_ID, sequence(tlv(0x80, key_id))),
    )
    return sequence(
        tlv(0xA0, number(2)),  # version 3
        number(secrets.randbits(64)),
        sequence(oid(ECDSA_SHA256)),
        name,
        sequence(*(tlv(24, moment.strftime("%Y%m%d%H%M%SZ").encode()) for moment in moments)),
        name,
        sequence(sequence(oid(EC_PUBLIC_KEY), oid(P256)), bits(point)),
        tlv(0xA3, sequence(*extensions)),
    )


def signed(body, secret):
    """Return a certificate: its body with an ECDSA signature."""
    digest = int.from_bytes(hashlib.sha256(body).digest())
    once = 1 + secrets.randbelow(N - 1)
    r = times(once, G)[0] % N
    s = pow(once, -1, N) * (digest + r * secret) % N
    return sequence(body, sequence(oid(ECDSA_SHA256)), bits(sequence(number(r), number(s))))


def times(factor, point):
    """Return a multiple of a point of the curve."""
    total = None
    while factor:
        if factor & 1:
            total = point if total is None else plus(total, point)
        point = plus(point, point)
        factor >>= 1
    return total


def plus(a, b):
    """Return the sum of two points, neither of them the other's opposite."""
    (xa, ya), (xb, yb) = a, b
    slope = (3 * xa * xa - 3) * pow(2 * ya, -1, P) if a == b else (yb - ya) * pow(xb - xa, -1, P)
    x = (slope * slope - xa - xb) % P
    return x, (slope * (xa - x) - ya) % P


def tlv(tag, content):
    """Return tag, length and content."""
    size = len(content)
    length = bytes([size]) if size < 128 else (b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2))
    return bytes([tag]) + length + content


def sequence(*parts):
    """Return a SEQUENCE."""
    return tlv(0x30, b"".join(parts))


def number(value):
    """Return an INTEGER that is not negative."""
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1))


def bits(content):
    """Return a BIT STRING of whole bytes."""
    return tlv(3, b"\0" + content)


def oid(dotted):
    """Return an OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    content = bytes([40 * first + second])
    for part in others:
        septets = [part & 0x7F]
        while part := part >> 7:
            septets.append(0x80 | part & 0x7F)
        content += bytes(reversed(septets))
    return tlv(6, content)


def extension(name, value, *, critical=False):
    """Return an Extension."""
    return sequence(oid(name), *([tlv(1, b"\xff")] if critical else []), tlv(4, value))


def pem(label, der):
    """Return DER as a PEM text."""
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
