"""Histories written by hand: one shopper, times in plain ticks, carts as words."""

from __future__ import annotations

from lab.consistency.checks import RULES, check
from loadtests.recorder import Operation

CONTENT = {"cross_server": 0}


class Story:
    """Requests of one shopper; every method adds one. A cart `"a b:3"` holds `a` once and `b` three times."""

    def __init__(self, scenario="all", strategy="redis", shopper="s1"):
        self.scenario, self.strategy, self.shopper = scenario, strategy, shopper
        self.operations = []

    def request(self, f, t0, t1, *, server=1, cart=None, tab=0, outcome="ok", status=None, session="h1", **known):
        """Add any request."""
        lines = None if cart is None else [line.partition(":") for line in cart.split()]
        self.operations.append(
            Operation(
                i=len(self.operations) + 1, arm=self.strategy, strategy=self.strategy, scenario=self.scenario,
                phase="final" if f == "final_view" else "main", shopper=self.shopper, tab=tab, f=f,
                intended_ns=t0, t0_ns=t0, t1_ns=t1, outcome=outcome,
                status=status or {"ok": 200, "fail": 400, "info": 0}[outcome],
                server=f"web-{server}", cart=None if lines is None else [token for token, _, _ in lines],
                quantities=None if lines is None else {token: int(times or 1) for token, _, times in lines},
                session=session, **known,
            )
        )  # fmt: skip
        return self

    def add(self, token, t0, t1, **known):
        """Add an `add`."""
        return self.request("add", t0, t1, token=token, **known)

    def bump(self, line, t0, t1, **known):
        """Add a `bump`."""
        return self.request("bump", t0, t1, line=line, **known)

    def view(self, t0, t1, cart, **known):
        """Add a `view`."""
        return self.request("view", t0, t1, cart=cart, **known)

    def final(self, *carts, **known):
        """Ask every server past the balancer, long after everything else."""
        for server, cart in enumerate(carts, 1):
            self.request("final_view", 10_000 + server, 10_010 + server, server=server, cart=cart, **known)
        return self


def checked(*stories, **options):
    """Check the stories together, content with one opportunity."""
    operations = [op for story in stories for op in story.operations]
    return check(operations, stories[0].scenario, **{"minimum": CONTENT, **options})


def counts(*stories):
    """Return every check that had an opportunity, as `violations of opportunities`."""
    result = checked(*stories)
    return {
        name: f"{result[name]['violations']} of {result[name]['opportunities']}"
        for name in RULES
        if result[name]["opportunities"]
    }


def violated(*stories):
    """Return the names of the checks that are violated."""
    result = checked(*stories)
    return [name for name in RULES if result[name]["verdict"] == "violated"]
