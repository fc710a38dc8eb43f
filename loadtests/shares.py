"""One plan, many workers: who of them plays which shopper.

A shopper's cookies live in one worker, and a shopper's requests must stay in order, so shoppers are dealt out and never
requests. Requests come at random from all shoppers alike: what a worker gets of a Poisson process is one again, and
all parts together are the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.plans import Plan, PlannedRequest


class Seats:
    """Which worker plays which shopper, for as long as the workers stay the same.

    Shoppers are dealt in turn as they appear, so that no worker ever plays more than one shopper more than another.

    Args:
        workers: their names; at least one, none twice.

    Raises:
        ValueError: there is none, or one of them twice.
    """

    def __init__(self, workers: Sequence[str]) -> None:
        if not workers or len(set(workers)) < len(workers):
            raise ValueError(f"expected at least one worker and none twice, got {list(workers)}")
        self.workers = tuple(workers)
        self._seats: dict[str, str] = {}

    def of(self, shopper: str) -> str:
        """Return the worker that plays a shopper."""
        return self._seats.setdefault(shopper, self.workers[len(self._seats) % len(self.workers)])

    def shoppers(self, worker: str) -> list[str]:
        """Return the shoppers that a worker has been dealt so far."""
        return [shopper for shopper, seat in self._seats.items() if seat == worker]

    def split(self, plan: Plan) -> dict[str, Plan]:
        """Split a plan: every request goes to exactly one worker, in its order, and all else stays as it is.

        Returns:
            Worker to its part; a worker without a request has an empty one, and lasts as long as the others.
        """
        parts: dict[str, list[PlannedRequest]] = {worker: [] for worker in self.workers}
        for planned in plan.requests:
            parts[self.of(planned.shopper)].append(planned)
        return {worker: msgspec.structs.replace(plan, requests=requests) for worker, requests in parts.items()}
