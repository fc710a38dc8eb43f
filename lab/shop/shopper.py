"""What a shopper's session holds, and the verbs that change it: one field for each thing.

`user`: who is logged in. `cart:<token>`: one line of the cart. `recent`: the products looked at last, newest first.
`seconds:<page>`: how long pages of a kind were looked at. A field is always replaced by a new value, never changed in
place, so that whoever saves the session sees what changed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
from werkzeug.exceptions import BadRequest, NotFound

from lab.shop.inputs import MAX_QUANTITY
from lab.shop.records import Line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask.sessions import SessionMixin

    from lab.shop.inputs import Add, Visit

MAX_RECENT = 8
"""How many products are remembered as looked at."""

_LINE = "cart:"


class View(msgspec.Struct, frozen=True):
    """What a shopper is shown of the session.

    Attributes:
        user: who is logged in, None if nobody is.
        cart: its lines in the order of their tokens, which is the same in every store.
        recent: the products looked at last, newest first.
    """

    user: str | None
    cart: list[Line]
    recent: list[int]

    @property
    def pieces(self) -> int:
        """How many things are in the cart."""
        return sum(line.quantity for line in self.cart)


def view(session: SessionMixin) -> View:
    """Read the session once."""
    cart = [_line(name, session[name]) for name in sorted(session) if name.startswith(_LINE)]
    return View(session.get("user"), cart, session.get("recent", []))


def _line(name: str, value: dict[str, int]) -> Line:
    return Line(name.removeprefix(_LINE), value["product"], value["quantity"])


def add(session: SessionMixin, wish: Add) -> None:
    """Put a line into the cart. The same token again is a retry and leaves the line as it is.

    Raises:
        BadRequest: the token names a line with another product.
    """
    line = session.get(_LINE + wish.token)
    if line is None:
        session[_LINE + wish.token] = {"product": wish.product, "quantity": wish.quantity}
    elif line["product"] != wish.product:
        raise BadRequest(f"the cart line {wish.token} holds another product")


def bump(session: SessionMixin, token: str) -> None:
    """Raise the quantity of a line by one.

    Raises:
        NotFound: there is no such line.
        BadRequest: it cannot hold more.
    """
    line = session.get(_LINE + token)
    if line is None:
        raise NotFound(f"there is no cart line {token}")
    if line["quantity"] >= MAX_QUANTITY:
        raise BadRequest(f"a cart line holds at most {MAX_QUANTITY}")
    session[_LINE + token] = {**line, "quantity": line["quantity"] + 1}


def remove(session: SessionMixin, token: str) -> None:
    """Take a line out of the cart.

    Raises:
        NotFound: there is no such line.
    """
    if _LINE + token not in session:
        raise NotFound(f"there is no cart line {token}")
    del session[_LINE + token]


def empty(session: SessionMixin, tokens: Iterable[str]) -> None:
    """Take these lines out of the cart, those that are there."""
    for token in tokens:
        session.pop(_LINE + token, None)


def visit(session: SessionMixin, left: Visit) -> None:
    """Note that a page was left: its seconds, and the product it showed."""
    field = f"seconds:{left.page}"
    session[field] = round(session.get(field, 0.0) + left.seconds, 3)
    if left.product is not None:
        others = [product for product in session.get("recent", []) if product != left.product]
        session["recent"] = [left.product, *others][:MAX_RECENT]


def log_in(session: SessionMixin, user: str) -> None:
    """Log in, and rotate a session that can be: a cookie known before the login is worth nothing after it."""
    session["user"] = user
    rotate = getattr(session, "rotate", None)
    if rotate is not None:
        rotate()


def log_out(session: SessionMixin) -> None:
    """End the session."""
    session.clear()


def trace(session: SessionMixin) -> list[tuple[str, str]]:
    """Return what the session tells of itself, for the curious: name and value, in the order to show them.

    A session tells something if it has `found`: the record that the request began with.
    """
    found = getattr(session, "found", None)
    if found is None:
        return []
    handle = hashlib.sha256(found.identity.handle.encode()).hexdigest()[:12]
    return [("session", handle), ("version", found.version), ("last saved by", found.origin)]
