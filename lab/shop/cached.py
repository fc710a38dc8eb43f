"""The catalogue behind a cache: the same interface, and pages that need not ask PostgreSQL every time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from lab.shop.breaker import Breaker
from lab.shop.cache import Cache, CacheSettings, Fresh
from lab.shop.catalogue import Catalogue, CatalogueUnavailable, UnknownProduct
from lab.shop.records import Product, ProductDetails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.shop.cache import Outcome

ORIGIN_REST_SECONDS = 1.0
"""How long an origin that failed is left alone, so that what is cached need not wait behind what is not."""

_UNKNOWN = b""

# Made before there are threads: msgspec crashes where two of them use a type for the first time together.
_DETAILS = msgspec.json.Decoder(ProductDetails)
_PRODUCTS = msgspec.json.Decoder(list[Product])
_ENCODER = msgspec.json.Encoder()


class CachedCatalogue(Catalogue):
    """A catalogue whose product pages and searches come from a cache where they can; see `Catalogue`.

    Args:
        database_url: where PostgreSQL answers.
        settings: of the cache.
        pool_size: the most connections to PostgreSQL.
        note: is told of each lookup how it went.
    """

    def __init__(
        self,
        database_url: str,
        settings: CacheSettings,
        pool_size: int = 4,
        note: Callable[[Outcome], object] = lambda _: None,
    ) -> None:
        super().__init__(database_url, pool_size)
        self._cache = Cache(settings)
        self._note = note
        self._origin = Breaker(ORIGIN_REST_SECONDS)

    def close(self) -> None:
        """Give back the connections."""
        super().close()
        self._cache.close()

    def product(self, number: int) -> ProductDetails:
        """Return one product; that there is none is remembered, too."""

        def fetch() -> Fresh:
            try:
                product, version = self.versioned_product(number)
            except UnknownProduct:
                return Fresh(_UNKNOWN, {}, seconds=self._cache.settings.unknown_seconds)
            return Fresh(_ENCODER.encode(product), {number: version}, listed=False)

        value = self._through(_key(number), fetch)
        if value == _UNKNOWN:
            raise UnknownProduct(f"there is no product {number}")
        return _DETAILS.decode(value)

    def search(self, words: Sequence[str], *, thorough: bool = False) -> list[Product]:
        """Return the first products that match."""
        if not words:
            return []

        def fetch() -> Fresh:
            found = self.versioned_search(words, thorough=thorough)
            products = [product for product, _ in found]
            return Fresh(_ENCODER.encode(products), {product.id: version for product, version in found})

        kind = "thorough" if thorough else "search"
        return _PRODUCTS.decode(self._through(f"{kind}:{' '.join(words)}", fetch))

    def reprice(self, number: int, price_cents: int, committed: Callable[[], object] = lambda: None) -> int:
        """Change a price; what is cached of the product is deleted before and after.

        Deleting after alone would leave a moment in which the old price is still served; before alone, a reader could
        cache the old price again.

        Args:
            number: which product.
            price_cents: its new price.
            committed: called as soon as PostgreSQL has it, and the cache has not been told.
        """
        self._cache.writing(number, _key(number))
        version = super().reprice(number, price_cents)
        committed()
        self._cache.written(number, _key(number), version)
        return version

    def _through(self, key: str, fetch: Callable[[], Fresh]) -> bytes:
        value, outcome = self._cache.through(key, fetch)
        self._note(outcome)
        return value

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        if not self._origin.lets_through():
            raise CatalogueUnavailable("the catalogue is not available: it did not answer a moment ago")
        try:
            with super()._connection() as connection:
                yield connection
        except CatalogueUnavailable:
            self._origin.failed()
            raise
        self._origin.worked()


def _key(number: int) -> str:
    return f"product:{number}"
