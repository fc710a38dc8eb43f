"""What containers used, by the counters of the engine that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class Use(msgspec.Struct, frozen=True):
    """What a container has used since it started.

    Attributes:
        component: what it is for: `servers`, `store` or `balancer`.
        cpu_seconds: CPU time of all its processes.
        received_bytes: that came in over its networks, headers of TCP, IP and Ethernet included.
        sent_bytes: that went out, likewise.
    """

    component: str
    cpu_seconds: float
    received_bytes: int
    sent_bytes: int

    def __sub__(self, earlier: Use) -> Use:
        return Use(
            self.component,
            self.cpu_seconds - earlier.cpu_seconds,
            self.received_bytes - earlier.received_bytes,
            self.sent_bytes - earlier.sent_bytes,
        )


def since(now: Mapping[str, Use], before: Mapping[str, Use]) -> dict[str, Use]:
    """Return what each container used between two readings; one that came or went meanwhile is left out."""
    return {name: now[name] - before[name] for name in now if name in before}
