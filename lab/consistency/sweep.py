"""The four session guarantees and stale reads: one sweep over what each reader is owed.

A reader is owed tokens, each from the moment it became certain:

- *read your writes*: a tab's own acknowledged adds, from their acknowledgement;
- *monotonic reads*: every token that the tab was shown, from the first answer that showed it;
- *stale reads*: every acknowledged add of the shopper, from its acknowledgement.

A `view` that lacks a token it owes breaks the rule. The two rules about writes turn the question round: whoever is
shown a tab's write must also be shown what that tab had written before (*monotonic writes*) or had seen before
(*writes follow reads*), so they read the same two lists at the time the write was sent.

Definitions: Terry et al. 1994; Viotti and Vukolić, "Consistency in non-transactional distributed storage systems"
(2016). Work: O(n log n) and the total length of the carts shown.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from lab.consistency.tally import Tally, counts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lab.consistency.due import Due, Reader
    from lab.consistency.shopper import Answer, Shopper
    from loadtests.recorder import Operation

__all__ = ["monotonic_reads", "monotonic_writes", "read_your_writes", "stale_reads", "writes_follow_reads"]


def _offer_view(tally: Tally, shopper: Shopper, view: Operation, source: Operation, token: str) -> None:
    """Offer "it was certain, the view lacks it, it was not lost" as a witness."""
    if tally.check == "monotonic_reads":
        source = shopper.latest_showing(token, view, source)
    in_a_write = int(tally.check == "monotonic_reads" and source.f != "view")  # two views tell it best
    rank = (in_a_write, shopper.between(source, view), view.t0_ns - source.t1_ns, view.i)
    if tally.is_better(rank):
        add = shopper.adds.get(token, source)
        tally.offer(rank, token, (add, source, view, shopper.proof(token)))


def _each_view(
    tally: Tally, shopper: Shopper, dues: Mapping[Reader, Due], *, by_tab: bool
) -> Iterable[tuple[Answer, Due, int, list[str]]]:
    """Count every view that is owed something; yield it with what it is owed, how many, and what it lacks.

    A view that lacks the same item as the tab's view before makes no better witness than that one.
    """
    lacked: dict[int, str] = {}
    for view in shopper.views:
        due = dues.get((view.op.tab if by_tab else None, view.epoch))
        owed = due.before(view.op.t0_ns) if due else 0
        if due is None or not owed:
            continue
        tokens = due.tokens[:owed]
        missing = [] if view.shown.issuperset(tokens) else [token for token in tokens if token not in view.shown]
        crossed = due.sources[owed - 1].server != view.op.server
        tally.count(violated=bool(missing), crossed=crossed)
        if not missing:
            lacked.pop(view.op.tab, None)
        elif lacked.get(view.op.tab) != missing[-1]:
            lacked[view.op.tab] = missing[-1]
            _offer_view(tally, shopper, view.op, due.sources[tokens.index(missing[-1])], missing[-1])
        yield view, due, owed, missing


def read_your_writes(shoppers: Sequence[Shopper]) -> Tally:
    """Count views that lack an own acknowledged add, still in the cart and not lost.

    `including_lost` beside it is what the shopper feels: the same count with lost adds, which every later view of the
    session reports again. `items` are the distinct tokens that some view lacked.
    """
    tally = Tally("read_your_writes", across_servers=True)
    felt = Tally("read_your_writes", across_servers=True)
    items: set[str] = set()
    for shopper in shoppers:
        tally.next_shopper()
        felt.next_shopper()
        for _, _, _, missing in _each_view(tally, shopper, shopper.own_adds, by_tab=True):
            items.update(missing)
        _count_felt(felt, shopper)
    tally.extra = {"items": len(items), "including_lost": counts_of(felt)}
    return tally


def _count_felt(felt: Tally, shopper: Shopper) -> None:
    dues = shopper.due_adds(by_tab=True, with_lost=True)
    for view in shopper.views:
        due = dues.get((view.op.tab, view.epoch))
        owed = due.before(view.op.t0_ns) if due else 0
        if due is not None and owed:
            violated = owed > len(view.shown) or not view.shown.issuperset(due.tokens[:owed])
            felt.count(violated=violated, crossed=due.sources[owed - 1].server != view.op.server)


def monotonic_reads(shoppers: Sequence[Shopper]) -> Tally:
    """Count views that lack a token which the same tab was shown before."""
    tally = Tally("monotonic_reads", across_servers=True)
    for shopper in shoppers:
        tally.next_shopper()
        for _ in _each_view(tally, shopper, shopper.seen, by_tab=True):
            pass
    return tally


def stale_reads(shoppers: Sequence[Shopper]) -> Tally:
    """Count views that lack any acknowledged add of the shopper, from whichever tab.

    Beside it: `k`, how many adds a stale view lacked; `t_ms`, how long the oldest of them had been acknowledged; and
    `t_visibility`, per view the gap since the latest acknowledged add in ms and whether it was shown (PBS: Bailis et
    al., "Probabilistically bounded staleness", 2012).
    """
    tally = Tally("stale_reads", across_servers=True)
    behind: list[tuple[int, float]] = []
    points: list[tuple[float, bool]] = []
    for shopper in shoppers:
        tally.next_shopper()
        dues = shopper.due_adds(by_tab=False)
        for view, due, owed, missing in _each_view(tally, shopper, dues, by_tab=False):
            latest = owed - 1
            points.append(((view.op.t0_ns - due.since[latest]) / 1e6, due.tokens[latest] in view.shown))
            if missing:
                behind.append((len(missing), (view.op.t0_ns - due.since[due.tokens.index(missing[0])]) / 1e6))
    tally.extra = _staleness(behind) | {"t_visibility": visibility(points)}
    return tally


def _staleness(behind: list[tuple[int, float]]) -> dict[str, Any]:
    ks, ts = [k for k, _ in behind], sorted(t for _, t in behind)
    if not behind:
        return {"k": {"max": 0, "views": {}}, "t_ms": None}
    middle, high = ts[(len(ts) - 1) // 2], ts[min(len(ts) - 1, int(0.95 * len(ts)))]
    return {
        "k": {"max": max(ks), "views": {str(k): ks.count(k) for k in sorted(set(ks))}},
        "t_ms": {"p50": middle, "p95": high, "max": ts[-1]},
    }


BIN_EDGES_MS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Lower edges of the bins of the gap between an acknowledged add and a view."""

