"""The pages, as a browser without scripts sees them."""

from __future__ import annotations

import re

import pytest


def hidden(page, name):
    """The value of a hidden field in a page."""
    return re.search(rf'name="{name}" value="([^"]+)"', page).group(1)


def put_into_cart(client, product=3, quantity=2):
    """Use the form of a product's page; return what it answers."""
    page = client.get(f"/products/{product}").text
    form = {"token": hidden(page, "token"), "product": hidden(page, "product"), "quantity": str(quantity)}
    return form, client.post("/cart", data=form)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "Page 1 of 125"),
        ("/?page=125", "Page 125 of 125"),
        ("/search?q=smoked+oolong", "Smoked Oolong"),
        ("/search?q=zzz", "Nothing for “zzz”"),
        ("/search", "What are you looking for?"),
        ("/products/3", "Add to cart"),
        ("/cart", "Your cart is empty"),
        ("/login", "Who is shopping?"),
    ],
)
def test_page(client, path, text):
    """Every page shows what it is for, and who served it."""
    response = client.get(path)
    assert response.status_code == 200
    assert text in response.text
    assert "You were served by <strong>web-1</strong>" in response.text


@pytest.mark.parametrize("path", ["/", "/search?q=tea", "/products/3", "/cart", "/login"])
def test_showing_a_page_only_reads(client, store, path):
    """A page costs one load and no write; without a cookie it sets none."""
    assert "Set-Cookie" not in client.get(path).headers
    put_into_cart(client)
    before = store.census()
    client.get(path)
    after = store.census()
    assert after.loads - before.loads == 1
    assert (after.creates, after.saves, after.deletes) == (before.creates, before.saves, before.deletes)


@pytest.mark.parametrize("path", ["/nothing", "/products/999999", "/orders/forged", "/static/shop.css", "/?page=x"])
def test_errors_and_files_do_not_touch_the_session(client, store_calls, path):
    """A page that is not there costs no store call."""
    put_into_cart(client)
    before = store_calls()
    client.get(path).close()
    assert store_calls() == before


def test_colour_names_the_server(make_shop, store):
    """A server keeps its colour, and servers beside it have others."""
    pages = [make_shop(store, server=f"web-{number}").test_client().get("/").text for number in (1, 2, 2)]
    colours = [re.search(r'<body class="server-(\d)"', page).group(1) for page in pages]
    assert colours == ["0", "1", "1"]


def test_every_form_redirects(client):
    """An accepted form answers with 303, so that a reload of the next page sends nothing twice."""
    form, response = put_into_cart(client)
    cart = client.get("/cart").text
    answers = [
        response,
        client.post(f"/cart/{form['token']}/bump"),
        client.post("/checkout", data={"token": hidden(cart, "token")}),
        client.post("/login", data={"user": "Ada"}),
        client.post("/logout"),
    ]
    places = [(answer.status_code, answer.headers["Location"].partition("s/")[0]) for answer in answers]
    assert places == [(303, "/cart"), (303, "/cart"), (303, "/order"), (303, "/"), (303, "/")]


def test_from_product_to_order(client):
    """A person can shop: log in, add, raise, remove, check out, and see what they bought."""
    client.post("/login", data={"user": "Ada"})
    form, _ = put_into_cart(client, product=3, quantity=2)
    other, _ = put_into_cart(client, product=4, quantity=1)
    client.post(f"/cart/{form['token']}/bump")
    client.post(f"/cart/{other['token']}/remove")
    price_cents = client.get("/api/products/3").json["price_cents"]
    total = f"{3 * price_cents / 100:,.2f}"
    cart = client.get("/cart").text
    assert total in cart
    order = client.post("/checkout", data={"token": hidden(cart, "token")}, follow_redirects=True).text
    assert "Thank you, Ada" in order
    assert total in order
    assert "Your cart is empty" in client.get("/cart").text


def test_a_form_sent_twice_counts_once(client):
    """Pressing a button twice neither adds nor orders twice."""
    form, _ = put_into_cart(client)
    client.post("/cart", data=form)
    assert len(client.get("/api/cart").json["cart"]) == 1
    token = hidden(client.get("/cart").text, "token")
    first, second = (client.post("/checkout", data={"token": token}).headers["Location"] for _ in range(2))
    assert first == second


def test_lines_come_in_the_order_they_were_added(client):
    """The tokens of the pages' forms sort by time."""
    for product in (9, 3, 7):
        put_into_cart(client, product)
    assert [line["product"] for line in client.get("/api/cart").json["cart"]] == [9, 3, 7]


def test_checkout_of_an_empty_cart_goes_back_to_it(client):
    """Nothing to order is no error for a person."""
    assert client.post("/checkout", data={"token": "nothing-there"}).headers["Location"] == "/cart"


def test_recently_viewed(client):
    """What the beacon told is shown on the next page."""
    name = client.get("/api/products/5").json["name"]
    assert name not in client.get("/cart").text
    client.post("/api/visit", json={"page": "product", "product": 5, "seconds": 2})
    assert name in client.get("/cart").text


def test_page_carries_what_the_beacon_sends(client):
    """A page says its kind and product, and the API takes just that."""
    for path in ("/", "/search?q=tea", "/products/3", "/cart", "/login"):
        page = client.get(path).text
        kind = re.search(r'data-page="([a-z]+)"', page).group(1)
        product = re.search(r'data-product="(\d+)"', page)
        visit = {"page": kind, "product": int(product.group(1)) if product else None, "seconds": 0.5}
        assert client.post("/api/visit", json=visit).status_code == 200


def test_page_describes_its_session(client):
    """The foot of a page shows the short hash of the handle, the version and who saved last."""
    assert "last saved by" not in client.get("/").text
    put_into_cart(client)
    handle = client.get_cookie("shop_session").value.split(".")[0]
    page = client.get("/").text
    assert "last saved by" in page
    assert handle not in page


def test_names_cannot_write_html(client):
    """What a shopper types is shown, not obeyed."""
    client.post("/login", data={"user": "<script>alert(1)</script>"})
    for page in (client.get("/").text, client.get("/search?q=<script>alert(1)</script>").text):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_bad_name_shows_the_form_again(client):
    """A name that cannot be is refused where it was typed."""
    response = client.post("/login", data={"user": " "})
    assert response.status_code == 400
    assert "Please give a name" in response.text


def test_line_of_a_product_that_is_gone(client):
    """A cart that holds what is not sold any more can be seen, cannot be ordered, and can be mended."""
    with client.session_transaction() as session:
        session["cart:old"] = {"product": 999_999, "quantity": 1}
    page = client.get("/cart").text
    assert "not sold any more" in page
    refused = client.post("/checkout", data={"token": hidden(page, "token")})
    assert refused.status_code == 404
    assert "Something in the cart is not sold any more." in refused.text
    client.post("/cart/old/remove")
    assert "Your cart is empty" in client.get("/cart").text


def test_order_of_somebody_else_cannot_be_guessed(client):
    """An order's address is signed: its number alone opens nothing."""
    put_into_cart(client)
    token = hidden(client.get("/cart").text, "token")
    place = client.post("/checkout", data={"token": token}).headers["Location"]
    assert client.get(place).status_code == 200
    assert client.get("/orders/1").status_code == 404
    assert client.get(place[:-1] + ("A" if place[-1] != "A" else "B")).status_code == 404
