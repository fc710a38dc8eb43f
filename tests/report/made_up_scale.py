"""Made-up results of a scale run, of every kind."""

from __future__ import annotations

import json
from functools import partial

from lab.claims import judge
from lab.experiments.scale.model import SHARDS, Assumed, Demand, curve

SIZES = (1, 2, 4, 8)
FLAT = {"sticky": 1.0, "database": 1.4, "redis": 1.2}


def write(folder, **variant):
    """Write a run into a folder, and return it."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results(folder.name, **variant)))
    return folder


def results(name, *, opposite=False, points=False, unmeasured=False, complete=True):
    """Return results.

    Args:
        name: of the run.
        opposite: all-to-all keeps one copy, costs nothing, and is never stale; the others grow.
        points: a short run: figures without intervals.
        unmeasured: no bytes, no CPU time, no stale reads looked for.
        complete: whether the run came to its end.
    """
    around = partial(_around, points=points)
    made = {
        strategy: {str(servers): _point(around, strategy, servers, opposite, unmeasured) for servers in SIZES}
        for strategy in ("sticky", "all-to-all", "database", "redis")
    }
    found = {
        "schema": 1,
        "experiment": "scale",
        "complete": complete,
        "run": {"id": name, "started": "2026-01-01T00:00:00Z", "seconds": 60.0, "seed": 1, "servers": 8}
        | {"sizes": list(SIZES), "rate_rps": 200, "blocks": 8, "size": "quick", "command": "make scale"}
        | {"machine": {}, "durability": {}, "versions": {}, "write_policy": "fields"},
        "validity": {"ok": True, "warnings": []},
        "strategies": {strategy: {} for strategy in made},
        "scale": {
            "points": made,
            "fits": {"added_ms": {} if unmeasured else _added(around, opposite)},
            "checked": [] if unmeasured else _checked(around, opposite),
            "visibility": [] if unmeasured else [_watched(*arm, opposite=opposite) for arm in ARMS],
            "unread_bound": None if unmeasured else {"delivered": 50, "never_read": 50, "rate": around(1.0)},
            "model": _model(unmeasured, opposite),
        },
    }
    return {**found, "claims": judge(found)}


ARMS = ((0.0, "async"), (1.0, "async"), (5.0, "async"), (20.0, "async"), (5.0, "sync"))


def _around(estimate, *, points):
    if points:
        return {"estimate": estimate, "low": None, "high": None}
    return {"estimate": estimate, "low": estimate * 0.95, "high": estimate * 1.05}


def _point(around, strategy, servers, opposite, unmeasured):
    grows = (strategy == "all-to-all") != opposite
    copies = float(servers) if grows else 1.0
    web = FLAT.get(strategy, 1.3) + (0.2 * (servers - 1) if grows else 0.0)
    cpu = {"servers": around(web), "redis": around(0.1), "postgresql": around(0.3), "balancer": around(0.2)}
    return {
        "servers": servers,
        "requests": {"scheduled": 960, "sent": 960, "ok": 960, "failed": 0},
        "cpu_ms": {"total": None} if unmeasured else {**cpu, "total": around(web + 0.6)},
        "copies": copies,
        "sessions": 160,
        "logical_bytes": 126.0,
        "physical_bytes": around(1800 * copies),
        "log_bytes_per_write": 550.0 if strategy == "database" else None,
        "writes_per_request": 0.33,
        "traffic": {"bytes_per_request": {"server_store": 500.0}, "messages_per_request": {}},
        **_between_servers(around, strategy, servers, opposite, unmeasured),
    }


def _between_servers(around, strategy, servers, opposite, unmeasured):
    if strategy != "all-to-all":
        return {"per_write": None, "unread": None}
    peers = 0 if opposite else servers - 1
    told = None if unmeasured else around(430.0 * peers)
    unread = {"delivered": 500, "never_read": 250, "rate": around(0.1 * servers**0.9)}
    return {
        "per_write": {"bytes": told, "messages": around(2.0 * peers), "writes": 300.0},
        "unread": unread if servers > 1 else None,
    }


def _added(around, opposite):
    growing = ("database", "redis") if opposite else ("all-to-all",)
    return {
        strategy: {"slope": around(0.2 if strategy in growing else 0.0), "start": 0.2, "points": 32}
        for strategy in ("all-to-all", "database", "redis")
    }


def _checked(around, opposite):
    seen = 1.0 if opposite else 3010.0
    every = (("bytes between servers per write", "B"), ("messages between servers per write", ""))
    alike = {"at": 8, "start": 0.0}
    lines = [
        {
            **alike,
            "what": what,
            "unit": unit,
            "law": "straight line",
            "fitted_on": [1, 2, 4],
            "slope": 430.0,
            "predicted": 3010.0,
            "predicted_interval": around(3010.0),
            "measured": around(seen),
            "off": 3010.0 / seen - 1,
            "verdict": "wrong" if opposite else "right",
        }
        for what, unit in every
    ]
    cpu_seen = 2.0 if opposite else 1.4
    cpu = {
        **alike,
        "what": "CPU per request of all web servers, beyond sticky's",
        "unit": "ms",
        "law": "in proportion to N - 1",
        "fitted_on": [2, 4],
        "slope": 0.2,
        "predicted": 1.4,
        "predicted_interval": around(1.4),
        "measured": around(cpu_seen),
        "off": 1.4 / cpu_seen - 1,
        "verdict": "wrong" if opposite else "right",
    }
    return [*lines, cpu]


def _watched(delay, replication, *, opposite):
    waits = replication == "sync" or opposite
    shares = [0.0] if waits else [1.0, 0.5, 0.1, 0.0]
    points = [
        {
            "gap_ms": at * delay,
            "waited_ms": at * max(delay, 0.3) + 0.01,
            "stale": round(90 * share),
            "trials": 90,
            "rate": {"estimate": share, "low": max(0.0, share - 0.05), "high": min(1.0, share + 0.05)},
        }
        for at, share in enumerate(shares)
    ]
    return {
        "delay_ms": delay,
        "replication": replication,
        "emulated": delay > 0,
        "servers": 4,
        "points": points,
        "write_ms": 2.0,
        "half_ms": 0.0 if waits else delay,
        "fresh_ms": None if delay == 20 and not waits else 2 * delay,
    }


def _model(unmeasured, opposite):
    assumed = Assumed()
    web = None if unmeasured else 1.2
    per_peer = 0.0 if opposite else 0.2
    demands = {
        "sticky": Demand(web_ms=web, web_bytes=1800),
        "all-to-all": Demand(web_ms=web, web_ms_per_peer=per_peer, web_bytes=1800, everywhere=not opposite),
        "database": Demand(web_ms=web, store="database", store_ms=0.25, log_bytes=180),
        "redis": Demand(web_ms=web, store="redis", store_ms=0.1, store_bytes=300, store_link_bytes=500),
    }
    curves = {strategy: curve(demand, assumed) for strategy, demand in demands.items()}
    return {
        "assumed": {name: getattr(assumed, name) for name in assumed.__struct_fields__},
        "shards": SHARDS,
        "curves": {**curves, f"redis x {SHARDS}": curve(demands["redis"], assumed, SHARDS)},
        "most_rps": None if unmeasured or opposite else {"estimate": 3500.0, "low": 3300.0, "high": 3700.0},
    }
