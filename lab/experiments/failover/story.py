"""What one fault did to one cluster, read from its requests alone: failures, sessions, writes, answers, time.

Pure functions of the history. `before` a fault means answered before it was struck; `after` means sent after it. All
times are of one monotonic clock, in nanoseconds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from lab import statistics
from lab.consistency.shopper import arrange

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from lab.consistency.shopper import Shopper
    from loadtests.recorder import Operation

Cause = Literal["server", "store", "origin", "error"]
"""Why a request failed: `server`, nobody answered in time (refused, reset, 502, 504); `store`, the session's store was
not available (503); `origin`, the shop's own database was not (503); `error`, anything else from 500 on."""

CAUSES: tuple[Cause, ...] = ("server", "store", "origin", "error")

KINDS = ("ok", "slow", "wrong", "origin", "failed")
"""Kinds of requests in the timeline."""

BUCKET_MS = 250
"""Width of a column of the timeline."""

SLOW_MS = 1000.0
"""From here on a shopper notices that the shop hangs."""

CALM_SECONDS = 1.5
"""A shop has recovered if nothing fails for so long before the load ends."""

LAST_SECONDS = 1.0
"""What a server acknowledged within this time before it died may have reached nobody, where nobody waits for peers."""

LEAST_FOR_P95 = 20
"""Fewer requests than this have no 95th percentile."""

_NO_SESSION = frozenset({"product", "search"})
"""What never looks at the session."""

_SECOND = 1_000_000_000
_ENDED, _UNAVAILABLE, _NOT_ANSWERED, _SERVER_ERROR = 401, 503, (502, 504), 500
_ORIGIN_TEXT = "catalogue"
"""In the text of a 503 of the shop's own database (`lab/shop/catalogue.py`); the session's store never says it."""


class Marks(msgspec.Struct, frozen=True):
    """When things happened to a cluster.

    Attributes:
        start_ns: the load began.
        struck_ns: just before the fault was struck.
        repaired_ns: everything was put right again.
        end_ns: the load ended.
    """

    start_ns: int
    struck_ns: int
    repaired_ns: int
    end_ns: int

    def since_strike(self, at_ns: float) -> float:
        """Return how long after the stroke a time is, in seconds."""
        return (at_ns - self.struck_ns) / _SECOND

    def window(self, at_ns: int) -> str:
        """Return the part of the story that a time belongs to: `before`, `during` or `after`."""
        return "before" if at_ns < self.struck_ns else "during" if at_ns < self.repaired_ns else "after"


WINDOWS = ("before", "during", "after")


def cause(operation: Operation) -> Cause | None:
    """Return why a request failed; None where it did not. A 401 from a lost session is a finding, not a failure."""
    if operation.status == 0 or operation.status in _NOT_ANSWERED:
        return "server"
    if operation.status == _UNAVAILABLE:
        return "origin" if _ORIGIN_TEXT in (operation.error or "") else "store"
    return "error" if operation.status >= _SERVER_ERROR else None


def failures(operations: Iterable[Operation], marks: Marks) -> dict[str, Any]:
    """Count the failed requests among those that ended after the stroke, by cause.

    Beside it: `session_only`, those among them that need no origin; `before`, those that had failed earlier;
    `slowest_seconds`, how long it took longest to fail, by cause.
    """
    by_cause: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    before = session_only = requests = 0
    for op in operations:
        why = cause(op)
        if op.t1_ns < marks.struck_ns:
            before += why is not None
            continue
        requests += 1
        if why is not None:
            by_cause[why] += 1
            session_only += op.f in {"view", "login", "logout"}
            slowest[why] = max(slowest.get(why, 0.0), (op.t1_ns - op.t0_ns) / _SECOND)
    return {
        "requests": requests,
        "failed": by_cause.total(),
        "by_cause": {name: by_cause[name] for name in CAUSES},
        "session_only": session_only,
        "before": before,
        "slowest_seconds": slowest,
    }


def views_during(operations: Iterable[Operation], marks: Marks) -> dict[str, int]:
    """Count the views that were due between stroke and repair, and those that the store refused."""
    due = [op for op in operations if op.f == "view" and marks.window(op.intended_ns) == "during"]
    return {"views": len(due), "refused": sum(cause(op) == "store" for op in due)}


