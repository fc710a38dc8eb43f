"""The pages: the shop as a person uses it. Showing a page only reads the session; the beacon in `shop.js` writes it.

A form that was accepted answers with a redirect (Post/Redirect/Get), so that reloading the next page sends nothing
twice, and carries a token made with the page, so that pressing a button twice does nothing twice.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, current_app, redirect, render_template, request, session, url_for
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.exceptions import BadRequest, NotFound

from lab.shop import inputs, shopper
from lab.shop.catalogue import SEARCH_LIMIT
from lab.shop.checkout import check_out
from lab.shop.origin import catalogue
from lab.shop.products import CATEGORIES

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from lab.shop.records import Product

pages = Blueprint("pages", __name__)


def _show(template: str, view: shopper.View, known: dict[int, Product] | None = None, **context: Any) -> str:
    """Render a page with the shopper's name, cart and recently viewed products around it.

    Args:
        template: its file.
        view: the shopper's session.
        known: products at hand already, with those of `view.recent` among them; looked up if None.
        context: what the template itself needs.
    """
    known = catalogue().products(view.recent) if known is None else known
    recent = [known[product] for product in view.recent if product in known]
    return render_template(template, view=view, recent=recent, trace=shopper.trace(session), **context)


def _fresh_token() -> str:
    """Return a token for a cart line; sorting tokens sorts lines by the time their page was shown."""
    return f"{time.time_ns():x}-{secrets.token_hex(4)}"


def _orders() -> URLSafeSerializer:
    """Sign the numbers of orders in addresses, so that nobody can leaf through the orders of others."""
    return URLSafeSerializer(str(current_app.secret_key), salt="order")


def _back_to(endpoint: str, **values: Any) -> Response:
    return redirect(url_for(endpoint, **values), 303)


@pages.get("/")
def product_list() -> str:
    """One page of the list. Session: read."""
    number = inputs.page_number(request.args.get("page", "1"))
    last = catalogue().pages()
    if number > last:
        raise NotFound(f"there is no page {number}: the last one is {last}")
    products = catalogue().page(number)
    view = shopper.view(session)
    return _show("list.html", view, products=products, categories=CATEGORIES, number=number, last=last)


@pages.get("/search")
def search() -> str:
    """The first products that match. Session: read."""
    text = request.args.get("q", "")
    products = catalogue().search(inputs.search_words(text)) if text.strip() else []
    view = shopper.view(session)
    return _show("search.html", view, products=products, categories=CATEGORIES, text=text, limit=SEARCH_LIMIT)


@pages.get("/products/<int:number>")
def product(number: int) -> str:
    """One product. Session: read."""
    found = catalogue().product(number)
    return _show("product.html", shopper.view(session), product=found, token=_fresh_token())


@pages.get("/cart")
def cart() -> str:
    """The cart. Session: read."""
    view = shopper.view(session)
    known = catalogue().products([*(line.product for line in view.cart), *view.recent])
    lines = [(line, known.get(line.product)) for line in view.cart]
    total = sum(line.quantity * sold.price_cents for line, sold in lines if sold)
    return _show("cart.html", view, known, lines=lines, total=total, token=secrets.token_urlsafe(18))


@pages.post("/cart")
def add() -> Response:
    """Put a line into the cart. Session: one field written."""
    wish = inputs.from_form(request.form.to_dict(), inputs.Add)
    catalogue().require(wish.product)
    shopper.add(session, wish)
    return _back_to("pages.cart")


@pages.post("/cart/<token:token>/bump")
def bump(token: str) -> Response:
    """Raise a line's quantity by one. Session: one field read and written."""
    shopper.bump(session, token)
    return _back_to("pages.cart")


@pages.post("/cart/<token:token>/remove")
def remove(token: str) -> Response:
    """Take a line out of the cart. Session: one field deleted."""
    shopper.remove(session, token)
    return _back_to("pages.cart")


@pages.get("/login")
def login_form() -> str:
    """The log-in form. Session: read."""
    return _show("login.html", shopper.view(session))


@pages.post("/login")
def log_in() -> Response | tuple[str, int]:
    """Log in. Session: rotated, one field written."""
    try:
        wish = inputs.from_form(request.form.to_dict(), inputs.Login)
    except BadRequest:
        message = "Please give a name of 1 to 40 readable characters."
        return _show("login.html", shopper.view(session), message=message), 400
    shopper.log_in(session, wish.user)
    return _back_to("pages.product_list")


@pages.post("/logout")
def log_out() -> Response:
    """Log out. Session: destroyed."""
    shopper.log_out(session)
    return _back_to("pages.product_list")


@pages.post("/checkout")
def checkout() -> Response:
    """Order what is in the cart. Session: the ordered lines deleted."""
    order = check_out(session, inputs.from_form(request.form.to_dict(), inputs.Checkout).token)
    if order is None:
        return _back_to("pages.cart")
    return _back_to("pages.order", reference=_orders().dumps(order.number))


@pages.get("/orders/<reference>")
def order(reference: str) -> str:
    """A placed order. Session: read."""
    try:
        placed = catalogue().order(_orders().loads(reference))
    except BadSignature:
        placed = None
    if placed is None:
        raise NotFound("there is no such order")
    return _show("order.html", shopper.view(session), order=placed)
