"""What the shop sells."""

from __future__ import annotations

from itertools import islice

from lab.shop.products import CATEGORIES, generate


def test_same_seed_same_products():
    """A seed names a catalogue."""
    assert list(generate(100, seed=3)) == list(generate(100, seed=3))
    assert list(generate(100, seed=3)) != list(generate(100, seed=4))


def test_products_are_plausible():
    """Every product has a number, a name of its own on its shelf, a description and a price."""
    products = list(generate(2000, seed=1))
    assert [product.id for product in products] == list(range(1, 2001))
    assert len({product.name for product in products}) > 1950
    assert {product.category for product in products} == set(CATEGORIES)
    assert all(100 <= product.price_cents <= 20_000 and len(product.description) > 60 for product in products)


def test_products_do_not_run_out():
    """Any number of products can be had, though names come again."""
    assert len(list(islice(generate(20_000, seed=1), 20_000))) == 20_000
