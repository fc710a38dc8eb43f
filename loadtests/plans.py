"""What shoppers will do and when, decided before anything is measured.

A plan is drawn from a seed and nothing else, so every strategy replays exactly the same one: differences between
strategies are never differences between loads. Arrivals are Poisson and do not wait for answers (an open load);
`shoppers.py` replays them, `docs/load.md` says why.
"""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadtests.recorder import Late

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCTS = 3000
"""Products the shop has; their ids are 1 to this number."""

TERMS = ("tea", "green", "cup", "lamp", "wool", "oak", "small", "blue", "soft", "garden", "paper", "steel")
"""Words that shoppers search for."""

MIX = {"view": 0.41, "product": 0.19, "visit": 0.165, "add": 0.16, "search": 0.075}
"""Shares of what a shopper does next while the cart is not full; with the follow-ups, about 40 % of all requests are a
`view` with an own item in the cart."""

FOLLOWED = 0.5
"""Share of adds that a `view` follows at once, as a redirect would."""

LINES = (6, 12)
"""Fewest and most cart lines at which a shopper checks out, or logs out."""

LOGOUTS = 0.3
"""Share of carts that end with a logout; the others are bought."""

WARMUP = ("product", "search", "visit", "view")
"""What the walk of the warm-up goes through, so that every connection is open and every route has run."""


class PlannedRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to come.

    Attributes:
        at_seconds: when it is to be sent, from the start of the plan.
        shopper: who sends it; the name is also the user at login.
        tab: which of the shopper's tabs, from 0; a tab sends one request after another.
        f: what to do (see `recorder.Operation`).
        product: a product's id, for `product`, `add` and `visit`.
        term: the word to search for.
        dwell_seconds: time spent on the page that a `visit` reports.
        token: the unique id of an `add` or a `checkout`.
        line: the cart line that a `bump` raises.
        followed: a `view` follows as soon as this request has ended.
        late: send the cookie that the shopper held last, although this has ended the session since.
    """

    at_seconds: float
    shopper: str
    tab: int = 0
    f: str
    product: int | None = None
    term: str | None = None
    dwell_seconds: float = 0.0
    token: str | None = None
    line: str | None = None
    followed: bool = False
    late: Late | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of load: requests in the order of their time.

    Attributes:
        scenario: `shopping`, `two-tabs`, `lifecycle` or `failover`.
        phase: `warmup` or `main`.
        block: the block's number, -1 outside the timed part.
        twin: the repeated slice of the baseline.
        seconds: length of the stretch.
        requests: what is to be sent.
        closed: a closed load: each tab waits for the answer, then as long as the plan has between the two requests,
            and only then sends the next one; what does not fit into the stretch is never sent. The opposite of what
            the lab measures with, and what most load tools do: see `docs/load.md`.
    """

    scenario: str
    phase: str = "main"
    block: int = -1
    twin: bool = False
    seconds: float
    requests: list[PlannedRequest]
    closed: bool = False

    @property
    def scheduled(self) -> int:
        """Requests that the plan asks for, follow-ups included (retries after a conflict come on top)."""
        return len(self.requests) + sum(request.followed for request in self.requests)

    def as_twin(self) -> Plan:
        """Give the same load to other shoppers: the baseline's second slice of a block (same against same).

        The twins have carts of their own. If the same shoppers repeated the slice, their carts would hold twice as
        much as everyone else's, and the pair would no longer be like any other.
        """
        return msgspec.structs.replace(self, twin=True, requests=[_twin(request) for request in self.requests])


def _twin(request: PlannedRequest) -> PlannedRequest:
    renamed = {key: "t" + value[1:] for key in ("shopper", "token", "line") if (value := getattr(request, key))}
    return msgspec.structs.replace(request, **renamed)


def shopper_names(prefix: str, shoppers: int) -> list[str]:
    """Name shoppers, all equally long, because names travel in cookies' records and bodies."""
    return [f"{prefix}{number:03d}" for number in range(shoppers)]


def poisson(rng: np.random.Generator, rate_rps: float, seconds: float) -> list[float]:
    """Draw the times of a Poisson process: independent exponential gaps with a mean of 1 / `rate_rps`."""
    expected = rate_rps * seconds
    gaps = rng.exponential(1 / rate_rps, int(expected + 10 * expected**0.5 + 20))
    times = np.cumsum(gaps)
    return [float(at) for at in times[times < seconds]]


