"""How a run judges the textbook's claims: one rule per claim and experiment, with the numbers fixed before any run.

"At least x" means that the whole 95 % interval lies there. Each rule takes the results of a run and gives a verdict
with one sentence that has the number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lab.statistics import Interval, wilson

if TYPE_CHECKING:
    from collections.abc import Callable

ClaimVerdict = Literal["holds", "does not hold", "cannot tell", "not tested"]
Results = dict[str, Any]

GUARANTEES = ("read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads")
LEAST_OPPORTUNITIES = 1000
LEAST_ACTIVE_SHOPPERS = 200
LEAST_LATE_REQUESTS = 200
LEAST_SESSIONS = 30
"""Live sessions at a server's death, for "it loses none" to be worth anything."""


class Judgement(msgspec.Struct, frozen=True):
    """What a run says about one claim.

    Attributes:
        verdict: see `ClaimVerdict`.
        evidence: one sentence with the number.
        numbers: what decided, name to number.
    """

    verdict: ClaimVerdict
    evidence: str
    numbers: dict[str, float | None] = {}


def cart_flickers(results: Results) -> Judgement:
    """Judge whether the cart changes from one visit to the next when every server has its own sessions."""
    check = _at(results, "strategies", "isolated", "consistency", "read_your_writes")
    if check is None:
        return _absent("isolated")
    views, broken = int(check.get("cross_server") or 0), int(check.get("cross_server_violations") or 0)
    shoppers = int(check.get("cross_server_shoppers") or check.get("shoppers") or 0)
    rate = _interval(check.get("cross_server_rate")) or wilson(broken, views)
    if rate is None:
        return Judgement("cannot tell", "No shopper's cart was viewed on another server than the one it was filled on.")
    numbers = {"cross_server": views, "violated": broken, "shoppers": shoppers, **_numbers("rate", rate)}
    evidence = (
        f"{_n(broken)} of {_n(views)} views on another server ({_share(rate)}, {_n(shoppers)} shoppers) showed a cart "
        "without something that the shopper had put in."
    )
    if views < 300 or shoppers < 30:  # noqa: PLR2004 - the claim's own numbers
        return Judgement("cannot tell", f"{evidence} It takes 300 such views by 30 shoppers to judge.", numbers)
    return Judgement(_by_interval(rate, holds_from=0.9, fails_to=0.5), evidence, numbers)


def sticky_consistent(results: Results) -> Judgement:
    """Judge whether binding shoppers to a server keeps the four guarantees."""
    consistency = _at(results, "strategies", "sticky", "consistency")
    if consistency is None:
        return _absent("sticky")
    violations, opportunities, unknown = _guarantees(consistency)
    evidence = f"{_n(violations)} violations of the four guarantees in {_n(opportunities)} opportunities."
    verdict = _unbroken(violations, opportunities, unknown)
    return Judgement(verdict, evidence, {"violations": violations, "opportunities": opportunities})


def copies_unused(results: Results) -> Judgement:
    """Judge whether the copies on the other servers are read by anybody."""
    unused = _at(results, "arms", "all-to-all with affinity", "copies_unused")
    if unused is None:
        return _absent("all-to-all with affinity")
    copies, never_read = int(unused.get("copies") or 0), int(unused.get("never_read") or 0)
    rate = _interval(unused.get("rate")) or wilson(never_read, copies)
    if rate is None:
        return Judgement("cannot tell", "No session had a copy on another server.")
    spread = _at(results, "strategies", "all-to-all", "copies_unused", "rate", "estimate")
    beside = "" if spread is None else f"; under plain round robin it is {100 * spread:.0f} %"
    evidence = f"{_n(never_read)} of {_n(copies)} extra copies ({_share(rate)}) were never read with affinity{beside}."
    numbers = {"copies": copies, "never_read": never_read, **_numbers("rate", rate), "round_robin": spread}
    return Judgement(_by_interval(rate, holds_from=0.9, fails_to=0.5), evidence, numbers)


