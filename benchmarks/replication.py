"""What replication costs, and what a server that hangs does to it: `python -m benchmarks.replication [--quick]`.

First the cost against the number of servers N: shoppers save one field of their sessions, each save on the next server,
at a steady rate and as fast as they can. CPU time is that of the servers alone, beside the same load on servers that
tell nobody (`isolated`), interleaved. Aim: under load fewer requests to peers per write than N - 1, for messages that
gather share one.

Then one of four servers hangs for three seconds under steady writes and reads, and goes on: how long the slowest write
took, and what a shopper's read on that server showed right after it went on.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import statistics
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from lab.cluster import ClusterSpec, Lab
from strategies.peers import SYNC_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.cluster import Cluster
    from strategies.contract import Replication

SIZES = (2, 4, 8)
STEADY_RPS = 100
SHOPPERS = 16
HANG_SECONDS = 3.0
HANG_TIMEOUT_SECONDS = 1.0
"""`timeout_seconds` while a server hangs; a `sync` write waits for `SYNC_SHARE` of it at most."""


class Shopper:
    """One shopper with one connection to each server and the cookies of one browser."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._connections = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=10) for url in urls]
        self.cookies: dict[str, str] = {}

    def write(self, server: int) -> float:
        """Save one field on one server; return the milliseconds that it took."""
        began = time.perf_counter()
        self._request(server, "POST", "/api/visit", {"page": "list", "seconds": 1.0, "product": None})
        return 1000 * (time.perf_counter() - began)

    def add(self, server: int, token: str) -> None:
        """Put a product into the cart, on one server."""
        self._request(server, "POST", "/api/cart", {"token": token, "product": 1, "quantity": 1})

    def cart(self, server: int) -> set[str]:
        """Return the tokens in the cart, as one server shows it."""
        return {line["token"] for line in self._request(server, "GET", "/api/cart")["cart"]}

    def forget_clock(self) -> None:
        """Do as a browser that does not send the clock of its last write."""
        self.cookies = {name: value for name, value in self.cookies.items() if not name.endswith("_clock")}

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def _request(self, server: int, method: str, path: str, body: object = None) -> dict[str, list[dict[str, str]]]:
        connection = self._connections[server]
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Content-Type": "application/json", "Cookie": cookies}
        connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise SystemExit(f"{method} {path} was answered with {response.status}: {text[:200]!r}")
        for line in response.headers.get_all("Set-Cookie") or []:
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        answer: dict[str, list[dict[str, str]]] = msgspec.json.decode(text)
        return answer


def load(cluster: Cluster, seconds: float, rate_rps: float | None) -> int:
    """Write from all shoppers, each time on the next server; return how many writes that were.

    Args:
        cluster: whose servers.
        seconds: for how long.
        rate_rps: writes per second of all together; None for as many as they can.
    """
    urls = [server.url for server in cluster.servers]
    ends = time.perf_counter() + seconds

    def shop(number: int) -> int:
        shopper, written = Shopper(urls), 0
        began = time.perf_counter() + (number / rate_rps if rate_rps else 0.0)
        for turn in itertools.count():
            due = began + (turn * SHOPPERS / rate_rps if rate_rps else 0.0)
            if max(due, time.perf_counter()) >= ends:
                break
            time.sleep(max(0.0, due - time.perf_counter()))
            shopper.write((number + turn) % len(urls))
            written += 1
        shopper.close()
        return written

    with ThreadPoolExecutor(SHOPPERS) as pool:
        return sum(pool.map(shop, range(SHOPPERS)))


def spent(cluster: Cluster) -> Counter[str]:
    """Return what the servers have spent and sent so far."""
    totals = Counter({"cpu_ms": sum(1000 * counters.cpu_seconds for counters in cluster.counters().values())})
    for census in cluster.census().values():
        for name in ("sent_create", "sent_save", "batches_sent", "bytes_sent", "catch_ups"):
            totals[name] += census.details.get(name, 0)
    return totals


def per_write(cluster: Cluster, seconds: float, rate_rps: float | None) -> dict[str, float]:
    """Load a cluster; return what a write cost, and `rps`, how many there were per second."""
    before = spent(cluster)
    writes = load(cluster, seconds, rate_rps)
    cluster.quiet()
    after = spent(cluster)
    figures = {name: (after[name] - before[name]) / writes for name in after}
    return {**figures, "messages": figures["sent_create"] + figures["sent_save"], "rps": writes / seconds}


def cost(lab: Lab, servers: int, rounds: int) -> None:
    """Print what a write costs on so many servers, at the steady rate and flat out."""
    names = [f"isolated {servers}", f"all-to-all {servers}"]
    alone, cluster = lab.start(*[ClusterSpec(name=name, strategy=name.split()[0], servers=servers) for name in names])
    for rate_rps in (STEADY_RPS, None):
        for each in (alone, cluster):
            load(each, 0.5, rate_rps)
        runs = [(per_write(alone, 1.0, rate_rps), per_write(cluster, 1.0, rate_rps)) for _ in range(rounds)]

        def median(which: int, name: str, runs: Sequence[tuple[dict[str, float], ...]] = runs) -> float:
            return statistics.median(run[which][name] for run in runs)

        replication = statistics.median(after["cpu_ms"] - before["cpu_ms"] for before, after in runs)
        print(
            f"N = {servers}  {'steady  ' if rate_rps else 'flat out'} {median(1, 'rps'):5.0f} writes/s   "
            f"CPU {median(1, 'cpu_ms'):5.2f} ms/write, of it replication {replication:5.2f}   per write: "
            f"{median(1, 'messages'):4.2f} messages in {median(1, 'batches_sent'):4.2f} requests, "
            f"{median(1, 'bytes_sent'):5.0f} bytes, {median(1, 'catch_ups'):.3f} questions"
        )
    for each in (alone, cluster):
        each.close()


