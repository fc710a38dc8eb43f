"""The `lifecycle` scenario: sessions that are kept, sessions that end, and requests that come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadtests.plans import Plan, PlannedRequest, request, shopper_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.recorder import Late

KEEP_SHARE = 0.7
"""Shoppers who stay let at most this share of the idle lifetime pass between two requests."""

MARGIN_SECONDS = 0.5
"""How long before a lifetime's end the last ordinary request comes, and how long after it the first late one."""

FEW_LINES = 8
"""Shoppers who stay put no more than this into their carts."""

LATE_AFTER = (("view", 0.02), ("add", 0.1), ("view", 0.3), ("view", 1.0))
"""What comes too late, and how many seconds after the session has ended."""


class Roles(msgspec.Struct, frozen=True):
    """How many shoppers play which role.

    Attributes:
        active: keep their session alive to the end, with both tabs.
        leaving: log out while requests with the old cookie are under way, and more come right after.
        idling: fall silent for longer than the idle lifetime, then come back with the old cookie.
        outliving: keep going until the absolute lifetime is over, and then try to go on.
    """

    active: int = 220
    leaving: int = 60
    idling: int = 30
    outliving: int = 30


def lifecycle_plan(
    seed: int, *, idle_seconds: float, absolute_seconds: float, begin_seconds: float = 3.0, roles: Roles | None = None
) -> Plan:
    """Draw one plan for all roles; see `Roles` for who does what.

    With the default roles it has 220 shoppers who stay and more than 400 late requests. A late request presents the
    cookie that its shopper held last, whatever the server has said since.

    Args:
        seed: of the run.
        idle_seconds: the servers' idle lifetime; above twice the margin of 0.5 s.
        absolute_seconds: the servers' absolute lifetime; it leaves the last to come time to stay
            (`begin_seconds` and two idle lifetimes are a good measure).
        begin_seconds: over how long the logins are spread.
        roles: how many shoppers there are of each kind.

    Raises:
        ValueError: if the lifetimes leave no room for the roles.
    """
    if idle_seconds <= 2 * MARGIN_SECONDS or absolute_seconds <= max(idle_seconds, begin_seconds) + 2 * MARGIN_SECONDS:
        raise ValueError("lifetimes are too short for this plan")
    roles = roles or Roles()
    play = _Play(np.random.default_rng([seed, 1 << 35]), idle_seconds, absolute_seconds)
    requests: list[PlannedRequest] = []
    for role, prefix, count in (
        (play.active, "a", roles.active),
        (play.leaving, "l", roles.leaving),
        (play.idling, "i", roles.idling),
        (play.outliving, "o", roles.outliving),
    ):
        for number, name in enumerate(shopper_names(prefix, count)):
            requests += role(name, begin_seconds * number / count)
    requests.sort(key=lambda planned: planned.at_seconds)
    return Plan(scenario="lifecycle", seconds=requests[-1].at_seconds, requests=requests)


class _Play:
    """The roles, each a list of requests for one shopper who begins at a given time."""

    def __init__(self, rng: np.random.Generator, idle_seconds: float, absolute_seconds: float) -> None:
        self._rng, self._idle, self._absolute = rng, idle_seconds, absolute_seconds
        self._stays_until = absolute_seconds - MARGIN_SECONDS

    def active(self, name: str, begin: float) -> Iterator[PlannedRequest]:
        """Log in, fill the cart a little, and look at it again and again, now in one tab, now in the other.

        Everyone stays until the first comer's session reaches its absolute lifetime.
        """
        yield from self._enter(name, begin)
        yield from self._stay(name, begin, self._stays_until)

    def leaving(self, name: str, begin: float) -> Iterator[PlannedRequest]:
        """Log out in one tab, while the other writes with the old cookie."""
        yield from self._enter(name, begin)
        leaves = begin + float(self._rng.uniform(0.5, 1.0)) * self._idle * KEEP_SHARE + 0.2
        yield self._request(leaves, name, "logout")
        racing = leaves + float(self._rng.uniform(-0.002, 0.002))
        yield self._request(racing, name, "visit", tab=1, late="logout")
        yield from self._too_late(name, leaves, "logout")

    def idling(self, name: str, begin: float) -> Iterator[PlannedRequest]:
        """Say nothing for longer than the idle lifetime."""
        yield from self._enter(name, begin)
        yield from self._too_late(name, begin + 0.1 + self._idle + MARGIN_SECONDS, "idle")

    def outliving(self, name: str, begin: float) -> Iterator[PlannedRequest]:
        """Never fall silent, and yet be cut off."""
        yield from self._enter(name, begin)
        last = begin + self._absolute - MARGIN_SECONDS
        yield from self._stay(name, begin, last)
        yield self._request(last, name, "view")
        yield from self._too_late(name, begin + 0.1 + self._absolute + MARGIN_SECONDS, "absolute")

    def _enter(self, name: str, begin: float) -> Iterator[PlannedRequest]:
        yield self._request(begin, name, "login")
        yield self._request(begin + 0.1, name, "add")

    def _stay(self, name: str, begin: float, end: float) -> Iterator[PlannedRequest]:
        at, adds, tab = begin + 0.1, 1, 0
        while (at := at + float(self._rng.uniform(0.6, 1.0)) * KEEP_SHARE * self._idle) < end:
            f = str(self._rng.choice(["view", "visit", "add"], p=[0.6, 0.25, 0.15])) if adds < FEW_LINES else "view"
            adds, tab = adds + (f == "add"), 1 - tab
            yield self._request(at, name, f, tab=tab)

    def _too_late(self, name: str, ended: float, late: Late) -> Iterator[PlannedRequest]:
        for f, after in LATE_AFTER:
            yield self._request(ended + after, name, f, tab=1, late=late)

    def _request(self, at: float, name: str, f: str, *, tab: int = 0, late: Late | None = None) -> PlannedRequest:
        token = f"{name}.{'late' if late else tab}.{round(at * 1000):05d}"
        return msgspec.structs.replace(request(self._rng, at, name, f, token=token, tab=tab), late=late)
