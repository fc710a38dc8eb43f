"""What is written down about each request: one line of the history."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["ok", "fail", "info"]
"""`ok`: it happened. `fail`: it definitely did not. `info`: unknown (a write that timed out, say)."""

Late = Literal["logout", "idle", "absolute"]
"""What has ended the session whose cookie a late request still presents."""


class Operation(msgspec.Struct, kw_only=True, gc=False):
    """One finished request, as the shopper saw it.

    It holds plain values only, so no cycle can go through it: `gc=False` spares the garbage collector hundreds of
    thousands of objects.

    Attributes:
        i: invocation index, unique in a run.
        arm: the strategy with its settings, such as `redis`, `redis blob` or `all-to-all sync`.
        strategy: the strategy alone.
        scenario: `shopping`, `two-tabs`, `lifecycle`, `failover` or `catalogue`.
        phase: `warmup`, `main` or `final`.
        block: which block of the timed part, from 0; -1 outside it.
        twin: True for the repeated slice of the baseline (same against same).
        shopper: one user of the shop; unique within an arm.
        tab: one sequential client of the shopper, from 0.
        f: what was done: `product`, `search`, `list`, `visit`, `view`, `add`, `bump`, `login`, `logout`, `checkout`,
            `final_view`.
        token: the client's unique id of the effect (`add`, `checkout`), else None.
        line: the token of the cart line whose quantity `bump` raises, else None.
        follow: the `view` that a redirect causes after an `add`; its intended time is the end of that `add`.
        attempt: 0, and one more for each time it was sent again after a conflict (409).
        late: the request presents, on purpose, the cookie of a session that the plan has `logout` end, or leaves past
            its `idle` or `absolute` lifetime. Such a request may still overtake the logout: compare the times.
        held_up: the machine kept the shopper from the plan, so that lifetimes show nothing; the lab decides it
            afterwards, from times alone.
        intended_ns: when the plan wanted it sent; all times are of one monotonic clock, in nanoseconds.
        t0_ns: just before it was sent.
        t1_ns: just after the answer was read.
        slept: the tab was idle at the intended time, so that lateness is the generator's own and not the server's.
        resent: a write that went out a second time, as browsers do: the balancer closed the idle connection that it
            was sent on, and answered nothing. Reads that go out again are not told apart.
        outcome: see `Outcome`.
        status: HTTP status, 0 where there was none.
        error: class and text of what went wrong, else None.
        server: who answered (`X-Served-By`).
        cart: tokens shown in the answer, in order; None where the answer shows no cart.
        quantities: cart line (token) to quantity shown; None likewise.
        presented: short hash of the handle in the cookie that was sent (the `X-Session` that came with that cookie),
            None if no cookie was sent.
        session: short hash of the session's handle (`X-Session`), None if the answer has no session.
        user: the user the answer greets; None if anonymous, and where the answer shows no cart.
        recent: products the answer shows as recently viewed; None where it shows none.
        version: `X-Session-Version`, opaque.
        saved: whether the request wrote the store (`X-Session-Saved`).
        cache: how the shop's cache served it (`X-Cache`: `hit`, `miss`, `waited` or `bypass`); None without a cache.
        sent_bytes: size of the request's body in bytes.
        received_bytes: size of the answer's body in bytes.
    """

    i: int
    arm: str
    strategy: str
    scenario: str
    phase: str
    block: int = -1
    twin: bool = False
    shopper: str
    tab: int
    f: str
    token: str | None = None
    line: str | None = None
    follow: bool = False
    attempt: int = 0
    late: Late | None = None
    held_up: bool = False
    intended_ns: int
    t0_ns: int
    t1_ns: int
    slept: bool = True
    resent: bool = False
    outcome: Outcome
    status: int
    error: str | None = None
    server: str | None = None
    cart: list[str] | None = None
    quantities: dict[str, int] | None = None
    presented: str | None = None
    session: str | None = None
    user: str | None = None
    recent: list[int] | None = None
    version: str | None = None
    saved: bool = False
    cache: str | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
