"""Shoppers who look around: half of their requests are pages of the catalogue."""

from __future__ import annotations

from lab.shop.catalogue import PAGE_SIZE
from loadtests import api
from loadtests.browsing import CATALOGUE, browsing
from loadtests.plans import PRODUCTS, PlannedRequest, shopping_plan


def plans(seed=1):
    """Return a plan of the usual shopping, and what it becomes."""
    plan = shopping_plan(seed, 3, rate_rps=400, seconds=5, shoppers=20)
    return plan, browsing(plan, seed)


def test_every_second_look_at_the_cart_becomes_a_page_of_the_catalogue_and_nothing_else_changes():
    """Sessions are written by the same requests at the same times."""
    before, after = plans()
    changed = [(a, b) for a, b in zip(before.requests, after.requests, strict=True) if a != b]
    assert {a.f for a, _ in changed} == {"view"}
    assert {b.f for _, b in changed} == set(CATALOGUE)
    assert 0.4 < len(changed) / sum(request.f == "view" for request in before.requests) < 0.6
    assert all((a.at_seconds, a.shopper) == (b.at_seconds, b.shopper) for a, b in changed)
    catalogue = sum(request.f in CATALOGUE for request in after.requests)
    assert 0.4 < catalogue / len(after.requests) < 0.55


def test_the_same_seed_gives_the_same_load():
    """Both arms of a pair replay it."""
    assert plans()[1] == plans()[1]
    assert plans(seed=2)[1] != plans()[1]


def test_each_page_can_be_asked_for():
    """Whatever was drawn has what its route needs."""
    for request in plans()[1].requests:
        if request.f in CATALOGUE:
            assert api.http(request)[1].rpartition("=")[2] not in {"", "None"}
            assert "None" not in api.http(request)[1]


def test_the_list_opens_where_the_product_stands():
    """The load's idea of a page is the shop's; first and last product are on the first and the last page."""
    assert api.PER_PAGE == PAGE_SIZE
    paths = [api.http(PlannedRequest(at_seconds=0, shopper="s", f="list", product=p))[1] for p in (1, 25, PRODUCTS)]
    assert paths == ["/api/products?page=1", "/api/products?page=2", "/api/products?page=125"]