def hang(lab: Lab, replication: Replication) -> None:
    """Print what one server that hangs does to the writes on the others, and to reads after it went on."""
    (cluster,) = lab.start(
        ClusterSpec(
            name=f"hang {replication}",
            strategy="all-to-all",
            replication=replication,
            timeout_seconds=HANG_TIMEOUT_SECONDS,
        )
    )
    shoppers = [Shopper([server.url for server in cluster.servers]) for _ in range(SHOPPERS)]
    for number, shopper in enumerate(shoppers):
        shopper.add(number % 3, "before")
    cluster.quiet()
    seen = one_hangs(cluster, shoppers)
    print_hang(replication, seen, spent_on_absence(cluster))
    for shopper in shoppers:
        shopper.close()
    cluster.close()


class Hang(NamedTuple):
    """What was seen of a hanging server.

    Attributes:
        slowest_before_ms: the slowest write before it hung.
        took_ms: every write on the other servers since.
        shown: whether it showed each shopper's write right after it went on; every other shopper had lost the clock.
    """

    slowest_before_ms: float
    took_ms: list[float]
    shown: list[bool]


def one_hangs(cluster: Cluster, shoppers: Sequence[Shopper]) -> Hang:
    """Let the last server hang while others write, and these shoppers, who then look at it."""
    took_ms: list[float] = []
    with ThreadPoolExecutor(len(shoppers)) as pool, writing(cluster, took_ms):
        time.sleep(1.0)
        slowest_before_ms = max(took_ms)
        took_ms.clear()
        cluster.pause("web-4")
        time.sleep(HANG_SECONDS - 0.5)
        for number, shopper in enumerate(shoppers):
            shopper.add(number % 3, "hung")
        time.sleep(0.5)
        for shopper in shoppers[::2]:  # half of the browsers do not send the clock back
            shopper.forget_clock()
        cluster.resume("web-4")
        shown = list(pool.map(lambda shopper: "hung" in shopper.cart(3), shoppers))
    return Hang(slowest_before_ms, took_ms, shown)


@contextmanager
def writing(cluster: Cluster, took_ms: list[float]) -> Iterator[None]:
    """Keep shoppers of their own writing on all servers but the last; note how long each write takes."""
    stop = threading.Event()

    def keep_writing(number: int) -> None:
        shopper = Shopper([server.url for server in cluster.servers])
        for turn in itertools.count(number):
            if stop.wait(0.02):
                break
            took_ms.append(shopper.write(turn % 3))
        shopper.close()

    with ThreadPoolExecutor(SHOPPERS) as pool:
        writers = [pool.submit(keep_writing, number) for number in range(SHOPPERS)]
        try:
            yield
        finally:
            stop.set()
        for writer in writers:
            writer.result()


def print_hang(replication: Replication, seen: Hang, counts: Counter[str]) -> None:
    """Print what was seen of a hanging server, and what the cluster's servers counted."""
    took_ms, deadline_ms = seen.took_ms, 1000 * HANG_TIMEOUT_SECONDS * SYNC_SHARE
    held_up = sum(each >= deadline_ms for each in took_ms)
    clockless, others = seen.shown[::2].count(False), seen.shown[1::2].count(False)
    print(
        f"{replication:5}  {len(took_ms)} writes while one of 4 servers hung: median {statistics.median(took_ms):.1f} "
        f"ms, slowest {max(took_ms):.0f} ms (before: {seen.slowest_before_ms:.0f} ms), {held_up} of {deadline_ms:.0f} "
        f"ms or more\n       {counts['peer_timeouts']:.0f} peer timeouts, {counts['messages_missed']:.0f} messages "
        f"missed, {counts['transfers']:.0f} transfers; "
        f"own writes not shown by the server right after it went on: {others} of {SHOPPERS // 2} with the clock, "
        f"{clockless} of {SHOPPERS // 2} without"
    )


def spent_on_absence(cluster: Cluster) -> Counter[str]:
    """Return what the cluster's servers have counted about peers that were away."""
    counts: Counter[str] = Counter()
    for census in cluster.census().values():
        counts.update({name: int(census.details[name]) for name in ("peer_timeouts", "messages_missed", "transfers")})
    return counts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    rounds = 1 if parser.parse_args().quick else 5
    modes: tuple[Replication, ...] = ("async", "sync")
    with tempfile.TemporaryDirectory() as run, Lab(Path(run)) as lab:
        for servers in SIZES:
            cost(lab, servers, rounds)
        for replication in modes:
            hang(lab, replication)


if __name__ == "__main__":
    main()
