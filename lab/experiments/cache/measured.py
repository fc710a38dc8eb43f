"""What a run of `cache` measured, before anything is concluded from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from lab.measuring.facts import Facts
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from lab.experiments.cache import direct
    from lab.experiments.cache.experiment import Settings
    from lab.measuring import capacity
    from lab.measuring.timed import TimedRun


class OriginUse(msgspec.Struct):
    """What a slice asked of PostgreSQL.

    Attributes:
        queries: how often a connection was used.
        seconds: for how long, all connections together.
    """

    queries: int
    seconds: float


class Outage(msgspec.Struct):
    """What visitors saw when the origin was killed, and when it was back.

    Attributes:
        operations: of both arms.
        start_ns: of the load.
        struck_ns: when PostgreSQL was about to be killed.
        dead_ns: when all its processes were gone.
        repaired_ns: when it answered again.
        rate_rps: offered to each arm.
    """

    operations: list[Operation]
    start_ns: int
    struck_ns: int
    dead_ns: int
    repaired_ns: int
    rate_rps: float


@dataclass
class Measured(Facts):
    """Filled by the procedure, part by part.

    Attributes:
        settings: what the user asked for.
        timed: kind of load to its slices.
        used: kind, arm and block to what the slice asked of PostgreSQL.
        found: the search for capacity.
        hits: the sweep over popularity and size.
        updates: the sweep over updates.
        stampede: way to fill to the requests for the hot search.
        outage: None where the origin is not the lab's to kill.
        left_out: part to why it was left out.
        cache: what the cache says about itself in the end.
    """

    settings: Settings
    timed: dict[str, TimedRun] = field(default_factory=dict)
    used: dict[tuple[str, str, int], OriginUse] = field(default_factory=dict)
    found: capacity.Found | None = None
    hits: list[direct.Hits] = field(default_factory=list)
    updates: list[direct.Updates] = field(default_factory=list)
    stampede: dict[str, list[Operation]] = field(default_factory=dict)
    outage: Outage | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
