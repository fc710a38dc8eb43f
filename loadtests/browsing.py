"""Shoppers who look around more than others: half of their requests are pages of the catalogue.

Pages of the catalogue touch no session: whatever slows them down, it is not their own session. Sessions are written
as often as in the usual shopping, and read less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadtests.plans import PRODUCTS, TERMS

if TYPE_CHECKING:
    from loadtests.plans import Plan, PlannedRequest

CATALOGUE = ("product", "search", "list")
"""What a shopper does without a session."""

SHARES = (0.5, 0.25, 0.25)
"""Shares of these among the pages that are looked at instead of the cart."""

INSTEAD = 0.5
"""Share of the looks at the cart that become a look at a page of the catalogue."""


def browsing(plan: Plan, seed: int) -> Plan:
    """Let shoppers look at pages of the catalogue instead of every second look at the cart.

    Args:
        plan: of the `shopping` scenario.
        seed: of the run; the same plan and seed give the same load.
    """
    rng = np.random.default_rng([seed, plan.block, 0x115])
    requests = [
        _look(request, rng) if request.f == "view" and rng.random() < INSTEAD else request for request in plan.requests
    ]
    return msgspec.structs.replace(plan, requests=requests)


def _look(request: PlannedRequest, rng: np.random.Generator) -> PlannedRequest:
    f = str(rng.choice(CATALOGUE, p=SHARES))
    product, term = int(rng.integers(1, PRODUCTS + 1)), str(rng.choice(TERMS))
    what = {"term": term} if f == "search" else {"product": product}
    return msgspec.structs.replace(request, f=f, **what)
