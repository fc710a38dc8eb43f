"""The origin database of the shop, in PostgreSQL: products and orders.

Everything lives in a schema of its own, `shop`, so that a database that serves other purposes too stays unharmed.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from lab.shop.products import generate
from lab.shop.records import Order, OrderItem, Product, ProductDetails

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import LiteralString

    from psycopg.abc import PQGen
    from psycopg.rows import TupleRow

    from lab.shop.records import Line

PAGE_SIZE = 24
"""Products on a page of the list."""

SEARCH_LIMIT = 20
"""Products that a search returns at most."""

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.products (
    id integer PRIMARY KEY,
    name text NOT NULL,
    category text NOT NULL,
    description text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents > 0),
    version integer NOT NULL DEFAULT 1,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', name || ' ' || category)) STORED
);
CREATE INDEX IF NOT EXISTS products_words ON shop.products USING gin (words);
CREATE TABLE IF NOT EXISTS shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop text NOT NULL,
    token text NOT NULL,
    customer text,
    ordered_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (shop, token)
);
CREATE TABLE IF NOT EXISTS shop.order_items (
    order_id bigint NOT NULL REFERENCES shop.orders,
    token text NOT NULL,
    product_id integer NOT NULL,
    name text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    price_cents integer NOT NULL,
    PRIMARY KEY (order_id, token)
);
"""

_PREPARING = 0x5E5510
"""Key of the advisory lock under which the schema is made and filled."""


class CatalogueUnavailable(Exception):
    """The origin database did not answer in time, or refused."""


class UnknownProduct(LookupError):
    """There is no such product."""


def prepare(database_url: str, products: int = 3000, seed: int = 1) -> None:
    """Make the schema and fill it, unless that has been done. Safe to call from several processes at once.

    A catalogue of another seed or size is replaced; orders are kept.

    Args:
        database_url: where PostgreSQL answers.
        products: how many.
        seed: the same seed gives the same products.

    Raises:
        CatalogueUnavailable: the database does not answer.
    """
    edition = f"{products} products, seed {seed}"
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_PREPARING,))
            cursor.execute("SELECT obj_description(to_regclass('shop.products'), 'pg_class')")
            if cursor.fetchone() != (edition,):
                cursor.execute(_SCHEMA)
                _fill(cursor, products, seed, edition)
    except psycopg.OperationalError as error:
        raise CatalogueUnavailable(f"the catalogue could not be prepared: {_one_line(error)}") from error


def _fill(cursor: psycopg.Cursor[TupleRow], count: int, seed: int, edition: str) -> None:
    cursor.execute("TRUNCATE shop.products")
    with cursor.copy("COPY shop.products (id, name, category, description, price_cents) FROM STDIN") as copy:
        for product in generate(count, seed):
            copy.write_row(product)
    cursor.execute("ANALYZE shop.products")
    cursor.execute(sql.SQL("COMMENT ON TABLE shop.products IS {}").format(edition))


class Usage(NamedTuple):
    """What a catalogue has asked of PostgreSQL.

    Attributes:
        queries: how often a connection was used.
        seconds: for how long, all connections together.
    """

    queries: int = 0
    seconds: float = 0.0


