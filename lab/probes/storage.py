"""Where sessions are stored, how often, and what one occupies.

Copies are counted by scanning the ids on every server and in every store. Logical bytes are counted alike everywhere
(`strategies.contract.logical_bytes`). Physical bytes are the slope of what the holders occupy over a ladder of
session counts, so that whatever they occupy without sessions cancels out; the sessions are made through the balancer,
and replicated, as in life.
"""

from __future__ import annotations

import http.client
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import numpy as np
import psutil

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strategies.contract import Census

ADDS_PER_SESSION = 3
"""Items in the cart of a session of the ladder."""

_CLIENTS = 4
"""Sequential clients that fill a ladder side by side."""

PATIENCE_SECONDS = 10.0
"""How long a balancer may find no server for a session of the ladder: nothing is timed here."""


class Holding(msgspec.Struct, frozen=True):
    """Which sessions stand where.

    Attributes:
        sessions: distinct live sessions.
        copies: ids found by scanning every holder.
        held: holder (a server's or a store's name) to the ids it holds.
        logical_bytes: size of one copy of every session, in bytes, added up.
    """

    sessions: int
    copies: int
    held: dict[str, list[str]]
    logical_bytes: float

    @property
    def copies_per_session(self) -> float | None:
        """Ids found, divided by sessions; None when there are no sessions."""
        return self.copies / self.sessions if self.sessions else None

    @property
    def logical_bytes_per_session(self) -> float | None:
        """Mean size of one copy in bytes; None when there are no sessions."""
        return self.logical_bytes / self.sessions if self.sessions else None


def holding(census: Mapping[str, Census], store: str | None) -> Holding:
    """Count copies from what every server reports.

    Args:
        census: server to its census; empty where servers cannot be asked.
        store: the shared store's name, which every server reports alike; None where servers hold sessions themselves.
    """
    if not census:
        return Holding(0, 0, {}, 0.0)
    if store is not None:
        first = next(iter(census.values()))
        held = {**{server: [] for server in census}, store: list(first.handles)}
        return Holding(len(first.handles), len(first.handles), held, float(first.logical_bytes))
    held = {server: list(taken.handles) for server, taken in census.items()}
    copies = sum(len(handles) for handles in held.values())
    sessions = len(set(itertools.chain.from_iterable(held.values())))
    total = sum(taken.logical_bytes for taken in census.values())
    return Holding(sessions, copies, held, total * sessions / copies if copies else 0.0)


class Ladder(msgspec.Struct, frozen=True):
    """What holders occupied at each rung.

    Attributes:
        sessions: session counts.
        bytes: what the holders occupied at each count; empty where that cannot be told.
    """

    sessions: list[int]
    bytes: list[int]

    @property
    def bytes_per_session(self) -> float | None:
        """Least-squares slope in bytes per session; None with fewer than two rungs."""
        if len(set(self.sessions)) < 2 or not self.bytes:  # noqa: PLR2004 - a line needs two points
            return None
        slope, _ = np.polyfit(self.sessions, self.bytes, 1)
        return float(slope)

    def bytes_per_session_above(self, content: float) -> float | None:
        """Return the slope, or None where it is below the sessions' own content.

        Then the ladder is too short: what the holder allocates and frees in pieces hides so few sessions.

        Args:
            content: bytes of all copies of a session.
        """
        slope = self.bytes_per_session
        return slope if slope is not None and slope >= content else None


def climb(rungs: Sequence[int], fill: Callable[[int], None], occupied: Callable[[], int | None]) -> Ladder:
    """Fill up to each rung in turn and read what the holders occupy there.

    Args:
        rungs: total session counts, rising.
        fill: makes this many more sessions.
        occupied: what the holders occupy now, in bytes; None where that cannot be told.
    """
    sizes = []
    for more in np.diff([0, *rungs]):
        fill(int(more))
        sizes.append(occupied())
    known = [size for size in sizes if size is not None]
    return Ladder(list(rungs), known if len(known) == len(sizes) else [])


def memory_of(pids: Sequence[int]) -> int:
    """Return the memory that belongs to these processes alone (USS), in bytes: pages shared with others left out.

    macOS tells that to root alone, and may not answer at all. There it is the memory that they have at hand (RSS),
    shared pages included: those are there before the first session, and cancel out of what one session occupies.
    """
    try:
        return sum(_memory_of(psutil.Process(pid)) for pid in pids)
    except psutil.Error as error:
        raise LabError(f"a server ended while its memory was measured ({error}); see its log in servers/.") from error


def _memory_of(process: psutil.Process) -> int:
    return int(process.memory_info().rss if sys.platform == "darwin" else process.memory_full_info().uss)


def fill(url: str, sessions: int, label: str) -> None:
    """Make sessions through the balancer: each shopper logs in and puts a few things into the cart.

    Args:
        url: the balancer.
        sessions: how many.
        label: makes tokens unique: no two fills of a cluster may share it.

    Raises:
        LabError: an answer was not 200.
    """
    shares = [range(start, sessions, _CLIENTS) for start in range(_CLIENTS)]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(lambda share: _fill_share(url, share, label), shares))


def _fill_share(url: str, share: range, label: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        for number in share:
            cookies: dict[str, str] = {}
            shopper = f"{label}-{number}"
            _post(connection, "/api/login", {"user": shopper}, cookies)
            for item in range(ADDS_PER_SESSION):
                body = {"token": f"{shopper}-{item}", "product": 1 + (number + item) % 1000, "quantity": 1}
                _post(connection, "/api/cart", body, cookies)
    finally:
        connection.close()


def _post(connection: http.client.HTTPConnection, path: str, body: object, cookies: dict[str, str]) -> None:
    headers = {"Content-Type": "application/json", "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection.request("POST", path, msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            text = f"the shop did not answer while sessions were made for the storage ladder ({error})."
            raise LabError(text) from error
        if answer.status != http.client.BAD_GATEWAY or time.monotonic() > deadline:
            break
        time.sleep(0.5)  # a busy machine: the balancer found nobody to pass it to
    if answer.status != http.client.OK:
        text = f"the shop answered {answer.status} {answer.reason} to POST {path} for the storage ladder, expected 200"
        raise LabError(text)
    for value in answer.headers.get_all("Set-Cookie") or []:
        name, _, rest = value.partition("=")
        cookies[name] = rest.partition(";")[0]