class Life:
    """Where one shopper stands: logged in or not, and how full the cart is, if every request succeeds.

    A life begins in its midst, so that shoppers do not march in step and carts are as full in the first block as in
    the last.

    Args:
        rng: draws how full the first cart is, and how full it gets.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.logged_in = True
        self.limit = _limit(rng)
        self.lines = int(rng.integers(self.limit))

    def next(self, rng: np.random.Generator) -> str:
        """Decide what the shopper does next, and note its effect."""
        if not self.logged_in:
            self.logged_in = True
            return "login"
        if self.lines >= self.limit:
            self.lines, self.limit = 0, _limit(rng)
            self.logged_in = bool(rng.random() >= LOGOUTS)
            return "checkout" if self.logged_in else "logout"
        f = str(rng.choice(list(MIX), p=list(MIX.values())))
        self.lines += f == "add"
        return f


def _limit(rng: np.random.Generator) -> int:
    return int(rng.integers(LINES[0], LINES[1] + 1))


def _lives(seed: int, shoppers: int) -> list[Life]:
    rng = np.random.default_rng([seed, 1 << 32])
    return [Life(rng) for _ in range(shoppers)]


def request(
    rng: np.random.Generator, at: float, shopper: str, f: str, *, token: str = "", tab: int = 0
) -> PlannedRequest:
    """Draw the parameters that `f` needs."""
    product = int(rng.integers(1, PRODUCTS + 1)) if f in {"product", "add", "visit"} else None
    return PlannedRequest(
        at_seconds=at,
        shopper=shopper,
        tab=tab,
        f=f,
        product=product,
        term=str(rng.choice(TERMS)) if f == "search" else None,
        dwell_seconds=round(float(rng.exponential(20)), 1) if f == "visit" else 0.0,
        token=token if f in {"add", "checkout"} else None,
    )


class Shopping:
    """The `shopping` scenario, a stretch at a time; stretches may differ in load and length.

    What goes over from stretch to stretch is where each shopper stands (logged in, lines in the cart), so that carts
    stay below `LINES[1]` and each life runs its course.

    Args:
        seed: of the run.
        shoppers: how many there are; each has one tab.
    """

    def __init__(self, seed: int, shoppers: int) -> None:
        self._seed, self._names, self._lives = seed, shopper_names("s", shoppers), _lives(seed, shoppers)

    def plan(self, block: int, *, rate_rps: float, seconds: float) -> Plan:
        """Draw the next stretch, with random numbers of its own, from (seed, block).

        Args:
            block: its number; another one for every stretch.
            rate_rps: requests a second, follow-ups included, of all shoppers together.
            seconds: its length.
        """
        rng = np.random.default_rng([self._seed, block])
        requests = []
        for number, at in enumerate(poisson(rng, rate_rps / (1 + FOLLOWED * MIX["add"]), seconds)):
            who = int(rng.integers(len(self._names)))
            token = f"{self._names[who]}.{block:03d}.{number:04d}"
            drawn = request(rng, at, self._names[who], self._lives[who].next(rng), token=token)
            if drawn.f == "add" and rng.random() < FOLLOWED:
                drawn = msgspec.structs.replace(drawn, followed=True)
            requests.append(drawn)
        return Plan(scenario="shopping", block=block, seconds=seconds, requests=requests)


def shopping_plans(seed: int, *, rate_rps: float, seconds: float, shoppers: int) -> Iterator[Plan]:
    """Draw the plans of blocks 0, 1, 2 … of the `shopping` scenario, endlessly, each as long as the others.

    Args:
        seed: of the run.
        rate_rps: requests a second, follow-ups included, of all shoppers together.
        seconds: length of one block's slice.
        shoppers: how many there are; each has one tab.
    """
    shopping = Shopping(seed, shoppers)
    return (shopping.plan(block, rate_rps=rate_rps, seconds=seconds) for block in count())


def shopping_plan(seed: int, block: int, *, rate_rps: float, seconds: float, shoppers: int) -> Plan:
    """Draw the plan of one block; see `shopping_plans`."""
    plans = shopping_plans(seed, rate_rps=rate_rps, seconds=seconds, shoppers=shoppers)
    return next(islice(plans, block, None))


def warmup_plan(seed: int, *, rate_rps: float, seconds: float, shoppers: int) -> Plan:
    """Log every shopper in and fill the cart to where block 0 begins; then walk all of them through the pages.

    Args:
        seed: of the run; the same as that of the blocks to come.
        rate_rps: requests a second while it lasts.
        seconds: how long the walk lasts. Logins and adds come first, at the same rate.
        shoppers: how many there are.
    """
    rng = np.random.default_rng([seed, 1 << 33])
    names = shopper_names("s", shoppers)
    steps = [(name, "login") for name in names]
    steps += [
        (name, "add") for name, life in zip(names, _lives(seed, shoppers), strict=True) for _ in range(life.lines)
    ]
    requests = [
        request(rng, number / rate_rps, name, f, token=f"{name}.000.w{number:03d}")
        for number, (name, f) in enumerate(steps)
    ]
    start = len(requests) / rate_rps
    for number, at in enumerate(poisson(rng, rate_rps, seconds)):
        f = WARMUP[(number + number // len(WARMUP)) % len(WARMUP)]  # out of step with the balancer's round
        requests.append(request(rng, start + at, names[number % shoppers], f))
    return Plan(scenario="shopping", phase="warmup", seconds=start + seconds, requests=requests)
