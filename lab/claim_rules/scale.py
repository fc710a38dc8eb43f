"""The claims that a scale run judges."""

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
    n,
    numbers_of,
    pointed,
    shown,
    times,
    together,
    undecided,
)
from lab.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (1, 2, 4, 8)
"""Numbers of servers that the claims speak of."""

COPIES_OFF = 0.02
LEAST_PHYSICAL = 6.0
BYTES_RATIO = 7.0
BYTES_OFF = 0.15
FEWEST_BYTES_RATIO = 4.0


def copies_n(results: Results) -> Judgement:
    """Judge whether all-to-all keeps every session on every server, in ids and in memory."""
    points = at(results, "scale", "points", "all-to-all")
    if points is None:
        return absent("all-to-all")
    copies = {size: at(points, str(size), "copies") for size in SIZES}
    known = {size: value for size, value in copies.items() if value is not None}
    if not known:
        return absent("copies under all-to-all")
    physical = quotient(*(interval_of(at(points, str(size), "physical_bytes")) for size in (8, 1)))
    told = ", ".join(f"{value:.2f} with {size}" for size, value in known.items())
    occupied = "" if physical is None else f"; 8 servers occupy {times(physical)} the bytes of 1 for a session"
    evidence = f"Ids found on all servers per session: {told}{occupied}."
    numbers: dict[str, float | None] = {f"copies_{size}": value for size, value in copies.items()}
    numbers |= numbers_of("physical_8_to_1", physical)
    if any(value <= size / 2 for size, value in known.items()):
        return Judgement("does not hold", evidence, numbers)
    if missing := _missing(known):
        return Judgement("cannot tell", f"{evidence} {missing}", numbers)
    exact = all(abs(value / size - 1) <= COPIES_OFF for size, value in known.items())
    big: ClaimVerdict = "holds" if physical is not None and (physical.low or 0) >= LEAST_PHYSICAL else "cannot tell"
    parts: tuple[tuple[ClaimVerdict, str], ...] = (
        ("holds" if exact else "cannot tell", f"the copies: N, give or take {100 * COPIES_OFF:.0f} %, hold"),
        (big, f"the bytes of 8 servers to 1{pointed(physical)}: from {LEAST_PHYSICAL:.0f} times on holds"),
    )
    return Judgement(together(*(verdict for verdict, _ in parts)), evidence, numbers, undecided(*parts))


def replication_traffic(results: Results) -> Judgement:
    """Judge whether traffic between servers grows with their number, and whether it is needed."""
    points = at(results, "scale", "points", "all-to-all")
    if points is None:
        return absent("all-to-all")
    ratio = quotient(*(interval_of(at(points, str(size), "per_write", "bytes")) for size in (8, 2)))
    unread = interval_of(at(points, "8", "unread", "rate"))
    parts = [_grown(ratio), _wasted(unread, results)]
    numbers = {**numbers_of("bytes_8_to_2", ratio), **numbers_of("unread_8", unread)}
    numbers |= numbers_of("unread_bound", interval_of(at(results, "scale", "unread_bound", "rate")))
    missing = _missing([size for size in SIZES if at(points, str(size)) is not None])
    evidence = " ".join([*parts, *([missing] if missing else [])])
    least, most = BYTES_RATIO * (1 - BYTES_OFF), BYTES_RATIO * (1 + BYTES_OFF)
    left = undecided(
        (_linear(ratio), f"the bytes{pointed(ratio)}: {least:.1f} to {most:.1f} times holds, less than 4 does not"),
        (_needless(unread), f"the changes never read{pointed(unread)}: from 50 % on holds, up to 20 % does not"),
    )
    return Judgement(together(_linear(ratio), _needless(unread)), evidence, numbers, "" if missing else left)


def _linear(ratio: Interval | None) -> ClaimVerdict:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "cannot tell"
    if ratio.high < FEWEST_BYTES_RATIO:
        return "does not hold"
    least, most = BYTES_RATIO * (1 - BYTES_OFF), BYTES_RATIO * (1 + BYTES_OFF)
    return "holds" if least <= ratio.low and ratio.high <= most else "cannot tell"


def _needless(unread: Interval | None) -> ClaimVerdict:
    return "cannot tell" if unread is None else by_interval(unread, holds_from=0.5, fails_to=0.2)


def _grown(ratio: Interval | None) -> str:
    if ratio is None:
        return "Bytes between servers were not counted with 2 and 8 servers (this system may not tell them)."
    return f"A write costs {times(ratio)} as many bytes between 8 servers as between 2 (7 were linear in N - 1)."


def _wasted(unread: Interval | None, results: Results) -> str:
    if unread is None:
        return "What became of the changes was not seen with 8 servers."
    bound = at(results, "scale", "unread_bound", "rate", "estimate")
    beside = "" if bound is None else f"; of those to bound shoppers {100 * bound:.0f} %"
    return (
        f"Of the changes delivered to 7 other servers {shown(unread)} were never read there before the load ended, "
        f"under round robin{beside}."
    )


def _missing(known: Sequence[int] | dict[int, Any]) -> str:
    left = [size for size in SIZES if size not in known]
    return f"It takes {', '.join(map(n, left))} servers, too, to judge." if left else ""


def quotient(over: Interval | None, under: Interval | None) -> Interval | None:
    """Divide two independent figures; the interval is as wide as both ends allow, so at least 95 %."""
    if over is None or under is None or under.estimate <= 0:
        return None
    estimate = over.estimate / under.estimate
    if over.low is None or over.high is None or under.low is None or under.high is None or under.low <= 0:
        return Interval(estimate)
    return Interval(estimate, over.low / under.high, over.high / under.low)
