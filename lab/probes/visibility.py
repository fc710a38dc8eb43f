"""When a write made on one server is seen on another: the chance of a stale read against the gap between the two.

The figure is called t-visibility (Bailis and others, "Probabilistically bounded staleness for practical partial
quorums", 2012). A visitor raises the quantity of a line in the cart on one server and, so long after the answer, looks
at the cart on another one, both past the balancer. What is shown is stale if it lacks what was just confirmed.
"""

from __future__ import annotations

import http.client
import random
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

BUMPS_PER_LINE = 90
"""A line of the cart holds 99 pieces at most."""

_TIMEOUT_SECONDS = 10.0


class Trial(msgspec.Struct, frozen=True):
    """One write and one read.

    Attributes:
        gap_seconds: what was asked for: from the answer to the write until the read is sent.
        waited_seconds: what it came to.
        write_seconds: how long the write took, as the shopper saw it.
        stale: whether the read lacked the write.
    """

    gap_seconds: float
    waited_seconds: float
    write_seconds: float
    stale: bool


def watch(
    urls: Sequence[str], gaps: Sequence[float], trials: int, *, seed: int, writes_rps: float, settle_seconds: float
) -> list[Trial]:
    """Write and read, again and again, in a random order of gaps.

    One visitor per server writes there and reads on the others in turn. Writes come at random moments (Poisson), as
    many as shoppers would make: a server may still be busy telling its peers of the one before.

    Args:
        urls: the servers, past the balancer; at least two.
        gaps: in seconds.
        trials: for each gap.
        seed: of the order and the moments.
        writes_rps: writes a second of all visitors together.
        settle_seconds: how long after it has begun a session or a line every server knows it.

    Raises:
        LabError: a server did not answer as it should.
    """
    order = [gap for gap in gaps for _ in range(trials)]
    random.Random(seed).shuffle(order)  # noqa: S311 - no secret
    servers = len(urls)
    with ThreadPoolExecutor(servers) as pool:
        shares = [
            pool.submit(
                _visit,
                urls,
                number,
                _moments(order[number::servers], seed + number, writes_rps / servers),
                settle_seconds,
            )
            for number in range(servers)
        ]
        return [trial for share in shares for trial in share.result()]


def _moments(gaps: Sequence[float], seed: int, rate_rps: float) -> list[tuple[float, float]]:
    """Give each trial the seconds to wait since the one before began: exponential, so that writes are Poisson."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    return [(gap, chance.expovariate(rate_rps)) for gap in gaps]


def _visit(urls: Sequence[str], own: int, planned: Sequence[tuple[float, float]], settle_seconds: float) -> list[Trial]:
    """Let one visitor write on its server and read on the others in turn."""
    visitor = Visitor(urls)
    others = cycle([index for index in range(len(urls)) if index != own])
    trials = []
    began = time.monotonic()
    try:
        visitor.ask(own, "POST", "/api/login", {"user": f"visitor-{own}"})
        for count, (gap, pause) in enumerate(planned):
            line = f"v{own}-{count // BUMPS_PER_LINE}"
            if count % BUMPS_PER_LINE == 0:
                visitor.ask(own, "POST", "/api/cart", {"token": line, "product": 1, "quantity": 1})
                time.sleep(settle_seconds)
            time.sleep(max(0.0, began + pause - time.monotonic()))
            began = time.monotonic()
            trials.append(_try(visitor, own, next(others), line, gap))
    finally:
        visitor.close()
    return trials


def _try(visitor: Visitor, own: int, other: int, line: str, gap: float) -> Trial:
    began = time.monotonic()
    written = _quantity(visitor.ask(own, "POST", f"/api/cart/{line}/bump", {}), line)
    answered = time.monotonic()
    if gap:
        time.sleep(gap)
    asked = time.monotonic()
    seen = _quantity(visitor.ask(other, "GET", "/api/cart", None), line)
    return Trial(gap, asked - answered, answered - began, seen < written)


def _quantity(answer: dict[str, Any], line: str) -> int:
    return next((int(each["quantity"]) for each in answer["cart"] if each["token"] == line), 0)


class Visitor:
    """One session and a connection to each server.

    Args:
        urls: the servers.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._connections = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_SECONDS) for url in urls]
        self._cookies: dict[str, str] = {}

    def ask(self, server: int, method: str, path: str, body: object) -> dict[str, Any]:
        """Send a request to one of the servers and return what it answers.

        Raises:
            LabError: nobody answers, or not with 200.
        """
        connection = self._connections[server]
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            raise LabError(f"a server did not answer while stale reads were counted ({error}).") from error
        if answer.status != http.client.OK:
            raise LabError(f"a server answered {answer.status} while stale reads were counted: {text[:200]!r}")
        for value in answer.headers.get_all("Set-Cookie") or []:
            name, _, rest = value.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        found: dict[str, Any] = msgspec.json.decode(text)
        return found

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()
