"""The JSON API: the same verbs as the pages, for programs. The catalogue's routes never look at the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from flask import Blueprint, Response, request, session
from werkzeug.exceptions import BadRequest, NotFound

from lab.shop import inputs, shopper
from lab.shop.checkout import check_out
from lab.shop.origin import catalogue

if TYPE_CHECKING:
    from lab.shop.records import Product

api = Blueprint("api", __name__, url_prefix="/api")


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(msgspec.json.encode(value), status, mimetype="application/json")


def _shown(products: list[Product]) -> Response:
    return answer({"products": products})


def _cart(**more: Any) -> Response:
    view = shopper.view(session)
    return answer({**more, "user": view.user, "cart": view.cart, "recent": view.recent})


@api.get("/products")
def product_list() -> Response:
    """One page of the list. Session: not touched."""
    page = inputs.page_number(request.args.get("page", "1"))
    products = catalogue().page(page)
    if not products:
        raise NotFound(f"there is no page {page}")
    return _shown(products)


@api.get("/products/<int:number>")
def product(number: int) -> Response:
    """One product. Session: not touched."""
    return answer(catalogue().product(number))


@api.get("/search")
def search() -> Response:
    """The first products that match; with `in=descriptions`, those as well. Session: not touched."""
    thorough = request.args.get("in") == "descriptions"
    return _shown(catalogue().search(inputs.search_words(request.args.get("q", "")), thorough=thorough))


@api.get("/cart")
def cart() -> Response:
    """The cart. Session: read."""
    return _cart()


@api.post("/cart")
def add() -> Response:
    """Put a line into the cart. Session: one field written."""
    wish = inputs.from_json(request.get_data(), inputs.Add)
    catalogue().require(wish.product)
    shopper.add(session, wish)
    return _cart()


@api.post("/cart/<token:token>/bump")
def bump(token: str) -> Response:
    """Raise a line's quantity by one. Session: one field read and written."""
    shopper.bump(session, token)
    return _cart()


@api.delete("/cart/<token:token>")
def remove(token: str) -> Response:
    """Take a line out of the cart. Session: one field deleted."""
    shopper.remove(session, token)
    return _cart()


@api.post("/visit")
def visit() -> Response:
    """A page was left. Session: one or two fields written."""
    left = inputs.from_json(request.get_data(), inputs.Visit)
    if left.product is not None:
        catalogue().require(left.product)
    shopper.visit(session, left)
    return answer({"recent": shopper.view(session).recent})


@api.post("/login")
def log_in() -> Response:
    """Log in. Session: rotated, one field written."""
    shopper.log_in(session, inputs.from_json(request.get_data(), inputs.Login).user)
    return _cart()


@api.post("/logout")
def log_out() -> Response:
    """Log out. Session: destroyed."""
    shopper.log_out(session)
    return answer({"user": None, "cart": []})


@api.post("/checkout")
def checkout() -> Response:
    """Order what is in the cart. Session: the ordered lines deleted."""
    order = check_out(session, inputs.from_json(request.get_data(), inputs.Checkout).token)
    if order is None:
        raise BadRequest("the cart is empty")
    return _cart(order=order.number)
