"""The shop's nouns: products, lines of a cart, orders."""

from __future__ import annotations

import msgspec


class Product(msgspec.Struct, frozen=True):
    """A product as a list shows it.

    Attributes:
        id: its number.
        name: what it is called.
        category: which shelf it stands on.
        price_cents: price of one, in cents.
    """

    id: int
    name: str
    category: str
    price_cents: int


class ProductDetails(msgspec.Struct, frozen=True):
    """A product as its own page shows it; see `Product`.

    Attributes:
        description: two or three sentences.
    """

    id: int
    name: str
    description: str
    category: str
    price_cents: int


class Line(msgspec.Struct, frozen=True):
    """One line of a cart.

    Attributes:
        token: the client's own id of the line.
        product: which product.
        quantity: how many, from 1.
    """

    token: str
    product: int
    quantity: int


class OrderItem(msgspec.Struct, frozen=True):
    """One line of an order, with name and price as they were when it was placed.

    Attributes:
        token: the cart line that it came from.
        product: which product.
        name: what it was called.
        quantity: how many.
        price_cents: price of one, in cents.
    """

    token: str
    product: int
    name: str
    quantity: int
    price_cents: int


class Order(msgspec.Struct, frozen=True):
    """A placed order.

    Attributes:
        number: its number.
        customer: who was logged in, if anyone.
        items: its lines.
    """

    number: int
    customer: str | None
    items: tuple[OrderItem, ...]

    @property
    def total_cents(self) -> int:
        """What it costs, in cents."""
        return sum(item.quantity * item.price_cents for item in self.items)
