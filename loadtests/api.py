"""The shop's JSON routes, as the load uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.plans import PlannedRequest

READS = frozenset({"product", "search", "thorough", "list", "view", "final_view"})
"""What changes nothing: if it fails, it definitely did not happen."""

SHOWS_CART = frozenset({"view", "final_view", "add", "bump", "login", "logout", "checkout"})
"""What is answered with the cart."""

VIEW = ("GET", "/api/cart", None)

PER_PAGE = 24
"""Products on a page of the shop's list."""


class Line(msgspec.Struct):
    """One line of a cart."""

    token: str
    quantity: int


class Answer(msgspec.Struct):
    """The part of any answer that the history keeps."""

    user: str | None = None
    cart: list[Line] | None = None
    recent: list[int] | None = None
    error: str | None = None


def http(planned: PlannedRequest) -> tuple[str, str, str | None]:
    """Say how a planned request is sent: method, path and JSON body.

    Raises:
        KeyError: if the shop has no such operation.
    """
    method, path, fields = _ROUTES[planned.f](planned)
    return method, path, None if fields is None else msgspec.json.encode(fields).decode()


_ROUTES: dict[str, Callable[[PlannedRequest], tuple[str, str, dict[str, Any] | None]]] = {
    "product": lambda p: ("GET", f"/api/products/{p.product}", None),
    "list": lambda p: ("GET", f"/api/products?page={((p.product or 1) - 1) // PER_PAGE + 1}", None),
    "search": lambda p: ("GET", f"/api/search?q={quote(p.term or '')}", None),
    "thorough": lambda p: ("GET", f"/api/search?q={quote(p.term or '')}&in=descriptions", None),
    "visit": lambda p: (
        "POST",
        "/api/visit",
        {"page": "product", "product": p.product, "seconds": p.dwell_seconds},
    ),
    "view": lambda _: VIEW,
    "add": lambda p: ("POST", "/api/cart", {"token": p.token, "product": p.product, "quantity": 1}),
    "bump": lambda p: ("POST", f"/api/cart/{p.line}/bump", {}),
    "login": lambda p: ("POST", "/api/login", {"user": p.shopper}),
    "logout": lambda _: ("POST", "/api/logout", {}),
    "checkout": lambda p: ("POST", "/api/checkout", {"token": p.token}),
}
