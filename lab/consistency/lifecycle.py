"""The life of a session: lost without being asked to, or alive when it should be dead."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from lab.consistency.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.consistency.shopper import Shopper
    from loadtests.recorder import Operation

__all__ = ["resurrections", "sessions_lost"]

UNTOUCHED = frozenset({"product", "search", "final_view"})
"""What says nothing of a tab's session: the catalogue, and views that no tab made."""

ENDED = 401
"""HTTP status of a request whose session was gone when it wanted to save."""

SERVER_FAILED = 500
"""HTTP statuses from here on say nothing about the session."""


class _Signings:
    """A shopper's logins and logouts that happened, or may have: what changes `session` or `user` by intention."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._ops = [op for op in operations if op.f in {"login", "logout"} and op.outcome != "fail"]
        self._sent = [op.t0_ns for op in self._ops]
        self._ends: list[float] = [op.t1_ns if op.outcome == "ok" else math.inf for op in self._ops]
        self._latest_end = list(accumulate(self._ends, max))

    def excuse(self, before: Operation, after: Operation) -> bool:
        """Say whether another one than `before` may have taken effect between two requests."""
        for place in range(bisect_right(self._sent, after.t1_ns) - 1, -1, -1):
            if self._latest_end[place] < before.t0_ns:
                return False
            if self._ends[place] >= before.t0_ns and self._ops[place] is not before:
                return True
        return False


def sessions_lost(shoppers: Sequence[Shopper]) -> Tally:
    """Count requests whose `session` or `user` is another than in the tab's request before, without login or logout.

    An opportunity is a request that follows one with a session in the same tab, unless a login or logout of the shopper
    (from any tab) may have taken effect since. An answer 401, "your session has ended", has no session. Requests that
    present an ended session's cookie on purpose are left out, and what follows them starts afresh.
    """
    tally = Tally("sessions_lost", across_servers=True)
    for shopper in shoppers:
        tally.next_shopper()
        signings = _Signings(shopper.operations)
        for operations in shopper.tabs().values():
            for before, after, changed in _pairs(operations, signings):
                tally.count(violated=changed, crossed=before.server != after.server)
                if changed:
                    rank = (shopper.between(before, after), after.t0_ns - before.t1_ns, after.i)
                    tally.offer(rank, None, (before, after))
    return tally


def _session(op: Operation) -> str | None:
    return None if op.status == ENDED or op.f == "logout" else op.session


def _pairs(operations: Iterable[Operation], signings: _Signings) -> Iterator[tuple[Operation, Operation, bool]]:
    """Yield a tab's opportunities: the request before, the request, and whether the session changed between them.

    The user is compared with the latest answer that showed one: only answers with a cart greet anybody.
    """
    known: Operation | None = None
    greeted: Operation | None = None
    for op in operations:
        if op.late is not None:
            known = greeted = None
        if op.late is not None or op.f in UNTOUCHED or (op.outcome != "ok" and op.status != ENDED):
            continue
        if known is not None and _session(known) is not None and not signings.excuse(known, op):
            renamed = (
                greeted is not None
                and op.cart is not None
                and op.user != greeted.user
                and not signings.excuse(greeted, op)
            )
            other = _session(op) != _session(known)
            yield (greeted if renamed and greeted and not other else known), op, other or renamed
            if other:
                greeted = None
        known = op
        greeted = op if op.cart is not None else greeted


def resurrections(shoppers: Sequence[Shopper]) -> Tally:
    """Count requests that present the cookie of an ended session and are served something of it.

    Ended is: by a logout of the same handle, acknowledged before the request was sent (one still under way excuses); or
    by a lifetime that the plan let pass. Something of it is: the session itself, a user, a cart line other than the
    request's own, or a recently viewed product other than the request's own. Any other answer below 500 counts as an
    opportunity, a refusal too. Beside it: `after`, what had ended the session to opportunities and violations.
    """
    tally = Tally("resurrections", across_servers=True)
    after: dict[str, dict[str, int]] = {}
    for shopper in shoppers:
        tally.next_shopper()
        logouts = _first_logouts(shopper)
        for op in shopper.operations:
            ending = _ending(op, logouts)
            if ending is None:
                continue
            violated = _is_served(op)
            last = logouts[op.presented] if ending == "logout" else _last_use(shopper, op)
            tally.count(violated=violated, crossed=last is not None and last.server != op.server)
            counts = after.setdefault(ending, {"opportunities": 0, "violations": 0})
            counts["opportunities"] += 1
            counts["violations"] += violated
            if violated:
                rank = (op.t0_ns - last.t1_ns if last else 0, op.i)
                tally.offer(rank, None, (last, op) if last else (op,))
    tally.extra = {"after": after}
    return tally


def _first_logouts(shopper: Shopper) -> dict[str | None, Operation]:
    """Return, by the handle they presented, the logouts that were acknowledged first."""
    acked = [op for op in shopper.operations if op.f == "logout" and op.outcome == "ok"]
    return {op.presented: op for op in sorted(acked, key=lambda op: (op.t1_ns, op.i), reverse=True)}


def _ending(op: Operation, logouts: dict[str | None, Operation]) -> str | None:
    """Return what had surely ended the session whose cookie a request presents; None if nothing had."""
    if op.f in UNTOUCHED or op.presented is None or not 0 < op.status < SERVER_FAILED:
        return None
    if op.late in {"idle", "absolute"}:
        return op.late
    logout = logouts.get(op.presented)
    return "logout" if logout is not None and logout.t1_ns < op.t0_ns else None


def _last_use(shopper: Shopper, late: Operation) -> Operation | None:
    """Return the last answer of the session before a request that came after its lifetime, late ones left out."""
    alive = [
        op for op in shopper.operations if op.session == late.presented and op.late is None and op.t1_ns < late.t0_ns
    ]
    return max(alive, key=lambda op: (op.t1_ns, op.i), default=None)


def _is_served(op: Operation) -> bool:
    """Say whether an answer holds anything of the session whose cookie was presented."""
    if op.status == ENDED:
        return False
    stranger = any(token != op.token for token in op.cart or ())
    greeted = op.f != "login" and op.user is not None
    own_visit = int(op.f == "visit")
    return op.session == op.presented or greeted or stranger or len(op.recent or ()) > own_visit
