"""Counting: opportunities and violations of one check by shopper, its smallest witness, and the verdict they make."""

from __future__ import annotations

from typing import Any

import msgspec

from lab import statistics
from loadtests.recorder import Operation

__all__ = ["NOT_APPLICABLE", "Tally", "Witness", "counts_of", "judge", "not_applicable", "unknown", "worst"]

NOT_APPLICABLE = "not applicable"
_BADNESS = {"ok": 0, "unknown": 1, "violated": 2}


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest example of a broken rule.

    Attributes:
        check: which check it breaks.
        token: the cart line that the story is about, None where there is none.
        roles: the requests in the order in which the story names them; one request may play two parts.
        context: further requests without which the check could not be repeated on the witness alone; mostly none.
        rank: smaller is the better story.
    """

    check: str
    token: str | None
    roles: tuple[Operation, ...]
    context: tuple[Operation, ...] = ()
    rank: tuple[int, ...] = ()

    @property
    def operations(self) -> list[Operation]:
        """The two to four requests of the story, each once, in the order they were sent; a phantom needs only one."""
        return sorted({op.i: op for op in self.roles}.values(), key=lambda op: (op.t0_ns, op.i))

    @property
    def beside(self) -> list[Operation]:
        """The context without the requests of the story."""
        told = {op.i for op in self.roles}
        return [op for op in self.context if op.i not in told]


class Tally:
    """Counts of one check over the shoppers of one arm.

    Attributes:
        opportunities: per shopper, how often the rule could have been broken.
        violations: per shopper, how often it was.
        across_servers: whether it matters which servers took part.
        crossed: per shopper, opportunities across two servers.
        crossed_violations: per shopper, violations among those.
        witness: the best found so far.
        extra: what this check tells besides.
    """

    def __init__(self, check: str, *, across_servers: bool = False) -> None:
        self.check = check
        self.opportunities: list[int] = []
        self.violations: list[int] = []
        self.across_servers = across_servers
        self.crossed: list[int] = []
        self.crossed_violations: list[int] = []
        self.witness: Witness | None = None
        self.extra: dict[str, Any] = {}

    def next_shopper(self) -> None:
        """Begin the counts of another shopper."""
        for counts in (self.opportunities, self.violations, self.crossed, self.crossed_violations):
            counts.append(0)

    def count(self, *, violated: bool, crossed: bool = False, times: int = 1) -> None:
        """Count opportunities of the current shopper."""
        self.opportunities[-1] += times
        self.violations[-1] += violated * times
        if crossed:
            self.crossed[-1] += times
            self.crossed_violations[-1] += violated * times

    def is_better(self, rank: tuple[int, ...]) -> bool:
        """Say whether a witness of this rank would be the best so far."""
        return self.witness is None or rank < self.witness.rank

    def offer(
        self,
        rank: tuple[int, ...],
        token: str | None,
        roles: tuple[Operation, ...],
        context: tuple[Operation, ...] = (),
    ) -> None:
        """Keep this witness if it is the best so far; see `Witness`."""
        if self.is_better(rank):
            self.witness = Witness(check=self.check, token=token, roles=roles, context=context, rank=rank)


def _rate(violations: list[int], opportunities: list[int]) -> dict[str, Any]:
    rate = statistics.rate_by_shopper(violations, opportunities)
    return {"estimate": None, "low": None, "high": None} if rate is None else dict(msgspec.to_builtins(rate))


def counts_of(tally: Tally) -> dict[str, Any]:
    """Return the counts as they stand in `results.json`, with rates by shopper."""
    counts: dict[str, Any] = {
        "violations": sum(tally.violations),
        "opportunities": sum(tally.opportunities),
        "shoppers": sum(1 for count in tally.opportunities if count),
        "rate": _rate(tally.violations, tally.opportunities),
    }
    if tally.across_servers:
        counts["cross_server"] = sum(tally.crossed)
        counts["cross_server_violations"] = sum(tally.crossed_violations)
        counts["cross_server_shoppers"] = sum(1 for count in tally.crossed if count)
        counts["cross_server_rate"] = _rate(tally.crossed_violations, tally.crossed)
    return counts | tally.extra


def judge(tally: Tally, needed: int, needed_cross_server: int = 0) -> dict[str, Any]:
    """Turn counts into the record of `results.json`.

    A violation is proof, however few the opportunities; its absence is worth something only if there were enough.

    Args:
        tally: the counts.
        needed: fewer opportunities than this cannot be `ok`.
        needed_cross_server: likewise for those across servers.
    """
    counts = counts_of(tally)
    if counts["violations"]:
        return {"verdict": "violated"} | counts
    if counts["opportunities"] < needed:
        return {"verdict": "unknown"} | counts | {"why": f"{counts['opportunities']} opportunities, {needed} needed"}
    if counts.get("cross_server", 0) < needed_cross_server:
        why = f"{counts.get('cross_server', 0)} opportunities across servers, {needed_cross_server} needed"
        return {"verdict": "unknown"} | counts | {"why": why}
    return {"verdict": "ok"} | counts


def not_applicable(check: str, why: str, tally: Tally | None = None) -> dict[str, Any]:
    """Return the record of a check that takes no part in the verdict; what was counted all the same stands in it."""
    return {"verdict": NOT_APPLICABLE} | counts_of(tally or Tally(check)) | {"why": why}


def unknown(check: str, why: str) -> dict[str, Any]:
    """Return the record of a check that could not be made: never a pass."""
    return {"verdict": "unknown"} | counts_of(Tally(check)) | {"why": why}


def worst(verdicts: list[str]) -> str:
    """Return the worst of some verdicts, without those that do not apply; `unknown` if none is left."""
    judged = [verdict for verdict in verdicts if verdict != NOT_APPLICABLE]
    return max(judged, key=_BADNESS.__getitem__, default="unknown")