def all_to_all_free(results: Results) -> Judgement:
    """Judge whether any server can serve a shopper under synchronous all-to-all, as far as `compare` can tell."""
    traffic = _served_by_any(results)
    if traffic is None:
        return _absent("all-to-all sync")
    verdict: ClaimVerdict = "does not hold" if traffic.verdict == "does not hold" else "cannot tell"
    return Judgement(verdict, f"{traffic.evidence}. {_KILL_REMAINS}", traffic.numbers)


def all_to_all_free_after_all(results: Results) -> Judgement:
    """Judge the same from a run of `failover`, with the newest comparison beside it."""
    killed = _killed(results, "arms", "all-to-all sync")
    if killed is None:
        return _absent("a killed server under all-to-all sync")
    alone = _killed(results, "strategies", "all-to-all")
    beside = "" if alone is None else f" (async: {_of(alone.lost, alone.alive)})"
    text = f"A killed server lost {_of(killed.lost, killed.alive)} live sessions under sync{beside}"
    return _with_comparison(results, killed, text, _served_by_any)


def sticky_loses(results: Results) -> Judgement:
    """Judge whether a dead server takes its share of the live sessions along under `sticky`."""
    killed = _killed(results, "strategies", "sticky")
    if killed is None:
        return _absent("a killed server under sticky")
    fair = 1 / int(results["run"]["servers"])
    share = wilson(killed.lost, killed.alive)
    if share is None or share.low is None or share.high is None:
        return Judgement("cannot tell", "No session was alive when the server was killed.")
    evidence = (
        f"{_n(killed.lost)} of {_n(killed.alive)} live sessions were gone with the server ({_share(share)}); one in "
        f"{results['run']['servers']} is {100 * fair:.1f} %."
    )
    numbers = {"lost": killed.lost, "alive": killed.alive, "fair_share": fair, **_numbers("share", share)}
    verdict: ClaimVerdict = "cannot tell"
    if share.low > 0 and share.low <= fair <= share.high:
        verdict = "holds"
    elif share.high <= fair / 2:
        verdict = "does not hold"
    return Judgement(verdict, evidence, numbers)


def redis_solves(results: Results) -> Judgement:
    """Judge whether Redis keeps the guarantees, holds one copy, and is quick, as far as `compare` can tell."""
    traffic = _kept_single_and_quick(results)
    if traffic is None:
        return _absent("redis")
    verdict: ClaimVerdict = "does not hold" if traffic.verdict == "does not hold" else "cannot tell"
    return Judgement(verdict, f"{traffic.evidence}. {_KILL_REMAINS}", traffic.numbers)


def redis_solves_after_all(results: Results) -> Judgement:
    """Judge the same from a run of `failover`, with the newest comparison beside it."""
    killed = _killed(results, "strategies", "redis")
    if killed is None:
        return _absent("a killed server under redis")
    text = f"A killed server lost {_of(killed.lost, killed.alive)} live sessions; {_death_of_redis(results)}"
    return _with_comparison(results, killed, text, _kept_single_and_quick)


def session_persists(results: Results) -> Judgement:
    """Judge whether active shoppers keep their sessions."""
    lost = _lifecycle(results, "sessions_lost")
    if not lost:
        return _absent("the lifecycle scenario")
    events = sum(int(check.get("violations") or 0) for check in lost.values())
    fewest = min(int(check.get("shoppers") or 0) for check in lost.values())
    worst = [name for name, check in lost.items() if check.get("violations")]
    where = f" ({', '.join(worst)})" if worst else ""
    evidence = (
        f"Sessions lost by active shoppers: {_n(events)}{where}, with at least {_n(fewest)} shoppers under each of "
        f"{', '.join(lost)}."
    )
    verdict: ClaimVerdict = "does not hold" if events else "holds" if fewest >= LEAST_ACTIVE_SHOPPERS else "cannot tell"
    return Judgement(verdict, evidence, {"lost": events, "fewest_shoppers": fewest})


