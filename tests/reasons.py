"""Whether a claim that nobody can tell says why: what is missing, or between which numbers it lies."""

from __future__ import annotations

import re

REASONS = re.compile(
    r"[Ii]t takes|Left open by|The rest is a comparison's|remains for `make failover`|beside it|to compare with|"
    r"No load of|No session|No shopper's|not both bracketed|not counted|not compared"
)


def reasoned(judgement):
    """Return a judgement, as results or as the rule made it, having looked for its reason."""
    told = judgement if isinstance(judgement, dict) else {"verdict": judgement.verdict, "evidence": whole(judgement)}
    assert told["verdict"] != "cannot tell" or REASONS.search(told["evidence"]), told["evidence"]
    assert told["verdict"] == "cannot tell" or "Left open by" not in told["evidence"], told["evidence"]
    return judgement


def whole(judgement):
    """Return the evidence with what leaves it open, as a reader has it."""
    return f"{judgement.evidence} {judgement.left_open}"
