"""The cache in front of the catalogue, on a real Redis and a real PostgreSQL."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from itertools import count

import pytest

from lab.engines.redis import CACHE, Redis
from lab.shop.app import ShopConfig, create_shop
from lab.shop.breaker import Breaker
from lab.shop.cache import Cache, CacheSettings, Fresh
from lab.shop.cached import CachedCatalogue
from lab.shop.catalogue import Catalogue, CatalogueUnavailable, UnknownProduct
from strategies.session_interface import ServerSideSessions

PATIENCE_SECONDS = 30.0
PREFIXES = (f"test{number}:" for number in count())


@pytest.fixture(scope="module")
def engine(keeper):
    """A Redis that is a cache, whatever `LAB_REDIS_URL` names."""
    return Redis.start(keeper, "cache", settings=CACHE, own=True)


@pytest.fixture
def settings(engine):
    """Settings with keys of their own."""
    return CacheSettings(url=engine.url, prefix=next(PREFIXES), timeout_seconds=5.0)


@pytest.fixture
def open_catalogue(origin_url):
    """Make cached catalogues with a list of how their lookups went; their connections are given back in the end."""
    made = []

    def make(settings, url=origin_url):
        outcomes = []
        made.append(CachedCatalogue(url, settings, pool_size=2, note=outcomes.append))
        return made[-1], outcomes

    yield make
    for catalogue in made:
        catalogue.close()


def wait_until(condition):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


@contextmanager
def threads(*works):
    """Run works side by side while the context lasts, and see them end."""
    running = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_a_second_look_does_not_ask_the_origin(open_catalogue, settings, origin_url):
    """Products, searches and thorough searches come out as from PostgreSQL, whoever looked first."""
    first, outcomes = open_catalogue(settings)
    second, others = open_catalogue(settings)
    plain = Catalogue(origin_url, pool_size=1)
    try:
        looks = (
            lambda catalogue: catalogue.product(7),
            lambda catalogue: catalogue.search(["smoked"]),
            lambda catalogue: catalogue.search(["smoked"], thorough=True),
            lambda catalogue: catalogue.search(["nothinglikethis"]),
        )
        for look in looks:
            assert look(first) == look(second) == look(plain)
    finally:
        plain.close()
    assert outcomes == ["miss"] * 4
    assert others == ["hit"] * 4
    assert first.used.queries == 4
    assert second.used.queries == 0


def test_that_there_is_no_such_product_is_remembered(open_catalogue, settings):
    """For a while: the origin is asked once."""
    catalogue, outcomes = open_catalogue(settings)
    for _ in range(3):
        with pytest.raises(UnknownProduct):
            catalogue.product(999_999)
    assert outcomes == ["miss", "hit", "hit"]
    assert catalogue.used.queries == 1


def test_a_change_deletes_every_entry_that_shows_the_product(open_catalogue, settings):
    """The page and the searches, on every server; others stay."""
    catalogue, outcomes = open_catalogue(settings)
    found = catalogue.search(["smoked"])
    number = found[0].id
    catalogue.product(number)
    catalogue.product(number + 1)
    price = catalogue.product(number).price_cents + 500

    catalogue.reprice(number, price)
    outcomes.clear()

    assert catalogue.product(number).price_cents == price
    assert next(one for one in catalogue.search(["smoked"]) if one.id == number).price_cents == price
    catalogue.product(number + 1)
    assert outcomes == ["miss", "miss", "hit"]


def test_with_time_alone_a_change_is_not_seen_until_the_entry_ends(open_catalogue, engine, settings):
    """That is what a cache shows that nobody tells anything."""
    catalogue, _ = open_catalogue(
        CacheSettings(url=engine.url, prefix=settings.prefix, delete_on_write=False, timeout_seconds=5.0)
    )
    old = catalogue.product(11).price_cents
    catalogue.reprice(11, old + 100)
    assert catalogue.product(11).price_cents == old
    with engine.connect() as client:
        assert client.pttl(f"{settings.prefix}product:11") > 0


def test_a_slow_reader_cannot_put_the_old_answer_back(settings):
    """What was read before a change is answered, and not cached after it; what was read after it is."""
    cache = Cache(settings)

    def slow():
        cache.writing(5, "product:5")
        cache.written(5, "product:5", 2)
        return Fresh(b"old", {5: 1})

    assert cache.through("product:5", slow) == (b"old", "miss")
    assert cache.through("product:5", lambda: Fresh(b"new", {5: 2})) == (b"new", "miss")
    assert cache.through("product:5", lambda: Fresh(b"never", {5: 2})) == (b"new", "hit")
    cache.close()


def test_nothing_is_cached_of_a_product_while_it_is_written(settings):
    """Not even an answer that is right: nobody knows yet."""
    cache = Cache(settings)
    cache.writing(5, "product:5")
    assert cache.through("a", lambda: Fresh(b"1", {5: 1})) == (b"1", "miss")
    assert cache.through("a", lambda: Fresh(b"2", {5: 1})) == (b"2", "miss")
    cache.written(5, "product:5", 2)
    assert cache.through("a", lambda: Fresh(b"3", {5: 2})) == (b"3", "miss")
    assert cache.through("a", lambda: Fresh(b"4", {5: 2})) == (b"3", "hit")
    cache.close()


def test_one_fills_and_the_others_wait_for_it(engine, settings):
    """Whatever server they are on: here each has a cache of its own."""
    caches = [
        Cache(CacheSettings(url=engine.url, prefix=settings.prefix, wait_seconds=PATIENCE_SECONDS, timeout_seconds=5.0))
        for _ in range(4)
    ]
    fetched, answers, go = [], [], threading.Event()

    def fetch():
        fetched.append(1)
        go.wait(PATIENCE_SECONDS)
        return Fresh(b"made", {})

    first = threading.Thread(target=lambda: answers.append(caches[0].through("hot", fetch)), daemon=True)
    first.start()
    wait_until(lambda: fetched)
    with threads(*(lambda cache=cache: answers.append(cache.through("hot", fetch)) for cache in caches[1:])):
        go.set()
    first.join(PATIENCE_SECONDS)
    assert len(fetched) == 1
    assert sorted({value for value, _ in answers}) == [b"made"]
    assert sorted(outcome for _, outcome in answers if outcome == "miss") == ["miss"]
    assert len(answers) == 4
    for cache in caches:
        cache.close()


def test_who_waits_too_long_asks_the_origin(engine, settings):
    """A filler that has died holds nobody up for longer than that."""
    cache = Cache(CacheSettings(url=engine.url, prefix=settings.prefix, wait_seconds=0.05, timeout_seconds=5.0))
    with engine.connect() as client:
        client.set(f"{settings.prefix}hot:lease", "of somebody who died", px=60_000)
    assert cache.through("hot", lambda: Fresh(b"own", {})) == (b"own", "bypass")
    cache.close()


def test_a_filler_that_fails_gives_up_its_place(settings):
    """What it raises comes through, and the next one fills."""
    cache = Cache(settings)

    def fail():
        raise CatalogueUnavailable("down")

    with pytest.raises(CatalogueUnavailable):
        cache.through("x", fail)
    assert cache.through("x", lambda: Fresh(b"next", {})) == (b"next", "miss")
    cache.close()


def test_lives_differ_by_the_jitter(engine, settings):
    """All within a tenth of the time, and not all alike."""
    cache = Cache(settings)
    for number in range(20):
        cache.through(f"k{number}", lambda: Fresh(b"x", {}))
    with engine.connect() as client:
        lives = {client.pttl(f"{settings.prefix}k{number}") for number in range(20)}
    assert max(lives) <= 66_000
    assert max(lives) - min(lives) > 3_000
    cache.close()


def test_a_full_cache_forgets_instead_of_refusing(engine, settings):
    """And the newest entries are there."""
    cache = Cache(settings)
    with engine.connect() as client:
        before = client.info("stats")["evicted_keys"]
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
        try:
            for number in range(300):
                cache.through(f"k{number}", lambda: Fresh(b"x" * 5000, {}))
            assert client.info("stats")["evicted_keys"] > before
        finally:
            client.config_set("maxmemory", CACHE["maxmemory"])
    cache.close()


def test_without_a_cache_the_origin_answers(keeper, open_catalogue):
    """Dead, and back: nobody sees an error."""
    engine = Redis.start(keeper, "cache-to-kill", settings=CACHE, own=True)
    catalogue, outcomes = open_catalogue(CacheSettings(url=engine.url, timeout_seconds=5.0))
    catalogue.product(3)
    catalogue.product(3)
    engine.kill()
    for number in (3, 3, 4):
        assert catalogue.product(number).id == number
    assert outcomes == ["miss", "hit", "bypass", "bypass", "bypass"]
    engine.restart()

    def back():
        catalogue.product(3)
        return outcomes[-1] == "hit"

    wait_until(back)
    engine.stop()


def test_what_is_cached_outlives_the_origin(open_catalogue, settings):
    """Everything else is refused, and is so at once after the first failure."""
    dead = "postgresql://127.0.0.1:1/none"
    catalogue, _ = open_catalogue(settings)
    catalogue.product(21)
    orphan, outcomes = open_catalogue(settings, url=dead)
    with pytest.raises(CatalogueUnavailable):
        orphan.product(22)
    assert orphan.product(21).id == 21
    assert outcomes == ["hit"]
    with pytest.raises(CatalogueUnavailable, match="a moment ago"):
        orphan.product(23)


def test_answers_say_how_they_came_about(origin_url, settings, store):
    """In `X-Cache`, on what the cache serves and nowhere else; without a cache there is no such header."""
    config = ShopConfig(
        server="web-1",
        servers=("web-1",),
        secret_key="a key for tests",
        cookie_name="shop_session",
        database_url=origin_url,
        pool_size=2,
        cache=settings,
    )
    shop = create_shop(config, ServerSideSessions(store))
    try:
        client = shop.test_client()
        assert [client.get("/api/products/31").headers.get("X-Cache") for _ in range(2)] == ["miss", "hit"]
        assert client.get("/api/search?q=tea&in=descriptions").headers["X-Cache"] == "miss"
        assert client.get("/api/search?q=tea").headers["X-Cache"] == "miss"
        assert client.get("/api/products").headers.get("X-Cache") is None
    finally:
        shop.extensions["catalogue"].close()


def test_a_breaker_lets_one_try_at_a_time_after_a_failure():
    """Until one has worked."""
    breaker = Breaker(rest_seconds=0.01)
    assert breaker.lets_through()
    breaker.failed()
    wait_until(breaker.lets_through)
    breaker.worked()
    assert all(breaker.lets_through() for _ in range(3))
    patient = Breaker(rest_seconds=3600)
    patient.failed()
    assert not patient.lets_through()
