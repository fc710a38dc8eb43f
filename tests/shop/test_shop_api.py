"""The JSON API."""

from __future__ import annotations

import pytest

from lab.shop.shopper import MAX_RECENT


def add(client, token, product=1, quantity=1):
    """Put a line into the cart."""
    return client.post("/api/cart", json={"token": token, "product": product, "quantity": quantity})


def test_product_list(client):
    """A page of products, each with what a list needs."""
    products = client.get("/api/products?page=2").json["products"]
    assert [product["id"] for product in products] == list(range(25, 49))
    assert set(products[0]) == {"id", "name", "category", "price_cents"}


def test_product(client):
    """One product with its description."""
    assert set(client.get("/api/products/3").json) == {"id", "name", "description", "category", "price_cents"}


def test_search(client):
    """Products that match."""
    assert all("Mug" in product["name"] for product in client.get("/api/search?q=mug").json["products"])


@pytest.mark.parametrize("path", ["/api/products", "/api/products/3", "/api/search?q=tea", "/api/products/999999"])
def test_catalogue_does_not_touch_the_session(client, store_calls, path):
    """A request for the catalogue costs no store call, even with a cookie, and can be cached for everyone."""
    add(client, "a")
    before = store_calls()
    response = client.get(path)
    assert store_calls() == before
    assert "Cookie" not in response.vary
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    ("sent", "cost"),
    [
        (("GET", "/api/cart", None), (1, 0)),
        (("POST", "/api/cart", {"token": "b", "product": 2}), (1, 1)),
        (("POST", "/api/cart", {"token": "a", "product": 1}), (1, 0)),
        (("POST", "/api/cart/a/bump", None), (1, 1)),
        (("DELETE", "/api/cart/a", None), (1, 1)),
        (("POST", "/api/visit", {"page": "product", "product": 3, "seconds": 1.5}), (1, 1)),
        (("POST", "/api/login", {"user": "Ada"}), (1, 1)),
        (("POST", "/api/checkout", {"token": "o-calls"}), (1, 1)),
    ],
)
def test_store_calls_of_a_request(client, store, sent, cost):
    """A request that reads costs one load, one that writes a load and a save, and a retry saves nothing."""
    method, path, body = sent
    add(client, "a")
    before = store.census()
    assert client.open(path, method=method, json=body).status_code == 200
    after = store.census()
    assert (after.loads - before.loads, after.saves - before.saves) == cost
    assert (after.creates, after.deletes) == (before.creates, before.deletes)


def test_cart_starts_empty_and_sets_no_cookie(client):
    """Who only looks gets no session."""
    response = client.get("/api/cart")
    assert response.json == {"user": None, "cart": [], "recent": []}
    assert "Set-Cookie" not in response.headers


def test_lines_are_kept_apart_and_in_order(client):
    """Every token is a line of its own, shown in the order of the tokens."""
    add(client, "b", product=2)
    cart = add(client, "a", product=2, quantity=3).json["cart"]
    assert cart == [{"token": "a", "product": 2, "quantity": 3}, {"token": "b", "product": 2, "quantity": 1}]
    assert client.get("/api/cart").json["cart"] == cart


def test_same_token_again_is_a_retry(client):
    """A line that is there already stays as it is, a bump since then included."""
    add(client, "a", product=2)
    client.post("/api/cart/a/bump")
    assert add(client, "a", product=2).json["cart"] == [{"token": "a", "product": 2, "quantity": 2}]


def test_token_of_another_product_is_refused(client):
    """A token names one thing only."""
    add(client, "a", product=2)
    response = add(client, "a", product=3)
    assert response.status_code == 400
    assert response.json == {"error": "the cart line a holds another product"}


def test_bump_ends_at_the_largest_quantity(client):
    """A line holds at most 99."""
    add(client, "a", quantity=98)
    assert client.post("/api/cart/a/bump").json["cart"][0]["quantity"] == 99
    assert client.post("/api/cart/a/bump").status_code == 400


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/cart/nope/bump"), ("DELETE", "/api/cart/nope")])
def test_unknown_line(client, method, path):
    """What is not in the cart can be neither raised nor removed."""
    response = client.open(path, method=method)
    assert (response.status_code, response.json) == (404, {"error": "there is no cart line nope"})


