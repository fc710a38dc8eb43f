"""Nasty input: always 4xx with one clear line, never 500."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOOD = {
    "/api/cart": {"token": "a", "product": 1, "quantity": 1},
    "/api/visit": {"page": "product", "product": 1, "seconds": 1.5},
    "/api/login": {"user": "Ada"},
    "/api/checkout": {"token": "o"},
}

WRONG = [
    ("/api/cart", {"product": 0}),
    ("/api/cart", {"product": -3}),
    ("/api/cart", {"product": 2**31}),
    ("/api/cart", {"product": 10**400}),
    ("/api/cart", {"product": "1"}),
    ("/api/cart", {"product": True}),
    ("/api/cart", {"product": None}),
    ("/api/cart", {"product": 999_999}),
    ("/api/cart", {"quantity": 0}),
    ("/api/cart", {"quantity": -1}),
    ("/api/cart", {"quantity": 100}),
    ("/api/cart", {"quantity": 1.5}),
    ("/api/cart", {"token": ""}),
    ("/api/cart", {"token": "x" * 65}),
    ("/api/cart", {"token": "a b"}),
    ("/api/cart", {"token": "a\n"}),
    ("/api/cart", {"token": "ä"}),
    ("/api/cart", {"token": 7}),
    ("/api/visit", {"seconds": -0.1}),
    ("/api/visit", {"seconds": 86_401}),
    ("/api/visit", {"seconds": "1"}),
    ("/api/visit", {"page": "secrets"}),
    ("/api/visit", {"product": 999_999}),
    ("/api/login", {"user": ""}),
    ("/api/login", {"user": "   "}),
    ("/api/login", {"user": "a\x00b"}),
    ("/api/login", {"user": "\u202e"}),
    ("/api/login", {"user": "x" * 41}),
    ("/api/login", {"user": ["Ada"]}),
    ("/api/checkout", {"token": "../../etc"}),
]

BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"a"',
    b"7",
    b"NaN",
    b"\xff\xfe",
    b"[" * 9000,
    b'{"token":' * 1500,
    b"a=1&b=2",
    b'{"user": "\xff", "token": "\xff", "page": "\xff"}',
]


PATHS = [
    "/api/products?page=0",
    "/api/products?page=-1",
    "/api/products?page=1.5",
    "/api/products?page=" + "9" * 5000,
    "/api/products?page=126",
    "/api/products?page=%D9%A3",
    "/api/products/0",
    "/api/products/-1",
    "/api/products/99999999999",
    "/api/products/" + "9" * 30,
    "/api/products/" + "9" * 4000,
    "/api/products/" + "9" * 5000,
    "/api/products/%00",
    "/api/search",
    "/api/search?q=",
    "/api/search?q=%00",
    "/api/search?q=!!!",
    "/api/search?q=" + "a" * 81,
    "/?page=zero",
    "/?page=126",
    "/products/abc",
    "/search?q=%27%20%7C%20%26",
    "/orders/1",
    "/orders/%00%FF",
]


def is_clear(response):
    """Whether an answer refuses with one line for a program or a page for a person."""
    if not 400 <= response.status_code < 500:
        return False
    return "That did not work" in response.text or (len(response.json["error"].splitlines()) == 1)


@pytest.mark.parametrize(("path", "wrong"), WRONG)
def test_wrong_values(client, store_calls, path, wrong):
    """A value that cannot be is refused before the session is touched."""
    response = client.post(path, data=json.dumps({**GOOD[path], **wrong}))
    assert is_clear(response)
    assert store_calls() == 0


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", GOOD)
def test_bodies_that_are_not_what_was_asked(client, path, body):
    """A body that is no JSON object of the right kind is refused."""
    response = client.post(path, data=body, content_type="application/json")
    assert is_clear(response)


@pytest.mark.parametrize("path", [*GOOD, "/cart", "/login", "/checkout"])
def test_oversized_bodies(client, path):
    """A body beyond 16 KiB is refused."""
    response = client.post(path, data=b'{"user": "' + b"x" * 20_000, content_type="application/x-www-form-urlencoded")
    assert response.status_code == 413
    assert "at most 16384 bytes" in response.text


@pytest.mark.parametrize("path", PATHS)
def test_addresses(client, path):
    """An address or a query that makes no sense is refused."""
    assert is_clear(client.get(path))


@pytest.mark.parametrize("form", [{}, {"token": "a"}, {"token": "a", "product": "x"}, {"token": "a", "product": "-1"}])
def test_forms(client, form):
    """A form that no page of ours made is refused, with a page."""
    assert is_clear(client.post("/cart", data=form))
    assert client.post("/cart", data=form).mimetype == "text/html"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(["token", "product", "quantity", "page", "seconds", "user"]), json_values, max_size=6
)
never_mind = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@never_mind
@given(
    path=st.sampled_from([*GOOD, "/cart", "/login", "/checkout"]), body=st.binary(max_size=200) | fields.map(json.dumps)
)
def test_no_body_is_an_error_of_ours(client, path, body):
    """Whatever is sent, the shop answers, and never with 500."""
    kind = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
    assert client.post(path, data=body, content_type=kind).status_code < 500


@never_mind
@given(cookie=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode()))
def test_no_cookie_is_an_error_of_ours(client, store_calls, cookie):
    """A forged, binary or oversized cookie is no session, and costs no store call."""
    header = b"shop_session=" + cookie.translate(None, b"\r\n")
    response = client.get("/api/cart", environ_overrides={"HTTP_COOKIE": header.decode("latin-1")})
    assert response.json == {"user": None, "cart": [], "recent": []}
    assert store_calls() == 0


@never_mind
@given(text=st.text(max_size=90))
def test_no_search_is_an_error_of_ours(client, text):
    """Whatever is searched for, the shop answers, and never with 500."""
    for path in ("/api/search", "/search"):
        assert client.get(path, query_string={"q": text.encode("utf-8", "replace").decode()}).status_code < 500
