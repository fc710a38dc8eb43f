"""The cache asked directly, without web servers in between: what it holds, and what it shows after a change.

Whether a read is a hit depends on what was asked before, on the cache's size and on what was changed, and not on who
carries the answer. So here the lab itself reads, through the shop's own code and from the same engines: ten times as
many reads in the same time as through web servers.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab.errors import LabError
from lab.shop.cache import CacheSettings
from lab.shop.cached import CachedCatalogue
from lab.shop.products import searches
from loadtests.catalogue import SHOP_MIX, Popularity
from loadtests.plans import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.cluster import Lab

BLOCKS = 16
"""Stretches into which the reads of a point are cut, for intervals."""

NO_LIMIT = "64mb"
"""More than all entries together take up."""

SHORT_SECONDS = 1.0
"""How long an entry lives where nothing but time ends what is stale: the shorter, the less stale, and the fewer hits.
Where a change deletes it, it may live as long as in the shop."""

CHANGING = range(1, 601)
"""Products that are read while their prices change."""

SEARCHED = searches()[::5]
"""Searches that are made meanwhile."""

SAMPLE = 600
"""Products by which it is found out how many bytes one takes."""

_ADJUSTMENTS = 12
_SLACK_BYTES = 50_000
_GAIN = 0.7
_READERS = 3
_MOST_AHEAD = 5
"""Readers wait for the updater when they are so many updates ahead of it."""

_ABOVE_ALL_CENTS = 10_000_000
"""Prices of the updater: above those of the shop, and rising, so that of two the later one is the higher."""


class Hits(msgspec.Struct, kw_only=True):
    """Reads of products of one popularity from a cache of one size.

    Attributes:
        exponent: of Zipf's law; 0 for equally popular.
        share: of the products that the cache's memory is meant for.
        held: share of the products that it held in the end.
        blocks: hit ratio of each block.
        reads: how many there were.
        evicted: entries that Redis forgot to make room.
    """

    exponent: float
    share: float
    held: float
    blocks: list[float]
    reads: int
    evicted: int


class Updates(msgspec.Struct, kw_only=True):
    """Reads while prices change.

    Attributes:
        asked: updates per read that were asked for.
        done: that there were.
        delete_on_write: whether a change deletes what shows the product; else only time does.
        reads: how many there were.
        stale: reads that showed a price older than one that was committed before they began.
        blocks: hit ratio of each block.
    """

    asked: float
    done: float
    delete_on_write: bool
    reads: int
    stale: int
    blocks: list[float]


def cache_of(lab: Lab) -> Any:
    """Return the lab's cache.

    Raises:
        LabError: it was started without.
    """
    if lab.cache is None:
        raise LabError("this lab was started without a cache")
    return lab.cache


@contextmanager
def _reader(lab: Lab, settings: CacheSettings, note: Callable[[Any], object]) -> Iterator[CachedCatalogue]:
    prefix = settings.prefix if settings.url else "direct:"
    settings = msgspec.structs.replace(settings, url=cache_of(lab).url, prefix=prefix)
    catalogue = CachedCatalogue(lab.postgresql.url, settings, note=note)
    try:
        yield catalogue
    finally:
        catalogue.close()


def visit(lab: Lab, settings: CacheSettings, *, seed: int, products: int, words: int) -> None:
    """Leave a cache as so many visits by Zipf 1 would: what they ask for, each asked for once, by several at a time."""
    rng = np.random.default_rng([seed, 0x7151])
    numbers = set(Popularity(range(1, PRODUCTS + 1), 1.0, seed).draw(rng, products))
    texts = set(Popularity(searches(), 1.0, seed).draw(rng, words))
    with _reader(lab, settings, lambda _: None) as catalogue, ThreadPoolExecutor(_READERS) as pool:
        looks: list[Future[Any]] = [pool.submit(catalogue.product, number) for number in sorted(numbers)]
        looks += [pool.submit(catalogue.search, text.split()) for text in sorted(texts)]
        for look in looks:
            look.result()


# --- size and popularity ---------------------------------------------------------------------------------------------


def bytes_of_products(lab: Lab) -> float:
    """Return how many bytes of the cache's memory a product takes, by filling it with some."""
    outcomes: list[str] = []
    with cache_of(lab).connect() as client, _reader(lab, CacheSettings(), outcomes.append) as catalogue:
        catalogue.product(1)
        empty_cache(client, NO_LIMIT)
        before = _used(client)
        for number in range(1, SAMPLE + 1):
            catalogue.product(number)
        return (_used(client) - before) / SAMPLE


