"""One shopper's requests, arranged for the checks: what was added, removed, shown, and kept to the end.

Two ideas carry all the checks.

*Epochs.* A logout or a checkout ends the obligation to show what was added before it. The shopper's removals, in the
order they were sent, cut time into epochs. A token belongs to the epoch of the first removal that may have taken it:
one that ended after the token's `add` was sent (one whose outcome is unknown may take effect at any later time, so it
never ends). An answer belongs to the epoch of the removals sent before it ended. A token is owed to an answer only if
both are of the same epoch: an earlier token may have been removed, and a later one was not yet sent. So concurrency
and unknown outcomes always excuse, and never accuse.

*Settled.* A token of the last epoch that no final view shows is **lost**, and every later view would report it again.
Therefore lost is computed first, and the guarantees look at settled tokens only: those that a final view shows, and
those that a removal ended in time.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from lab.consistency.due import Due

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.consistency.due import Reader
    from loadtests.recorder import Operation

__all__ = ["Answer", "Removals", "Shopper", "arrange"]

REMOVES = frozenset({"logout", "checkout"})
"""What empties the cart."""

LOOK_BACK = 50
"""A witness that spans more requests than this is no better for a search that goes on."""

_PREFERENCE = {"ok": 0, "info": 1, "fail": 2}


class Answer:
    """An answer that shows the cart.

    Attributes:
        op: the request.
        shown: the tokens in the cart that it shows.
        epoch: how many of the shopper's removals were sent before it ended.
    """

    __slots__ = ("epoch", "op", "shown")

    def __init__(self, op: Operation, epoch: int) -> None:
        self.op = op
        self.shown = frozenset(op.cart or ())
        self.epoch = epoch


class Removals:
    """A shopper's logouts and checkouts that happened, or may have.

    Attributes:
        ops: in the order they were sent.
    """

    def __init__(self, ops: Iterable[Operation]) -> None:
        self.ops = sorted(ops, key=_sent)
        self._sent = [op.t0_ns for op in self.ops]
        ends: list[float] = [op.t1_ns if op.outcome == "ok" else math.inf for op in self.ops]
        self._ended = sorted(ends)
        self._latest_end = list(accumulate(ends, max))

    def __len__(self) -> int:
        return len(self.ops)

    def epoch_of_write(self, t0_ns: float) -> int:
        """Return the index of the first removal that may undo a write sent at `t0_ns`; their number if none may."""
        return bisect_left(self._latest_end, t0_ns)

    def epoch_of_answer(self, t1_ns: int) -> int:
        """Return how many removals were sent by `t1_ns`; ties count, being concurrent."""
        return bisect_right(self._sent, t1_ns)

    def ended_before(self, t0_ns: int) -> int:
        """Return how many removals had ended before `t0_ns`."""
        return bisect_left(self._ended, t0_ns)


class Shopper:
    """One shopper of one arm and scenario.

    Attributes:
        operations: all requests, in the order they were sent.
        adds: token to the `add` that put it into the cart: the acknowledged attempt, else one of unknown outcome, else
            a refused one.
        answers: every answer that shows the cart, in the order they were sent; final views too.
        views: those among them that are a `view`.
        finals: the successful final views.
        complete: every server answered its final view, or is dead; only then can anything be called lost.
        removals: logouts and checkouts.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = sorted(operations, key=_sent)
        self.position = {op.i: place for place, op in enumerate(self.operations)}
        self.adds = _adds(self.operations)
        self.removals = Removals(op for op in self.operations if op.f in REMOVES and op.outcome != "fail")
        self.answers = [
            Answer(op, self.removals.epoch_of_answer(op.t1_ns))
            for op in self.operations
            if op.outcome == "ok" and op.cart is not None
        ]
        self.views = [answer for answer in self.answers if answer.op.f == "view"]
        self.finals = [answer for answer in self.answers if answer.op.f == "final_view"]
        self.complete = bool(self.finals) and all(
            op.outcome == "ok" or _refused(op) for op in self.operations if op.f == "final_view"
        )
        self.kept = frozenset[str]().union(*(final.shown for final in self.finals))
        self.last_epoch = len(self.removals)
        self._writes_in: dict[frozenset[str], dict[int, list[Operation]]] = {}
        self._epochs = {token: self.removals.epoch_of_write(add.t0_ns) for token, add in self.adds.items()}

    def epoch(self, token: str) -> int:
        """Return the epoch of a token; one whose `add` is unknown may be undone by any removal."""
        return self._epochs.get(token, 0)

    def is_settled(self, token: str) -> bool:
        """Say whether a token is surely not lost: a final view shows it, or a removal ended it."""
        return token in self.kept or self.epoch(token) < self.last_epoch

    def is_lost(self, token: str) -> bool:
        """Say whether a token should be in the final views and is in none."""
        return self.complete and not self.is_settled(token)

    def proof(self, token: str) -> Operation:
        """Return the request that shows that a settled token was not lost: a final view, or what removed it."""
        for final in self.finals:
            if token in final.shown:
                return final.op
        return self.removals.ops[self.epoch(token)]

    @cached_property
    def acknowledged(self) -> list[tuple[str, Operation]]:
        """The acknowledged adds by token, in the order of their acknowledgement."""
        acked = [(token, add) for token, add in self.adds.items() if add.outcome == "ok"]
        return sorted(acked, key=lambda pair: (pair[1].t1_ns, pair[1].i))

    @cached_property
    def own_adds(self) -> Mapping[Reader, Due]:
        """What was acknowledged to each tab, of what is settled."""
        return self.due_adds(by_tab=True)

    def due_adds(self, *, by_tab: bool, with_lost: bool = False) -> Mapping[Reader, Due]:
        """Return what was acknowledged to each tab, or to the shopper as a whole."""
        dues: dict[Reader, Due] = defaultdict(Due)
        for token, add in self.acknowledged:
            if with_lost or self.is_settled(token):
                dues[add.tab if by_tab else None, self.epoch(token)].add(token, add)
        return dues

    @cached_property
    def seen(self) -> Mapping[Reader, Due]:
        """What each tab was shown, of what is settled, from the first answer on that showed it."""
        dues: dict[Reader, Due] = defaultdict(Due)
        seen: dict[int, set[str]] = defaultdict(set)
        for answer in sorted(self.answers, key=lambda answer: (answer.op.t1_ns, answer.op.i)):
            if answer.op.f == "final_view" or answer.shown <= seen[answer.op.tab]:
                continue
            for token in answer.op.cart or ():
                if token not in seen[answer.op.tab]:
                    seen[answer.op.tab].add(token)
                    if self.is_settled(token):
                        dues[answer.op.tab, self.epoch(token)].add(token, answer.op)
        return dues

    def writes_shown(self, answer: Answer) -> Mapping[int, list[Operation]]:
        """Return the acknowledged adds that an answer shows, by tab, each tab's in the order they were sent."""
        writes = self._writes_in.get(answer.shown)
        if writes is None:
            writes = self._writes_in[answer.shown] = defaultdict(list)
            adds = [self.adds[token] for token in answer.shown if token in self.adds]
            for add in sorted(adds, key=_sent):
                if add.outcome == "ok":
                    writes[add.tab].append(add)
        return writes

    def tabs(self) -> dict[int, list[Operation]]:
        """Return the requests of each tab, in order, without the final views, which no tab made."""
        by_tab: dict[int, list[Operation]] = defaultdict(list)
        for op in self.operations:
            if op.f != "final_view":
                by_tab[op.tab].append(op)
        return by_tab

    def latest_showing(self, token: str, before: Operation, first: Operation) -> Operation:
        """Return the latest request of the same tab that ended before another was sent and was shown `token`.

        Args:
            token: what was shown.
            before: the other request.
            first: the first such request. The search ends there, or after `LOOK_BACK` requests, and then gives this.
        """
        place = self.position[before.i]
        for earlier in range(place - 1, max(self.position[first.i], place - LOOK_BACK), -1):
            op = self.operations[earlier]
            if op.cart and token in op.cart and op.tab == before.tab and op.outcome == "ok" and op.t1_ns < before.t0_ns:
                return op
        return first

    def between(self, first: Operation, second: Operation) -> int:
        """Return how many of the shopper's requests were sent between two."""
        return abs(self.position[second.i] - self.position[first.i]) - 1


def _sent(op: Operation) -> tuple[int, int]:
    return op.t0_ns, op.i


def _adds(operations: Iterable[Operation]) -> dict[str, Operation]:
    adds: dict[str, Operation] = {}
    for op in operations:
        if op.f == "add" and op.token is not None:
            known = adds.get(op.token)
            if known is None or _PREFERENCE[op.outcome] < _PREFERENCE[known.outcome]:
                adds[op.token] = op
    return adds


def _refused(op: Operation) -> bool:
    """Say whether nobody listened: the server is dead, and so is what only it remembered."""
    return op.status == 0 and "refused" in (op.error or "").lower()


def arrange(operations: Iterable[Operation]) -> list[Shopper]:
    """Split one arm's operations by shopper, in the order of their names."""
    by_shopper: dict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        by_shopper[op.shopper].append(op)
    return [Shopper(by_shopper[name]) for name in sorted(by_shopper)]
