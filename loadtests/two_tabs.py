"""The `two-tabs` scenario: one shopper, two tabs, one session, and both write at once."""

from __future__ import annotations

import msgspec
import numpy as np

from loadtests.plans import Plan, PlannedRequest, poisson, request, shopper_names

SHARED_LINES = 3
"""Cart lines that every shopper starts with, and whose quantities both tabs raise."""

APART_SECONDS = 0.001
"""At most this far apart the two tabs write: less than an answer takes, so that most writes overlap."""


PAUSE_SECONDS = 0.5
"""Between the last shared line and the first pair."""


def two_tabs_plan(seed: int, *, rate_rps: float, seconds: float, shoppers: int) -> Plan:
    """Draw pairs of writes that overlap in time, each by another tab of the same session: adds and bumps, mixed.

    First every shopper logs in and fills the shared lines, from one tab; then pairs arrive as a Poisson process. A
    cart ends with about `SHARED_LINES + rate_rps * seconds / shoppers / 2` lines.

    Args:
        seed: of the run.
        rate_rps: requests a second, of all tabs together.
        seconds: how long the pairs go on; the beginning comes on top.
        shoppers: how many there are, with two tabs each.
    """
    rng = np.random.default_rng([seed, 1 << 34])
    names = shopper_names("d", shoppers)
    requests = _beginnings(rng, names, rate_rps)
    start = requests[-1].at_seconds + PAUSE_SECONDS
    for number, at in enumerate(poisson(rng, rate_rps / 2, seconds)):
        name = names[int(rng.integers(shoppers))]
        requests += [_write(rng, start + at, name, tab, number) for tab in (0, 1)]
    requests.sort(key=lambda planned: planned.at_seconds)
    return Plan(scenario="two-tabs", seconds=start + seconds, requests=requests)


def apart(plan: Plan) -> tuple[Plan, Plan]:
    """Part a plan of two tabs where the second tabs open: how every shopper begins, and the pairs of writes.

    Sent one after the other, no pair is sent before the logins have been answered, however slow the machine is. A
    second tab that has no cookie yet begins a session of its own, and what it does to the first is no store's doing.
    """
    beginnings = [planned for planned in plan.requests if planned.f == "login" or ".line." in (planned.token or "")]
    start = beginnings[-1].at_seconds + PAUSE_SECONDS
    pairs = [
        msgspec.structs.replace(planned, at_seconds=planned.at_seconds - start)
        for planned in plan.requests[len(beginnings) :]
    ]
    return (
        msgspec.structs.replace(plan, seconds=start, requests=beginnings),
        msgspec.structs.replace(plan, seconds=plan.seconds - start, requests=pairs),
    )


def _beginnings(rng: np.random.Generator, names: list[str], rate_rps: float) -> list[PlannedRequest]:
    steps = ["login"] + ["add"] * SHARED_LINES
    return [
        request(rng, number / rate_rps, name, f, token=f"{name}.line.{step - 1}")
        for number, (step, f, name) in enumerate((step, f, name) for step, f in enumerate(steps) for name in names)
    ]


def _write(rng: np.random.Generator, at: float, name: str, tab: int, number: int) -> PlannedRequest:
    at += float(rng.uniform(0, APART_SECONDS))
    if rng.random() < 0.5:  # noqa: PLR2004 - as many adds as bumps
        return request(rng, at, name, "add", token=f"{name}.{tab}.{number:04d}", tab=tab)
    line = f"{name}.line.{int(rng.integers(SHARED_LINES))}"
    return PlannedRequest(at_seconds=at, shopper=name, tab=tab, f="bump", line=line)
