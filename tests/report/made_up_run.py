"""A made-up run of `compare`: plausible, complete, and wrong on purpose where a test asks for it.

No number here was measured. The builder exists so that charts, page and claims can be tested without engines, on
results of every kind: long and short, as expected and upside down, complete, interrupted, and with things that a
platform could not measure.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from lab import claims, samples, statistics
from lab.consistency import sweep
from lab.consistency.tally import not_applicable, worst
from lab.report import results as results_file
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from pathlib import Path

SPEED = {"sticky": 1.0, "all-to-all": 1.06, "database": 1.42, "redis": 1.19}
SERVERS = ("web-1", "web-2", "web-3", "web-4")
OPERATIONS = {"product": 1.5, "search": 2.4, "view": 1.9, "add": 2.2, "visit": 2.1}
SHARES = (0.35, 0.1, 0.25, 0.15, 0.15)
STORE = {"database": "PostgreSQL", "redis": "Redis"}
COLUMNS = ("arm", "block", "position", "twin", "f", "latency", "slowness")

VARIANTS = {
    "usual": {"blocks": 20},
    "opposite": {"blocks": 20, "opposite": True},
    "quick": {"blocks": 6},
    "unmeasured": {"blocks": 9, "unmeasured": True},
    "interrupted": {"blocks": 9, "complete": False, "strategies": ("isolated", "sticky", "redis")},
}
"""Kinds of runs by name, and how `build` makes them."""


def write(folder: Path, **variant: Any) -> Path:
    """Write a made-up run's files into a folder and return it; for the variants see `build`."""
    results, columns, history = build(**variant)
    folder.mkdir(parents=True, exist_ok=True)
    results_file.write(folder, results)
    samples.save(columns, folder)
    (folder / "history.jsonl").write_bytes(b"\n".join(msgspec.json.encode(line) for line in history) + b"\n")
    return folder


def build(
    *,
    blocks: int = 60,
    opposite: bool = False,
    unmeasured: bool = False,
    complete: bool = True,
    strategies: tuple[str, ...] = ("isolated", "sticky", "all-to-all", "database", "redis"),
    seed: int = 1,
) -> tuple[dict[str, Any], samples.Samples, list[Operation]]:
    """Make up the results, the samples and the history of a run.

    Args:
        blocks: how many timed blocks; few, and there are no intervals.
        opposite: everything comes out the other way round: `sticky` is slow and broken, `redis` loses carts.
        unmeasured: what another platform might not measure is null.
        complete: False for a run that was interrupted.
        strategies: which ones took part.
        seed: of all made-up randomness.
    """
    timed = {name: 1 / speed if opposite else speed for name, speed in SPEED.items() if name in strategies}
    columns = make_samples(timed, blocks, seed)
    history = make_witness("isolated" if not opposite else "redis")
    results: dict[str, Any] = {
        "schema": 1,
        "experiment": "compare",
        "complete": complete,
        "run": _run(blocks, seed),
        "validity": _validity(columns, blocks),
        "strategies": {
            name: _strategy(name, columns if name in timed else None, opposite, history) for name in strategies
        },
        "arms": _arms(opposite) if "all-to-all" in strategies else {},
    }
    if unmeasured:
        for strategy in results["strategies"].values():
            strategy["traffic"] = None
            strategy["cpu_ms_per_request"] = {"servers": None, "store": None, "balancer": None, "total": None}
            strategy["storage"]["physical_bytes_per_session"] = None
    results["claims"] = claims.judge(results)
    return results, columns, history


