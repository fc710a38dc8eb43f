"""The claims that a comparison judges, or judges a part of."""

from __future__ import annotations

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
from lab.statistics import Interval, wilson

GUARANTEES = ("read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads")
LEAST_OPPORTUNITIES = 1000
LEAST_ACTIVE_SHOPPERS = 200
LEAST_LATE_REQUESTS = 200
SLOWEST = 1.5
"""Median of `redis` to that of `sticky` up to which it is quick."""

_HALVES = "from 90 % on holds, up to 50 % does not"
_ASKED = f"it takes {LEAST_OPPORTUNITIES:,} opportunities, some for each guarantee, to judge"
_KILL_REMAINS = "What a killed server loses remains for `make failover`, which reads this run beside its own."


def cart_flickers(results: Results) -> Judgement:
    """Judge whether the cart changes from one visit to the next when every server has its own sessions."""
    check = at(results, "strategies", "isolated", "consistency", "read_your_writes")
    if check is None:
        return absent("isolated")
    views, broken = int(check.get("cross_server") or 0), int(check.get("cross_server_violations") or 0)
    shoppers = int(check.get("cross_server_shoppers") or check.get("shoppers") or 0)
    rate = interval_of(check.get("cross_server_rate")) or wilson(broken, views)
    if rate is None:
        return Judgement("cannot tell", "No shopper's cart was viewed on another server than the one it was filled on.")
    numbers = {"cross_server": views, "violated": broken, "shoppers": shoppers, **numbers_of("rate", rate)}
    evidence = (
        f"{n(broken)} of {n(views)} views on another server ({shown(rate)}, {n(shoppers)} shoppers) showed a cart "
        "without something that the shopper had put in."
    )
    if views < 300 or shoppers < 30:  # noqa: PLR2004 - the claim's own numbers
        return Judgement("cannot tell", f"{evidence} It takes 300 such views by 30 shoppers to judge.", numbers)
    verdict = by_interval(rate, holds_from=0.9, fails_to=0.5)
    return Judgement(verdict, evidence, numbers, undecided((verdict, f"the share of views{pointed(rate)}: {_HALVES}")))


def sticky_consistent(results: Results) -> Judgement:
    """Judge whether binding shoppers to a server keeps the four guarantees."""
    consistency = at(results, "strategies", "sticky", "consistency")
    if consistency is None:
        return absent("sticky")
    violations, opportunities, unknown = guarantees_of(consistency)
    evidence = f"{n(violations)} violations of the four guarantees in {n(opportunities)} opportunities."
    verdict = unbroken(violations, opportunities, unknown)
    if verdict == "cannot tell":
        evidence = f"{evidence[:-1]}; {_ASKED}."
    given_up = int(at(results, "strategies", "sticky", "gateway_timeouts") or 0)
    if violations and given_up:
        evidence += (
            f" Servers were too busy to answer in time ({n(given_up)} times 504): the balancer bound their shoppers to "
            "others, as if they had died. On a quiet machine it would turn."
        )
    numbers: dict[str, float | None] = {"violations": violations, "opportunities": opportunities}
    return Judgement(verdict, evidence, {**numbers, "gateway_timeouts": given_up})


def copies_unused(results: Results) -> Judgement:
    """Judge whether the copies on the other servers are read by anybody."""
    unused = at(results, "arms", "all-to-all with affinity", "copies_unused")
    if unused is None:
        return absent("all-to-all with affinity")
    copies, never_read = int(unused.get("copies") or 0), int(unused.get("never_read") or 0)
    rate = interval_of(unused.get("rate")) or wilson(never_read, copies)
    if rate is None:
        return Judgement("cannot tell", "No session had a copy on another server.")
    spread = at(results, "strategies", "all-to-all", "copies_unused", "rate", "estimate")
    beside = "" if spread is None else f"; under plain round robin it is {100 * spread:.0f} %"
    evidence = f"{n(never_read)} of {n(copies)} extra copies ({shown(rate)}) were never read with affinity{beside}."
    numbers = {"copies": copies, "never_read": never_read, **numbers_of("rate", rate), "round_robin": spread}
    verdict = by_interval(rate, holds_from=0.9, fails_to=0.5)
    return Judgement(verdict, evidence, numbers, undecided((verdict, f"the share unread{pointed(rate)}: {_HALVES}")))


