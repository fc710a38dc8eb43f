"""How long the checker takes: `python -m benchmarks.checker [--quick]`.

Three made-up histories with the mix of the `shopping` scenario: a healthy store, one whose
copies lag (one view in ten is stale, so witnesses are sought all the time), and one that loses half of what it is told.
Aim: 200,000 operations in under 10 s, reading the file included.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from lab.consistency.checks import check
from lab.consistency.history import read_history, write_history
from loadtests.recorder import Operation

SERVERS = 4
SHOPPERS = 400
MIX = {"view": 43, "add": 15, "visit": 16, "product": 26}
"""What shoppers do, in percent: that of `loadtests.plans`, the views that follow an add included."""

CART = 12
"""Lines at which a shopper checks out."""


def history(operations: int, *, stale: float, lost: float, seed: int = 1) -> list[Operation]:
    """Make up a history of one arm with one tab a shopper.

    Args:
        operations: how many requests, without the final views.
        stale: share of views that lack the latest item.
        lost: share of adds that are acknowledged and forgotten.
        seed: of all draws.
    """
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    carts: list[list[str]] = [[] for _ in range(SHOPPERS)]
    made = [_operation(i, carts[i % SHOPPERS], rng, stale=stale, lost=lost) for i in range(operations)]
    for shopper, cart in enumerate(carts):
        for server in range(SERVERS):
            made.append(_line(len(made), shopper, "final_view", server=server, cart=cart))
    return made


def _operation(i: int, cart: list[str], rng: random.Random, *, stale: float, lost: float) -> Operation:
    shopper = i % SHOPPERS
    server = rng.randrange(SERVERS)
    if len(cart) == CART:
        cart.clear()
        return _line(i, shopper, "checkout", server=server, cart=cart, token=f"order.{i}")
    f = rng.choices(list(MIX), list(MIX.values()))[0]
    if f in {"product", "visit"}:
        return _line(i, shopper, f, server=server, cart=None)
    if f == "add":
        token = f"s{shopper}.{i}"
        answer = _line(i, shopper, "add", server=server, cart=[*cart, token], token=token)
        if rng.random() >= lost:
            cart.append(token)
        return answer
    shown = cart[:-1] if rng.random() < stale else cart
    return _line(i, shopper, "view", server=server, cart=shown)


def _line(i: int, shopper: int, f: str, *, server: int, cart: list[str] | None, token: str | None = None) -> Operation:
    return Operation(
        i=i,
        arm="made up",
        strategy="redis",
        scenario="shopping",
        phase="final" if f == "final_view" else "main",
        shopper=f"s{shopper}",
        tab=0,
        f=f,
        token=token,
        intended_ns=i * 10_000,
        t0_ns=i * 10_000,
        t1_ns=i * 10_000 + 3_000_000,
        outcome="ok",
        status=200,
        server=f"web-{server + 1}",
        cart=None if cart is None else list(cart),
        quantities=None if cart is None else dict.fromkeys(cart, 1),
        session=None if f == "product" else f"{shopper:012x}",
        user=f"s{shopper}",
        saved=f in {"add", "visit", "checkout"},
    )


def main() -> None:
    """Print what reading and checking take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="20,000 operations instead of 200,000")
    size = 20_000 if parser.parse_args().quick else 200_000
    for name, stale, lost in (("healthy", 0.0, 0.0), ("copies lag", 0.1, 0.0), ("half is lost", 0.0, 0.5)):
        made = history(size, stale=stale, lost=lost)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.jsonl"
            write_history(path, made)
            start, cpu = time.perf_counter(), time.process_time()
            operations = read_history(path)
            read = time.perf_counter()
        result = check(operations, "shopping")
        end = time.perf_counter()
        print(
            f"{name:<13} {len(made):>8,} operations: read {read - start:5.2f} s, checked {end - read:5.2f} s "
            f"(CPU {time.process_time() - cpu:5.2f} s in all); verdict {result['verdict']}, read your writes "
            f"{result['read_your_writes']['violations']:,} of {result['read_your_writes']['opportunities']:,}"
        )


if __name__ == "__main__":
    main()
