"""The claim that a run on hot servers judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.claim_rules.judgement import (
    ClaimVerdict,
    Judgement,
    Results,
    absent,
    at,
    by_interval,
    interval_of,
    numbers_of,
    out_of,
    pointed,
    shown,
    times,
    together,
    undecided,
)

if TYPE_CHECKING:
    from lab.statistics import Interval

CONCENTRATED = 1.5
EVEN = 1.2
"""From the first on, the busiest server's share ÷ the mean is concentrated; up to the second, it is not."""

LEFT_ALONE = 0.05
"""Up to this share of the requests of shoppers bound before, a new server takes nothing from the others."""

TAKES = 0.5
"""From this part of an even share on, it does."""

BESIDE_EVEN, BESIDE_TAKES = 1.15, 0.8
"""What `redis` has to show beside it: no more than this many times the mean, at least this part of an even share."""


def sticky_hotspot(results: Results) -> Judgement:
    """Judge whether bound shoppers concentrate traffic, and whether a new server cannot take it."""
    sticky = _figures(results, "sticky")
    if sticky is None:
        return absent("a server added under sticky")
    busiest, share = sticky
    servers = int(results["run"]["servers"]) + 1
    numbers = {
        **numbers_of("busiest_over_mean", busiest),
        **numbers_of("new_server_share", share),
        "even_share": 1 / servers,
    }
    text = (
        f"Under sticky the busiest server served {times(busiest)} the mean, and {_seconds(results)} s after a server "
        f"was added, it took {_taken(results, 'sticky')} requests of those bound before ({shown(share)}); an even "
        f"share is {100 / servers:.1f} %"
    )
    parts = _parts(busiest, share, servers)
    own, left = together(*(verdict for verdict, _ in parts)), undecided(*parts)
    redis = _figures(results, "redis")
    if redis is None:
        beside: ClaimVerdict = "does not hold" if own == "does not hold" else "cannot tell"
        return Judgement(beside, f"{text}. `redis` was not measured beside it.", numbers, left)
    even, took = redis
    numbers |= {**numbers_of("redis_busiest_over_mean", even), **numbers_of("redis_new_server_share", took)}
    text += f". Beside it redis: {times(even)} the mean, and the new server took {shown(took)}."
    if own == "holds" and not _beside(even, took, servers):
        return Judgement("cannot tell", f"{text} That is not as even as the claim needs to compare with.", numbers)
    return Judgement(own, text, numbers, left)


def _parts(busiest: Interval, share: Interval, servers: int) -> tuple[tuple[ClaimVerdict, str], ...]:
    """Judge what bound shoppers do to the busiest server and to the new one, with what either would take."""
    concentrates = by_interval(busiest, holds_from=CONCENTRATED, fails_to=EVEN)
    if share.low is None or share.high is None:
        stays: ClaimVerdict = "cannot tell"
    elif share.high <= LEFT_ALONE:
        stays = "holds"
    else:
        stays = "does not hold" if share.low >= TAKES / servers else "cannot tell"
    heap = f"the busiest server{pointed(busiest)}: from {CONCENTRATED} times on holds, up to {EVEN} does not"
    least = f"from {100 * TAKES / servers:.0f} % on does not"
    taken = f"the new server's share{pointed(share)}: up to {100 * LEFT_ALONE:.0f} % holds, {least}"
    return (concentrates, heap), (stays, taken)


def _beside(even: Interval, took: Interval, servers: int) -> bool:
    return (
        even.high is not None
        and even.high <= BESIDE_EVEN
        and took.low is not None
        and took.low >= BESIDE_TAKES / servers
    )


def _figures(results: Results, strategy: str) -> tuple[Interval, Interval] | None:
    story = _story(results, strategy)
    busiest = interval_of(at(story, "concentration"))
    share = interval_of(at(story, "added", "share"))
    return None if busiest is None or share is None else (busiest, share)


def _story(results: Results, strategy: str) -> Any:
    return at(results, "hotspot", "strategies", strategy)


def _taken(results: Results, strategy: str) -> str:
    added = at(_story(results, strategy), "added")
    return out_of(added["requests"], added["of"])


def _seconds(results: Results) -> str:
    return f"{at(_story(results, 'sticky'), 'added')['after_seconds']:.0f}"