def all_to_all_free(results: Results) -> Judgement:
    """Judge whether any server can serve a shopper under synchronous all-to-all, as far as `compare` can tell."""
    traffic = served_by_any(results)
    if traffic is None:
        return absent("all-to-all sync")
    verdict: ClaimVerdict = "does not hold" if traffic.verdict == "does not hold" else "cannot tell"
    left = traffic.left_open if verdict == "cannot tell" else ""
    return Judgement(verdict, f"{traffic.evidence}. {_KILL_REMAINS}", traffic.numbers, left)


def redis_solves(results: Results) -> Judgement:
    """Judge whether Redis keeps the guarantees, holds one copy, and is quick, as far as `compare` can tell."""
    traffic = kept_single_and_quick(results)
    if traffic is None:
        return absent("redis")
    verdict: ClaimVerdict = "does not hold" if traffic.verdict == "does not hold" else "cannot tell"
    left = traffic.left_open if verdict == "cannot tell" else ""
    return Judgement(verdict, f"{traffic.evidence}. {_KILL_REMAINS}", traffic.numbers, left)


def session_persists(results: Results) -> Judgement:
    """Judge whether active shoppers keep their sessions."""
    lost = _lifecycle(results, "sessions_lost")
    if not lost:
        return absent("the lifecycle scenario")
    events = sum(int(check.get("violations") or 0) for check in lost.values())
    fewest = min(int(check.get("shoppers") or 0) for check in lost.values())
    worst = [name for name, check in lost.items() if check.get("violations")]
    where = f" ({', '.join(worst)})" if worst else ""
    evidence = (
        f"Sessions lost by active shoppers: {n(events)}{where}, with at least {n(fewest)} shoppers under each of "
        f"{', '.join(lost)}."
    )
    verdict: ClaimVerdict = "does not hold" if events else "holds" if fewest >= LEAST_ACTIVE_SHOPPERS else "cannot tell"
    if verdict == "cannot tell":
        evidence += f" It takes {LEAST_ACTIVE_SHOPPERS} under each to judge."
    return Judgement(verdict, evidence, {"lost": events, "fewest_shoppers": fewest})


def logout_deletes(results: Results) -> Judgement:
    """Judge whether sessions are gone after logout and expiry, and stay gone."""
    left, returned = _lifecycle(results, "handles_left"), _lifecycle(results, "resurrections")
    if not left or not returned:
        return absent("the lifecycle scenario")
    ids = sum(_ids_left(check) for check in left.values())
    back = sum(int(check.get("violations") or 0) for check in returned.values())
    late = min(int(check.get("opportunities") or 0) for check in returned.values())
    worst = [name for name in returned if _ids_left(left.get(name) or {}) or returned[name].get("violations")]
    where = f" ({', '.join(worst)})" if worst else ""
    isolated = at(results, "strategies", "isolated", "lifecycle", "handles_left")
    control = None if isolated is None else _ids_left(isolated)
    beside = "" if control is None else f" The control, isolated, left {n(control)}."
    evidence = (
        f"Ids left after logout or expiry: {n(ids)}; sessions that came back: {n(back)}{where}; in at least "
        f"{n(late)} late requests under each of {', '.join(returned)}.{beside}"
    )
    numbers: dict[str, float | None] = {
        "ids_left": ids,
        "resurrections": back,
        "fewest_late_requests": late,
        "isolated_ids_left": control,
    }
    verdict: ClaimVerdict = (
        "does not hold" if ids or back else "holds" if late >= LEAST_LATE_REQUESTS else "cannot tell"
    )
    if verdict == "cannot tell":
        evidence += f" It takes {LEAST_LATE_REQUESTS} late requests under each to judge."
    return Judgement(verdict, evidence, numbers)


