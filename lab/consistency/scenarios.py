"""Which checks a scenario exercises, and how many opportunities each needs before it may say `ok`."""

from __future__ import annotations

from lab.consistency.history import HistoryError
from strategies import STRATEGIES

__all__ = ["CROSS_SERVER", "GUARANTEES", "SCENARIOS", "binds", "exercised", "has_one_local_copy"]

GUARANTEES = ("read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads")
"""The four session guarantees of Terry et al., "Session guarantees for weakly consistent replicated data" (1994)."""

CROSS_SERVER = 30
"""Opportunities across servers that each session guarantee needs besides, where the balancer does not bind shoppers."""

SCENARIOS: dict[str, dict[str, int]] = {
    "shopping": {
        **dict.fromkeys(GUARANTEES, 100),
        "lost_writes": 30,
        "stale_reads": 100,
        "divergence": 10,
        "sessions_lost": 100,
        "phantoms": 100,
    },
    "two-tabs": {"lost_updates": 30, "lost_writes": 30, "divergence": 10},
    "lifecycle": {"sessions_lost": 100, "resurrections": 20},
    "failover": {"lost_writes": 30, "sessions_lost": 100, "stale_reads": 100, "phantoms": 100},
}
"""Scenario to check to the least number of opportunities. `phantoms` are what `failover` calls wrong answers."""


def exercised(scenario: str) -> dict[str, int]:
    """Return the checks that a scenario exercises, with the opportunities each needs.

    Raises:
        HistoryError: there is no such scenario.
    """
    if scenario not in SCENARIOS:
        raise HistoryError(f"unknown scenario {scenario!r}. There are: {', '.join(SCENARIOS)}.")
    return SCENARIOS[scenario]


def binds(strategy: str, arm: str) -> bool:
    """Say whether the balancer binds a shopper to one server, so that nothing crosses servers."""
    known = STRATEGIES.get(strategy)
    return arm.endswith("with affinity") or (known is not None and known.balancer == "affinity")


def has_one_local_copy(strategy: str) -> bool:
    """Say whether a session lives in the one server that its shopper is bound to, and nowhere else."""
    known = STRATEGIES.get(strategy)
    return known is not None and known.balancer == "affinity" and known.copies == "1"
