"""How long each part of a comparison is, in a quick run, by default, and in a full one."""

from __future__ import annotations

import msgspec

from loadtests.lifecycle import Roles


class Size(msgspec.Struct, frozen=True):
    """How long each part of a run is.

    Attributes:
        blocks: timed blocks.
        slice_seconds: length of one slice of a block.
        warmup_seconds: walking through the pages, after the logins and the first adds.
        control_seconds: shopping on the control, `isolated`.
        sync_seconds: shopping on all-to-all that waits for its peers.
        affinity_seconds: shopping on all-to-all with bound shoppers.
        two_tabs_seconds: for each write policy.
        lifetimes: idle and absolute lifetime of the lifecycle scenario's sessions, in seconds.
        begin_seconds: over how long its logins are spread.
        roles: its shoppers.
        rungs: session counts of the storage ladder.
        alone_seconds: shopping on each timed arm alone, where its containers' use is read before and after.
    """

    blocks: int
    slice_seconds: float
    warmup_seconds: float
    control_seconds: float
    sync_seconds: float
    affinity_seconds: float
    two_tabs_seconds: float
    lifetimes: tuple[float, float]
    begin_seconds: float
    roles: Roles
    rungs: tuple[int, ...]
    alone_seconds: float = 2.0


MANY = Roles(active=205, leaving=45, idling=15, outliving=15)
"""Enough for the claims on lifetimes: 200 who stay, 200 late requests."""

FEW = Roles(active=60, leaving=20, idling=10, outliving=10)

SIZES = {
    "quick": Size(
        blocks=10,
        slice_seconds=0.25,
        warmup_seconds=0.4,
        control_seconds=2,
        sync_seconds=2,
        affinity_seconds=1.5,
        two_tabs_seconds=1,
        lifetimes=(3, 5.5),
        begin_seconds=2,
        roles=FEW,
        rungs=(40, 80, 120),
    ),
    "default": Size(
        blocks=80,
        slice_seconds=0.3,
        warmup_seconds=0.5,
        control_seconds=18,
        sync_seconds=10,
        affinity_seconds=5,
        two_tabs_seconds=4,
        lifetimes=(8, 14.5),
        begin_seconds=8,
        roles=MANY,
        rungs=(100, 200, 300, 400),
        alone_seconds=6,
    ),
    "full": Size(
        blocks=180,
        slice_seconds=0.4,
        warmup_seconds=4,
        control_seconds=30,
        sync_seconds=20,
        affinity_seconds=10,
        two_tabs_seconds=10,
        lifetimes=(8, 14.5),
        begin_seconds=8,
        roles=MANY,
        rungs=(200, 400, 600, 800, 1000),
        alone_seconds=12,
    ),
}