# --- sessions --------------------------------------------------------------------------------------------------------


class Fate(msgspec.Struct, frozen=True):
    """What became of one session that was alive when the fault was struck.

    Attributes:
        session: short hash of its handle.
        server: who had answered for it last.
        lost: whether it was gone in the end; None where nothing was asked of it since.
        signed_in: who acknowledged its last login, and when, in ns; None where that is not known.
    """

    session: str
    server: str | None
    lost: bool | None
    signed_in: tuple[str | None, int] | None


def fates(operations: Iterable[Operation], marks: Marks) -> list[Fate]:
    """Return the fate of each session that was surely alive at the stroke.

    Alive: the shopper's last answer before it named the session, and no logout had been sent since. Lost: the last
    thing that is known of it afterwards, a request of its shopper or the final views of all servers, does not name it.
    From a logout of its shopper on, nothing more is asked of it.
    """
    by_shopper: dict[str, list[Operation]] = defaultdict(list)
    for op in sorted(operations, key=lambda op: (op.t0_ns, op.i)):
        if op.f not in _NO_SESSION:
            by_shopper[op.shopper].append(op)
    found = [_fate(own, marks) for own in by_shopper.values()]
    return [fate for fate in found if fate is not None]


def _fate(own: Sequence[Operation], marks: Marks) -> Fate | None:
    known: Operation | None = None
    signed_in: tuple[str | None, int] | None = None
    for op in own:
        if op.t0_ns >= marks.struck_ns:
            break
        if op.f == "logout" and op.outcome != "fail":
            known = signed_in = None
        elif op.outcome == "ok" and op.t1_ns < marks.struck_ns:
            known = op
            if op.f == "login" or signed_in is None:
                signed_in = (op.server, op.t1_ns)
    if known is None or known.session is None:
        return None
    later = [op for op in own if op.t0_ns >= marks.struck_ns]
    return Fate(known.session, known.server, _is_lost(known.session, later), signed_in)


def _is_lost(session: str, later: Sequence[Operation]) -> bool | None:
    lost: bool | None = None
    for op in later:
        if op.f == "final_view":
            continue
        if op.f == "logout" and op.outcome != "fail":
            return lost
        if op.outcome == "ok" or op.status == _ENDED:
            lost = op.status == _ENDED or op.session != session
    finals = [op for op in later if op.f == "final_view" and op.presented == session]
    if any(op.session == session for op in finals):
        return False
    answered = bool(finals) and all(op.outcome == "ok" for op in finals)
    return True if answered else lost


def sessions(found: Sequence[Fate], marks: Marks, *, victim: str | None, struck_share: float | None) -> dict[str, Any]:
    """Count what became of the sessions.

    Args:
        found: see `fates`.
        marks: when things happened.
        victim: the server that was struck; None where it was all of them, or an engine.
        struck_share: the part of all servers that was struck; None for an engine. Where only a server knows a session,
            so large a part of them is expected to be lost.

    Returns:
        `alive` (those of which something is known afterwards), `lost`, `share` with its interval, `undecided`;
        `on_victim`, those for which the victim had answered last; `lost_elsewhere`, those lost for which another had;
        `lost_before_last_second`, those lost whose login was not acknowledged by the victim just before its death;
        `expected_share`, which is `struck_share`.
    """
    decided = [fate for fate in found if fate.lost is not None]
    lost = [fate for fate in decided if fate.lost]
    share = statistics.wilson(len(lost), len(decided))
    return {
        "alive": len(decided),
        "lost": len(lost),
        "share": None if share is None else msgspec.to_builtins(share),
        "undecided": len(found) - len(decided),
        "on_victim": sum(fate.server == victim for fate in decided) if victim else None,
        "lost_elsewhere": sum(fate.server != victim for fate in lost),
        "lost_before_last_second": sum(not _in_last_second(fate.signed_in, victim, marks) for fate in lost),
        "expected_share": struck_share,
    }


def _in_last_second(acknowledged: tuple[str | None, int] | None, victim: str | None, marks: Marks) -> bool:
    """Say whether the victim acknowledged something within its last second."""
    if acknowledged is None:
        return False
    server, at_ns = acknowledged
    return server == victim and marks.struck_ns - LAST_SECONDS * _SECOND <= at_ns <= marks.repaired_ns


