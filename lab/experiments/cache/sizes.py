"""How long each part of a run of `cache` is, in a quick run and by default."""

from __future__ import annotations

import msgspec

from lab.measuring import capacity


class Size(msgspec.Struct, frozen=True):
    """How long each part of a run is.

    Attributes:
        blocks: timed blocks of each kind of load.
        thorough_blocks: of thorough searches, which take longest, and differ so much that fewer will do.
        slice_seconds: length of one slice of a block.
        warmup_seconds: visits before, at three times the load.
        search: how thoroughly capacity is searched for.
        reads: of each point of the sweep over popularity and size.
        points: exponents of popularity with shares of the products that the cache has room for.
        updates: updates per read, and whether a change deletes what shows it.
        updates_seconds: for each of them.
        stampede_seconds: for each of the two ways to fill.
        outage_seconds: before the origin is killed, until it is started again, and after that.
    """

    blocks: int
    thorough_blocks: int
    slice_seconds: float
    warmup_seconds: float
    search: capacity.Search
    reads: int
    points: tuple[tuple[float, float], ...]
    updates: tuple[tuple[float, bool], ...]
    updates_seconds: float
    stampede_seconds: float
    outage_seconds: tuple[float, float, float]


SIZES = {
    "quick": Size(
        blocks=8,
        thorough_blocks=8,
        slice_seconds=0.2,
        warmup_seconds=1,
        search=capacity.Search(start_rps=500, factor=1.5, slice_seconds=0.7, passes=1, steps=2),
        reads=1600,
        points=((0.0, 0.05), (0.5, 0.05), (1.0, 0.05), (1.0, 0.2)),
        updates=((0.0, True), (0.1, True), (0.1, False)),
        updates_seconds=1.2,
        stampede_seconds=2.3,
        outage_seconds=(1.5, 1.5, 2.5),
    ),
    "default": Size(
        blocks=18,
        thorough_blocks=9,
        slice_seconds=0.4,
        warmup_seconds=4,
        search=capacity.Search(start_rps=400, factor=1.3, slice_seconds=1.0, passes=8, steps=2),
        reads=4800,
        points=tuple((exponent, share) for exponent in (0.0, 0.5, 1.0) for share in (0.02, 0.05, 0.2)),
        updates=((0.0, True), (0.01, True), (0.03, True), (0.1, True), (0.01, False), (0.03, False), (0.1, False)),
        updates_seconds=3.0,
        stampede_seconds=6.2,
        outage_seconds=(9.0, 9.0, 5.0),
    ),
}
