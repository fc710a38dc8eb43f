"""The checks of one arm: which rules apply, what each says, and the worst of it.

Rules: `docs/checks.md`. A check that throws says `unknown`, never `ok`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lab.consistency import lifecycle, sweep, updates
from lab.consistency.history import HistoryError
from lab.consistency.patience import collector_resting
from lab.consistency.scenarios import CROSS_SERVER, GUARANTEES, binds, exercised, has_one_local_copy
from lab.consistency.shopper import Shopper, arrange
from lab.consistency.tally import Tally, Witness, judge, not_applicable, unknown, worst
from lab.consistency.witnesses import record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loadtests.recorder import Operation

__all__ = ["RULES", "check"]

_log = logging.getLogger(__name__)

RULES: dict[str, Callable[[Sequence[Shopper]], Tally]] = {
    "read_your_writes": sweep.read_your_writes,
    "monotonic_reads": sweep.monotonic_reads,
    "monotonic_writes": sweep.monotonic_writes,
    "writes_follow_reads": sweep.writes_follow_reads,
    "lost_updates": updates.lost_updates,
    "lost_writes": updates.lost_writes,
    "stale_reads": sweep.stale_reads,
    "divergence": updates.divergence,
    "phantoms": updates.phantoms,
    "sessions_lost": lifecycle.sessions_lost,
    "resurrections": lifecycle.resurrections,
}
"""Every check that has a verdict, in the order that reports use."""


@collector_resting()
def check(
    operations: Sequence[Operation], scenario: str, *, minimum: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Check what one arm did in one scenario.

    Args:
        operations: all requests of one arm, warm-up and final views included. Left out are other scenarios, the
            baseline's twin slices, and shoppers whom the machine held up.
        scenario: which one; it declares the checks and the opportunities each needs.
        minimum: check to least opportunities, and `cross_server` to least opportunities across servers, where other
            than declared.

    Returns:
        The `consistency` object of `results.json`: `verdict`, `operations`, one record per check, `witnesses`; where
        lost updates are exercised also `merged`, `conflicts`, `retries` and `gave_up`.

    Raises:
        HistoryError: there is no such scenario, or the operations are of several arms.
    """
    needed = {"cross_server": CROSS_SERVER} | exercised(scenario) | dict(minimum or {})
    own = [op for op in operations if op.scenario == scenario and not (op.twin or op.held_up)]
    arms = {op.arm for op in own}
    if len(arms) > 1:
        raise HistoryError(f"these are the requests of {len(arms)} arms ({', '.join(sorted(arms))}): check each alone.")
    shoppers = arrange(own)
    if not _crosses(own):
        needed["cross_server"] = 0
    found: dict[str, Any] = {}
    witnesses: list[Witness] = []
    for name in RULES:
        found[name], witness = _judged(name, scenario, shoppers, needed, own[:1])
        if witness is not None:
            witnesses.append(witness)
    verdict = worst([result["verdict"] for result in found.values()])
    result = {"verdict": verdict, "operations": len(own), **found, "witnesses": [record(each) for each in witnesses]}
    if "lost_updates" in exercised(scenario):
        result |= {"merged": found["lost_updates"].get("merged", 0), **updates.conflicts(shoppers)}
    return result


def _judged(
    name: str, scenario: str, shoppers: list[Shopper], needed: Mapping[str, int], example: Sequence[Operation]
) -> tuple[dict[str, Any], Witness | None]:
    """Make one check; return its record, and its witness if it was violated."""
    if name not in exercised(scenario):
        return not_applicable(name, f"{scenario} does not exercise it"), None
    try:
        tally = RULES[name](shoppers)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, it must not look like a pass
        _log.exception("the check %s failed", name)
        return unknown(name, f"the check itself failed ({type(error).__name__}: {error})"), None
    if name == "divergence" and example and has_one_local_copy(example[0].strategy):
        return not_applicable(name, "only the server that a shopper is bound to knows the session", tally), None
    result = judge(tally, needed[name], needed["cross_server"] if name in GUARANTEES else 0)
    return result, tally.witness if result["verdict"] == "violated" else None


def _crosses(operations: Sequence[Operation]) -> bool:
    """Say whether a guarantee must have had opportunities across servers to be worth anything."""
    if not operations or binds(operations[0].strategy, operations[0].arm):
        return False
    return len({op.server for op in operations if op.server is not None}) > 1