# --- writes and answers ----------------------------------------------------------------------------------------------


def writes(shoppers: Sequence[Shopper], found: Sequence[Fate], marks: Marks, *, victim: str | None) -> dict[str, int]:
    """Count acknowledged adds that are in no final view, as the check `lost_writes` does.

    Returns:
        `acknowledged` (those that must be in the final views), `lost`; `lost_with_session`, those of a lost session for
        which the victim had answered last; `lost_in_last_second`, those that the victim acknowledged just before its
        death.
    """
    gone = {fate.session for fate in found if fate.lost and fate.server == victim}
    counts = Counter(acknowledged=0, lost=0, lost_with_session=0, lost_in_last_second=0)
    for shopper in shoppers:
        for token, add in shopper.acknowledged:
            if not shopper.complete or shopper.epoch(token) != shopper.last_epoch:
                continue
            counts["acknowledged"] += 1
            if shopper.is_lost(token):
                counts["lost"] += 1
                counts["lost_with_session"] += add.session in gone
                counts["lost_in_last_second"] += _in_last_second((add.server, add.t1_ns), victim, marks)
    return dict(counts)


def wrong_answers(shoppers: Iterable[Shopper]) -> tuple[set[int], set[int]]:
    """Return the views that owed their shopper something, and the wrong ones, each by its request's number.

    Wrong is a view that lacks an item which had been acknowledged to the shopper before it was sent, for whatever
    reason, or that shows an item which nobody put in: what the shopper sees, stale and lost alike.
    """
    judged: set[int] = set()
    wrong: set[int] = set()
    for shopper in shoppers:
        dues = shopper.due_adds(by_tab=False, with_lost=True)
        sent = {token for token, add in shopper.adds.items() if add.outcome != "fail"}
        for view in shopper.views:
            due = dues.get((None, view.epoch))
            owed = due.before(view.op.t0_ns) if due else 0
            if owed:
                judged.add(view.op.i)
            if (due is not None and not view.shown.issuperset(due.tokens[:owed])) or not view.shown <= sent:
                wrong.add(view.op.i)
                judged.add(view.op.i)
    return judged, wrong


def answers(operations: Iterable[Operation], judged: Collection[int], wrong: Collection[int], marks: Marks) -> Any:
    """Count views and wrong ones by the window in which they were sent, and the seconds from stroke to the last one."""
    counts = {window: {"views": 0, "wrong": 0} for window in WINDOWS}
    last = None
    for op in operations:
        if op.i in judged:
            count = counts[marks.window(op.t0_ns)]
            count["views"] += 1
            count["wrong"] += op.i in wrong
            if op.i in wrong and op.t0_ns >= marks.struck_ns:
                last = max(last or 0.0, marks.since_strike(op.t1_ns))
    return {**counts, "last_seconds": last}


# --- time ------------------------------------------------------------------------------------------------------------


def recovery(operations: Iterable[Operation], marks: Marks) -> dict[str, Any]:
    """Say how long requests failed: from the stroke to the end of the last failed one.

    Returns:
        `recovered`: whether nothing failed in the last `CALM_SECONDS` of the load; None where the load ended so soon
        after the repair that this shows nothing. `seconds`: 0 where nothing failed, None where it did not recover.
        `after_repair_seconds`: the same from the repair, 0 where that came last. `calm_seconds`.
        `load_after_repair_seconds`: how long the load went on after the repair.
    """
    failed = [op for op in operations if cause(op) is not None and op.t1_ns >= marks.struck_ns]
    last = max((op.t1_ns for op in failed), default=None)
    calm_from = marks.end_ns - CALM_SECONDS * _SECOND
    calm = all(op.intended_ns < calm_from and op.t1_ns < marks.end_ns for op in failed)
    recovered = calm if not failed or marks.repaired_ns <= calm_from else None
    seconds = 0.0 if last is None else marks.since_strike(last)
    since_repair = 0.0 if last is None else max(0.0, (last - marks.repaired_ns) / _SECOND)
    return {
        "recovered": recovered,
        "seconds": None if recovered is False else seconds,
        "after_repair_seconds": None if recovered is False else since_repair,
        "calm_seconds": CALM_SECONDS,
        "load_after_repair_seconds": max(0.0, (marks.end_ns - marks.repaired_ns) / _SECOND),
    }


