"""The rules as `docs/checks.md` states them: nested loops, slow and plain, with nothing in common with the sweep.

Every rule returns `(opportunities, violations, across servers, violations across servers)`, the last two 0 where the
rule knows no servers.
"""

from __future__ import annotations

import math
from collections import defaultdict


class LiteralShopper:
    """One shopper's requests and the words that the rules use."""

    def __init__(self, ops):
        self.ops = sorted(ops, key=lambda op: (op.t0_ns, op.i))
        self.answers = [op for op in self.ops if op.outcome == "ok" and op.cart is not None]
        self.views = [op for op in self.answers if op.f == "view"]
        self.finals = [op for op in self.answers if op.f == "final_view"]
        self.removals = [op for op in self.ops if op.f in ("logout", "checkout") and op.outcome != "fail"]
        tried = [op for op in self.ops if op.f == "final_view"]
        self.complete = bool(self.finals) and all(
            op.outcome == "ok" or (op.status == 0 and "refused" in (op.error or "").lower()) for op in tried
        )
        self.adds = {}
        for outcome in ("fail", "info", "ok"):
            for op in reversed(self.ops):
                if op.f == "add" and op.outcome == outcome:
                    self.adds[op.token] = op
        self.acked = [op for op in self.adds.values() if op.outcome == "ok"]
        self._exempt_at_end = {}

    def exempt(self, token, answer):
        """A removal sent before the answer ended may have taken the token."""
        return any(removal.t0_ns <= answer.t1_ns and self._may_take(removal, token) for removal in self.removals)

    def _may_take(self, removal, token):
        sent = self.adds[token].t0_ns if token in self.adds else -math.inf
        return sent <= (removal.t1_ns if removal.outcome == "ok" else math.inf)

    def exempt_at_end(self, token):
        """Some removal may have taken the token before the final views."""
        if token not in self._exempt_at_end:
            self._exempt_at_end[token] = any(self._may_take(removal, token) for removal in self.removals)
        return self._exempt_at_end[token]

    def kept(self, token):
        """Some final view shows the token."""
        return any(token in final.cart for final in self.finals)

    def settled(self, token):
        """The token is surely not lost."""
        return self.kept(token) or self.exempt_at_end(token)


def by_shopper(ops):
    """Every rule is about one shopper at a time."""
    groups = defaultdict(list)
    for op in ops:
        groups[op.shopper].append(op)
    return [LiteralShopper(group) for group in groups.values()]


def _sum(rows):
    rows = list(rows)
    return tuple(sum(row[place] for row in rows) for place in range(4))


def _row(violated, crossed):
    return 1, int(violated), int(crossed), int(violated and crossed)


def _view_rule(shopper, certain):
    """`certain(view)` lists (since, i, token, server) of what is owed to it, lost and removed ones included."""
    for view in shopper.views:
        owed = [
            entry
            for entry in certain(view)
            if entry[0] < view.t0_ns and shopper.settled(entry[2]) and not shopper.exempt(entry[2], view)
        ]
        if owed:
            yield _row(any(entry[2] not in view.cart for entry in owed), max(owed)[3] != view.server)


def read_your_writes(ops):
    """A view, an own add acknowledged before it, still in the cart and not lost; and the view lacks it."""

    def rows(shopper):
        return _view_rule(
            shopper, lambda view: [(w.t1_ns, w.i, w.token, w.server) for w in shopper.acked if w.tab == view.tab]
        )

    return _sum(row for shopper in by_shopper(ops) for row in rows(shopper))


def stale_reads(ops):
    """A view, an add of any tab acknowledged before it, still in the cart and not lost; and the view lacks it."""

    def rows(shopper):
        return _view_rule(shopper, lambda _: [(w.t1_ns, w.i, w.token, w.server) for w in shopper.acked])

    return _sum(row for shopper in by_shopper(ops) for row in rows(shopper))


def _first_seen(shopper, tab):
    """Return (end, i, place in the cart, token, server) of the first answer to a tab that shows each token."""
    first = {}
    for answer in shopper.answers:
        if answer.tab == tab and answer.f != "final_view":
            for place, token in enumerate(answer.cart):
                entry = (answer.t1_ns, answer.i, place, token, answer.server)
                if token not in first or entry < first[token]:
                    first[token] = entry
    return list(first.values())


