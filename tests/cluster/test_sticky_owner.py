"""Sticky at its edges: the owner of a session dies, or returns."""

from __future__ import annotations

import pytest
import requests

from tests.cluster.shopping import add, cart, newcomers, served_by, server, wait_for


def test_the_owner_dies_and_its_shoppers_begin_anew_and_are_counted(start):
    """Sticky: those bound to a dead server, and only they, get a new session elsewhere; each loss counts once."""
    cluster = start("sticky")
    shoppers = [requests.Session() for _ in range(9)]
    bound = {shopper: add(shopper, cluster.url, "before") for shopper in shoppers}
    names = {shopper: shopper.cookies.get_dict() for shopper in shoppers}
    assert {frozenset(cookies) for cookies in names.values()} == {
        frozenset({cluster.cookie_name, cluster.cookie_name.replace("session", "server")})
    }
    cluster.kill("web-1")
    lost = [shopper for shopper in shoppers if bound[shopper] == "web-1"]
    assert len(lost) == 3
    for shopper in shoppers:
        assert cart(shopper, cluster.url) == ([] if shopper in lost else ["before"])
        now = add(shopper, cluster.url, "after")
        assert now != "web-1"
        assert (now == bound[shopper]) == (shopper not in lost)
        assert cart(shopper, cluster.url) == (["after"] if shopper in lost else ["after", "before"])
    counters = cluster.counters().values()
    assert sum(one.sessions_replaced for one in counters) == len(lost)
    assert sum(one.cookies_without_session for one in counters) == 2 * len(lost)
    for shopper in shoppers:
        shopper.close()


@pytest.mark.parametrize("harm", ["killed", "paused"])
def test_the_owner_returns_and_no_shopper_sees_an_old_copy(start, harm):
    """Sticky: who went on elsewhere stays there; of a killed owner the old cookies show nothing, by whatever way."""
    cluster = start("sticky", servers=2)
    with requests.Session() as shopper:
        owner = server(cluster, add(shopper, cluster.url, "old"))
        old = shopper.cookies.get_dict()
        {"killed": cluster.kill, "paused": cluster.pause}[harm](owner.name)
        assert cart(shopper, cluster.url) == []
        refuge = add(shopper, cluster.url, "new")
        assert refuge != owner.name
        {"killed": cluster.restart, "paused": cluster.resume}[harm](owner.name)
        assert cart(requests, owner.url, cookies=shopper.cookies.get_dict()) == []
        for _ in range(4):
            assert cart(shopper, cluster.url) == ["new"]
            assert newcomers(cluster, 1)
        answers = [requests.get(f"{url}/api/cart", cookies=old, timeout=10) for url in (owner.url, cluster.url)]
        if harm == "killed":
            assert [answer.json()["cart"] for answer in answers] == [[], []]
            assert not any("X-Session" in answer.headers for answer in answers)
            back = wait_for(
                lambda: served_by(requests.get(f"{cluster.url}/api/cart", cookies=old, timeout=10)) == owner.name
            )
            assert back
        assert cart(shopper, cluster.url) == ["new"]
