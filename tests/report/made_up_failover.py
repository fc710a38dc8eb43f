"""A made-up failover run: plausible requests of a few shoppers, told, judged and written as a real run would be.

No number here was measured. Under `sticky` struck servers take their sessions along, under `redis` Redis's death fails
every request, under `database` PostgreSQL's; a run that is `opposite` has it the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.experiments.failover import experiment as failover
from lab.experiments.failover.findings import assemble
from lab.experiments.failover.story import Marks
from lab.report import results as results_file
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
BEFORE, HOLD, AFTER = 3, 2, 5
SHOPPERS = 12
SERVERS = ("web-1", "web-2", "web-3", "web-4")
ORIGIN, STORE = "HTTP 503: the catalogue is not available", "HTTP 503: the session store is not available"


def write(
    folder: Path,
    *,
    strategies: tuple[str, ...] = ("isolated", "sticky", "all-to-all", "database", "redis"),
    faults: tuple[str, ...] = tuple(failover.FAULTS),
    opposite: bool = False,
    left_out: dict[str, str] | None = None,
) -> Path:
    """Write the files of a made-up run into `folder` and return it.

    Args:
        folder: a run's folder; made if it is missing.
        strategies: which ones took part.
        faults: which ones were struck.
        opposite: what usually holds breaks, and what usually breaks holds.
        left_out: fault to why it was not struck.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = failover.settings(
        size="quick", strategies=strategies, servers=4, rate=200, seed=1, out=folder.parent, command="make <failover>"
    )
    struck = [
        _struck(spec.name.removesuffix(f" {name}"), spec.strategy, name, opposite)
        for name in faults
        for spec in failover.arms(chosen, failover.FAULTS[name])
    ]
    machine = {"cpus": 2, "memory_bytes": 8_000_000_000, "platform": "made up"}
    measured = failover.Measured(chosen, started="2026-01-01T00:00:00Z", machine=machine, seconds=61.0, struck=struck)
    measured.left_out = left_out or {}
    measured.versions = {"python": "3.13.0"}
    measured.durability = {"redis": "appendfsync everysec", "postgresql": "fsync on"}
    results_file.write(folder, assemble(measured, folder))
    return folder


def _struck(arm: str, strategy: str, fault: str, opposite: bool) -> Any:
    start = 100 * SECOND
    end = start + (BEFORE + HOLD + AFTER) * SECOND
    marks = Marks(start, start + BEFORE * SECOND, start + (BEFORE + HOLD) * SECOND, end)
    struck = {"kill-server": {"web-2"}, "stop-server": {"web-2"}, "rolling-restart": set(SERVERS)}.get(fault, set())
    loses = struck if (strategy == "sticky") != opposite else set()
    owner = {"kill-redis": "redis", "fill-redis": "redis", "kill-postgresql": "database"}.get(fault)
    down = strategy == owner and not opposite
    refused = frozenset({"add"} if fault == "fill-redis" else {"add", "view"}) if down else frozenset()
    shop = _Shop(f"{arm} {fault}", strategy, marks, loses=loses, refused=refused, catalogue=fault != "kill-postgresql")
    peers = 0 if strategy == "all-to-all" else None
    return failover.Struck(arm, strategy, fault, 6, shop.operations(), marks, peers, [0.1] * 50)


class _Shop:
    """Shoppers who add and look in turn, four times a second each, while something happens to their shop."""

    def __init__(
        self, arm: str, strategy: str, marks: Marks, *, loses: set[str], refused: frozenset[str], catalogue: bool
    ) -> None:
        self._common = {"arm": arm, "strategy": strategy, "scenario": "failover", "tab": 0}
        self._marks, self._loses, self._refused, self._catalogue = marks, loses, refused, catalogue
        self._made: list[Operation] = []

    def operations(self) -> list[Operation]:
        """Return every request."""
        for number in range(SHOPPERS):
            self._shopper(f"s{number:03d}", SERVERS[number % len(SERVERS)])
        return self._made

    def _shopper(self, name: str, server: str) -> None:
        cart: list[str] = []
        session = f"{name}-first"
        self._note(name, "login", self._marks.start_ns - SECOND, server, session, cart=[], phase="warmup")
        for step in range(4 * (BEFORE + HOLD + AFTER)):
            at = self._marks.start_ns + step * SECOND // 4 + SECOND // 50
            during = self._marks.struck_ns <= at < self._marks.repaired_ns
            if server in self._loses and at >= self._marks.struck_ns and session.endswith("first"):
                session, cart = f"{name}-second", []
            f = ("add", "view", "view", "product")[step % 4]
            error = ORIGIN if during and not self._catalogue and f in {"add", "product"} else None
            error = STORE if during and f in self._refused and error is None else error
            token = f"{name}.{step}" if f == "add" else None
            if token and error is None:
                cart = [*cart, token]
            self._note(name, f, at, server, session, cart=cart, token=token, error=error)
        for each in SERVERS:
            self._note(name, "final_view", self._marks.end_ns + SECOND, each, session, cart=cart, phase="final")

    def _note(self, name: str, f: str, at: int, server: str, session: str, **more: Any) -> None:
        error, cart = more.get("error"), more["cart"]
        self._made.append(
            Operation(
                **self._common,
                i=len(self._made),
                shopper=name,
                f=f,
                phase=more.get("phase", "main"),
                token=more.get("token"),
                intended_ns=at,
                t0_ns=at,
                t1_ns=at + SECOND // 200,
                outcome="ok" if error is None else "info" if f == "add" else "fail",
                status=200 if error is None else 503,
                error=error,
                server=server,
                cart=None if error or f == "product" else list(cart),
                session=None if error or f == "product" else session,
                presented=session,
            )
        )
