"""What holds for every request and response."""

from __future__ import annotations

import pytest

from strategies.contract import StoreSettings, StoreUnavailable
from strategies.local import LocalStore

EVERYTHING = [
    ("GET", "/", 200),
    ("GET", "/cart", 200),
    ("GET", "/api/cart", 200),
    ("GET", "/api/products/1", 200),
    ("GET", "/static/shop.css", 200),
    ("GET", "/nothing", 404),
    ("GET", "/api/nothing", 404),
    ("PUT", "/api/cart", 405),
    ("POST", "/api/cart", 400),
    ("POST", "/cart", 400),
    ("POST", "/logout", 303),
]


@pytest.mark.parametrize(("method", "path", "status"), EVERYTHING)
def test_every_response_is_signed(client, method, path, status):
    """Every response says who served it and must not be sniffed; pages also forbid foreign content and frames."""
    with client.open(path, method=method) as response:
        assert response.status_code == status
        assert response.headers["X-Served-By"] == "web-1"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        if response.mimetype == "text/html" and status != 303:
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Frame-Options"] == "DENY"
            assert response.headers["Referrer-Policy"] == "same-origin"


def test_errors_speak_the_language_of_the_caller(client):
    """A program gets JSON with one line, a person gets a page."""
    assert client.get("/api/nothing").json == {"error": "there is nothing at this address"}
    page = client.get("/nothing")
    assert page.mimetype == "text/html"
    assert "There is nothing at this address." in page.text


def test_wrong_method_names_the_right_ones(client):
    """405 says what the address does take."""
    assert set(client.put("/api/cart").headers["Allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("path", ["/logout", "/api/logout"])
def test_foreign_form_is_refused(client, store, headers, path):
    """A write that a browser sends for another site changes nothing; another port is another site."""
    client.post("/api/login", json={"user": "Ada"})
    assert client.post(path, headers=headers).status_code == 403
    assert len(store.census().handles) == 1


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}]
)
def test_own_form_and_programs_pass(client, headers):
    """The shop's own pages may write, and so may programs, which say nothing of where they come from."""
    assert client.post("/api/login", json={"user": "Ada"}, headers=headers).status_code == 200


def test_foreign_link_may_be_followed(client):
    """A link from elsewhere may show a page."""
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_cookie_is_for_this_site_and_not_for_scripts(client):
    """The session cookie is HttpOnly, SameSite=Lax, for every path, under the shop's own name."""
    cookie = client.post("/api/login", json={"user": "Ada"}).headers["Set-Cookie"]
    assert cookie.startswith("shop_session=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


@pytest.mark.parametrize("path", ["/", "/products/1", "/api/products", "/api/search?q=tea"])
def test_origin_that_is_down_is_503(make_shop, store, path):
    """Without its database the shop says so, in the caller's language and in bounded time."""
    response = make_shop(store, url="postgresql://127.0.0.1:1/none").test_client().get(path)
    assert response.status_code == 503
    assert "catalogue is not available" in response.text
    assert response.is_json == path.startswith("/api/")


def test_carts_work_without_the_origin(make_shop, store):
    """What lives in the session alone does not need the database."""
    client = make_shop(store, url="postgresql://127.0.0.1:1/none").test_client()
    assert client.post("/api/login", json={"user": "Ada"}).status_code == 200
    assert client.get("/api/cart").json["user"] == "Ada"


class FailingStore(LocalStore):
    """A store that can be made to fail at one operation."""

    failing = None

    def load(self, handle):
        """Load, or fail."""
        self._fail("load")
        return super().load(handle)

    def save(self, handle, changes, expected_version=None):
        """Save, or fail."""
        self._fail("save")
        return super().save(handle, changes, expected_version)

    def _fail(self, operation):
        if operation == self.failing:
            raise StoreUnavailable("down")


@pytest.mark.parametrize("operation", ["load", "save"])
@pytest.mark.parametrize(
    ("path", "body"), [("/login", {"data": {"user": "Bo"}}), ("/api/login", {"json": {"user": "Bo"}})]
)
def test_session_store_that_is_down_is_503(make_shop, operation, path, body):
    """A store's error is answered in the caller's language too, whenever it happens, and logs nobody out."""
    store = FailingStore.open(StoreSettings())
    client = make_shop(store).test_client()
    client.post("/api/login", json={"user": "Ada"})
    store.failing = operation
    response = client.post(path, **body)
    assert (response.status_code, response.headers["X-Served-By"]) == (503, "web-1")
    assert response.is_json == path.startswith("/api/")
    assert "session store is not available" in response.text
    store.failing = None
    assert client.get("/api/cart").json["user"] == "Ada"
    store.close()


def test_failed_checkout_can_be_tried_again(make_shop):
    """If the order stands and the session could not be saved, a retry neither orders twice nor loses the cart."""
    store = FailingStore.open(StoreSettings())
    client = make_shop(store).test_client()
    client.post("/api/cart", json={"token": "a", "product": 1})
    store.failing = "save"
    assert client.post("/api/checkout", json={"token": "o-failed"}).status_code == 503
    store.failing = None
    assert len(client.get("/api/cart").json["cart"]) == 1
    first = client.post("/api/checkout", json={"token": "o-failed"}).json
    again = client.post("/api/checkout", json={"token": "o-failed"}).json
    assert (first["order"], first["cart"]) == (again["order"], [])
    store.close()
