"""Shoppers who come in through a published port, a few at a time, and remember what is in their carts."""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import contextmanager, suppress

import requests

from lab.engines.ports import bound_socket
from lab.errors import PortsExhausted

PATIENCE_SECONDS = 120.0
"""How long a deployment on a busy machine may take to come to rest."""

PAUSE_SECONDS = 0.05
"""Between two requests of a light load."""

_GIVEN: set[int] = set()


def quiet_port():
    """Return a free port that the system gives to nobody who asks for any: minutes pass until it is published."""
    for _ in range(100):
        port = random.randrange(12_000, 20_000)
        if port in _GIVEN:
            continue
        with suppress(PortsExhausted):
            bound_socket(port).close()
            _GIVEN.add(port)
            return port
    raise PortsExhausted("no free port was found between 12000 and 20000")


def wait_until(condition, what):
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it did not come within {PATIENCE_SECONDS:.0f} s: {what}"
        time.sleep(0.5)


def hearing(*command):
    """Return a command that hears Ctrl-C, also where a shell runs these tests in the background."""
    script = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", script, *map(str, command)]


class Shoppers:
    """Some shoppers of one shop, each logged in and with one thing in the cart.

    Args:
        url: of the balancer.
        count: how many.
    """

    def __init__(self, url, count=12):
        self.url = url
        self._tabs = {f"s{number}": requests.Session() for number in range(count)}
        for name, tab in self._tabs.items():
            tab.trust_env = False
            wait_until(lambda name=name, tab=tab: self._enter(name, tab), f"{name} is in the shop")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for tab in self._tabs.values():
            tab.close()

    @property
    def cookies(self):
        """Return the names of the first shopper's cookies."""
        return set(next(iter(self._tabs.values())).cookies.keys())

    def kept(self):
        """Return how many carts still show what was put in first; a shop that does not answer shows none."""
        return sum(self._shows(name) for name in self._tabs)

    def served_by(self):
        """Return who answers each shopper, by the shopper's name."""
        answers = {name: tab.get(f"{self.url}/api/cart", timeout=10) for name, tab in self._tabs.items()}
        return {name: answer.headers.get("X-Served-By") for name, answer in answers.items()}

    def servers(self):
        """Return the servers that answered, with everyone asking once."""
        answers = [self._try(tab.get, "/api/cart") for tab in self._tabs.values()]
        return {answer.headers.get("X-Served-By") for answer in answers if answer is not None and answer.ok}

    @contextmanager
    def shopping(self):
        """Let them look and buy in turn, in the background; gives the requests sent, and those that failed."""
        sent, failed, enough = [], [], threading.Event()

        def shop():
            while not enough.wait(PAUSE_SECONDS):
                name, tab = list(self._tabs.items())[len(sent) % len(self._tabs)]
                sent.append(name)
                try:
                    answer = (
                        self._add(tab, f"{name}.{len(sent)}")
                        if len(sent) % 5 == 0
                        else tab.get(f"{self.url}/api/cart", timeout=10)
                    )
                except requests.RequestException as error:
                    failed.append(type(error).__name__)
                else:
                    failed.extend([answer.status_code] if answer.status_code >= 500 else [])

        thread = threading.Thread(target=shop)
        thread.start()
        try:
            yield sent, failed
        finally:
            enough.set()
            thread.join()

    def _enter(self, name, tab):
        """Log in and put something into the cart; a machine that is busy with other tests may refuse for a while."""
        entered = self._try(tab.post, "/api/login", json={"user": name})
        if entered is None or not entered.ok:
            return False
        added = self._try(tab.post, "/api/cart", json={"token": name, "product": 1, "quantity": 1})
        return added is not None and added.ok

    def _try(self, send, path, **options):
        try:
            return send(f"{self.url}{path}", timeout=10, **options)
        except requests.RequestException:
            return None

    def _add(self, tab, token):
        return tab.post(f"{self.url}/api/cart", json={"token": token, "product": 1, "quantity": 1}, timeout=10)

    def _shows(self, name):
        answer = self._try(self._tabs[name].get, "/api/cart")
        return answer is not None and answer.ok and name in [line["token"] for line in answer.json()["cart"]]