def monotonic_reads(ops):
    """A view, a token that the tab was shown before it, still in the cart and not lost; and the view lacks it."""

    def certain(shopper):
        seen = {tab: _first_seen(shopper, tab) for tab in (0, 1)}
        return lambda view: [(since, (i, place), token, server) for since, i, place, token, server in seen[view.tab]]

    return _sum(row for shopper in by_shopper(ops) for row in _view_rule(shopper, certain(shopper)))


def _write_rule(shopper, certain):
    """`certain(write)` lists (since, order, token, server) of what was certain to its tab at any time."""
    for write in shopper.acked:
        before = [entry for entry in certain(write) if entry[0] < write.t0_ns and shopper.settled(entry[2])]
        opportunity = violated = crossed = False
        for answer in shopper.answers:
            if write.token not in answer.cart:
                continue
            owed = [entry for entry in before if not shopper.exempt(entry[2], answer)]
            if owed and not opportunity:
                opportunity, crossed = True, max(owed)[3] != write.server
            violated = violated or any(entry[2] not in answer.cart for entry in owed)
        if opportunity:
            yield _row(violated, crossed)


def monotonic_writes(ops):
    """An acknowledged add, an earlier one of its tab; and an answer that shows the later without the earlier."""

    def rows(shopper):
        return _write_rule(
            shopper, lambda write: [(w.t1_ns, w.i, w.token, w.server) for w in shopper.acked if w.tab == write.tab]
        )

    return _sum(row for shopper in by_shopper(ops) for row in rows(shopper))


def writes_follow_reads(ops):
    """An acknowledged add, a token its tab had been shown; and an answer that shows the one without the other."""

    def rows(shopper):
        seen = {tab: _first_seen(shopper, tab) for tab in (0, 1)}
        return _write_rule(
            shopper,
            lambda write: [(since, (i, place), token, server) for since, i, place, token, server in seen[write.tab]],
        )

    return _sum(row for shopper in by_shopper(ops) for row in rows(shopper))


def _quantity(op, token):
    return (op.quantities or {}).get(token, int(token in op.cart))


class _Writes:
    """A shopper's acknowledged adds and bumps that the final views must show, and how many bumps each line lacks."""

    def __init__(self, shopper):
        due = [
            token
            for token, add in shopper.adds.items()
            if shopper.complete and add.outcome != "fail" and not shopper.exempt_at_end(token)
        ]
        self.adds = [shopper.adds[token] for token in due if shopper.adds[token].outcome == "ok"]
        self.bumps = [op for op in shopper.ops if op.f == "bump" and op.outcome == "ok" and op.line in due]
        self.lacks = {}
        for line in {op.line for op in self.bumps}:
            bumps = sum(op.line == line for op in self.bumps)
            quantity = max(_quantity(final, line) for final in shopper.finals)
            self.lacks[line] = min(bumps, max(0, 1 + bumps - quantity))


def lost_writes(ops):
    """An acknowledged effect in no final view."""

    def row(shopper):
        writes = _Writes(shopper)
        lost = sum(not shopper.kept(add.token) for add in writes.adds) + sum(writes.lacks.values())
        return len(writes.adds) + len(writes.bumps), lost, 0, 0

    return _sum(row(shopper) for shopper in by_shopper(ops))


def _start(shopper, op):
    state = {token: _quantity(op, token) for token in op.cart}
    if op.f == "add":
        state.pop(op.token, None)
    elif op.line in state:
        state[op.line] -= 1
    ended = sum(r.outcome == "ok" and r.t1_ns < op.t0_ns for r in shopper.removals)
    return state, ended, sum(r.t0_ns <= op.t1_ns for r in shopper.removals)


def lost_updates(ops):
    """Return the usual four; the third is how many groups of the same start were merged."""

    def row(shopper):
        writes = _Writes(shopper)
        owed = [*writes.adds, *writes.bumps]
        acked = [op for op in shopper.answers if op.f in ("add", "bump")]
        attempts = [op for op in shopper.ops if op.f in ("add", "bump")]
        starts = {op.i: _start(shopper, op) for op in acked}

        def alike(op):
            return [other for other in acked if other.i != op.i and starts[other.i] == starts.get(op.i)]

        def overlaps(op):
            return any(o.i != op.i and o.t0_ns <= op.t1_ns and op.t0_ns <= o.t1_ns for o in attempts)

        def kept(op):
            return writes.lacks[op.line] == 0 if op.f == "bump" else shopper.kept(op.token)

        raced = [op for op in owed if alike(op) or overlaps(op)]
        violations = sum(op.f == "add" and bool(alike(op)) and not kept(op) for op in raced)
        for line, lacks in writes.lacks.items():
            violations += min(lacks, sum(op.f == "bump" and op.line == line and bool(alike(op)) for op in raced))
        indexes = {op.i for op in owed}
        firsts = [op for op in acked if alike(op) and op.i < min(other.i for other in alike(op))]
        merged = sum(all(o.i in indexes and kept(o) for o in [op, *alike(op)]) for op in firsts)
        return len(raced), violations, merged, 0

    return _sum(row(shopper) for shopper in by_shopper(ops))


