"""A cookie is found in what a browser sends, whatever stands around it."""

from __future__ import annotations

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ

from strategies.cookies import sent_cookie

PIECES = ("session", "session2", "a", "=", ";", " ", "\t", '"', "\\", "x.y-z_", ",", "ü", "\xff", "\n", "__Host-", "$")
NAMES = ("session", "__Host-session", "a$")


def request(header):
    """Return a request with this Cookie header, or without one."""
    return flask.Request(create_environ() if header is None else create_environ() | {"HTTP_COOKIE": header})


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from(NAMES))
def test_as_flask_finds_it(header, name):
    """Whatever the header, a cookie has the value that `request.cookies` has for it."""
    assert sent_cookie(request(header), name) == request(header).cookies.get(name, "")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (None, ""),
        ("session=1", "1"),
        ("a=0; session=1; session=2", "1"),
        ("session; session=2", ""),
        ("xsession=0;session = 1 ;b=2", "1"),
        ('a="; session=0; "; session="1"', "1"),
        ("ü=0; session=1", "1"),
        ("session=1 0; session=2", "2"),
    ],
)
def test_found(header, value):
    """The first cookie of the name counts, spaces around it do not, and a quoted value may hold anything."""
    assert sent_cookie(request(header), "session") == value


def test_names_mean_themselves():
    """A name with a dot in it does not stand for others."""
    assert sent_cookie(request("axb=0; a.b=1"), "a.b") == "1"


@pytest.mark.parametrize("piece", [" ", "\t ", ";", "; ", "session", "session=", "session=a b;"])
def test_long_headers(piece):
    """No header keeps a server busy: where the search went back and forth, the first of these took minutes."""
    for header in (f"session={piece * 16_000}x y", f"session{piece * 16_000}x y", piece * 16_000):
        sent_cookie(request(header), "session")
