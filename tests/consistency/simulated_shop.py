"""A little shop in one process: servers, copies that lag, tabs that overlap, answers that never come. All from a seed.

It exists to break the rules in as many ways as possible, not to be any strategy: time is counted in ticks so small
that ties are common, and a history may mix lost copies, forgotten sessions and items from nowhere.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from loadtests.recorder import Operation

SHARED, COPIES, APART = "shared", "copies", "apart"


@dataclass
class Session:
    """What one server, or the one store, knows of a session."""

    user: str | None = None
    cart: dict[str, int] = field(default_factory=dict)
    recent: list[int] = field(default_factory=list)
    version: int = 0

    def copy(self):
        """Return a session that shares nothing with this one."""
        return Session(self.user, dict(self.cart), list(self.recent), self.version)


@dataclass
class World:
    """How this history's shop is built; every field is drawn from the seed."""

    rng: random.Random
    layout: str
    policy: str
    servers: int
    lag: int
    tabs: int
    faults: float
    forgets: float
    tombstones: bool
    silent: str | None

    @classmethod
    def draw(cls, seed):
        """Draw a shop from a seed."""
        rng = random.Random(seed)
        return cls(
            rng=rng,
            layout=rng.choice([SHARED, COPIES, COPIES, COPIES, APART]),
            policy=rng.choice(["fields", "blob", "blob", "versioned"]),
            servers=rng.choice([2, 3]),
            lag=rng.choice([0, 4, 20, 60]),
            tabs=rng.choice([1, 2, 2]),
            faults=rng.choice([0, 0, 0.05]),
            forgets=rng.choice([0, 0, 0.05]),
            tombstones=rng.random() < 0.5,
            silent=rng.choice([None] * 8 + ["ConnectionRefusedError: [Errno 111] Connection refused", "timed out"]),
        )


