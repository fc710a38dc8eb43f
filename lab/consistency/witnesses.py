"""Witnesses: the smallest example of each broken rule, told so that it can be followed request by request.

The form is Elle's (Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental observations", 2020):
what was certain, *however* what was seen, and so the contradiction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lab.consistency.history import HistoryError
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from lab.consistency.tally import Witness

__all__ = ["operations_of", "record", "tell"]

TITLES = {
    "read_your_writes": "READ YOUR WRITES",
    "monotonic_reads": "MONOTONIC READS",
    "monotonic_writes": "MONOTONIC WRITES",
    "writes_follow_reads": "WRITES FOLLOW READS",
    "lost_updates": "LOST UPDATE",
    "lost_writes": "LOST WRITE",
    "stale_reads": "STALE READ",
    "divergence": "DIVERGENCE",
    "phantoms": "PHANTOM",
    "sessions_lost": "SESSION LOST",
    "resurrections": "RESURRECTION",
}


def record(witness: Witness) -> dict[str, Any]:
    """Return a witness as it stands in `results.json`: `check`, `token`, `operations`, `beside` and `text`."""
    return {
        "check": witness.check,
        "token": witness.token,
        "operations": msgspec.to_builtins(witness.operations),
        "beside": msgspec.to_builtins(witness.beside),
        "text": tell(witness),
    }


def operations_of(saved: Mapping[str, Any]) -> list[Operation]:
    """Return all requests that a saved witness needs to be checked alone.

    Raises:
        HistoryError: it is not a saved witness.
    """
    try:
        needed = [*saved["operations"], *saved.get("beside", ())]
        operations = msgspec.convert(needed, list[Operation])
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise HistoryError(f"this is not a saved witness ({error}).") from None
    if not operations:
        raise HistoryError("this is not a saved witness (it holds no requests).")
    return operations


def tell(witness: Witness) -> str:
    """Tell a witness in lines of text: the requests, what was certain before, and what speaks against it."""
    operations = witness.operations
    head = f"{TITLES[witness.check]}: shopper {operations[0].shopper}, {_count(len(operations), 'request')}"
    named = {witness.token, *(op.token for op in operations)}
    lines = [_line(op, operations[0].t0_ns, named) for op in operations]
    story = _STORIES[witness.check](witness)
    return "\n".join([head, "", *lines, "", *(f"  - {sentence}" for sentence in story)])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


SMALL_CART = 3
"""Carts up to this many lines are shown whole."""

_NAMES = {"add": "adds", "bump": "raises", "final_view": "final view"}


def _line(op: Operation, start_ns: int, named: AbstractSet[str | None]) -> str:
    cookie = "(old cookie)" if op.late else None
    what = " ".join(filter(None, (_NAMES.get(op.f, op.f), op.token if op.f == "add" else op.line, cookie)))
    return (
        f"  {_at(op, start_ns):>13}  {op.server or '-':<6} tab {op.tab}  {what:<28} "
        f"{op.status or op.outcome:<5} {_shows(op, named)}"
    ).rstrip()


def _at(op: Operation, start_ns: int) -> str:
    return f"{(op.t0_ns - start_ns) / 1e6:+,.1f} ms"


def _shows(op: Operation, named: AbstractSet[str | None]) -> str:
    """Show a cart: all of a small one, and of a large one what the story names."""
    if op.cart is None:
        return f"session {op.session or 'none'}"
    quantities = op.quantities or {}
    told = [token for token in op.cart if len(op.cart) <= SMALL_CART or token in named]
    others = len(op.cart) - len(told)
    lines = [f"{token} x{quantities[token]}" if quantities.get(token, 1) > 1 else token for token in told]
    return f"cart: {' '.join([*lines, f'and {others} more'] if others else lines) or '(empty)'}"


def _of(op: Operation) -> str:
    """Name a request within a sentence."""
    kind = "the final view" if op.f == "final_view" else f"the {op.f}"
    return f"{kind} on {op.server}"


def _proof(witness: Witness) -> str:
    proof = witness.roles[-1]
    if proof.f == "final_view":
        return f"It was not lost: {_of(proof)} shows {witness.token}."
    return f"Nothing had removed {witness.token}: {_of(proof)} was sent only later."


def _add_and_view(witness: Witness) -> list[str]:
    add, _, view, _ = witness.roles
    asker = ", by the same tab," if add.tab == view.tab else f", by tab {view.tab} of the same shopper,"
    return [
        f"{add.server} acknowledged {witness.token} {(view.t0_ns - add.t1_ns) / 1e6:.3g} ms before the view was sent;",
        f"however {_of(view)}{asker} does not show it.",
        _proof(witness),
    ]


def _seen_and_gone(witness: Witness) -> list[str]:
    _, seen, view, _ = witness.roles
    return [
        f"{_of(seen)} showed {witness.token} to this tab;",
        f"however {_of(view)}, asked for afterwards by the same tab, does not show it: the cart went back in time.",
        _proof(witness),
    ]


def _write_after(witness: Witness) -> list[str]:
    source, write, answer, _ = witness.roles
    certain = "acknowledged" if source.token == witness.token else "shown"
    return [
        f"{witness.token} was {certain} to this tab before it sent {write.token};",
        f"however {_of(answer)} shows {write.token} without {witness.token}: the later one without the earlier.",
        _proof(witness),
    ]


def _same_start(witness: Witness) -> list[str]:
    *writes, final = witness.roles
    if len(writes) > 2:  # noqa: PLR2004 - with the add of the line that both raised
        return _same_quantity(witness, "two requests started from the same cart, and one overwrote the other")
    names = " and ".join(f"{op.f} {op.token or op.line}" for op in writes)
    return [
        f"both writes ({names}) started from the same cart, and both were acknowledged;",
        f"however {_of(final)} lacks {witness.token}: whichever saved last erased the other.",
    ]


def _same_quantity(witness: Witness, why: str) -> list[str]:
    final = witness.roles[-1]
    bumps = sum(1 for op in (*witness.operations, *witness.beside) if op.f == "bump" and op.line == witness.token)
    shown = (final.quantities or {}).get(witness.token or "", 0)
    raised = f"{witness.token} began with quantity 1 and was raised {_count(bumps, 'time')}, each acknowledged"
    return [f"{raised}: {bumps + 1} are due;", f"however {_of(final)} shows {shown}: {why}."]


def _lost(witness: Witness) -> list[str]:
    first, *bumps, final = witness.roles
    if bumps:
        return _same_quantity(witness, "no server shows more")
    return [
        f"{first.server} acknowledged {witness.token}, and nobody removed it;",
        f"however {_of(final)} lacks it, and so does every other server's.",
    ]


def _diverged(witness: Witness) -> list[str]:
    one, other = witness.roles
    what = f"only one of them shows {witness.token}" if witness.token else "quantities, user or recently viewed differ"
    return [
        "no request was under way any more, and both servers were asked for the same shopper's cart;",
        f"however {one.server} and {other.server} answer differently: {what}.",
    ]


def _phantom(witness: Witness) -> list[str]:
    op = witness.roles[-1]
    if (op.cart or []).count(witness.token or "") > 1:
        return [f"{_of(op)} shows {witness.token} twice, but a token is one item."]
    if len(witness.roles) > 1:
        return [f"the add of {witness.token} was refused;", f"however {_of(op)} shows it."]
    return [f"{_of(op)} shows {witness.token}, which this shopper never sent."]


def _identity(op: Operation) -> str:
    user = f", user {op.user or 'nobody'}" if op.cart is not None else ""
    return f"session {op.session or 'none'}{user}"


def _session_changed(witness: Witness) -> list[str]:
    before, after = witness.roles
    return [
        f"{_of(before)} was answered with {_identity(before)};",
        f"however {_of(after)}, later in the same tab, with {_identity(after)}, and nobody had logged in or out.",
    ]


def _came_back(witness: Witness) -> list[str]:
    before, late = witness.roles[0], witness.roles[-1]
    by_time = late.late in {"idle", "absolute"}
    ended = f"its {late.late} lifetime" if by_time else f"{_of(before)}, acknowledged"
    return [
        f"session {late.presented} had been ended by {ended} before the last request was sent;",
        f"however {_of(late)}, with the old cookie, was answered with {_identity(late)}: something of it lives on.",
    ]


_STORIES: dict[str, Callable[[Witness], list[str]]] = {
    "read_your_writes": _add_and_view,
    "monotonic_reads": _seen_and_gone,
    "monotonic_writes": _write_after,
    "writes_follow_reads": _write_after,
    "lost_updates": _same_start,
    "lost_writes": _lost,
    "stale_reads": _add_and_view,
    "divergence": _diverged,
    "phantoms": _phantom,
    "sessions_lost": _session_changed,
    "resurrections": _came_back,
}
