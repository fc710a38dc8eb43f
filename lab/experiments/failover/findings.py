"""From what `failover` measured to `results.json` and `history.jsonl`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab.consistency.checks import check
from lab.consistency.history import write_history
from lab.experiments.failover.beside import newest_comparison
from lab.experiments.failover.faults import VICTIM, Fault, known_to
from lab.experiments.failover.promises import LATENESS_LIMIT_MS, judge
from lab.experiments.failover.story import tell
from lab.measuring.facts import CONTROL, judged, outline
from strategies import STRATEGIES

if TYPE_CHECKING:
    from pathlib import Path

    from lab.experiments.failover.experiment import Measured, Struck


def assemble(measured: Measured, folder: Path) -> dict[str, Any]:
    """Write the history into the run's folder, and return the results."""
    write_history(folder / "history.jsonl", (op for struck in measured.struck for op in struck.operations))
    chosen = measured.settings
    arms = {struck.arm: struck.strategy for struck in measured.struck}
    told = {arm: _arm(arm, measured) for arm in arms}
    results = outline(
        "failover",
        folder,
        chosen,
        measured,
        servers=chosen.servers,
        rate_rps=chosen.rate,
        shoppers=chosen.lengths.shoppers,
        strategies=list(chosen.strategies),
    )
    results |= {
        "validity": _validity(measured),
        "faults": {name: _fault(fault, measured) for name, fault in known_to(measured.engine).items()},
        "strategies": {name: told[name] for name in STRATEGIES if name in told},
        "arms": {arm: one for arm, one in told.items() if arm not in STRATEGIES},
        "compared": newest_comparison(folder.parent, servers=chosen.servers, engine=measured.engine),
    }
    return judged(results)


def _fault(fault: Fault, measured: Measured) -> dict[str, Any]:
    own = [struck for struck in measured.struck if struck.fault == fault.name]
    why_not = measured.left_out.get(fault.name, "no strategy of this run needs it")
    return {
        "title": fault.title,
        "target": fault.target,
        "during": fault.during,
        "together": own[0].together if own else None,
        "left_out": None if own else why_not,
    }


def _arm(arm: str, measured: Measured) -> dict[str, Any]:
    servers = measured.settings.servers
    stories = {struck.fault: _story(struck, servers) for struck in measured.struck if struck.arm == arm}
    sent = {key: sum(story["requests"][key] for story in stories.values()) for key in ("sent", "ok", "failed")}
    promises = {fault: judge(fault, arm, stories.get(fault)) for fault in known_to(measured.engine)}
    return {
        "requests": {"scheduled": sent["sent"], **sent},
        "faults": {fault: {**story, "promises": promises[fault]} for fault, story in stories.items()},
        "not_struck": {fault: made for fault, made in promises.items() if fault not in stories},
    }


def _story(struck: Struck, servers: int) -> dict[str, Any]:
    fault = known_to("docker")[struck.fault]
    victim = VICTIM if fault.target == "server" else None
    share = {"server": 1 / servers, "servers": 1.0}.get(fault.target)
    control = struck.strategy == CONTROL
    story = tell(struck.operations, struck.marks, victim=victim, struck_share=share, control=control)
    return {
        **story,
        "peer_timeouts": struck.peer_timeouts,
        "lateness_p99_ms": float(np.quantile(struck.lateness_ms, 0.99)) if struck.lateness_ms else None,
        "consistency": check(struck.operations, "failover"),
    }


def _validity(measured: Measured) -> dict[str, Any]:
    late = np.array([late for struck in measured.struck for late in struck.lateness_ms])
    lateness = {"p50": float(np.quantile(late, 0.5)), "p99": float(np.quantile(late, 0.99))} if len(late) else {}
    warnings = [f"{name} was left out: {reason}" for name, reason in measured.left_out.items()]
    if lateness.get("p99", 0.0) > LATENESS_LIMIT_MS:
        warnings.append(f"the load generator was {lateness['p99']:.0f} ms late (99th percentile)")
    warnings += _outlasted(measured)
    return {"ok": not warnings, "warnings": warnings, "blocks_redone": None, "generator_lateness_ms": lateness}


def _outlasted(measured: Measured) -> list[str]:
    """Say of each fault that was repaired only after its load had ended how much of it nobody saw."""
    unseen: dict[str, int] = {}
    for struck in measured.struck:
        longer_ns = struck.marks.repaired_ns - struck.marks.end_ns
        unseen[struck.fault] = max(longer_ns, unseen.get(struck.fault, 0))
    return [
        f"{fault} lasted {longer_ns / 1e9:.1f} s longer than its load: what shoppers would have met in that time, "
        "this run does not know"
        for fault, longer_ns in unseen.items()
        if longer_ns > 0
    ]