def served_by_any(results: Results) -> Judgement | None:
    """Judge a comparison's part of `all-to-all-free`: cross-server guarantees under sync while no peer timed out."""
    sync = at(results, "arms", "all-to-all sync", "consistency")
    if sync is None:
        return None
    violations, opportunities, unknown = guarantees_of(sync, cross_server=True)
    timeouts = at(results, "arms", "all-to-all sync", "peer_timeouts") or 0
    usual = at(results, "strategies", "all-to-all", "consistency", "read_your_writes") or {}
    beside = f"async: {n(usual.get('cross_server_violations') or 0)} of {n(usual.get('cross_server') or 0)} views"
    evidence = (
        f"sync: {n(violations)} violations in {n(opportunities)} cross-server opportunities, {n(timeouts)} peer "
        f"timeouts; {beside}"
    )
    numbers = {
        "violations": violations,
        "opportunities": opportunities,
        "peer_timeouts": timeouts,
        "async_violations": usual.get("cross_server_violations"),
        "async_opportunities": usual.get("cross_server"),
    }
    verdict = "cannot tell" if timeouts else unbroken(violations, opportunities, unknown)
    if timeouts:
        evidence += "; it takes a run in which no peer timed out, or nobody knows who was to blame"
    elif verdict == "cannot tell":
        evidence += f"; {_ASKED}"
    return Judgement(verdict, evidence, numbers)


def kept_single_and_quick(results: Results) -> Judgement | None:
    """Judge a comparison's part of `redis-solves`: guarantees across servers, one copy, and the median."""
    redis = at(results, "strategies", "redis")
    if redis is None:
        return None
    violations, opportunities, unknown = guarantees_of(redis.get("consistency") or {}, cross_server=True)
    copies = at(redis, "storage", "copies_per_session")
    ratio = interval_of(at(redis, "latency_ratio", "p50"))
    quick = "median latency not compared" if ratio is None else f"median {times(ratio)} that of sticky"
    evidence = (
        f"{n(violations)} violations in {n(opportunities)} cross-server opportunities, "
        f"{'copies not counted' if copies is None else f'{copies:.2f} copies of a session'}, {quick}"
    )
    numbers = {"violations": violations, "opportunities": opportunities, "copies": copies, **numbers_of("p50", ratio)}
    guarantees = unbroken(violations, opportunities, unknown)
    single = "cannot tell" if copies is None else "holds" if abs(copies - 1) <= 0.01 else "does not hold"  # noqa: PLR2004 - 1 ± 1 %
    if guarantees == "cannot tell":
        evidence += f"; {_ASKED}"
    verdict = together(guarantees, single, _quick(ratio))
    takes = f"the median{pointed(ratio)}: up to {SLOWEST} times holds, above does not"
    left = undecided((_quick(ratio), takes)) if verdict == "cannot tell" else ""
    return Judgement(verdict, evidence, numbers, left)


def _quick(ratio: Interval | None, most: float = SLOWEST) -> ClaimVerdict:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "cannot tell"
    return "holds" if ratio.high <= most else "does not hold" if ratio.low > most else "cannot tell"


def guarantees_of(consistency: Results, *, cross_server: bool = False) -> tuple[int, int, bool]:
    """Add up the four guarantees: violations, opportunities, and whether one of them was not exercised.

    Args:
        consistency: the checks of an arm.
        cross_server: count only opportunities where the server changed, for the guarantees that tell them apart.
    """
    violations = opportunities = 0
    unknown = False
    for name in GUARANTEES:
        check = consistency.get(name) or {}
        violations += int(check.get("violations") or 0)
        crossing = check.get("cross_server") if cross_server else None
        opportunities += int((check.get("opportunities") if crossing is None else crossing) or 0)
        unknown |= check.get("verdict") not in {"ok", "violated"}
    return violations, opportunities, unknown


def unbroken(violations: int, opportunities: int, unknown: bool) -> ClaimVerdict:
    """Judge guarantees: any violation refutes, and it takes `LEAST_OPPORTUNITIES` without one to hold."""
    if violations:
        return "does not hold"
    return "cannot tell" if unknown or opportunities < LEAST_OPPORTUNITIES else "holds"


def _lifecycle(results: Results, check: str) -> dict[str, Results]:
    """Return a check of the lifecycle scenario for each strategy but the control."""
    found = {
        name: at(results, "strategies", name, "lifecycle", check)
        for name in results["strategies"]
        if name != "isolated"
    }
    return {name: value for name, value in found.items() if value is not None}


def _ids_left(scans: Results) -> int:
    """Add up the ids that were still held after their session had ended, over the scans."""
    return sum(int(scan.get("left") or 0) for scan in scans.values() if isinstance(scan, dict))
