"""The claims that a failover run judges, with the newest comparison beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lab.claim_rules.compare import kept_single_and_quick, served_by_any
from lab.claim_rules.judgement import (
    ClaimVerdict,
    Judgement,
    Results,
    absent,
    at,
    n,
    numbers_of,
    out_of,
    shown,
    together,
    undecided,
)
from lab.statistics import wilson

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_SESSIONS = 30
"""Live sessions at a server's death, for "it loses none" to be worth anything."""


def sticky_loses(results: Results) -> Judgement:
    """Judge whether a dead server takes its share of the live sessions along under `sticky`."""
    killed = _killed(results, "strategies", "sticky")
    if killed is None:
        return absent("a killed server under sticky")
    fair = 1 / int(results["run"]["servers"])
    share = wilson(killed.lost, killed.alive)
    if share is None or share.low is None or share.high is None:
        return Judgement("cannot tell", "No session was alive when the server was killed.")
    evidence = (
        f"{n(killed.lost)} of {n(killed.alive)} live sessions were gone with the server ({shown(share)}); one in "
        f"{results['run']['servers']} is {100 * fair:.1f} %."
    )
    numbers = {"lost": killed.lost, "alive": killed.alive, "fair_share": fair, **numbers_of("share", share)}
    verdict: ClaimVerdict = "cannot tell"
    if share.low > 0 and share.low <= fair <= share.high:
        verdict = "holds"
    elif share.high <= fair / 2:
        verdict = "does not hold"
    takes = f"the share lost: with {100 * fair:.1f} % in it and 0 not holds, up to half of that does not"
    return Judgement(verdict, evidence, numbers, undecided((verdict, takes)))


def all_to_all_free_after_all(results: Results) -> Judgement:
    """Judge the same from a run of `failover`, with the newest comparison beside it."""
    killed = _killed(results, "arms", "all-to-all sync")
    if killed is None:
        return absent("a killed server under all-to-all sync")
    alone = _killed(results, "strategies", "all-to-all")
    beside = "" if alone is None else f" (async: {out_of(alone.lost, alone.alive)})"
    text = f"A killed server lost {out_of(killed.lost, killed.alive)} live sessions under sync{beside}"
    return _with_comparison(results, killed, text, served_by_any)


def redis_solves_after_all(results: Results) -> Judgement:
    """Judge the same from a run of `failover`, with the newest comparison beside it."""
    killed = _killed(results, "strategies", "redis")
    if killed is None:
        return absent("a killed server under redis")
    text = f"A killed server lost {out_of(killed.lost, killed.alive)} live sessions; {_death_of_redis(results)}"
    return _with_comparison(results, killed, text, kept_single_and_quick)


class _Killed(msgspec.Struct, frozen=True):
    """What a killed server cost an arm: sessions alive at its death, and those of them that were lost."""

    alive: int
    lost: int


def _killed(results: Results, place: str, arm: str) -> _Killed | None:
    found = at(results, place, arm, "faults", "kill-server", "sessions")
    return None if found is None else _Killed(int(found["alive"]), int(found["lost"]))


def _with_comparison(
    results: Results, killed: _Killed, text: str, judge: Callable[[Results], Judgement | None]
) -> Judgement:
    """Put what a killed server lost together with what a comparison says of the claim's other part."""
    own: ClaimVerdict = "does not hold" if killed.lost else "holds" if killed.alive >= LEAST_SESSIONS else "cannot tell"
    if own == "cannot tell":
        text += f"; it takes {LEAST_SESSIONS} live sessions to judge"
    numbers: dict[str, float | None] = {"lost": killed.lost, "alive": killed.alive}
    comparison = results.get("compared")
    traffic = None if comparison is None else judge(comparison)
    if comparison is None or traffic is None:
        verdict: ClaimVerdict = "does not hold" if own == "does not hold" else "cannot tell"
        missing = "The rest is a comparison's: run `make compare` into the same folder, then this again."
        return Judgement(verdict, f"{text}. {missing}", numbers)
    evidence = f"{text}. From {comparison['id']}: {traffic.evidence}."
    verdict = together(own, traffic.verdict)
    left = traffic.left_open if verdict == "cannot tell" else ""
    return Judgement(verdict, evidence, {**traffic.numbers, **numbers}, left)


def _death_of_redis(results: Results) -> str:
    """Say what Redis's own death did: it stands beside the claim, always."""
    story = at(results, "strategies", "redis", "faults", "kill-redis")
    if story is None:
        return "what Redis's own death does was not tested"
    sessions, writes, seconds = story["sessions"], story["writes"], story["recovery"]["seconds"]
    return (
        f"Redis's own death failed {out_of(story['failures']['failed'], story['failures']['requests'])} requests "
        f"{'until the end of the load' if seconds is None else f'for {seconds:.1f} s'} and lost "
        f"{out_of(sessions['lost'], sessions['alive'])} sessions and {out_of(writes['lost'], writes['acknowledged'])} "
        "confirmed writes"
    )
