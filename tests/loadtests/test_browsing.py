"""The usual shopping, with pages of the list."""

from __future__ import annotations

from lab.shop.catalogue import PAGE_SIZE
from loadtests import api
from loadtests.browsing import CATALOGUE, browsing
from loadtests.plans import PRODUCTS, PlannedRequest, shopping_plan


def plans(seed=1):
    """Return a plan, and the same with the list in it."""
    plan = shopping_plan(seed, 3, rate_rps=400, seconds=5, shoppers=20)
    return plan, browsing(plan, seed)


def test_some_looks_at_a_product_become_looks_at_the_list_and_nothing_else_changes():
    """Sessions are used by the same requests at the same times."""
    before, after = plans()
    changed = [(a, b) for a, b in zip(before.requests, after.requests, strict=True) if a != b]
    assert {(a.f, b.f) for a, b in changed} == {("product", "list")}
    looks = sum(request.f == "product" for request in before.requests)
    assert 0.1 < len(changed) / looks < 0.4
    assert all((a.at_seconds, a.shopper, a.product) == (b.at_seconds, b.shopper, b.product) for a, b in changed)
    assert {b.f for b in after.requests} >= CATALOGUE


def test_the_same_seed_gives_the_same_load():
    """Both arms of a pair replay it."""
    assert plans()[1] == plans()[1]
    assert plans(seed=2)[1] != plans()[1]


def test_the_list_opens_where_the_product_stands():
    """The load's idea of a page is the shop's; first and last product are on the first and the last page."""
    assert api.PER_PAGE == PAGE_SIZE
    paths = [api.http(PlannedRequest(at_seconds=0, shopper="s", f="list", product=p))[1] for p in (1, 25, PRODUCTS)]
    assert paths == ["/api/products?page=1", "/api/products?page=2", "/api/products?page=125"]
