"""Shoppers of uneven appetite: few do much, many do little; and how they come, in the experiment on hot servers.

Within a population the shopper of rank r makes requests in proportion to 1/r (Zipf's law with exponent 1). How many
requests each makes is fixed, up to rounding; when they come is random. So what differs from population to population
is where the balancer puts its heavy shoppers, and not also how the dice of a short stretch fell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadtests.plans import FOLLOWED, MIX, Life, Plan, PlannedRequest, request, shopper_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STREAM = 1 << 34
"""Tells these random numbers from those of other plans with the same seed."""


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are, and how long each stretch is, in seconds.

    Attributes:
        populations: how many populations come, each with shoppers and carts of its own.
        shoppers: of each population, with one tab each.
        turn: each population's turn, alone, before anything is changed.
        stay: the first population, while a server is added.
        roll_call: all populations one after another, some time after that.
        newcomers: a population that has not been there before.
        drain: the first population, while a server is drained.
    """

    populations: int
    shoppers: int
    turn: float
    stay: float
    roll_call: float
    newcomers: float
    drain: float


class Story(msgspec.Struct, frozen=True):
    """The plans of one run, in the order of their names; every strategy replays the same ones.

    Attributes:
        enter: every population logs in, one population after another.
        turns: a plan for each population; its number is the plan's `block`.
        stay: the first population.
        roll_call: all populations, one after another.
        newcomers: one more population logs in and shops.
        drain: the first population.
    """

    enter: Plan
    turns: list[Plan]
    stay: Plan
    roll_call: Plan
    newcomers: Plan
    drain: Plan


def zipf(shoppers: int) -> NDArray[np.float64]:
    """Return the share of all requests that each of so many shoppers makes, the heaviest first; they add up to 1."""
    weights = 1 / np.arange(1, shoppers + 1)
    return np.asarray(weights / weights.sum())


def uneven_story(seed: int, lengths: Lengths, *, rate_rps: float, login_rps: float) -> Story:
    """Draw all plans of a run.

    Args:
        seed: of the run.
        lengths: see there.
        rate_rps: requests a second, follow-ups included, whoever shops.
        login_rps: logins a second.
    """
    crowds = [_Crowd(seed, number, lengths.shoppers) for number in range(lengths.populations + 1)]
    *old, new = crowds
    logins = [login for crowd in old for login in crowd.logins()]
    each = lengths.roll_call / len(old)
    first_logins = _timed(new.logins(), login_rps)
    settled = len(first_logins) / login_rps
    return Story(
        enter=_plan(_timed(logins, login_rps), len(logins) / login_rps, phase="warmup"),
        turns=[_plan(crowd.shop(rate_rps, lengths.turn), lengths.turn, block=crowd.number) for crowd in old],
        stay=_plan(old[0].shop(rate_rps, lengths.stay), lengths.stay),
        roll_call=_plan(
            [planned for n, crowd in enumerate(old) for planned in crowd.shop(rate_rps, each, start=n * each)],
            lengths.roll_call,
        ),
        newcomers=_plan(
            [*first_logins, *new.shop(rate_rps, lengths.newcomers, start=settled)], settled + lengths.newcomers
        ),
        drain=_plan(old[0].shop(rate_rps, lengths.drain), lengths.drain),
    )


def population_of(shopper: str) -> int:
    """Return the number of a shopper's population, by the shopper's name."""
    return int(shopper[1:4])


class _Crowd:
    """One population: where each of its shoppers stands goes over from stretch to stretch.

    Args:
        seed: of the run.
        number: of the population.
        shoppers: how many there are; the first name is the heaviest shopper's.
    """

    def __init__(self, seed: int, number: int, shoppers: int) -> None:
        self.number = number
        self._rng = np.random.default_rng([seed, _STREAM, number])
        self._names = shopper_names(f"p{number:03d}", shoppers)
        self._shares = zipf(shoppers)
        self._lives = [self._begun() for _ in self._names]
        self._stretch = 0

    def logins(self) -> list[PlannedRequest]:
        """Return everybody's login, in an order that knows nothing of their appetite; without times."""
        return [request(self._rng, 0.0, self._names[who], "login") for who in self._rng.permutation(len(self._names))]

    def shop(self, rate_rps: float, seconds: float, *, start: float = 0.0) -> list[PlannedRequest]:
        """Return what they do for some time, from `start` on."""
        arrivals = round(rate_rps / (1 + FOLLOWED * MIX["add"]) * seconds)
        who = self._rng.permutation(np.repeat(np.arange(len(self._names)), self._counts(arrivals)))
        times = start + np.sort(self._rng.uniform(0, seconds, len(who)))
        planned = [self._next(n, float(at), int(one)) for n, (at, one) in enumerate(zip(times, who, strict=True))]
        self._stretch += 1
        return planned

    def _begun(self) -> Life:
        life = Life(self._rng)
        life.lines = 0
        return life

    def _counts(self, arrivals: int) -> NDArray[np.int64]:
        """Share requests out: each gets the share of the law, rounded up or down by one throw for all."""
        reached = np.floor(np.cumsum(self._shares) * arrivals + self._rng.uniform(0, 1))
        return np.diff(reached, prepend=0.0).astype(np.int64)

    def _next(self, number: int, at: float, who: int) -> PlannedRequest:
        name = self._names[who]
        token = f"{name}.{self._stretch:03d}.{number:04d}"
        drawn = request(self._rng, at, name, self._lives[who].next(self._rng), token=token)
        follows = drawn.f == "add" and self._rng.random() < FOLLOWED
        return msgspec.structs.replace(drawn, followed=True) if follows else drawn


def _timed(logins: list[PlannedRequest], login_rps: float) -> list[PlannedRequest]:
    return [msgspec.structs.replace(login, at_seconds=n / login_rps) for n, login in enumerate(logins)]


def _plan(requests: list[PlannedRequest], seconds: float, *, phase: str = "main", block: int = -1) -> Plan:
    return Plan(scenario="shopping", phase=phase, block=block, seconds=seconds, requests=requests)
