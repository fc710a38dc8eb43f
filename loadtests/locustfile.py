"""The same shoppers, driven by hand: `locust -f loadtests/locustfile.py --host http://127.0.0.1:PORT`.

Start a cluster with `make up STRATEGY=redis`, take its address, and watch Locust's web page on http://localhost:8089.
Good for looking; not for comparing: this load is closed (see docs/load.md), and Locust rounds what it reports.
"""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
from locust import FastHttpUser, task

sys.path.insert(0, str(Path(__file__).parents[1]))  # `locust` does not look for packages beside the folder

from loadtests import api
from loadtests.plans import FOLLOWED, Life, request

MEAN_WAIT_SECONDS = 1.0


class Shopper(FastHttpUser):
    """One shopper with one tab."""

    def on_start(self) -> None:
        """Log in under a name of one's own."""
        self.rng = np.random.default_rng()
        self.life = Life(self.rng)
        self.life.lines = 0  # nobody has filled this cart
        self.name = f"hand-{uuid4().hex[:8]}"
        self.send("login")

    def wait_time(self) -> float:
        """Wait at random: with `constant_pacing` or `constant_throughput` all users would send at the same moment."""
        return float(self.rng.exponential(MEAN_WAIT_SECONDS))

    @task
    def shop(self) -> None:
        """Do the next thing; after half of the adds, look at the cart, as after a redirect."""
        f = self.life.next(self.rng)
        self.send(f)
        if f == "add" and self.rng.random() < FOLLOWED:
            self.send("view")

    def send(self, f: str) -> None:
        """Send one request; Locust's page has one row for each kind."""
        planned = request(self.rng, 0.0, self.name, f, token=uuid4().hex[:12])
        method, path, body = api.http(planned)
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.client.request(method, path, name=f, data=body, headers=headers)
