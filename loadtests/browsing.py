"""The usual shopping, with the shop's list among the pages of the catalogue.

Pages of the catalogue touch no session: whatever slows them down, it is not their own session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from loadtests.plans import Plan

CATALOGUE = frozenset({"product", "search", "list"})
"""What a shopper does without a session."""

LISTED = 0.25
"""Share of the looks at a product that become a look at the page of the list on which it stands."""


def browsing(plan: Plan, seed: int) -> Plan:
    """Let shoppers look at pages of the list, too: sessions are used as before.

    Args:
        plan: of the `shopping` scenario.
        seed: of the run; the same plan and seed give the same load.
    """
    rng = np.random.default_rng([seed, plan.block, 0x115])
    requests = [
        msgspec.structs.replace(request, f="list") if request.f == "product" and rng.random() < LISTED else request
        for request in plan.requests
    ]
    return msgspec.structs.replace(plan, requests=requests)