MOST_POINTS = 2000
"""More points than this say nothing more in a chart; `views` says how many there were."""


def visibility(points: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Summarise t-visibility: bins over all views, and points thinned evenly by gap.

    Args:
        points: per view, the gap in ms and whether the latest acknowledged add was shown.
    """
    ordered = sorted(points)
    bins = [[edge, 0, 0] for edge in BIN_EDGES_MS]
    for gap, visible in ordered:
        entry = bins[bisect_right(BIN_EDGES_MS, gap) - 1]
        entry[1] += 1
        entry[2] += visible
    step = max(1, -(-len(ordered) // MOST_POINTS))
    return {
        "views": len(ordered),
        "bins": [{"from_ms": edge, "views": views, "visible": seen} for edge, views, seen in bins if views],
        "points": [[round(gap, 3), int(visible)] for gap, visible in ordered[::step]],
    }


def monotonic_writes(shoppers: Sequence[Shopper]) -> Tally:
    """Count acknowledged adds that some answer shows without an earlier acknowledged add of the same tab."""
    return _each_write("monotonic_writes", shoppers, lambda shopper: shopper.own_adds)


def writes_follow_reads(shoppers: Sequence[Shopper]) -> Tally:
    """Count acknowledged adds that some answer shows without what the tab had been shown before it sent them."""
    return _each_write("writes_follow_reads", shoppers, lambda shopper: shopper.seen)


def _each_write(check: str, shoppers: Sequence[Shopper], owe: Callable[[Shopper], Mapping[Reader, Due]]) -> Tally:
    tally = Tally(check, across_servers=True)
    for shopper in shoppers:
        tally.next_shopper()
        crossed: dict[int, bool] = {}
        broken: set[int] = set()
        dues = owe(shopper)
        for answer in shopper.answers:
            for tab, writes in shopper.writes_shown(answer).items():
                due = dues.get((tab, answer.epoch))
                if due is not None:
                    _note_writes(crossed, due, writes)
                    apart = _broken_writes(answer, due, writes)
                    if apart and apart[-1].i not in broken:
                        _offer_write(tally, shopper, answer, due, apart[-1])
                    broken.update(write.i for write in apart)
        for i, across in crossed.items():
            tally.count(violated=i in broken, crossed=across)
    return tally


def _note_writes(crossed: dict[int, bool], due: Due, writes: list[Operation]) -> None:
    """Note the writes that owe predecessors here, and whether the latest of these came from another server."""
    for write in writes:
        if write.i not in crossed and due.since[0] < write.t0_ns:
            crossed[write.i] = due.sources[due.before(write.t0_ns) - 1].server != write.server


def _broken_writes(answer: Answer, due: Due, writes: list[Operation]) -> list[Operation]:
    """Return the writes that an answer shows without something that was certain before they were sent."""
    owed = due.before(writes[-1].t0_ns)
    if answer.shown.issuperset(due.tokens[:owed]):
        return []
    first = next(place for place in range(owed) if due.tokens[place] not in answer.shown)
    return [write for write in writes if due.since[first] < write.t0_ns]


def _offer_write(tally: Tally, shopper: Shopper, answer: Answer, due: Due, write: Operation) -> None:
    """Offer "certain, then written, then shown apart, and not lost" as a witness."""
    places = reversed(range(due.before(write.t0_ns)))
    place = next(place for place in places if due.tokens[place] not in answer.shown)
    token, source = due.tokens[place], due.sources[place]
    if tally.check == "writes_follow_reads":
        source = shopper.latest_showing(token, write, source)
    rank = (shopper.between(source, write), write.t0_ns - source.t1_ns, answer.op.i)
    if tally.is_better(rank):
        tally.offer(rank, token, (source, write, answer.op, shopper.proof(token)))
