"""What a lecture says: which runs it consists of, and each claim as the experiment says that can judge it wholly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lab.claims import CLAIMS, judge
from lab.experiments.failover.beside import newest_comparison
from lab.measuring.runs import machine
from lab.report.results import SCHEMA, Results, get

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.claims import Claim
    from lab.report.results import Run

State = Literal["complete", "failed", "interrupted", "to come"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment of a lecture, as it stands.

    Attributes:
        experiment: its door.
        command: which would carry it out alone.
        state: see `State`.
        run: the name of its complete run's folder.
        reason: why it failed, in a line.
    """

    experiment: str
    command: str
    state: State = "to come"
    run: str | None = None
    reason: str = ""


_WHY: dict[str, str] = {
    "failed": "`{}` is to test it, and failed: {}",
    "interrupted": "`{}` is to test it, and was interrupted.",
    "to come": "`{}` is to test it, and has not been carried out yet.",
}


def assemble(folder: Path, asked: dict[str, Any], command: str, parts: Sequence[Part], runs: dict[str, Run]) -> Results:
    """Return the results of a lecture as far as it has got.

    Args:
        folder: the lecture's.
        asked: option to value.
        command: what was typed.
        parts: every part, in order.
        runs: the complete ones, by experiment.
    """
    complete = all(part.state == "complete" for part in parts)
    facts = [run.get("run") or {} for run in runs.values()]
    return {
        "schema": SCHEMA,
        "experiment": "lecture",
        "complete": complete,
        "run": {
            "id": folder.name,
            "started": _started(folder),
            "seconds": round(sum(float(one.get("seconds") or 0) for one in facts), 1),
            **asked,
            "servers": None,
            "rate_rps": None,
            "blocks": None,
            "command": command,
            "machine": machine(),
            "durability": _first_of_each(facts, "durability"),
            "versions": _first_of_each(facts, "versions"),
        },
        "validity": _validity(parts, runs),
        "strategies": {},
        "lecture": {"parts": msgspec.to_builtins(parts)},
        "claims": merged(parts, runs),
    }


def _started(folder: Path) -> str:
    """Read a lecture's beginning from its folder's name, as ISO 8601."""
    stamp = folder.name.split("-")[1]
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:11]}:{stamp[11:13]}:{stamp[13:15]}Z"


def _first_of_each(facts: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in facts:
        found |= {name: value for name, value in (one.get(key) or {}).items() if value and not found.get(name)}
    return found


def _validity(parts: Sequence[Part], runs: dict[str, Run]) -> dict[str, Any]:
    missing = [
        f"{part.experiment} {'failed: ' + part.reason if part.state == 'failed' else 'is ' + part.state}"
        for part in parts
        if part.state != "complete"
    ]
    counts = {name: len(run.get("validity", "warnings") or []) for name, run in runs.items()}
    own = [f"{name} has {count} warning{'s' * (count > 1)}" for name, count in counts.items() if count]
    warnings = [*missing, *([f"{', '.join(own)}; the page has them"] if own else [])]
    return {"ok": not missing and all(run.get("validity", "ok") for run in runs.values()), "warnings": warnings}


def merged(parts: Sequence[Part], runs: dict[str, Run]) -> list[dict[str, Any]]:
    """Return every claim once: as the last of its experiments says that tested it, or why none did.

    Where several experiments judge a claim, the last one named has what the others found, and judges it wholly.

    Args:
        parts: every part.
        runs: the complete ones, by experiment.
    """
    said = {name: {one["id"]: one for one in _judgements(run, runs)} for name, run in runs.items()}
    states = {part.experiment: part for part in parts}
    return [_merged(claim, said, states) for claim in CLAIMS]


def _judgements(run: Run, runs: dict[str, Run]) -> list[dict[str, Any]]:
    """Return what a run says of the claims; a failover without a comparison beside it gets it now, if there is one."""
    if run.results["experiment"] == "failover" and "compare" in runs and not run.get("compared"):
        beside = newest_comparison(run.folder.parent, servers=int(run.get("run", "servers") or 0))
        return judge({**run.results, "compared": beside})
    return run.get("claims") or []


def _merged(claim: Claim, said: dict[str, dict[str, Any]], parts: dict[str, Part]) -> dict[str, Any]:
    unsure: list[str] = []
    for name in reversed(claim.experiments):
        own = get(said, name, claim.id)
        if own is not None and own["verdict"] != "not tested":
            return {**own, "judged_by": name, "run": parts[name].run}
        unsure.insert(0, _why(name, parts.get(name), None if own is None else own["evidence"]))
    return {
        "id": claim.id,
        "claim": claim.claim,
        "korean": claim.korean,
        "experiment": ", ".join(claim.experiments),
        "verdict": "not tested",
        "evidence": " ".join(unsure),
        "numbers": {},
        "turns": "",
        "judged_by": None,
        "run": None,
    }


def _why(name: str, part: Part | None, own: str | None) -> str:
    """Say why an experiment does not judge a claim that it is to judge."""
    if own is not None:
        return f"`{name}`: {own}"
    if part is None:
        return f"`{name}` is to test it, and is no part of this lecture."
    if part.state == "complete":
        return f"`{name}` says nothing about it."
    return _WHY[part.state].format(name, part.reason.rstrip(".") + "." if part.reason else "")
