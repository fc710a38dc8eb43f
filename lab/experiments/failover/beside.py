"""What a failover run takes from a comparison: two claims need both, and one run cannot measure everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.consistency.scenarios import GUARANTEES
from lab.report import ReportError
from lab.report.results import get, load

if TYPE_CHECKING:
    from pathlib import Path

_COUNTS = ("verdict", "violations", "opportunities", "cross_server", "cross_server_violations", "shoppers")


def newest_comparison(out: Path, *, servers: int, engine: str = "local") -> dict[str, Any] | None:
    """Return what the claims need of the newest complete comparison in a folder of runs; None if there is none.

    Args:
        out: the folder.
        servers: only of a comparison on so many servers, with the default way to write.
        engine: and whose servers ran on this.

    Returns:
        Its `id`, and of `strategies` and `arms` the guarantees, the copies and the ratios of latency.
    """
    runs = []
    for folder in sorted(out.glob("compare-*")):
        try:
            run = load(folder)
        except ReportError:
            continue
        facts = run.get("run") or {}
        alike = facts.get("servers") == servers and facts.get("engine", "local") == engine
        if run.results["complete"] and alike and facts.get("write_policy") == "fields":
            runs.append(run)
    if not runs:
        return None
    newest = max(runs, key=lambda run: (str(run.get("run", "started")), run.folder.name))
    return {
        "id": newest.folder.name,
        "strategies": {name: _excerpt(one) for name, one in newest.results["strategies"].items()},
        "arms": {name: _excerpt(one) for name, one in (newest.get("arms") or {}).items()},
    }


def _excerpt(arm: dict[str, Any]) -> dict[str, Any]:
    checks = {name: get(arm, "consistency", name) or {} for name in GUARANTEES}
    return {
        "consistency": {name: {key: check.get(key) for key in _COUNTS} for name, check in checks.items()},
        "storage": {"copies_per_session": get(arm, "storage", "copies_per_session")},
        "latency_ratio": {"p50": get(arm, "latency_ratio", "p50")},
        "peer_timeouts": arm.get("peer_timeouts"),
    }