def logout_deletes(results: Results) -> Judgement:
    """Judge whether sessions are gone after logout and expiry, and stay gone."""
    left, returned = _lifecycle(results, "handles_left"), _lifecycle(results, "resurrections")
    if not left or not returned:
        return _absent("the lifecycle scenario")
    ids = sum(_ids_left(check) for check in left.values())
    back = sum(int(check.get("violations") or 0) for check in returned.values())
    late = min(int(check.get("opportunities") or 0) for check in returned.values())
    worst = [name for name in returned if _ids_left(left.get(name) or {}) or returned[name].get("violations")]
    where = f" ({', '.join(worst)})" if worst else ""
    isolated = _at(results, "strategies", "isolated", "lifecycle", "handles_left")
    control = None if isolated is None else _ids_left(isolated)
    beside = "" if control is None else f" The control, isolated, left {_n(control)}."
    evidence = (
        f"Ids left after logout or expiry: {_n(ids)}; sessions that came back: {_n(back)}{where}; in at least "
        f"{_n(late)} late requests under each of {', '.join(returned)}.{beside}"
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
    return Judgement(verdict, evidence, numbers)


# --- what the rules share --------------------------------------------------------------------------------------------

_KILL_REMAINS = "What a killed server loses remains for `make failover`, which reads this run beside its own."


def _served_by_any(results: Results) -> Judgement | None:
    """Judge a comparison's part of `all-to-all-free`: cross-server guarantees under sync while no peer timed out."""
    sync = _at(results, "arms", "all-to-all sync", "consistency")
    if sync is None:
        return None
    violations, opportunities, unknown = _guarantees(sync, cross_server=True)
    timeouts = _at(results, "arms", "all-to-all sync", "peer_timeouts") or 0
    usual = _at(results, "strategies", "all-to-all", "consistency", "read_your_writes") or {}
    beside = f"async: {_n(usual.get('cross_server_violations') or 0)} of {_n(usual.get('cross_server') or 0)} views"
    evidence = (
        f"sync: {_n(violations)} violations in {_n(opportunities)} cross-server opportunities, {_n(timeouts)} peer "
        f"timeouts; {beside}"
    )
    numbers = {
        "violations": violations,
        "opportunities": opportunities,
        "peer_timeouts": timeouts,
        "async_violations": usual.get("cross_server_violations"),
        "async_opportunities": usual.get("cross_server"),
    }
    verdict = "cannot tell" if timeouts else _unbroken(violations, opportunities, unknown)
    return Judgement(verdict, evidence, numbers)


def _kept_single_and_quick(results: Results) -> Judgement | None:
    """Judge a comparison's part of `redis-solves`: guarantees across servers, one copy, and the median."""
    redis = _at(results, "strategies", "redis")
    if redis is None:
        return None
    violations, opportunities, unknown = _guarantees(redis.get("consistency") or {}, cross_server=True)
    copies = _at(redis, "storage", "copies_per_session")
    ratio = _interval(_at(redis, "latency_ratio", "p50"))
    quick = "median latency not compared" if ratio is None else f"median {_times(ratio)} that of sticky"
    evidence = (
        f"{_n(violations)} violations in {_n(opportunities)} cross-server opportunities, "
        f"{'copies not counted' if copies is None else f'{copies:.2f} copies of a session'}, {quick}"
    )
    numbers = {"violations": violations, "opportunities": opportunities, "copies": copies, **_numbers("p50", ratio)}
    guarantees = _unbroken(violations, opportunities, unknown)
    single = "cannot tell" if copies is None else "holds" if abs(copies - 1) <= 0.01 else "does not hold"  # noqa: PLR2004 - 1 ± 1 %
    return Judgement(_worst(guarantees, single, _quick(ratio)), evidence, numbers)


def _quick(ratio: Interval | None, most: float = 1.5) -> ClaimVerdict:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "cannot tell"
    return "holds" if ratio.high <= most else "does not hold" if ratio.low > most else "cannot tell"


def _worst(*verdicts: str) -> ClaimVerdict:
    """Return what several parts say together: one that does not hold refutes, and all must hold to hold."""
    return "does not hold" if "does not hold" in verdicts else "holds" if set(verdicts) == {"holds"} else "cannot tell"


class _Killed(msgspec.Struct, frozen=True):
    """What a killed server cost an arm: sessions alive at its death, and those of them that were lost."""

    alive: int
    lost: int


def _killed(results: Results, place: str, arm: str) -> _Killed | None:
    found = _at(results, place, arm, "faults", "kill-server", "sessions")
    return None if found is None else _Killed(int(found["alive"]), int(found["lost"]))


def _with_comparison(
    results: Results, killed: _Killed, text: str, judge: Callable[[Results], Judgement | None]
) -> Judgement:
    """Put what a killed server lost together with what a comparison says of the claim's other part."""
    own: ClaimVerdict = "does not hold" if killed.lost else "holds" if killed.alive >= LEAST_SESSIONS else "cannot tell"
    numbers: dict[str, float | None] = {"lost": killed.lost, "alive": killed.alive}
    comparison = results.get("compared")
    traffic = None if comparison is None else judge(comparison)
    if comparison is None or traffic is None:
        verdict: ClaimVerdict = "does not hold" if own == "does not hold" else "cannot tell"
        missing = "The rest is a comparison's: run `make compare` into the same folder, then this again."
        return Judgement(verdict, f"{text}. {missing}", numbers)
    evidence = f"{text}. From {comparison['id']}: {traffic.evidence}."
    return Judgement(_worst(own, traffic.verdict), evidence, {**traffic.numbers, **numbers})


def _death_of_redis(results: Results) -> str:
    """Say what Redis's own death did: it stands beside the claim, always."""
    story = _at(results, "strategies", "redis", "faults", "kill-redis")
    if story is None:
        return "what Redis's own death does was not tested"
    sessions, writes, seconds = story["sessions"], story["writes"], story["recovery"]["seconds"]
    return (
        f"Redis's own death failed {_of(story['failures']['failed'], story['failures']['requests'])} requests "
        f"{'until the end of the load' if seconds is None else f'for {seconds:.1f} s'} and lost "
        f"{_of(sessions['lost'], sessions['alive'])} sessions and {_of(writes['lost'], writes['acknowledged'])} "
        "confirmed writes"
    )


def _of(some: float, every: float) -> str:
    return f"{_n(some)} of {_n(every)}"


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value or None if isinstance(value, dict) else value


def _absent(what: str) -> Judgement:
    return Judgement("not tested", f"This run has no results for {what}.")


def _interval(value: dict[str, Any] | None) -> Interval | None:
    if not value or value.get("estimate") is None:
        return None
    return Interval(value["estimate"], value.get("low"), value.get("high"))


def _guarantees(consistency: Results, *, cross_server: bool = False) -> tuple[int, int, bool]:
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


def _unbroken(violations: int, opportunities: int, unknown: bool) -> ClaimVerdict:
    if violations:
        return "does not hold"
    return "cannot tell" if unknown or opportunities < LEAST_OPPORTUNITIES else "holds"


def _by_interval(rate: Interval, *, holds_from: float, fails_to: float) -> ClaimVerdict:
    if rate.low is None or rate.high is None:
        return "cannot tell"
    return "holds" if rate.low >= holds_from else "does not hold" if rate.high <= fails_to else "cannot tell"


def _lifecycle(results: Results, check: str) -> dict[str, Results]:
    """Return a check of the lifecycle scenario for each strategy but the control."""
    found = {
        name: _at(results, "strategies", name, "lifecycle", check)
        for name in results["strategies"]
        if name != "isolated"
    }
    return {name: value for name, value in found.items() if value is not None}


def _ids_left(scans: Results) -> int:
    """Add up the ids that were still held after their session had ended, over the scans."""
    return sum(int(scan.get("left") or 0) for scan in scans.values() if isinstance(scan, dict))


def _numbers(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None}
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _n(count: float) -> str:
    return f"{count:,.0f}"


def _share(rate: Interval) -> str:
    if rate.low is None or rate.high is None:
        return f"{100 * rate.estimate:.1f} %"
    return f"{100 * rate.estimate:.1f} %, 95 % interval {100 * rate.low:.1f} to {100 * rate.high:.1f} %"


def _times(ratio: Interval) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.estimate:.2f} times"
    return f"{ratio.estimate:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})"
