"""The shop in front of a real PostgreSQL, with sessions in local memory unless a test wants them elsewhere."""

from __future__ import annotations

import pytest

from lab.shop import catalogue
from lab.shop.app import ShopConfig, create_shop
from strategies.contract import StoreSettings
from strategies.local import LocalStore
from strategies.session_interface import ServerSideSessions


@pytest.fixture(scope="session")
def origin_url(database_url):
    """Where the filled origin database answers."""
    catalogue.prepare(database_url)
    return database_url


@pytest.fixture
def store():
    """A fresh session store in local memory; its census tells what the shop asked of it."""
    store = LocalStore.open(StoreSettings())
    yield store
    store.close()


def build(url, server, sessions, cookie_name="shop_session"):
    """One server of the shop."""
    config = ShopConfig(
        server=server,
        servers=("web-1", "web-2", "web-3"),
        secret_key="a key for tests",
        cookie_name=cookie_name,
        database_url=url,
        pool_size=2,
    )
    return create_shop(config, sessions)


@pytest.fixture
def make_shop(origin_url):
    """Make shops; their connections are given back in the end."""
    made = []

    def make(store, server="web-1", url=origin_url, cookie_name="shop_session"):
        made.append(build(url, server, ServerSideSessions(store), cookie_name))
        return made[-1]

    yield make
    for shop in made:
        shop.extensions["catalogue"].close()


@pytest.fixture(scope="session")
def shop(origin_url):
    """The server `web-1`, made once because it holds connections."""
    shop = build(origin_url, "web-1", None)
    yield shop
    shop.extensions["catalogue"].close()


@pytest.fixture
def client(shop, store):
    """A browser in front of `web-1` with no sessions yet."""
    shop.session_interface = ServerSideSessions(store)
    return shop.test_client()


@pytest.fixture
def store_calls(store):
    """Tell how many operations the store has been asked for."""

    def count():
        census = store.census()
        return census.creates + census.loads + census.saves + census.touches + census.deletes

    return count