class Simulation:
    """Runs one history."""

    def __init__(self, seed, requests=26, shoppers=2):
        self.world = World.draw(seed)
        self.rng = self.world.rng
        self.requests = requests
        self.events = []
        self.numbers = itertools.count()
        self.handles = itertools.count()
        self.stores = [{} for _ in range(1 if self.world.layout == SHARED else self.world.servers)]
        self.dead = set()
        self.ops = []
        self.now = 0
        self.shoppers = [Shopper(self, f"s{number}") for number in range(shoppers)]

    def at(self, when, do):
        """Do something at a time."""
        heapq.heappush(self.events, (max(when, self.now), next(self.numbers), do))

    def run(self):
        """Let all shoppers do all their requests, wait, and take the final views."""
        for shopper in self.shoppers:
            for tab in range(self.world.tabs):
                self.at(
                    self.rng.randint(0, 5), lambda s=shopper, tab=tab: s.step(tab, self.requests // self.world.tabs)
                )
        self._drain()
        self.now += 200
        for shopper in self.shoppers:
            for server in range(self.world.servers):
                shopper.final_view(server)
        self._drain()
        return sorted(self.ops, key=lambda op: op.i)

    def _drain(self):
        while self.events:
            self.now, _, do = heapq.heappop(self.events)
            do()

    def store(self, server):
        """Return what a server knows."""
        return self.stores[0 if self.world.layout == SHARED else server]

    def replicate(self, server, apply):
        """Apply a change here, and elsewhere after a lag of its own."""
        apply(self.store(server))
        if self.world.layout == COPIES:
            for other, store in enumerate(self.stores):
                if other != server and self.rng.random() > 0.02:
                    self.at(self.now + self.rng.randint(0, self.world.lag), lambda store=store: apply(store))


class Shopper:
    """One cookie, one or two tabs."""

    def __init__(self, simulation, name):
        self.sim, self.name = simulation, name
        self.handle = None
        self.late_handle = None
        self.tokens = []
        self.count = itertools.count()

    def step(self, tab, left):
        """Send the tab's next request, of so many left."""
        if left == 0:
            return
        rng, sim = self.sim.rng, self.sim
        f = rng.choices(
            ["view", "add", "bump", "visit", "product", "login", "logout", "checkout"], [40, 30, 10, 6, 2, 4, 4, 4]
        )[0]
        late = None
        if self.late_handle and rng.random() < 0.3:
            late, f = rng.choice(["logout", "logout", "idle"]), rng.choice(["view", "view", "add", "visit"])
        request = Request(self, tab, f, late, rng.randrange(sim.world.servers))
        request.begin(lambda: sim.at(sim.now + rng.choice([0, 0, 1, 3, 10, 30]), lambda: self.step(tab, left - 1)))

    def final_view(self, server):
        """Ask a server for this shopper's cart."""
        Request(self, 0, "final_view", None, server).begin(lambda: None)


class Request:
    """One request: sent, loaded, saved, answered, each at a time of its own."""

    def __init__(self, shopper, tab, f, late, server):
        self.shopper, self.sim, self.tab, self.f, self.late, self.server = shopper, shopper.sim, tab, f, late, server
        self.attempt = 0
        rng = self.sim.rng
        self.presented = shopper.late_handle if late else shopper.handle
        self.token = f"{shopper.name}.{next(shopper.count)}" if f in ("add", "checkout") else None
        self.line = rng.choice(shopper.tokens) if f == "bump" and shopper.tokens else ("none" if f == "bump" else None)
        self.error = "timed out"
        self.reset()
        if f == "final_view":
            self.vanishes = server == 0 and self.sim.world.silent is not None
            self.error = self.sim.world.silent

    def reset(self):
        """Forget what the last attempt met."""
        self.status, self.outcome = 200, "ok"
        self.vanishes = self.sim.rng.random() < 0.03
        self.session, self.handle = None, None

    def begin(self, done):
        """Send it."""
        self.t0, self.done, self.i = self.sim.now, done, next(self.sim.numbers)
        if self.f == "add" and not self.attempt:
            self.shopper.tokens.append(self.token)
        self.sim.at(self.sim.now + self.sim.rng.choice([0, 0, 1, 2]), self.load)

    def load(self):
        """Load the session."""
        store = self.sim.store(self.server)
        if self.sim.rng.random() < self.sim.world.forgets and self.presented in store:
            del store[self.presented]
        found = store.get(self.presented)
        self.handle = self.presented if found else None
        self.session = found.copy() if found else Session()
        self.loaded_version = self.session.version
        self.before = self.session.copy()
        self.sim.at(self.sim.now + self.sim.rng.choice([0, 0, 1, 5]), self.save)

    def save(self):
        """Change the session, if it is to be changed."""
        if self.f not in ("view", "final_view", "product"):
            if self.sim.rng.random() < 0.02:
                self.status, self.outcome = 400, "fail"
                if self.sim.rng.random() < self.sim.world.faults * 10:
                    self.change()
            else:
                self.change()
        self.sim.at(self.sim.now + self.sim.rng.choice([0, 0, 1, 2]), self.answer)

    def change(self):
        """Apply the request, or refuse it."""
        if self.f == "bump" and self.line not in self.session.cart:
            self.status, self.outcome = 404, "fail"
            return
        if self.f == "checkout" and not self.session.cart:
            self.status, self.outcome = 400, "fail"
            return
        if self.f == "logout":
            self.log_out()
            return
        store = self.sim.store(self.server)
        if self.handle and self.handle not in store:
            self.status, self.outcome, self.session = 401, "fail", Session()
            return
        current = store.get(self.handle)
        if self.sim.world.policy == "versioned" and current and current.version != self.loaded_version:
            self.status, self.outcome = 409, "fail"
            return
        if self.handle is None:
            self.handle = f"h{next(self.sim.handles)}"
        self.apply_own(self.session)
        self.session.version += 1
        self.sim.replicate(self.server, self.applier(self.handle, self.session.copy()))
        if not self.late:
            self.shopper.handle = self.handle

    def apply_own(self, session):
        """Apply this request's own effect."""
        if self.f == "add":
            session.cart[self.token] = 1
        elif self.f == "bump":
            session.cart[self.line] = self.before.cart.get(self.line, 1) + 1
        elif self.f == "checkout":
            session.cart = {}
        elif self.f == "login":
            session.user = self.shopper.name
        elif self.f == "visit":
            session.recent = [self.i, *session.recent][:3]

    def applier(self, handle, whole):
        """Return what brings the change to a store: field by field, or as a whole."""

        def apply(store):
            known = store.get(handle)
            if handle in self.sim.dead and self.sim.world.tombstones:
                return
            if known is None or self.sim.world.policy != "fields":
                store[handle] = whole.copy()
                return
            if self.f == "checkout":
                for token in self.before.cart:
                    known.cart.pop(token, None)
            else:
                self.apply_own(known)
            known.version += 1

        return apply

    def log_out(self):
        """Destroy the session here, and elsewhere later."""
        handle, self.session = self.handle, Session()
        if handle:
            self.shopper.late_handle = handle
            self.sim.dead.add(handle)
            self.sim.replicate(self.server, lambda store: store.pop(handle, None))
        self.handle = None
        if self.shopper.handle == self.presented:
            self.shopper.handle = None

    def answer(self):
        """Write the line of the history."""
        shows = self.outcome == "ok" and self.f not in ("product", "visit")
        if self.vanishes:
            self.status, shows = 0, False
            self.outcome = "fail" if self.f in ("view", "final_view", "product") else "info"
        cart = self.garbled(list(self.session.cart)) if shows else None
        self.sim.ops.append(
            Operation(
                i=self.i, arm="simulated", strategy="simulated", scenario="all",
                phase="final" if self.f == "final_view" else "main",
                shopper=self.shopper.name, tab=self.tab, f=self.f, token=self.token, line=self.line, late=self.late,
                intended_ns=self.t0, t0_ns=self.t0, t1_ns=self.sim.now, outcome=self.outcome, status=self.status,
                attempt=self.attempt, error=self.error if self.vanishes else None,
                server=None if self.vanishes else f"web-{self.server}",
                cart=cart, quantities={t: self.session.cart.get(t, 1) for t in cart} if shows else None,
                presented=self.presented, session=None if self.vanishes or self.status == 401 else self.handle,
                user=self.session.user if shows else None,
                recent=list(self.session.recent) if shows or self.f == "visit" else None,
            )
        )  # fmt: skip
        if self.status == 409 and self.attempt < 3:
            self.attempt += 1
            self.reset()
            self.begin(self.done)
        else:
            self.done()

    def garbled(self, cart):
        """Now and then an item twice, or one from nowhere, or another shopper's."""
        rng = self.sim.rng
        if rng.random() < self.sim.world.faults:
            other = [token for shopper in self.sim.shoppers for token in shopper.tokens if shopper is not self.shopper]
            cart.append(rng.choice([*cart[:1], *other[:1], "nowhere"]))
        return cart


def simulate(seed):
    """Return the history of one seed."""
    return Simulation(seed).run()
