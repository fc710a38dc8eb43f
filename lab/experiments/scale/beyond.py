"""From a scale run's figures to the model's demands, and to how far each strategy goes beyond this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lab.experiments.scale.amounts import COPYING, REFERENCE, estimate_of, mean
from lab.experiments.scale.model import SHARDS, Assumed, Demand, curve

if TYPE_CHECKING:
    from collections.abc import Sequence


def modelled(points: dict[str, Any], fits: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """Return assumptions, demands, and each strategy's curve.

    Args:
        points: strategy to number of servers to what was found there.
        fits: see `lines.fits`.
        sizes: the numbers of servers.
    """
    assumed = Assumed()
    demands = {name: _demand(name, points, fits, sizes) for name in points}
    curves = {name: curve(demand, assumed) for name, demand in demands.items()}
    if "redis" in demands:
        curves[f"redis x {SHARDS}"] = curve(demands["redis"], assumed, SHARDS)
    return {
        "assumed": msgspec.to_builtins(assumed),
        "shards": SHARDS,
        "demands": {name: msgspec.to_builtins(demand) for name, demand in demands.items()},
        "curves": curves,
        "most_rps": _plateau(fits, assumed),
    }


def _plateau(fits: dict[str, Any], assumed: Assumed) -> dict[str, Any] | None:
    """Return the requests a second that all-to-all never exceeds, however many servers: each applies every write."""
    slope = (fits["per_peer_ms"] or {}).get("slope") or {}
    if (slope.get("estimate") or 0) <= 0:
        return None
    core_ms = 1000 * assumed.busy_most
    low, high = slope.get("low"), slope.get("high")
    return {
        "estimate": core_ms / slope["estimate"],
        "low": core_ms / high if high else None,
        "high": core_ms / low if low and low > 0 else None,
    }


def _demand(name: str, points: dict[str, Any], fits: dict[str, Any], sizes: Sequence[int]) -> Demand:
    largest = points[name][str(sizes[-1])]
    if name == COPYING:
        usual = mean([estimate_of(points[REFERENCE][str(n)]["cpu_ms"].get("servers")) for n in sizes])
        _, growth_ms = _line_of(fits["per_peer_ms"])
        _, growth = _line_of(fits["bytes"])
        writes = largest["writes_per_request"]
        return Demand(
            web_ms=usual,
            web_ms_per_peer=growth_ms or 0.0,
            web_bytes=estimate_of(points[name][str(sizes[0])]["physical_bytes"]),
            everywhere=True,
            peer_bytes=None if growth is None or writes is None else growth * writes,
        )
    flat = mean([estimate_of(points[name][str(n)]["cpu_ms"].get("servers")) for n in sizes])
    store = {"redis": "redis", "database": "postgresql"}.get(name)
    if store is None:
        return Demand(web_ms=flat, web_bytes=estimate_of(points[name][str(sizes[0])]["physical_bytes"]))
    log, writes = largest["log_bytes_per_write"], largest["writes_per_request"]
    return Demand(
        web_ms=flat,
        store=name,
        store_ms=_for_sessions(points, name, store, sizes),
        store_bytes=estimate_of(largest["physical_bytes"]) if name == "redis" else None,
        store_link_bytes=largest["traffic"]["bytes_per_request"].get("server_store"),
        log_bytes=None if log is None or writes is None else log * writes,
    )


def _for_sessions(points: dict[str, Any], name: str, part: str, sizes: Sequence[int]) -> float | None:
    """Return an engine's CPU per request for the session alone: what it uses under `sticky` serves the catalogue."""
    own, others = (
        mean([estimate_of(points[which][str(n)]["cpu_ms"].get(part)) for n in sizes]) if which in points else None
        for which in (name, REFERENCE)
    )
    return None if own is None or others is None else max(own - others, 0.0)


def _line_of(fit: dict[str, Any] | None) -> tuple[float | None, float | None]:
    return (None, None) if fit is None else (fit["start"], fit["slope"]["estimate"])
