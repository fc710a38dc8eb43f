"""Checking out: the one verb that writes the origin database and the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app

from lab.shop import shopper
from lab.shop.origin import catalogue

if TYPE_CHECKING:
    from flask.sessions import SessionMixin

    from lab.shop.records import Order


def check_out(session: SessionMixin, token: str) -> Order | None:
    """Order what is in the cart and take it out of the cart.

    The order is written first. If the session then cannot be saved, the client tries again with the same token, finds
    the order that stands, and the cart is emptied of exactly what was ordered: nothing is bought twice or dropped.
    Shops are told apart by the name of their cookie, because clients of two shops may use the same tokens.

    Args:
        session: the shopper's.
        token: the client's own id of the order.

    Returns:
        The order, or None if the cart is empty and there is no order with this token.
    """
    view = shopper.view(session)
    order = catalogue().place(current_app.config["SESSION_COOKIE_NAME"], token, view.user, view.cart)
    if order is not None:
        shopper.empty(session, [item.token for item in order.items])
    return order
