"""From what happened to a request to one line of the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from loadtests.api import READS, SHOWS_CART, Answer
from loadtests.recorder import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtests.plans import Plan, PlannedRequest
    from loadtests.wire import ArmTarget

SUCCESS = range(200, 300)
REFUSAL = range(400, 500)

_decoder = msgspec.json.Decoder(Answer)


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request and what came back, kept raw until the slice is over: reading it costs time that others wait for.

    Attributes:
        planned: what the plan asked for.
        f: what was done; not `planned.f` for the `view` that follows an `add`.
        follow: see `recorder.Operation`, as for `attempt`, `slept` and the times.
        status: HTTP status, 0 where there was none.
        headers: of the answer.
        body: of the answer.
        error: what went wrong on the way, else None.
        sent_bytes: size of the request's body.
        presented: short hash of the session whose cookie was sent.
        resent: see `recorder.Operation`.
    """

    planned: PlannedRequest
    f: str
    follow: bool = False
    attempt: int = 0
    slept: bool = False
    intended_ns: int
    t0_ns: int = 0
    t1_ns: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: Exception | None = None
    sent_bytes: int = 0
    presented: str | None = None
    resent: bool = False


def operation(i: int, exchange: Exchange, target: ArmTarget, plan: Plan) -> Operation:
    """Read an exchange into a line of the history.

    Args:
        i: the operation's number in the run.
        exchange: what happened.
        target: the arm.
        plan: of which the request was a part.
    """
    answer, unreadable = _read(exchange)
    error = _error(exchange, answer, unreadable)
    header = exchange.headers.get
    planned, lines = exchange.planned, answer.cart
    return Operation(
        i=i,
        arm=target.arm,
        strategy=target.strategy,
        scenario=plan.scenario,
        phase=plan.phase,
        block=plan.block,
        twin=plan.twin,
        shopper=planned.shopper,
        tab=planned.tab,
        f=exchange.f,
        token=None if exchange.follow else planned.token,
        line=planned.line,
        follow=exchange.follow,
        attempt=exchange.attempt,
        late=planned.late,
        intended_ns=exchange.intended_ns,
        t0_ns=exchange.t0_ns,
        t1_ns=exchange.t1_ns,
        slept=exchange.slept,
        resent=exchange.resent,
        outcome=_outcome(exchange, readable=not unreadable),
        status=exchange.status,
        error=error,
        server=header("x-served-by"),
        cart=None if lines is None else [line.token for line in lines],
        quantities=None if lines is None else {line.token: line.quantity for line in lines},
        presented=exchange.presented,
        session=header("x-session"),
        user=answer.user,
        recent=answer.recent,
        version=header("x-session-version"),
        saved=header("x-session-saved") == "1",
        cache=header("x-cache"),
        sent_bytes=exchange.sent_bytes,
        received_bytes=len(exchange.body),
    )


def outcome(f: str, status: int, error: Exception | None, *, readable: bool = True) -> Outcome:
    """Decide whether it happened: `ok`, `fail` (definitely not) or `info` (unknown).

    A read that failed did not happen. A write that failed did not happen either where the server refused it (4xx)
    or was never reached; after a timeout, a reset or a 5xx nobody knows.
    """
    if error is None and status in SUCCESS and readable:
        return "ok"
    refused = isinstance(error, ConnectionRefusedError) or status in REFUSAL
    return "fail" if refused or f in READS else "info"


def _outcome(exchange: Exchange, *, readable: bool) -> Outcome:
    decided = outcome(exchange.f, exchange.status, exchange.error, readable=readable)
    if decided == "fail" and exchange.resent and exchange.f not in READS:
        return "info"  # what became of it the first time nobody knows
    return decided


def _read(exchange: Exchange) -> tuple[Answer, str | None]:
    if exchange.error is not None:
        return Answer(), None
    try:
        answer = _decoder.decode(exchange.body)
    except msgspec.DecodeError as error:
        return Answer(), f"unreadable answer: {error}"
    if exchange.status in SUCCESS and exchange.f in SHOWS_CART and answer.cart is None:
        return answer, "the answer shows no cart"
    return answer, None


def _error(exchange: Exchange, answer: Answer, unreadable: str | None) -> str | None:
    if exchange.error is not None:
        return f"{type(exchange.error).__name__}: {exchange.error}"
    if exchange.status in SUCCESS:
        return unreadable
    return f"HTTP {exchange.status}: {answer.error or unreadable}"
