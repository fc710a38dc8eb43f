"""What a server counts when a genuine cookie names a session that is not there."""

from __future__ import annotations

import pytest
from behind_flask import Shop, cookie_of

from strategies.contract import StoreSettings
from strategies.local import LocalStore


@pytest.fixture
def shop():
    """A server with sessions in its memory."""
    store = LocalStore.open(StoreSettings())
    yield Shop(store)
    store.close()


def counted(shop):
    """Return what was counted: cookies without a session, and sessions that began in their place."""
    losses = shop.app.session_interface.losses
    return losses.cookies_without_session, losses.sessions_replaced


def test_a_lost_session_counts_once_replaced(shop):
    """Each look with the old cookie counts; the shopper's next write begins a new session, and nothing counts after."""
    cookie = shop.begin(a=1)
    shop.store.delete(next(iter(shop.store.census().handles)))
    assert shop.shown(cookie) == {}
    assert counted(shop) == (1, 0)
    anew = cookie_of(shop.do(cookie, lambda session: session.update(b=1)))
    assert counted(shop) == (2, 1)
    assert shop.shown(anew) == {"b": 1}
    assert counted(shop) == (2, 1)


def test_what_is_no_loss_does_not_count(shop):
    """No cookie, a forged one, an old secret, a session that lives, and a request that does not look: none counts."""
    cookie = shop.begin(a=1)
    shop.do(None, lambda session: session.update(a=1))
    shop.do("A" * 22 + "." + "B" * 43 + "." + "C" * 43, lambda session: session.update(a=1))
    shop.shown(cookie)
    shop.do(cookie, lambda session: session.rotate())
    shop.do(cookie, lambda session: session.update(a=1))
    for handle in shop.store.census().handles:
        shop.store.delete(handle)
    shop.do(cookie, lambda _: "untouched")
    assert counted(shop) == (0, 0)