def waited_ms(operation: Operation) -> float:
    """Return what a shopper waited, from the moment the request was due, without the generator's own lateness."""
    began = operation.t0_ns if operation.slept else operation.intended_ns
    return (operation.t1_ns - began) / 1e6


def waits(operations: Iterable[Operation], marks: Marks) -> dict[str, dict[str, float | int | None]]:
    """Return the 95th percentile of what shoppers waited, by the window in which requests were due; failures count."""
    by_window: dict[str, list[float]] = {window: [] for window in WINDOWS}
    for op in operations:
        by_window[marks.window(op.intended_ns)].append(waited_ms(op))
    return {
        window: {
            "requests": len(values),
            "p95": float(np.quantile(values, 0.95)) if len(values) >= LEAST_FOR_P95 else None,
            "longest": max(values, default=None),
        }
        for window, values in by_window.items()
    }


def timeline(operations: Iterable[Operation], wrong: Collection[int], marks: Marks) -> dict[str, Any]:
    """Sort the requests into columns of `BUCKET_MS`, by when they were due: each is of one kind.

    What was due only after the load had ended, such as the second half of a pair, stands in the last column.

    Returns:
        `bucket_ms`; `from_ms`, the first column's left edge, from the stroke; `ok`, `slow` (right, but the shopper
        waited `SLOW_MS` or longer), `wrong`, `origin` (failed, because the shop's own database was down) and `failed`
        (for any other cause), a count per column.
    """
    width = BUCKET_MS * 1_000_000
    first = math.floor((marks.start_ns - marks.struck_ns) / width)
    count = max(1, math.ceil((marks.end_ns - marks.struck_ns) / width) - first)
    kinds = {kind: [0] * count for kind in KINDS}
    for op in operations:
        place = min(max(math.floor((op.intended_ns - marks.struck_ns) / width) - first, 0), count - 1)
        kinds[_kind(op, wrong)][place] += 1
    return {"bucket_ms": BUCKET_MS, "from_ms": first * BUCKET_MS, **kinds}


def _kind(operation: Operation, wrong: Collection[int]) -> str:
    why = cause(operation)
    if why is not None:
        return "origin" if why == "origin" else "failed"
    if operation.i in wrong:
        return "wrong"
    return "slow" if waited_ms(operation) >= SLOW_MS else "ok"


def tell(
    operations: Sequence[Operation],
    marks: Marks,
    *,
    victim: str | None,
    struck_share: float | None,
    control: bool = False,
) -> dict[str, Any]:
    """Tell what a fault did to a cluster: all of the above.

    Args:
        operations: every request of the cluster, warm-up and final views included.
        marks: when things happened.
        victim: the server that was struck; None where it was all of them, or an engine.
        struck_share: the part of all servers that was struck; None for an engine.
        control: sessions come and go without any fault, so that nothing is said about them.
    """
    load = [op for op in operations if op.phase == "main"]
    shoppers = arrange(operations)
    found = fates(operations, marks)
    judged, wrong = wrong_answers(shoppers)
    return {
        "requests": {
            "sent": len(load),
            "ok": sum(op.outcome == "ok" for op in load),
            "failed": sum(cause(op) is not None for op in load),
        },
        "marks_ns": msgspec.to_builtins(marks),
        "struck_seconds": (marks.struck_ns - marks.start_ns) / _SECOND,
        "lasted_seconds": (marks.repaired_ns - marks.struck_ns) / _SECOND,
        "load_seconds": (marks.end_ns - marks.start_ns) / _SECOND,
        "failures": failures(load, marks),
        "sessions": None if control else sessions(found, marks, victim=victim, struck_share=struck_share),
        "writes": None if control else writes(shoppers, found, marks, victim=victim),
        "views_during": views_during(load, marks),
        "answers": answers(load, judged, wrong, marks),
        "recovery": recovery(load, marks),
        "waits_ms": waits(load, marks),
        "timeline": timeline(load, wrong, marks),
    }
