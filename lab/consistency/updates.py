"""What became of the writes: lost updates, lost writes, servers that disagree, items from nowhere, conflicts.

An *effect* is a token in the cart (`add`) or one more of a line's quantity (`bump`). A line starts with quantity 1, so
of a line with n acknowledged bumps that ends with quantity q, n + 1 - q bumps were lost. A bump of unknown outcome may
raise q and hide one of them: it excuses, and never accuses.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from lab.consistency.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from lab.consistency.shopper import Answer, Shopper
    from loadtests.recorder import Operation

__all__ = ["conflicts", "divergence", "lost_updates", "lost_writes", "phantoms"]

CONFLICT = 409
"""HTTP status of a save onto a version that is no longer current."""


class _Effects:
    """The acknowledged effects of one shopper that the final views must show.

    Attributes:
        adds: those that must be in a final cart.
        bumps: line to its acknowledged bumps.
        lost_bumps: line to how many of them are in no final quantity.
    """

    def __init__(self, shopper: Shopper) -> None:
        owed = {
            token: add
            for token, add in shopper.adds.items()
            if shopper.complete and add.outcome != "fail" and shopper.epoch(token) == shopper.last_epoch
        }
        self.adds = [add for add in owed.values() if add.outcome == "ok"]
        self.bumps: dict[str, list[Operation]] = defaultdict(list)
        for op in shopper.operations:
            if op.f == "bump" and op.outcome == "ok" and op.line in owed:
                self.bumps[op.line].append(op)
        self.lost_bumps = {
            line: min(len(bumps), max(0, len(bumps) + 1 - _final_quantity(shopper, line)))
            for line, bumps in self.bumps.items()
        }


def _quantity(op: Operation, line: str) -> int:
    return (op.quantities or {}).get(line, int(line in (op.cart or ())))


def _final_quantity(shopper: Shopper, line: str) -> int:
    return max((_quantity(final.op, line) for final in shopper.finals), default=0)


def lost_writes(shoppers: Sequence[Shopper]) -> Tally:
    """Count acknowledged adds and bumps whose effect is in no final view."""
    tally = Tally("lost_writes")
    for shopper in shoppers:
        tally.next_shopper()
        effects = _Effects(shopper)
        for add in effects.adds:
            token = add.token or ""
            tally.count(violated=token not in shopper.kept)
            if token not in shopper.kept:
                final = shopper.finals[-1].op
                tally.offer((0, shopper.between(add, final), add.i), token, (add, final))
        for line, bumps in effects.bumps.items():
            lost = effects.lost_bumps[line]
            tally.count(violated=True, times=lost)
            tally.count(violated=False, times=len(bumps) - lost)
            if lost:
                _offer_bumps(tally, shopper, line, bumps, bumps[-1:])
    return tally


def _offer_bumps(tally: Tally, shopper: Shopper, line: str, bumps: list[Operation], told: Sequence[Operation]) -> None:
    """Offer the line with the fewest bumps: all of them are needed to say that one is missing."""
    rank = (1, len(bumps), told[0].i)
    if tally.is_better(rank):
        final = max(shopper.finals, key=lambda final: _quantity(final.op, line)).op
        tally.offer(rank, line, (shopper.adds[line], *told, final), tuple(bumps))


def lost_updates(shoppers: Sequence[Shopper]) -> Tally:
    """Count acknowledged writes that are lost, and that started from the same state as another of the same shopper.

    An opportunity is an acknowledged add or bump that raced: it overlapped another write of the shopper in time
    (refused ones too: that is how `versioned` keeps out of trouble), or started from the same state as another. Beside
    it: `writes`, all acknowledged ones, and `merged`, how often the same start did no harm. Definition: P4 of Berenson
    et al., "A critique of ANSI SQL isolation levels" (1995).
    """
    tally = Tally("lost_updates")
    merged = writes = 0
    for shopper in shoppers:
        tally.next_shopper()
        effects = _Effects(shopper)
        acknowledged = [*effects.adds, *(bump for bumps in effects.bumps.values() for bump in bumps)]
        writes += len(acknowledged)
        forks = _forks(shopper)
        merged += sum(1 for fork in forks if _all_kept(shopper, effects, fork, acknowledged))
        _count_updates(tally, shopper, effects, acknowledged, forks)
    tally.extra = {"writes": writes, "merged": merged}
    return tally


def _start(shopper: Shopper, op: Operation) -> Hashable:
    """Return the state that a write started from: its answer without its own effect.

    Carts only grow between removals, so equal carts are equal states, unless a removal came between: hence the counts
    of removals that had ended before, and were sent before its end.
    """
    state = {token: _quantity(op, token) for token in op.cart or ()}
    if op.f == "add":
        state.pop(op.token or "", None)
    elif op.line in state:
        state[op.line] -= 1
    removals = shopper.removals
    return frozenset(state.items()), removals.ended_before(op.t0_ns), removals.epoch_of_answer(op.t1_ns)


def _forks(shopper: Shopper) -> list[list[Operation]]:
    """Return the groups of acknowledged writes that started from the same state."""
    by_start: dict[Hashable, list[Operation]] = defaultdict(list)
    for answer in shopper.answers:
        if answer.op.f in {"add", "bump"}:
            by_start[_start(shopper, answer.op)].append(answer.op)
    return [group for group in by_start.values() if len(group) > 1]


def _raced(shopper: Shopper) -> set[int]:
    """Return the indexes of writes that overlapped another in time."""
    writes = [op for op in shopper.operations if op.f in {"add", "bump"}]
    raced: set[int] = set()
    latest_end = -1
    for place, op in enumerate(writes):
        following = writes[place + 1].t0_ns if place + 1 < len(writes) else op.t1_ns + 1
        if op.t0_ns <= latest_end or following <= op.t1_ns:
            raced.add(op.i)
        latest_end = max(latest_end, op.t1_ns)
    return raced


def _all_kept(shopper: Shopper, effects: _Effects, fork: list[Operation], acknowledged: list[Operation]) -> bool:
    """Say whether every write of a fork must be in the final views, and is."""
    owed = {op.i for op in acknowledged}
    return all(op.i in owed and not _is_lost(shopper, effects, op) for op in fork)


def _is_lost(shopper: Shopper, effects: _Effects, op: Operation) -> bool:
    """Say whether a write's effect is missing; for a bump, whether any of its line's is."""
    return effects.lost_bumps[op.line or ""] > 0 if op.f == "bump" else (op.token or "") not in shopper.kept


def _count_updates(
    tally: Tally, shopper: Shopper, effects: _Effects, acknowledged: list[Operation], forks: list[list[Operation]]
) -> None:
    fork_of = {op.i: fork for fork in forks for op in fork}
    raced = _raced(shopper)
    left = dict(effects.lost_bumps)
    for op in acknowledged:
        fork = fork_of.get(op.i)
        if fork is None and op.i not in raced:
            continue
        lost = fork is not None and (left[op.line or ""] > 0 if op.f == "bump" else _is_lost(shopper, effects, op))
        if op.f == "bump" and lost:
            left[op.line or ""] -= 1
        tally.count(violated=lost)
        if lost and fork is not None:
            _offer_fork(tally, shopper, effects, op, fork)


def _offer_fork(tally: Tally, shopper: Shopper, effects: _Effects, lost: Operation, fork: list[Operation]) -> None:
    others = [op for op in fork if op is not lost]
    if lost.f == "bump":
        other = min(others, key=lambda op: (op.line != lost.line, abs(op.t0_ns - lost.t0_ns), op.i))
        _offer_bumps(tally, shopper, lost.line or "", effects.bumps[lost.line or ""], (lost, other))
        return
    other = min(others, key=lambda op: (op.token not in shopper.kept, abs(op.t0_ns - lost.t0_ns), op.i))
    rank = (0, shopper.between(lost, other), abs(other.t0_ns - lost.t0_ns), lost.i)
    if tally.is_better(rank):
        showing = [final.op for final in shopper.finals if other.token in final.shown]
        tally.offer(rank, lost.token, (lost, other, (showing or [shopper.finals[-1].op])[0]))


def divergence(shoppers: Sequence[Shopper]) -> Tally:
    """Count shoppers to whom two servers show different final views: cart, quantities, user or recently viewed."""
    tally = Tally("divergence")
    for shopper in shoppers:
        tally.next_shopper()
        latest = list({final.op.server: final.op for final in shopper.finals}.values())
        if len(latest) < 2:  # noqa: PLR2004 - two servers can differ
            continue
        first = latest[0]
        other = next((op for op in latest if _state(op) != _state(first)), None)
        tally.count(violated=other is not None)
        if other is not None:
            apart = sorted(set(first.cart or ()) ^ set(other.cart or ()))
            tally.offer((len(apart), other.i), apart[0] if apart else None, (first, other))
    return tally


def _state(op: Operation) -> Hashable:
    quantities = frozenset((token, _quantity(op, token)) for token in op.cart or ())
    return quantities, op.user, tuple(op.recent or ())


def phantoms(shoppers: Sequence[Shopper]) -> Tally:
    """Count answers that show a token twice, or one that the shopper never sent, or whose `add` was refused.

    Another shopper's token is one that this shopper never sent. Beside it: `returned`, answers that show a token which
    an acknowledged removal had taken before they were asked for.
    """
    tally = Tally("phantoms")
    returned = 0
    for shopper in shoppers:
        tally.next_shopper()
        sent = {token for token, add in shopper.adds.items() if add.outcome != "fail"}
        by_epoch: dict[int, set[str]] = defaultdict(set)
        for token in shopper.adds:
            by_epoch[shopper.epoch(token)].add(token)
        for answer in shopper.answers:
            phantom = _phantom(sent, answer)
            tally.count(violated=phantom is not None)
            earlier = answer.shown - by_epoch[answer.epoch]
            returned += any(_has_returned(shopper, answer, token) for token in earlier)
            if phantom is not None:
                add = shopper.adds.get(phantom)
                tally.offer((answer.op.i,), phantom, (answer.op,) if add is None else (add, answer.op))
    tally.extra = {"returned": returned}
    return tally


def _phantom(sent: set[str], answer: Answer) -> str | None:
    """Return the first token that an answer shows twice, or that is not among those sent."""
    cart = answer.op.cart or ()
    if len(cart) != len(answer.shown):
        return next(token for token, times in Counter(cart).items() if times > 1)
    return None if answer.shown <= sent else next(token for token in cart if token not in sent)


def _has_returned(shopper: Shopper, answer: Answer, token: str) -> bool:
    add = shopper.adds.get(token)
    return (
        add is not None
        and add.outcome == "ok"
        and any(
            removal.outcome == "ok" and add.t1_ns < removal.t0_ns and removal.t1_ns < answer.op.t0_ns
            for removal in shopper.removals.ops
        )
    )


def conflicts(shoppers: Iterable[Shopper]) -> dict[str, Any]:
    """Count writes that were refused because another came first, and what their retries took.

    Returns:
        `conflicts`, all refusals; `retries`, number of retries until success to how many writes took them; and
        `gave_up`, writes that were not tried again.
    """
    refused = retried = 0
    retries: Counter[int] = Counter()
    for shopper in shoppers:
        for op in shopper.operations:
            refused += op.status == CONFLICT
            retried += op.attempt > 0
            if op.attempt and op.outcome == "ok":
                retries[op.attempt] += 1
    return {
        "conflicts": refused,
        "retries": {str(count): writes for count, writes in sorted(retries.items())},
        "gave_up": max(0, refused - retried),
    }
