"""What a rule returns, and what the rules share: reading results, putting numbers into words, judging an interval."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lab.statistics import Interval

ClaimVerdict = Literal["holds", "does not hold", "cannot tell", "not tested"]
Results = dict[str, Any]

_SHOWN_AS_NONE = 0.005
"""Half of the last digit of a ratio: below it stands as 0.00."""


class Judgement(msgspec.Struct, frozen=True):
    """What a run says about one claim.

    Attributes:
        verdict: see `ClaimVerdict`.
        evidence: one sentence with the number.
        numbers: what decided, name to number.
        left_open: where the numbers lie between two verdicts: by what, and what it would have to be; see `undecided`.
    """

    verdict: ClaimVerdict
    evidence: str
    numbers: dict[str, float | None] = {}
    left_open: str = ""


def together(*verdicts: str) -> ClaimVerdict:
    """Return what several parts say together: one that does not hold refutes, and all must hold to hold."""
    return "does not hold" if "does not hold" in verdicts else "holds" if set(verdicts) == {"holds"} else "cannot tell"


def undecided(*parts: tuple[ClaimVerdict, str]) -> str:
    """Say which parts leave a claim open, and what each would take; nothing where none does, or one refutes.

    Args:
        parts: what each says, and the words: the figure, then a colon, then what it takes for either verdict.
    """
    if together(*(verdict for verdict, _ in parts)) != "cannot tell":
        return ""
    named = "; and by ".join(text for verdict, text in parts if verdict == "cannot tell")
    return f"The whole interval counts. Left open by {named}."


def pointed(value: Interval | None) -> str:
    """Say of a figure without an interval that there is none."""
    return " (without an interval here)" if value is None or value.low is None or value.high is None else ""


def by_interval(rate: Interval, *, holds_from: float, fails_to: float) -> ClaimVerdict:
    """Judge a share by where its whole interval lies; without an interval nothing can be told."""
    if rate.low is None or rate.high is None:
        return "cannot tell"
    return "holds" if rate.low >= holds_from else "does not hold" if rate.high <= fails_to else "cannot tell"


def at(value: Any, *keys: str) -> Any:
    """Return what stands at a path of keys, None where a key is missing or what stands there is empty."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value or None if isinstance(value, dict) else value


def absent(what: str) -> Judgement:
    """Say that a run did not measure what a claim needs."""
    return Judgement("not tested", f"This run has no results for {what}.")


def interval_of(value: dict[str, Any] | None) -> Interval | None:
    """Read an interval from the results."""
    if not value or value.get("estimate") is None:
        return None
    return Interval(value["estimate"], value.get("low"), value.get("high"))


def numbers_of(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return an interval as numbers for the results: `name`, `name_low`, `name_high`."""
    if interval is None:
        return {name: None}
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def n(count: float) -> str:
    """Write a count with separators."""
    return f"{count:,.0f}"


def out_of(some: float, every: float) -> str:
    """Write `3 of 1,200`."""
    return f"{n(some)} of {n(every)}"


def shown(rate: Interval) -> str:
    """Write a share as a percentage, with its interval where there is one."""
    if rate.low is None or rate.high is None:
        return f"{100 * rate.estimate:.1f} %"
    return f"{100 * rate.estimate:.1f} %, 95 % interval {100 * rate.low:.1f} to {100 * rate.high:.1f} %"


def times(ratio: Interval) -> str:
    """Write a ratio as `1.34 times (1.31 to 1.37)`."""
    if (ratio.estimate if ratio.high is None else ratio.high) < _SHOWN_AS_NONE:
        return "less than 0.01 times"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.estimate:.2f} times"
    return f"{ratio.estimate:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})"