def test_remove(client):
    """A line that was taken out is gone."""
    add(client, "a")
    add(client, "b")
    assert [line["token"] for line in client.delete("/api/cart/a").json["cart"]] == ["b"]


def test_recent_is_short_and_newest_first(client):
    """Only the last few products are remembered, each once, so that a session stays small."""
    for product in [*range(1, 12), 5]:
        response = client.post("/api/visit", json={"page": "product", "product": product, "seconds": 1})
    assert response.json == {"recent": [5, 11, 10, 9, 8, 7, 6, 4]}
    assert len(response.json["recent"]) == MAX_RECENT


def test_seconds_add_up_by_kind_of_page(client):
    """Time on pages of one kind is added up in one field of the session."""
    for page, seconds in [("list", 1.5), ("list", 2.25), ("cart", 4)]:
        client.post("/api/visit", json={"page": page, "product": None, "seconds": seconds})
    with client.session_transaction() as session:
        assert (session["seconds:list"], session["seconds:cart"]) == (3.75, 4)


def test_login_rotates_and_keeps_the_cart(client):
    """After a login the cookie from before is worth nothing, and the cart is still there."""
    add(client, "a")
    old = client.get_cookie("shop_session").value
    assert client.post("/api/login", json={"user": "Ada"}).json["user"] == "Ada"
    new = client.get_cookie("shop_session").value
    assert old != new
    assert client.get("/api/cart").json["cart"] == [{"token": "a", "product": 1, "quantity": 1}]
    client.set_cookie("shop_session", old)
    assert client.get("/api/cart").json == {"user": None, "cart": [], "recent": []}


def test_logout_destroys(client, store):
    """After a logout there is no session and no cookie, and the old cookie shows nothing."""
    client.post("/api/login", json={"user": "Ada"})
    old = client.get_cookie("shop_session").value
    assert client.post("/api/logout").json == {"user": None, "cart": []}
    assert client.get_cookie("shop_session") is None
    assert store.census().handles == ()
    client.set_cookie("shop_session", old)
    assert client.get("/api/cart").json["user"] is None


def test_checkout_orders_and_empties(client):
    """The order stands, the cart is empty, and the rest of the session stays."""
    client.post("/api/login", json={"user": "Ada"})
    add(client, "a")
    response = client.post("/api/checkout", json={"token": "o-empties"})
    assert response.json["order"] > 0
    assert client.get("/api/cart").json == {"user": "Ada", "cart": [], "recent": []}


def test_checkout_again_is_the_same_order(client):
    """A retried checkout finds the order, though the cart is empty by now."""
    add(client, "a")
    first = client.post("/api/checkout", json={"token": "o-again"}).json["order"]
    assert client.post("/api/checkout", json={"token": "o-again"}).json["order"] == first


def test_retried_checkout_keeps_what_was_added_since(client):
    """Only what was ordered leaves the cart: a line added after the order stays."""
    add(client, "a")
    client.post("/api/checkout", json={"token": "o-since"})
    add(client, "b")
    response = client.post("/api/checkout", json={"token": "o-since"})
    assert [line["token"] for line in response.json["cart"]] == ["b"]


def test_checkout_of_an_empty_cart(client):
    """Nothing cannot be ordered."""
    response = client.post("/api/checkout", json={"token": "o-nothing"})
    assert (response.status_code, response.json) == (400, {"error": "the cart is empty"})


def test_orders_of_two_shops_do_not_meet(make_shop, store, client):
    """A shop under another cookie's name has orders of its own, though the tokens and the database are the same."""
    other = make_shop(store, cookie_name="another_session").test_client()
    for browser in (client, other):
        add(browser, "a")
    first, second = (browser.post("/api/checkout", json={"token": "o-meet"}).json for browser in (client, other))
    assert first["order"] != second["order"]


def test_session_that_grows_too_large_is_refused(client):
    """A cart that no session can hold is refused with 413, and what was there stays."""
    with client.session_transaction() as session:
        session["user"] = "Ada"
        session["filler"] = "x" * (64 * 1024 - 40)
    assert add(client, "a").status_code == 413
    assert client.get("/api/cart").json["user"] == "Ada"
