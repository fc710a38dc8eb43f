"""The untimed scenarios: shopping under arms that are not compared, two tabs at once, and whole lives of sessions.

Nothing here is compared by latency: what counts is what shoppers were shown. With two tabs and whole lives, all
strategies run side by side, each on servers of its own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from loadtests.lifecycle import Roles, lifecycle_plan
from loadtests.plans import PlannedRequest, shopping_plan, warmup_plan
from loadtests.recorder import Operation
from loadtests.two_tabs import apart, two_tabs_plan
from strategies.session_interface import short_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.measuring.place import Shop
    from loadtests.client import Generator
    from loadtests.plans import Plan

QUIET_SECONDS = 0.3
"""Nothing is sent for this long before the final views, after the servers have no more to tell each other."""

AFTER_LOGOUT_SECONDS = 1.0
"""A session must be gone this long after its logout: then every holder is scanned for its id."""

AFTER_EXPIRY_SECONDS = 5.0
"""And this long after its idle or absolute lifetime has passed."""


def enter(generator: Generator, arm: str, *, rate_rps: float, seed: int, shoppers: int) -> list[Operation]:
    """Open every connection and log every shopper in; see `shop`."""
    plan = warmup_plan(seed, rate_rps=rate_rps, seconds=0.5, shoppers=shoppers)
    return generator.run([(arm, plan)]).operations


def shop(
    generator: Generator, arm: str, *, rate_rps: float, seed: int, seconds: float, shoppers: int
) -> list[Operation]:
    """Shop in one stretch.

    Args:
        generator: the load.
        arm: where.
        rate_rps: offered load in requests/s.
        seed: of the plan.
        seconds: how long.
        shoppers: how many, with one tab each.
    """
    plan = shopping_plan(seed, 0, rate_rps=rate_rps, seconds=seconds, shoppers=shoppers)
    return generator.run([(arm, plan)]).operations


def two_tabs(
    generator: Generator, clusters: Mapping[str, Shop], *, seed: int, rate_rps: float, seconds: float, shoppers: int
) -> list[Operation]:
    """Let every shopper write from two tabs at once, on all arms at the same time; then look at every cart.

    The tabs write when all logins have been answered, and only for shoppers whose login succeeded: the others have no
    session that two tabs could share.
    """
    beginnings, pairs = apart(two_tabs_plan(seed, rate_rps=rate_rps, seconds=seconds, shoppers=shoppers))
    begun = list(generator.run([(arm, beginnings) for arm in clusters]).operations)
    plans = [(arm, _of(pairs, _logged_in(begun, arm))) for arm in clusters]
    written = list(generator.run(plans).operations)
    return begun + written + final_views(generator, clusters)


def _logged_in(operations: Sequence[Operation], arm: str) -> set[str]:
    return {done.shopper for done in operations if (done.arm, done.f, done.outcome) == (arm, "login", "ok")}


def _of(plan: Plan, shoppers: set[str]) -> Plan:
    return msgspec.structs.replace(plan, requests=[asked for asked in plan.requests if asked.shopper in shoppers])


def final_views(
    generator: Generator, clusters: Mapping[str, Shop], shoppers: Sequence[str] | None = None
) -> list[Operation]:
    """Wait until nobody has anything to tell, then ask every server for every cart (or some), past the balancer.

    Args:
        generator: the load.
        clusters: arm to cluster; the servers that it began with are asked.
        shoppers: whose carts; None for everybody's.
    """
    for cluster in clusters.values():
        cluster.quiet()
    time.sleep(QUIET_SECONDS)
    some = None if shoppers is None else list(shoppers)
    return [operation for arm in clusters for operation in generator.final_views(arm, some)]


class Lives(msgspec.Struct):
    """What the lifecycle scenario gave.

    Attributes:
        operations: every request.
        left: arm to the ended sessions whose ids were still held somewhere: `after_logout` and `after_expiry`, each
            with how many sessions had ended (`ended`) and how many of them were found (`left`).
        held_up: arm to the shoppers whose requests did not keep to the plan (see `held_up`).
    """

    operations: list[Operation]
    held_up: dict[str, set[str]]
    left: dict[str, dict[str, dict[str, int]]]


def lifecycle(
    generator: Generator,
    clusters: Mapping[str, Shop],
    *,
    seed: int,
    idle_seconds: float,
    absolute_seconds: float,
    begin_seconds: float,
    roles: Mapping[str, Roles],
) -> Lives:
    """Let sessions begin, stay, be logged out and expire, and scan every holder for the ids of those that ended.

    The first scan is made while the load runs, a second after the last logout: later, expiry would have removed what
    a logout had left. The second one is made after the last expiry.
    """
    times = {"idle_seconds": idle_seconds, "absolute_seconds": absolute_seconds, "begin_seconds": begin_seconds}
    plans = [(arm, lifecycle_plan(seed, roles=roles[arm], **times)) for arm in clusters]
    requests = [request for _, plan in plans for request in plan.requests]
    last_logout = max(request.at_seconds for request in requests if request.f == "logout")
    with in_background(generator) as pool:
        began = time.monotonic_ns()
        running = pool.submit(generator.run, plans)
        time.sleep(last_logout + AFTER_LOGOUT_SECONDS + QUIET_SECONDS)
        scanned_ns = time.monotonic_ns()
        after_logout = {arm: _held(cluster) for arm, cluster in clusters.items()}
        operations = running.result().operations
    time.sleep(max(0.0, AFTER_EXPIRY_SECONDS - _seconds_since_last_expiry(requests, began)))
    after_expiry = {arm: _held(cluster) for arm, cluster in clusters.items()}
    by_arm = {arm: [operation for operation in operations if operation.arm == arm] for arm in clusters}
    out = {arm: held_up(by_arm[arm], idle_seconds, absolute_seconds) for arm in clusters}
    for operation in operations:
        operation.held_up = operation.shopper in out[operation.arm]
    left = {}
    for arm, own in by_arm.items():
        kept = [operation for operation in own if not operation.held_up]
        left[arm] = {
            "after_logout": _left(_logged_out(kept, scanned_ns, idle_seconds), after_logout[arm]),
            "after_expiry": _left(_expired(kept), after_expiry[arm]),
        }
    return Lives(operations, out, left)


def held_up(operations: Sequence[Operation], idle_seconds: float, absolute_seconds: float) -> set[str]:
    """Return the shoppers whom the machine kept from their plan, so that they show nothing about lifetimes.

    An ordinary request must come after the login was answered and before its session's end, with a tenth of the idle
    lifetime to spare (so much may a throttled touch be behind); a request that is late because of a lifetime must come
    after it. Only times decide, never an answer.
    """
    by_shopper: dict[str, list[Operation]] = defaultdict(list)
    for operation in sorted(operations, key=lambda operation: operation.t0_ns):
        by_shopper[operation.shopper].append(operation)
    return {name for name, own in by_shopper.items() if not _kept_to_plan(own, idle_seconds, absolute_seconds)}


def _kept_to_plan(own: Sequence[Operation], idle_seconds: float, absolute_seconds: float) -> bool:
    login = own[0]
    latest = login
    for operation in own[1:]:
        if operation.late == "idle" and operation.t0_ns - latest.t1_ns < idle_seconds * 1e9:
            return False
        if operation.late == "absolute" and operation.t0_ns - login.t1_ns < absolute_seconds * 1e9:
            return False
        if operation.late is None:
            silent, age = operation.t1_ns - latest.t0_ns, operation.t1_ns - login.t0_ns
            too_late = silent > 0.9 * idle_seconds * 1e9 or age > absolute_seconds * 1e9
            if too_late or operation.t0_ns < login.t1_ns:
                return False
            latest = operation
    return True


@contextmanager
def in_background(generator: Generator) -> Iterator[ThreadPoolExecutor]:
    """Give a thread to run load in; where the context fails, end the load, so that nobody waits for it."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool
        except BaseException:
            generator.close()
            raise


