"""The claim that a contention run judges: do sessions in the service's own database slow the whole service?"""

from __future__ import annotations

from lab.claim_rules.judgement import (
    ClaimVerdict,
    Judgement,
    Results,
    absent,
    at,
    interval_of,
    n,
    numbers_of,
    times,
    undecided,
)
from lab.statistics import CROWDED, Interval, carries, needed_for

HOLDS_FROM = 1.10
"""At least this many times as long at one load at least: it slows the whole service."""

FAILS_TO = 1.05
"""At most this many times as long at every load: it does not."""

P95 = 0.95
PAGES = needed_for(P95)
"""Catalogue pages that each arm needs at a load: with fewer, one page in twenty is too few pages to judge by."""


def database_slows(results: Results) -> Judgement:
    """Judge the 95th percentile of the catalogue's pages, `database` to `redis`, at every load.

    Not at a load that is crowded, nor where the pages of either arm do not carry that percentile.
    """
    points = at(results, "contention", "points")
    if not points:
        return absent("the catalogue's pages under database and redis")
    judged = {_name(point): ratio for point in points if _counts(point) and (ratio := interval_of(point.get("ratio")))}
    left = [point for point in points if not (_counts(point) and interval_of(point.get("ratio")))]
    counts: dict[str, float | None] = {"judged": len(judged), "not_judged": len(left), "pages_needed": PAGES}
    if not judged:
        return Judgement("cannot tell", f"No load of {n(len(points))} is judged: {_why_not(left)}.", counts)
    verdict = _verdict(list(judged.values()))
    shown = max(judged, key=lambda name: _decides(judged[name], verdict))
    numbers = {**counts, **numbers_of("ratio", judged[shown]), "holds_from": HOLDS_FROM, "fails_to": FAILS_TO}
    evidence = (
        f"{_looks(len(judged), left)} {_found(judged, verdict)}: 95th percentile of the catalogue's pages, database / "
        f"redis, {times(judged[shown])} at {shown}{_for_all(points, verdict)}.{_full(points)}"
    )
    takes = f"the ratios: from {HOLDS_FROM:.2f} times on at one load holds, up to {FAILS_TO:.2f} at every load does not"
    return Judgement(verdict, evidence, numbers, undecided((verdict, takes)))


def _counts(point: Results) -> bool:
    return _has_room(point) and carries(_pages(point), P95) == "number"


def _has_room(point: Results) -> bool:
    return point.get("cpu_share") is not None and point["cpu_share"] < CROWDED


def _pages(point: Results) -> int:
    """Return how many catalogue pages were timed on the arm that has fewer."""
    return min(at(point, "arms", arm, "catalogue", "requests") or 0 for arm in ("database", "redis"))


def _name(point: Results) -> str:
    return f"{n(point['load_rps'])} requests/s{' with the report' if point['report'] else ''}"


def _slower(ratio: Interval) -> bool:
    return ratio.low is not None and ratio.low >= HOLDS_FROM


def _alike(ratio: Interval) -> bool:
    return ratio.high is not None and ratio.high <= FAILS_TO


def _verdict(ratios: list[Interval]) -> ClaimVerdict:
    if any(map(_slower, ratios)):
        return "holds"
    return "does not hold" if all(map(_alike, ratios)) else "cannot tell"


def _decides(ratio: Interval, verdict: ClaimVerdict) -> float:
    """Return how much a load speaks for the claim: by the end of the interval that decided, or by the estimate."""
    end = ratio.low if verdict == "holds" else ratio.high if verdict == "does not hold" else None
    return ratio.estimate if end is None else end


def _looks(judged: int, left: list[Results]) -> str:
    others = f"; not judged: {_why_not(left)}" if left else ""
    return f"{n(judged)} load{'s' if judged != 1 else ''} judged{others}."


def _why_not(left: list[Results]) -> str:
    """Say of how many loads which reason keeps them from being judged, and how many pages are missing."""
    crowded = [point for point in left if not _has_room(point)]
    few = [_pages(point) for point in left if _has_room(point) and not _counts(point)]
    none = len(left) - len(crowded) - len(few)
    parts = [f"{n(len(crowded))} with {100 * CROWDED:.0f} % total CPU or above"] if crowded else []
    if few:
        parts.append(
            f"{n(len(few))} with too few catalogue pages for a 95th percentile ({n(min(few))} on an arm, "
            f"{n(PAGES)} needed: {n(PAGES - min(few))} are missing)"
        )
    parts += [f"{n(none)} without a ratio"] if none else []
    return ", ".join(parts)


def _found(judged: dict[str, Interval], verdict: ClaimVerdict) -> str:
    slower = sum(map(_slower, judged.values()))
    if verdict == "holds":
        return f"Slower at {n(slower)} of them, most surely"
    if verdict == "does not hold":
        return "About the same or faster at each; the slowest"
    if all(ratio.low is None for ratio in judged.values()):
        return "Too few blocks for an interval; the largest ratio"
    return "The largest"


def _for_all(points: list[Results], verdict: ClaimVerdict) -> str:
    """Say whether a verdict of `holds` outlives the wider intervals that several looks at once ask for."""
    if verdict != "holds":
        return ""
    wide = [interval_of(point.get("ratio_for_all")) for point in points if _counts(point)]
    stays = any(ratio is not None and _slower(ratio) for ratio in wide)
    return f"; with intervals widened for so many looks at once it {'stays' if stays else 'would not stay'}"


def _full(points: list[Results]) -> str:
    """Say at which load a core of PostgreSQL would be full, from its CPU time per request at the highest load."""
    roomy = [point for point in points if _has_room(point) and not point["report"]]
    if not roomy:
        return ""
    last = max(roomy, key=lambda point: float(point["load_rps"]))
    cost = {arm: at(last, "arms", arm, "cpu_ms_per_request", "postgresql") for arm in ("database", "redis")}
    if not all(cost.values()):
        return ""
    return (
        f" At {_name(last)} PostgreSQL spends {cost['database']:.2f} ms of CPU time per request with sessions and "
        f"{cost['redis']:.2f} ms without: one core of it would be full at about {n(1000 / cost['database'])} "
        f"instead of {n(1000 / cost['redis'])} requests/s (modelled)."
    )