def empty_cache(client: Any, limit: str | int) -> None:
    """Forget everything, and bound the memory from now on."""
    client.flushall()
    client.config_set("maxmemory", limit)


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def read_products(lab: Lab, *, seed: int, exponent: float, share: float, bytes_each: float, reads: int) -> Hits:
    """Read products by popularity from a cache that has room for some of them.

    As many reads come before, to warm it up. Meanwhile its memory is adjusted until it holds the share that was asked
    for: connections and tables take up some of the memory, too.
    """
    outcomes: list[str] = []
    rng = np.random.default_rng([seed, 0xCAC4E])
    asked = Popularity(range(1, PRODUCTS + 1), exponent, seed).draw(rng, 2 * reads)
    aim = share * PRODUCTS
    with cache_of(lab).connect() as client, _reader(lab, CacheSettings(), outcomes.append) as catalogue:
        catalogue.product(1)
        empty_cache(client, NO_LIMIT)
        room = _used(client) + _SLACK_BYTES + aim * bytes_each
        client.config_set("maxmemory", round(room))
        evicted = int(client.info("stats")["evicted_keys"])
        for part in np.array_split(np.array(asked[:reads]), _ADJUSTMENTS):
            for number in part:
                catalogue.product(int(number))
            held = client.dbsize()
            if held > aim or int(client.info("stats")["evicted_keys"]) > evicted:
                room += _GAIN * (aim - held) * bytes_each
                client.config_set("maxmemory", round(room))
        outcomes.clear()
        for number in asked[reads:]:
            catalogue.product(number)
        held, evicted = client.dbsize(), int(client.info("stats")["evicted_keys"]) - evicted
        empty_cache(client, NO_LIMIT)
    hits = np.array([outcome == "hit" for outcome in outcomes])
    return Hits(
        exponent=exponent,
        share=share,
        held=held / PRODUCTS,
        blocks=[float(block.mean()) for block in np.array_split(hits, BLOCKS)],
        reads=reads,
        evicted=evicted,
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def fill_cache(lab: Lab) -> None:
    """Read every product that will change, and every search, once."""
    with cache_of(lab).connect() as client, _reader(lab, CacheSettings(), lambda _: None) as catalogue:
        empty_cache(client, NO_LIMIT)
        for number in CHANGING:
            catalogue.product(number)
        for text in SEARCHED:
            catalogue.search(text.split())


def read_while_prices_change(
    lab: Lab, *, seed: int, updates_per_read: float, delete_on_write: bool, seconds: float, turn: int
) -> Updates:
    """Let some threads read the shop's mix of products and searches while another changes prices of the same products.

    With `delete_on_write`, the cache is as the call before left it: fill it first (`fill_cache`).

    Args:
        lab: the engines.
        seed: of what is read and changed.
        updates_per_read: how many updates for each read.
        delete_on_write: see `CacheSettings`.
        seconds: how long, after half of that to warm up.
        turn: how often this was called before with the same engines: prices rise from call to call.
    """
    settings = CacheSettings() if delete_on_write else CacheSettings(ttl_seconds=SHORT_SECONDS, delete_on_write=False)
    noted = threading.local()
    with (
        cache_of(lab).connect() as client,
        _reader(lab, settings, lambda outcome: setattr(noted, "outcome", outcome)) as catalogue,
    ):
        if not delete_on_write:
            empty_cache(client, NO_LIMIT)
        first_cents = _ABOVE_ALL_CENTS + 1_000_000 * turn
        shelf = _Shelf(catalogue, noted, seed=seed, updates_per_read=updates_per_read, first_cents=first_cents)
        began = time.monotonic()
        shelf.run(1.5 * seconds)
    every = sorted((one for of_one in shelf.reads for one in of_one), key=lambda one: one.at)
    counted = [one for one in every if one.at > began + seconds / 2]
    return Updates(
        asked=updates_per_read,
        done=shelf.updates / max(len(every), 1),
        delete_on_write=delete_on_write,
        reads=len(counted),
        stale=sum(one.stale for one in counted),
        blocks=[float(np.mean([one.hit for one in block])) for block in _in_blocks(counted) if block],
    )


def _in_blocks(reads: list[_Read]) -> list[list[_Read]]:
    bounds = [round(number * len(reads) / BLOCKS) for number in range(BLOCKS + 1)]
    return [reads[low:high] for low, high in itertools.pairwise(bounds)]


class _Read(msgspec.Struct):
    at: float
    hit: bool
    stale: bool


class _Shelf:
    """Prices as PostgreSQL has committed them; those who read them, and one who changes them.

    Args:
        catalogue: where all of them go.
        noted: says of a thread's last lookup how it went.
        seed: of what is read and changed.
        updates_per_read: how many updates for each read.
        first_cents: the first new price; each is one higher than the one before.
    """

    def __init__(
        self,
        catalogue: CachedCatalogue,
        noted: threading.local,
        *,
        seed: int,
        updates_per_read: float,
        first_cents: int,
    ) -> None:
        self.updates = 0
        self.reads: list[list[_Read]] = [[] for _ in range(_READERS)]
        self._catalogue, self._noted, self._seed = catalogue, noted, seed
        self._updates_per_read, self._next_cents = updates_per_read, first_cents
        self._committed: dict[int, int] = {}
        self._over = threading.Event()
        self._failed: list[BaseException] = []

    def run(self, seconds: float) -> None:
        """Read and change for some time; raise what any of them raised."""
        works = [*(functools.partial(self._keep_reading, number) for number in range(_READERS)), self._keep_updating]
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        try:
            for thread in threads:
                thread.start()
            self._over.wait(seconds)
        finally:
            self._over.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._failed:
            raise self._failed[0]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the lab's own thread
            self._failed.append(error)
            self._over.set()

    def _due(self) -> float:
        return self._updates_per_read * sum(map(len, self.reads))

    def _comes(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; say whether it came before all was over."""
        while not self._over.is_set():
            if condition():
                return True
            time.sleep(0.0005)
        return False

    def _keep_reading(self, reader: int) -> None:
        rng = np.random.default_rng([self._seed, reader, 0x5EAD])
        products = Popularity(CHANGING, 1.0, self._seed)
        words = Popularity(SEARCHED, 1.0, self._seed)
        while True:
            kinds = rng.random(256) < SHOP_MIX["product"]
            for is_product, number, text in zip(kinds, products.draw(rng, 256), words.draw(rng, 256), strict=True):
                if not self._comes(lambda: self._due() <= self.updates + _MOST_AHEAD):
                    return
                self._read(reader, number if is_product else None, text)

    def _read(self, reader: int, number: int | None, text: str) -> None:
        committed = dict(self._committed)
        shown: list[Any] = []
        if number is None:
            shown += self._catalogue.search(text.split())
        else:
            shown.append(self._catalogue.product(number))
        stale = any(one.price_cents < committed.get(one.id, 0) for one in shown)
        self.reads[reader].append(_Read(time.monotonic(), self._noted.outcome == "hit", stale))

    def _keep_updating(self) -> None:
        rng = np.random.default_rng([self._seed, 0x0BDA])
        products = Popularity(CHANGING, 1.0, self._seed)
        while True:
            for number in products.draw(rng, 256):
                if not self._comes(lambda: self.updates < self._due()):
                    return
                cents = self._next_cents
                self._catalogue.reprice(number, cents, functools.partial(self._committed.__setitem__, number, cents))
                self._next_cents += 1
                self.updates += 1
