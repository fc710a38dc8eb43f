"""The heavy report: an analytic query over the shop's orders and products, asked again and again by one process."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 4
"""Lines of each order of the past."""

_ORDERS = """
    INSERT INTO shop.orders (shop, token, customer, ordered_at)
    SELECT 'the past', 'h' || n, 'customer ' || n * 7919 %% 5000, timestamptz '2025-01-01' + n * interval '20 minutes'
    FROM generate_series(1, %(orders)s) AS n
    ON CONFLICT DO NOTHING
"""
_ITEMS = """
    INSERT INTO shop.order_items (order_id, token, product_id, name, quantity, price_cents)
    SELECT o.id, 'l' || line, p.id, p.name, 1 + (o.id + line) %% 3, p.price_cents
    FROM shop.orders AS o CROSS JOIN generate_series(1, %(lines)s) AS line
    JOIN shop.products AS p ON p.id = 1 + (o.id * 31 + line * 977) %% (SELECT count(*) FROM shop.products)
    WHERE o.shop = 'the past'
    ON CONFLICT DO NOTHING
"""

REPORT = """
    WITH sold AS (
        SELECT p.category, p.id, o.customer, date_trunc('month', o.ordered_at) AS month,
            i.quantity * i.price_cents AS cents
        FROM shop.order_items AS i
        JOIN shop.orders AS o ON o.id = i.order_id
        JOIN shop.products AS p ON p.id = i.product_id
    ), monthly AS (
        SELECT category, month, sum(cents) AS cents,
            count(DISTINCT customer) AS customers, count(DISTINCT id) AS products
        FROM sold GROUP BY category, month
    )
    SELECT category, month, cents, customers, products,
        rank() OVER (PARTITION BY month ORDER BY cents DESC),
        sum(cents) OVER (PARTITION BY category ORDER BY month),
        cents::float / sum(cents) OVER (PARTITION BY month)
    FROM monthly ORDER BY month, category
"""
"""Per month and category: what was sold, to how many customers, the category's rank, its total so far, its share."""


def remember_the_past(database_url: str, orders: int) -> None:
    """Give the shop a past of so many orders, `LINES` lines each, so that a report has something to read."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_ORDERS, {"orders": orders})
        connection.execute(_ITEMS, {"lines": LINES})
        connection.execute("VACUUM ANALYZE shop.orders, shop.order_items")


class Reports:
    """Asks for the report without a pause, on one connection and one CPU at most.

    Args:
        database_url: where PostgreSQL answers.

    Attributes:
        seconds: how long each report took, those that came to an end.
    """

    def __init__(self, database_url: str) -> None:
        self.seconds: list[float] = []
        self._url = database_url
        self._enough = threading.Event()
        self._failure: psycopg.Error | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the context lasts; the last report is cancelled.

        Raises:
            LabError: a report failed.
        """
        # Workers of a parallel query come and go: their CPU time could not be counted.
        options = "-c max_parallel_workers_per_gather=0"
        with psycopg.connect(self._url, autocommit=True, options=options, application_name="report") as connection:
            thread = threading.Thread(target=self._ask, args=(connection,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._enough.set()
                connection.cancel_safe(timeout=5)
                thread.join()
        if self._failure is not None:
            raise LabError(f"the report failed: {' '.join(str(self._failure).split())}") from self._failure

    def _ask(self, connection: psycopg.Connection) -> None:
        while not self._enough.is_set():
            began = time.monotonic()
            try:
                connection.execute(REPORT).fetchall()
            except psycopg.errors.QueryCanceled:
                return
            except psycopg.Error as error:
                self._failure = error
                return
            self.seconds.append(time.monotonic() - began)
