"""The origin database: products, search, orders, and what happens when it is away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lab.engines.keeper import Keeper
from lab.engines.postgresql import PostgreSQL
from lab.shop import catalogue
from lab.shop.catalogue import PAGE_SIZE, SEARCH_LIMIT, Catalogue, CatalogueUnavailable, UnknownProduct
from lab.shop.records import Line


@pytest.fixture(scope="module")
def origin(origin_url):
    """The catalogue."""
    origin = Catalogue(origin_url, pool_size=4)
    yield origin
    origin.close()


@pytest.fixture
def empty_url(database_url):
    """A database with nothing in it."""
    name = f"empty_{time.monotonic_ns()}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield psycopg.conninfo.make_conninfo(database_url, dbname=name)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def products_in(url):
    """Every product, as rows."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id, name, price_cents FROM shop.products ORDER BY id").fetchall()


def test_prepare_at_the_same_time_fills_once(empty_url):
    """Servers that prepare at once end with one catalogue, and once more changes nothing."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: catalogue.prepare(empty_url, products=50), range(4)))
    first = products_in(empty_url)
    catalogue.prepare(empty_url, products=50)
    assert len(first) == 50
    assert products_in(empty_url) == first


def test_prepare_with_another_seed_replaces_products_and_keeps_orders(empty_url):
    """A catalogue of another seed takes the old one's place; an order keeps its names and prices."""
    catalogue.prepare(empty_url, products=50, seed=1)
    shop = Catalogue(empty_url, pool_size=1)
    placed = shop.place("a", "order", None, [Line("line", 7, 1)])
    before = products_in(empty_url)
    catalogue.prepare(empty_url, products=60, seed=2)
    assert len(products_in(empty_url)) == 60
    assert products_in(empty_url)[:50] != before
    assert shop.order(placed.number) == placed
    shop.close()


def test_prepare_leaves_foreign_tables_alone(empty_url):
    """A table `products` that somebody else made stays as it was."""
    with psycopg.connect(empty_url) as connection:
        connection.execute("CREATE TABLE products AS SELECT 'mine' AS name")
    catalogue.prepare(empty_url, products=10)
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT name FROM public.products").fetchall() == [("mine",)]


def test_pages_show_every_product_once(origin):
    """The pages of the list together are the catalogue, in order."""
    last = origin.pages()
    shown = [product.id for number in (1, 2, last) for product in origin.page(number)]
    assert shown[: 2 * PAGE_SIZE] == list(range(1, 2 * PAGE_SIZE + 1))
    assert shown[-1] == 3000
    assert origin.page(last + 1) == []


def test_search_finds_by_the_beginnings_of_all_words(origin):
    """Every word must begin a word of the name or the category; there is a limit."""
    found = origin.search(["smok", "ool"])
    assert found
    assert all("Smoked" in product.name and "Oolong" in product.name for product in found)
    assert len(origin.search(["tea"])) == SEARCH_LIMIT
    assert origin.search(["zzz"]) == []


def test_unknown_product(origin):
    """A number without a product is an error of its own."""
    with pytest.raises(UnknownProduct, match="there is no product 999999"):
        origin.product(999_999)


def test_order_has_todays_names_and_prices(origin):
    """An order adds up what was in the cart, at the catalogue's prices."""
    order = origin.place("prices", "o-1", "Ada", [Line("a", 1, 2), Line("b", 2, 3)])
    tea, coffee = origin.product(1), origin.product(2)
    assert order.customer == "Ada"
    assert order.total_cents == 2 * tea.price_cents + 3 * coffee.price_cents
    assert [item.name for item in order.items] == [tea.name, coffee.name]


def test_same_token_is_the_same_order(origin):
    """However often an order is placed, and with whatever in the cart by then, it is placed once."""
    first = origin.place("twice", "o-1", None, [Line("a", 1, 2)])
    assert origin.place("twice", "o-1", None, [Line("z", 9, 9)]) == first
    assert origin.place("twice", "o-1", None, []) == first


def test_same_token_at_the_same_time_is_the_same_order(origin):
    """Eight clients with one token at once get one order."""
    with ThreadPoolExecutor(8) as pool:
        orders = list(pool.map(lambda _: origin.place("race", "o-1", None, [Line("a", 1, 2)]), range(8)))
    assert len({order.number for order in orders}) == 1
    assert all(order == orders[0] for order in orders)


def test_same_token_in_another_shop_is_another_order(origin):
    """Two shops over one database do not know each other's orders."""
    here = origin.place("here", "o-1", None, [Line("a", 1, 1)])
    assert origin.place("there", "o-1", None, []) is None
    assert origin.place("there", "o-1", None, [Line("a", 1, 1)]).number != here.number


def test_order_of_a_missing_product_leaves_nothing(origin):
    """An order that cannot be filled is not placed in part."""
    with pytest.raises(UnknownProduct):
        origin.place("missing", "o-1", None, [Line("a", 1, 1), Line("b", 999_999, 1)])
    assert origin.place("missing", "o-1", None, []) is None


def test_nobody_there_is_one_clear_error():
    """A database that does not answer is one error, in bounded time."""
    started = time.monotonic()
    nobody = Catalogue("postgresql://127.0.0.1:1/none", pool_size=1)
    with pytest.raises(CatalogueUnavailable):
        nobody.product(1)
    nobody.close()
    with pytest.raises(CatalogueUnavailable, match="could not be prepared"):
        catalogue.prepare("postgresql://127.0.0.1:1/none")
    assert time.monotonic() - started < 3


def test_paused_database_is_an_error_in_time_and_comes_back(tmp_path):
    """A frozen server costs about a second, not forever; thawed, it serves at once."""
    with Keeper(tmp_path) as keeper:
        engine = PostgreSQL.start(keeper)
        if engine.pid is None:
            pytest.skip("LAB_DATABASE_URL names a server that is not ours to pause")
        catalogue.prepare(engine.url, products=20)
        origin = Catalogue(engine.url, pool_size=2)
        origin.product(1)
        engine.pause()
        try:
            for _ in range(2):  # once on the open connection, once without any
                started = time.monotonic()
                with pytest.raises(CatalogueUnavailable):
                    origin.product(1)
                assert time.monotonic() - started < 2.5
        finally:
            engine.resume()
        assert _soon(lambda: origin.product(1)).id == 1
        origin.close()
        engine.stop()


def _soon(ask):
    """The first answer within ten seconds."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return ask()
        except CatalogueUnavailable:
            if time.monotonic() > deadline:
                raise
