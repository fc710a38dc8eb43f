"""Shoppers of a cluster: one request at a time, or a plan in the background."""

from __future__ import annotations

import threading

import msgspec
import requests

from loadtests.client import ArmTarget
from loadtests.plans import shopping_plan, warmup_plan

ATTEMPTS = 4
"""A busy machine may hold a server up for longer than the balancer waits for it; what is wrong shows every time."""


RATE_RPS, SECONDS, SHOPPERS = 100, 2.5, 20


class Load:
    """Shoppers who go on shopping while a test does something to their cluster."""

    def __init__(self, generator, pool):
        self._generator = generator
        self._pool = pool
        self._blocks = 0

    def enter(self, cluster):
        """Log everybody in."""
        self._arm = cluster.spec.name
        self._generator.open(
            ArmTarget(
                arm=self._arm,
                strategy=cluster.spec.strategy,
                url=cluster.url,
                server_urls={server.name: server.url for server in cluster.servers},
                cookie_name=cluster.cookie_name,
            )
        )
        self._generator.run([(self._arm, warmup_plan(1, rate_rps=RATE_RPS, seconds=0.5, shoppers=SHOPPERS))])
        cluster.quiet()

    def during(self, act):
        """Let them shop while `act` runs; return what they did from its beginning on, and what `act` returned."""
        plan = shopping_plan(1, self._blocks, rate_rps=RATE_RPS, seconds=SECONDS, shoppers=SHOPPERS)
        self._blocks += 1
        stay = [planned for planned in plan.requests if planned.f not in {"login", "logout"}]
        shopping = self._pool.submit(self._generator.run, [(self._arm, msgspec.structs.replace(plan, requests=stay))])
        returned = act()
        return shopping.result().operations, returned


def add(shopper, url, token):
    """Put something into the cart."""
    answer = shopper.post(f"{url}/api/cart", json={"token": token, "product": 1, "quantity": 1}, timeout=10)
    answer.raise_for_status()
    return served_by(answer)


def cart(shopper, url, **options):
    """Return the tokens in the cart, sorted."""
    answer = shopper.get(f"{url}/api/cart", timeout=10, **options)
    answer.raise_for_status()
    return sorted(line["token"] for line in answer.json()["cart"])


def served_by(answer):
    """Return who answered."""
    return answer.headers["X-Served-By"]


def newcomers(cluster, count):
    """Return who serves so many shoppers who come for the first time."""
    return [served_by(requests.get(f"{cluster.url}/api/cart", timeout=10)) for _ in range(count)]


def server(cluster, name):
    """Return a server by its name."""
    return next(one for one in cluster.servers if one.name == name)


def failed(operations):
    """Return what was not answered as it should be."""
    return [(one.f, one.server, one.error) for one in operations if one.error]


def wait_for(come, seconds=20):
    """Wait until it comes; return whether it did."""
    for _ in range(seconds * 20):
        if come():
            return True
        threading.Event().wait(0.05)
    return False