def _seconds_since_last_expiry(requests: Sequence[PlannedRequest], began_ns: int) -> float:
    """Return how long ago the last session expired as planned: late requests of that kind come after it."""
    expired = max((request.at_seconds for request in requests if request.late in {"idle", "absolute"}), default=0.0)
    return (time.monotonic_ns() - began_ns) / 1e9 - expired


def _held(cluster: Shop) -> set[str]:
    """Return the short hashes of all ids that any server or store of a cluster holds."""
    return {short_hash(handle) for census in cluster.census().values() for handle in census.handles}


def _logged_out(operations: Sequence[Operation], scanned_ns: int, idle_seconds: float) -> set[str]:
    """Return the sessions whose logout was answered in time for a scan, and which only a logout can have removed."""
    latest = scanned_ns - AFTER_LOGOUT_SECONDS * 1e9
    earliest = scanned_ns - idle_seconds * 1e9
    return {
        operation.presented
        for operation in operations
        if operation.f == "logout"
        and operation.outcome == "ok"
        and operation.presented
        and earliest <= operation.t1_ns <= latest
    }


def _expired(operations: Sequence[Operation]) -> set[str]:
    return {o.presented for o in operations if o.late in {"idle", "absolute"} and o.presented}


def _left(ended: set[str], held: set[str]) -> dict[str, int]:
    return {"ended": len(ended), "left": len(ended & held)}