class _BoundedConnection(psycopg.Connection["TupleRow"]):
    """A connection that gives up waiting by itself, because a paused server keeps no time limit of its own."""

    wait_seconds = 1.0

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Drive a query to its end, for `wait_seconds` at most."""
        return super().wait(gen, interval, timeout or self.wait_seconds)


class Catalogue:
    """The products and orders, read and written through a small pool of connections.

    Every call raises CatalogueUnavailable within about two seconds when the database is down or paused: one to get a
    connection and one for the query.

    Args:
        database_url: where PostgreSQL answers, after `prepare`.
        pool_size: the most connections to hold; one is kept open when idle.
    """

    def __init__(self, database_url: str, pool_size: int = 4) -> None:
        self._used, self._lock = Usage(), threading.Lock()
        self._pool = ConnectionPool(
            database_url,
            connection_class=_BoundedConnection,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 0,
                "connect_timeout": 2,
                # One plan for all searches, so that one costs about what another does.
                "options": "-c statement_timeout=1000 -c plan_cache_mode=force_generic_plan",
                "application_name": "shop",
            },
            min_size=1,
            max_size=pool_size,
            timeout=1.0,
            reconnect_timeout=1.0,
            num_workers=1,
            open=True,
        )

    def close(self) -> None:
        """Give back the connections."""
        self._pool.close()

    @property
    def used(self) -> Usage:
        """What has been asked of PostgreSQL so far."""
        return self._used

    @contextmanager
    def _connection(self) -> Iterator[_BoundedConnection]:
        try:
            with self._pool.connection() as connection:
                began = time.perf_counter()
                try:
                    yield connection
                except psycopg.OperationalError:
                    connection.close()
                    raise
                finally:
                    with self._lock:
                        seconds = self._used.seconds + time.perf_counter() - began
                        self._used = Usage(self._used.queries + 1, seconds)
        except (psycopg.OperationalError, PoolTimeout, PoolClosed) as error:
            raise CatalogueUnavailable(f"the catalogue is not available: {_one_line(error)}") from error

    def _rows(self, query: LiteralString, parameters: Sequence[object]) -> list[Any]:
        with self._connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def page(self, number: int) -> list[Product]:
        """Return one page of the list, in the order of the ids; empty past the end.

        Args:
            number: which page, from 1.
        """
        rows = self._rows(
            "SELECT id, name, category, price_cents FROM shop.products ORDER BY id LIMIT %s OFFSET %s",
            (PAGE_SIZE, (number - 1) * PAGE_SIZE),
        )
        return [Product(*row) for row in rows]

    def pages(self) -> int:
        """Return how many pages the list has."""
        ((products,),) = self._rows("SELECT count(*) FROM shop.products", ())
        return max(1, math.ceil(int(products) / PAGE_SIZE))

    def product(self, number: int) -> ProductDetails:
        """Return one product.

        Raises:
            UnknownProduct: there is none.
        """
        return self.versioned_product(number)[0]

    def versioned_product(self, number: int) -> tuple[ProductDetails, int]:
        """Return one product and its version, as PostgreSQL has them now.

        Raises:
            UnknownProduct: there is none.
        """
        rows = self._rows(
            "SELECT id, name, description, category, price_cents, version FROM shop.products WHERE id = %s", (number,)
        )
        if not rows:
            raise UnknownProduct(f"there is no product {number}")
        return ProductDetails(*rows[0][:-1]), rows[0][-1]

    def require(self, number: int) -> None:
        """Do nothing if there is such a product.

        Raises:
            UnknownProduct: there is none.
        """
        if not self._rows("SELECT 1 FROM shop.products WHERE id = %s", (number,)):
            raise UnknownProduct(f"there is no product {number}")

    def products(self, numbers: Sequence[int]) -> dict[int, Product]:
        """Return those of these products that exist, by id."""
        if not numbers:
            return {}
        rows = self._rows(
            "SELECT id, name, category, price_cents FROM shop.products WHERE id = ANY(%s)", (list(numbers),)
        )
        return {row[0]: Product(*row) for row in rows}

    def search(self, words: Sequence[str], *, thorough: bool = False) -> list[Product]:
        """Return the first products whose name or category has, for each word, one that starts with it.

        Args:
            words: letters and digits only.
            thorough: the words may stand anywhere in name, category and description, those with all of them in the
                name first. No index helps: every product is read.
        """
        return [product for product, _ in self.versioned_search(words, thorough=thorough)]

    def versioned_search(self, words: Sequence[str], *, thorough: bool = False) -> list[tuple[Product, int]]:
        """Return what `search` finds, each with its version, as PostgreSQL has them now."""
        if not words:
            return []
        if thorough:
            anywhere = [f"%{word}%" for word in words]
            rows = self._rows(
                "SELECT id, name, category, price_cents, version FROM shop.products"
                " WHERE name || ' ' || category || ' ' || description ILIKE ALL (%s)"
                " ORDER BY name ILIKE ALL (%s) DESC, id LIMIT %s",
                (anywhere, anywhere, SEARCH_LIMIT),
            )
        else:
            rows = self._rows(
                # Found first, then put in order: else PostgreSQL may follow the ids and look at every product.
                "WITH found AS MATERIALIZED (SELECT id, name, category, price_cents, version FROM shop.products"
                " WHERE words @@ to_tsquery('simple', %s)) SELECT * FROM found ORDER BY id LIMIT %s",
                (" & ".join(f"{word}:*" for word in words), SEARCH_LIMIT),
            )
        return [(Product(*row[:-1]), row[-1]) for row in rows]

    def reprice(self, number: int, price_cents: int) -> int:
        """Change a product's price.

        Returns:
            The product's new version, one more than before.

        Raises:
            UnknownProduct: there is none.
        """
        rows = self._rows(
            "UPDATE shop.products SET price_cents = %s, version = version + 1 WHERE id = %s RETURNING version",
            (price_cents, number),
        )
        if not rows:
            raise UnknownProduct(f"there is no product {number}")
        return int(rows[0][0])

    def place(self, shop: str, token: str, customer: str | None, lines: Sequence[Line]) -> Order | None:
        """Place an order once: with the same shop and token again, return the order that was placed then.

        Args:
            shop: whose tokens these are; the same token in another shop is another order.
            token: the client's own id of the order.
            customer: who is logged in, if anyone.
            lines: what is ordered.

        Returns:
            The order; None if there was none to find and `lines` is empty.

        Raises:
            UnknownProduct: a line's product is not sold any more.
        """
        with self._connection() as connection, connection.transaction():
            number = _insert_order(connection, shop, token, customer) if lines else None
            if number is not None:
                _insert_items(connection, number, lines)
                return _read_order(connection, number)
            row = connection.execute(
                "SELECT id FROM shop.orders WHERE shop = %s AND token = %s", (shop, token)
            ).fetchone()
            return _read_order(connection, row[0]) if row else None

    def order(self, number: int) -> Order | None:
        """Return a placed order, or None."""
        with self._connection() as connection:
            return _read_order(connection, number)


def _insert_order(connection: psycopg.Connection[TupleRow], shop: str, token: str, customer: str | None) -> int | None:
    """Return the new order's number, or None if this token has an order already."""
    row = connection.execute(
        "INSERT INTO shop.orders (shop, token, customer) VALUES (%s, %s, %s)"
        " ON CONFLICT (shop, token) DO NOTHING RETURNING id",
        (shop, token, customer),
    ).fetchone()
    return row[0] if row else None


def _insert_items(connection: psycopg.Connection[TupleRow], order: int, lines: Sequence[Line]) -> None:
    """Write the lines of an order with the names and prices of this moment."""
    written = connection.execute(
        "INSERT INTO shop.order_items (order_id, token, product_id, name, quantity, price_cents)"
        " SELECT %s, line.token, products.id, products.name, line.quantity, products.price_cents"
        " FROM unnest(%s::text[], %s::integer[], %s::integer[]) AS line (token, product, quantity)"
        " JOIN shop.products ON products.id = line.product",
        (order, [line.token for line in lines], [line.product for line in lines], [line.quantity for line in lines]),
    )
    if written.rowcount != len(lines):
        raise UnknownProduct("something in the cart is not sold any more")


def _read_order(connection: psycopg.Connection[TupleRow], number: int) -> Order | None:
    rows = connection.execute(
        "SELECT id, customer, items.token, product_id, name, quantity, price_cents"
        " FROM shop.orders JOIN shop.order_items AS items ON order_id = id WHERE id = %s ORDER BY items.token",
        (number,),
    ).fetchall()
    if not rows:
        return None
    return Order(rows[0][0], rows[0][1], tuple(OrderItem(*row[2:]) for row in rows))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
