"""Visitors who only look: product pages and searches, some asked for far more often than others.

What is popular follows Zipf's law: the thing of rank r is asked for in proportion to 1 / r^s. With s = 0 all are
equally popular; web requests were seen at 0.6 to 1 (Breslau et al., "Web Caching and Zipf-like Distributions", 1999).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import numpy as np

from loadtests.plans import MIX, PRODUCTS, Plan, PlannedRequest, poisson, shopper_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Thing = TypeVar("_Thing")

_STREAM = 1 << 35
"""Tells these random numbers from those of other plans with the same seed."""

_LOOKING = MIX["product"] + MIX["search"]

SHOP_MIX = {"product": MIX["product"] / _LOOKING, "search": MIX["search"] / _LOOKING}
"""Product pages and searches in the proportion in which shoppers ask for them."""


class Popularity(Generic[_Thing]):
    """Things, and how often each is asked for. Which one is the favourite is drawn from the seed.

    Args:
        things: what can be asked for.
        exponent: of Zipf's law; 0 for equally popular.
        seed: draws the order of popularity.
    """

    def __init__(self, things: Sequence[_Thing], exponent: float, seed: int) -> None:
        self._things = [things[index] for index in np.random.default_rng([seed, _STREAM]).permutation(len(things))]
        weights = 1 / np.arange(1, len(things) + 1) ** exponent
        self._until = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator, count: int) -> list[_Thing]:
        """Draw what so many requests ask for."""
        ranks = np.searchsorted(self._until, rng.random(count), side="right").clip(max=len(self._things) - 1)
        return [self._things[rank] for rank in ranks]


class Visitors(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at what.

    Attributes:
        seed: of the run.
        searches: what can be searched for.
        exponent: of Zipf's law, for products and for searches.
        tabs: how many visitors there are, with one tab each.
    """

    seed: int
    searches: tuple[str, ...]
    exponent: float = 1.0
    tabs: int = 60

    def plan(
        self, block: int, *, rate_rps: float, seconds: float, mix: Mapping[str, float] = SHOP_MIX, phase: str = "main"
    ) -> Plan:
        """Draw the plan of a block.

        Args:
            block: its number; the same one gives the same plan.
            rate_rps: offered load in requests/s.
            seconds: how long.
            mix: share of each operation: `product`, `search` or `thorough`.
            phase: `warmup` or `main`.
        """
        rng = np.random.default_rng([self.seed, _STREAM, block])
        times = poisson(rng, rate_rps, seconds)
        kinds = rng.choice(list(mix), len(times), p=np.array(list(mix.values())) / sum(mix.values()))
        products = Popularity(range(1, PRODUCTS + 1), self.exponent, self.seed).draw(rng, len(times))
        searches = Popularity(self.searches, self.exponent, self.seed).draw(rng, len(times))
        who = rng.integers(self.tabs, size=len(times))
        names = shopper_names("v", self.tabs)
        requests = [
            PlannedRequest(
                at_seconds=at,
                shopper=names[who[n]],
                f=str(kinds[n]),
                product=products[n] if kinds[n] == "product" else None,
                term=None if kinds[n] == "product" else searches[n],
            )
            for n, at in enumerate(times)
        ]
        return Plan(scenario="catalogue", phase=phase, block=block, seconds=seconds, requests=requests)

    def crowd(self, block: int, *, rate_rps: float, seconds: float, search: str) -> Plan:
        """Draw a plan in which everybody makes the same thorough search."""
        rng = np.random.default_rng([self.seed, _STREAM, block])
        names = shopper_names("v", self.tabs)
        requests = [
            PlannedRequest(at_seconds=at, shopper=names[int(rng.integers(self.tabs))], f="thorough", term=search)
            for at in poisson(rng, rate_rps, seconds)
        ]
        return Plan(scenario="catalogue", block=block, seconds=seconds, requests=requests)