def divergence(ops):
    """Final views of two servers that differ."""

    def row(shopper):
        states = {
            final.server: ({t: _quantity(final, t) for t in final.cart}, final.user, final.recent or [])
            for final in shopper.finals
        }
        if len(states) < 2:
            return 0, 0, 0, 0
        return 1, int(any(one != other for one in states.values() for other in states.values())), 0, 0

    return _sum(row(shopper) for shopper in by_shopper(ops))


def phantoms(ops):
    """An answer with a token twice, never sent, or refused."""

    def row(shopper):
        bad = 0
        for answer in shopper.answers:
            twice = any(answer.cart.count(token) > 1 for token in answer.cart)
            unknown = any(
                not any(op.f == "add" and op.token == token and op.outcome != "fail" for op in shopper.ops)
                for token in answer.cart
            )
            bad += twice or unknown
        return len(shopper.answers), bad, 0, 0

    return _sum(row(shopper) for shopper in by_shopper(ops))


def _excused(shopper, before, after):
    return any(
        op is not before
        and op.f in ("login", "logout")
        and op.outcome != "fail"
        and op.t0_ns <= after.t1_ns
        and (op.outcome == "info" or op.t1_ns >= before.t0_ns)
        for op in shopper.ops
    )


def sessions_lost(ops):
    """Session or user changes between two requests of a tab without a login or logout."""

    def session(op):
        return None if op.status == 401 or op.f == "logout" else op.session

    def rows(shopper):
        for tab in (0, 1):
            chain = []
            for op in shopper.ops:
                if op.tab != tab or op.f in ("product", "search", "final_view"):
                    continue
                if op.late:
                    chain = []
                    continue
                if op.outcome != "ok" and op.status != 401:
                    continue
                if chain and session(chain[-1]) is not None and not _excused(shopper, chain[-1], op):
                    greeted = [earlier for earlier in chain if earlier.cart is not None]
                    moved = session(op) != session(chain[-1])
                    renamed = (
                        bool(greeted)
                        and op.cart is not None
                        and op.user != greeted[-1].user
                        and not _excused(shopper, greeted[-1], op)
                    )
                    told = greeted[-1] if renamed and not moved else chain[-1]
                    yield _row(moved or renamed, told.server != op.server)
                    if moved:
                        chain = []
                chain.append(op)

    return _sum(row for shopper in by_shopper(ops) for row in rows(shopper))


def resurrections(ops):
    """After an acknowledged logout, or past a lifetime, the old cookie is served anything of the old session."""

    def rows(shopper):
        for op in shopper.ops:
            if op.presented is None or op.f in ("product", "search", "final_view") or not 0 < op.status < 500:
                continue
            logouts = [
                o
                for o in shopper.ops
                if o.f == "logout" and o.outcome == "ok" and o.presented == op.presented and o.t1_ns < op.t0_ns
            ]
            if not logouts and op.late not in ("idle", "absolute"):
                continue
            by_time = op.late in ("idle", "absolute")
            ended = None if by_time else min(logouts, key=lambda o: (o.t1_ns, o.i))
            if ended is None:
                used = [o for o in shopper.ops if o.session == op.presented and not o.late and o.t1_ns < op.t0_ns]
                ended = max(used, key=lambda o: (o.t1_ns, o.i)) if used else None
            served = op.status != 401 and (
                op.session == op.presented
                or (op.f != "login" and op.user is not None)
                or any(token != op.token for token in op.cart or [])
                or len(op.recent or []) > (op.f == "visit")
            )
            yield _row(served, ended is not None and ended.server != op.server)

    return _sum(row for shopper in by_shopper(ops) for row in rows(shopper))


LITERAL = {
    rule.__name__: rule
    for rule in (
        read_your_writes,
        monotonic_reads,
        monotonic_writes,
        writes_follow_reads,
        lost_updates,
        lost_writes,
        stale_reads,
        divergence,
        phantoms,
        sessions_lost,
        resurrections,
    )
}