def make_samples(timed: dict[str, float], blocks: int, seed: int, requests: int = 70) -> samples.Samples:
    """Make up the requests of the timed blocks: drift shared by a block, a tail, and the baseline twice."""
    random = np.random.default_rng(seed)
    arms = list(timed)
    drift = np.cumsum(random.normal(0, 0.04, blocks))
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    for block in range(blocks):
        order = random.permutation([*range(len(arms)), *([arms.index("sticky")] if "sticky" in arms else [])])
        for position, arm in enumerate(order):
            twin = arms[arm] == "sticky" and arm in order[:position]
            f = random.choice(len(OPERATIONS), requests, p=SHARES)
            base = np.array(list(OPERATIONS.values()))[f] * timed[arms[arm]]
            own = np.exp(drift[block] + random.normal(0, 0.05) + random.normal(0, 0.25, requests))
            waited = np.where(random.random(requests) < 0.06, random.exponential(4.0, requests), 0.0)
            for name, value in {"arm": arm, "block": block, "position": position, "twin": twin}.items():
                columns[name].append(np.full(requests, value))
            columns["f"].append(f)
            columns["latency"].append(base * own + waited)
            columns["slowness"].append(np.full(requests, np.exp(random.normal(0, 0.15))))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    count = len(joined["arm"])
    return samples.Samples(
        arms=np.array(arms),
        fs=np.array(list(OPERATIONS)),
        server_names=np.array(SERVERS),
        arm=joined["arm"].astype(np.int64),
        block=joined["block"].astype(np.int64),
        position=joined["position"].astype(np.int64),
        twin=joined["twin"].astype(bool),
        f=joined["f"].astype(np.int64),
        intended_s=np.tile(np.linspace(0, 0.35, requests), count // requests),
        latency_ms=joined["latency"] * joined["slowness"],
        service_ms=joined["latency"] * joined["slowness"] * 0.98,
        slowness=joined["slowness"],
        lateness_ms=np.where(random.random(count) < 0.02, np.nan, random.exponential(0.15, count)),
        ok=np.ones(count, dtype=bool),
        failed=np.zeros(count, dtype=bool),
        server=random.integers(0, len(SERVERS), count),
    )


def make_witness(strategy: str) -> list[Operation]:
    """Make up one broken cart: an add on web-1, then a view on web-2 that does not show it."""
    common = {
        "arm": strategy,
        "strategy": strategy,
        "scenario": "shopping",
        "phase": "main",
        "shopper": "s17",
        "tab": 0,
    }
    second = 1_000_000_000
    steps = [
        ("add", "s17-1", 2.010, 0.004, "web-1", ["s17-1"], "9f3a61c0d2ab"),
        ("add", "s17-2", 12.031, 0.003, "web-2", ["s17-1", "s17-2"], "9f3a61c0d2ab"),
        ("view", None, 12.038, 0.002, "web-3", ["s17-1"], "9f3a61c0d2ab"),
        ("final_view", None, 12.9, 0.002, "web-2", ["s17-1", "s17-2"], "9f3a61c0d2ab"),
    ]
    return [
        Operation(
            **common,
            i=index,
            f=f,
            token=token,
            intended_ns=int(start * second),
            t0_ns=int(start * second),
            t1_ns=int((start + took) * second),
            outcome="ok",
            status=200,
            server=server,
            cart=cart,
            session=session,
        )
        for index, (f, token, start, took, server, cart, session) in enumerate(steps)
    ]


def check(violations: int = 0, opportunities: int = 1200, cross: int = 900, shoppers: int = 60, **more: Any) -> dict:
    """Make up the outcome of one check."""
    verdict = "violated" if violations else "ok" if opportunities else "unknown"
    per_shopper = np.full(shoppers, opportunities // max(shoppers, 1) or 1)
    events = np.minimum(per_shopper, np.diff(np.linspace(0, violations, shoppers + 1).astype(int)))
    return {
        "verdict": verdict,
        "violations": violations,
        "opportunities": opportunities,
        "cross_server": cross,
        "cross_server_violations": min(violations, cross),
        "shoppers": shoppers,
        "rate": msgspec.to_builtins(statistics.rate_by_shopper(events, per_shopper)) if opportunities else None,
        **more,
    }


def _run(blocks: int, seed: int) -> dict[str, Any]:
    return {
        "id": "compare-20260101T101500Z",
        "started": "2026-01-01T10:15:00Z",
        "seconds": 241.3,
        "seed": seed,
        "servers": len(SERVERS),
        "rate_rps": 200,
        "blocks": blocks,
        "write_policy": "fields",
        "command": f"python -m lab compare --blocks {blocks} --seed {seed}",
        "machine": {"cpus": 2, "memory_bytes": 24 * 2**30, "platform": "Linux-6.1-x86_64"},
        "durability": {
            "redis": "append-only file, synced every second; noeviction",
            "postgresql": "fsync on, synchronous_commit on",
        },
        "versions": {
            "python": "3.11.9",
            "flask": "3.1.3",
            "redis": "8.2.3",
            "postgresql": "18.1",
            "nginx": "1.31.3",
            "locust": "2.47.0",
        },
    }


def _validity(columns: samples.Samples, blocks: int) -> dict[str, Any]:
    late = columns.lateness_ms[np.isfinite(columns.lateness_ms)]
    same = statistics.latency(columns, "sticky", "sticky").latency_ratio or {}
    return {
        "ok": True,
        "warnings": ["block 12, redis: other programs used 31 % of the CPU (limit 25 %)"] if blocks > 20 else [],
        "blocks_redone": 2 if blocks > 20 else 0,
        "generator_lateness_ms": {"p50": float(np.median(late)), "p99": float(np.quantile(late, 0.99))},
        "same_against_same": {
            name: {key: value for key, value in interval.items() if key != "verdict"} for name, interval in same.items()
        },
    }


def _strategy(name: str, columns: samples.Samples | None, opposite: bool, history: list[Operation]) -> dict[str, Any]:
    broken = {"isolated": 560, "all-to-all": 6} if not opposite else {"sticky": 40, "redis": 7, "database": 3}
    found = statistics.latency(columns, name, None if name == "isolated" else "sticky") if columns else None
    ratio = None if found is None else found.latency_ratio
    if ratio and name == "sticky":
        ratio = {p: {"estimate": 1.0, "low": 1.0, "high": 1.0, "verdict": "about the same"} for p in ratio}
    return {
        "requests": {"scheduled": 4200, "sent": 4200, "ok": 4197, "failed": 0},
        "latency_ms": found.latency_ms if found else None,
        "latency_ratio": ratio,
        "cpu_ms_per_request": _cpu(name, opposite),
        "storage": _storage(name),
        "traffic": _traffic(name),
        "session_operations_per_request": {"loads": 0.55, "saves": 0.3, "touches": 0.01},
        "consistency": _consistency(name, broken.get(name, 0), history),
        "two_tabs": _two_tabs(name),
        "lifecycle": _lifecycle(name, opposite),
        "servers": {
            server: {"requests": 1050 + (index - 2) * (60 if name == "sticky" else 1)}
            for index, server in enumerate(SERVERS)
        },
        "drain_seconds": 0.004 if name == "all-to-all" else 0.0,
    }


def _cpu(name: str, opposite: bool) -> dict[str, float]:
    servers, store = {
        "isolated": (1.5, 0.0),
        "sticky": (1.52, 0.0),
        "all-to-all": (2.9, 0.0),
        "database": (2.0, 0.62),
        "redis": (1.8, 0.07),
    }[name]
    servers = 4.4 - servers if opposite else servers
    return {"servers": servers, "store": store, "balancer": 0.09, "total": servers + store + 0.09}


def _storage(name: str) -> dict[str, Any]:
    copies = {"all-to-all": 4.0, "isolated": 2.6}.get(name, 1.0)
    random = np.random.default_rng(5)
    sessions = [f"{index:012x}" for index in random.integers(0, 2**40, 40)]
    if name in STORE:
        held = {**{server: [] for server in SERVERS}, STORE[name]: sessions}
    elif name == "all-to-all":
        held = dict.fromkeys(SERVERS, sessions)
    else:
        share = 0.65 if name == "isolated" else 0.0
        owner = random.integers(0, len(SERVERS), len(sessions))
        extra = random.random((len(SERVERS), len(sessions))) < share
        held = {
            server: [handle for at, handle in enumerate(sessions) if owner[at] == index or extra[index][at]]
            for index, server in enumerate(SERVERS)
        }
    physical = {"isolated": 5200.0, "sticky": 2300.0, "all-to-all": 11400.0, "database": 1450.0, "redis": 980.0}
    return {
        "copies_per_session": copies,
        "logical_bytes_per_session": 310.0 * copies,
        "logical_bytes_per_copy": 310.0,
        "physical_bytes_per_session": physical[name],
        "held_by": held,
    }


def _traffic(name: str) -> dict[str, Any]:
    between, store = {"all-to-all": (1730.0, 0.0), "database": (0.0, 905.0), "redis": (0.0, 612.0)}.get(
        name, (0.0, 0.0)
    )
    return {
        "bytes_per_request": {
            "client_balancer": 1510.0,
            "balancer_server": 1630.0,
            "server_server": between,
            "server_store": store,
            "server_origin": 1240.0,
        },
        "messages_per_request": {
            "client_balancer": 2.0,
            "balancer_server": 2.0,
            "server_server": 1.8 if between else 0.0,
            "server_store": 1.75 if store else 0.0,
        },
    }


def _consistency(name: str, violations: int, history: list[Operation]) -> dict[str, Any]:
    cross = 0 if name == "sticky" else 620
    own = [op for op in history if op.strategy == name]
    saved = [
        {
            "check": "read_your_writes",
            "token": "s17-2",
            "operations": msgspec.to_builtins(own[1:]),
            "text": "READ YOUR WRITES: shopper s17, 3 requests\n\n  +0.000 s  web-2  adds s17-2\n  - however ...",
        }
    ]
    stale = check(violations, 2300, cross, t_visibility=_visibility(name))
    checks = {
        "read_your_writes": check(violations, 824, cross),
        "monotonic_reads": check(violations // 2, 760, cross),
        "lost_updates": not_applicable("lost_updates", "shopping does not exercise it"),
        "monotonic_writes": check(violations // 3, 700, cross),
        "writes_follow_reads": check(violations // 3, 690, cross),
        "lost_writes": check(violations // 2, 640, 0),
        "stale_reads": stale,
        "divergence": check(50 if name == "isolated" and violations else 0, 60, 0),
        "sessions_lost": check(0, 5100, 0),
        "phantoms": check(0, 2300, 0),
    }
    verdict = worst([one["verdict"] for one in checks.values()])
    return {"verdict": verdict, "operations": 5200, **checks, "witnesses": saved if own else []}


def _visibility(name: str) -> dict[str, Any]:
    random = np.random.default_rng(9)
    gaps = np.sort(10 ** random.uniform(0, 4, 900))
    chance = {"isolated": 0.2 + 0 * gaps, "all-to-all": 1 - np.exp(-gaps / 3)}.get(name, 1 + 0 * gaps)
    return sweep.visibility(list(zip(gaps.tolist(), (random.random(900) < chance).tolist(), strict=True)))


def _two_tabs(name: str) -> dict[str, Any]:
    policies = ["fields", "blob"] if name == "all-to-all" else ["fields", "blob", "versioned"]
    lost = {"fields": 0, "blob": 21, "versioned": 0}
    return {
        policy: {
            "lost_updates": check(lost[policy], 410, 0),
            "lost_writes": check(lost[policy], 800, 0),
            "merged": 40,
            "conflicts": 33 if policy == "versioned" else 0,
        }
        for policy in policies
    }


def _lifecycle(name: str, opposite: bool) -> dict[str, Any]:
    lost = 150 if name == "isolated" else 4 if opposite else 0
    left = 212 if name == "isolated" else 0
    return {
        "sessions_lost": check(lost, 1400, 0, shoppers=220),
        "resurrections": check(3 if opposite and name == "redis" else 0, 260, 0, shoppers=220),
        "handles_left": {"after_logout": {"ended": 220, "left": left}, "after_expiry": {"ended": 220, "left": 0}},
    }


def _arms(opposite: bool) -> dict[str, Any]:
    sync = _consistency("all-to-all", 5 if opposite else 0, [])
    affinity = _consistency("sticky", 0, [])
    unused = 100 if opposite else 880
    rate = statistics.rate_by_shopper([unused // 60] * 60, [900 // 60] * 60)
    return {
        "all-to-all sync": {"consistency": {**copy.deepcopy(sync)}, "peer_timeouts": 0},
        "all-to-all with affinity": {
            "consistency": affinity,
            "copies_unused": {"copies": 900, "never_read": unused, "rate": msgspec.to_builtins(rate)},
        },
    }
