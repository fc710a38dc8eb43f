"""Numbers and lists as a sentence writes them: the page, the terminal and the charts use the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE = "\N{EN DASH}"
"""Stands where nothing was measured."""

TIMES = "\N{MULTIPLICATION SIGN}"


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """Write a number with its unit, or a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.{digits}f}{unit}"


def interval(value: dict[str, Any] | None, digits: int = 2, unit: str = "") -> str:
    """Write an estimate with its interval, or without where there is none: `1.34 (1.31 to 1.37)`."""
    if not value or value.get("estimate") is None:
        return NONE
    text = number(value["estimate"], digits, unit)
    if value.get("low") is None or value.get("high") is None:
        return text
    return f"{text} ({number(value['low'], digits)} to {number(value['high'], digits)})"


def percent(share: float | None) -> str:
    """Write a share as a percentage with the digits that it needs: 0 %, 0.03 %, 4.1 %, 97 %."""
    if share is None:
        return NONE
    value = 100 * share
    digits = 0 if value == 0 or value >= 10 else 1 if value >= 1 else 2  # noqa: PLR2004 - two significant digits
    return f"{value:.{digits}f} %" if not 99.5 <= value < 100 else f"{value:.1f} %"  # noqa: PLR2004 - 99.9 is not 100


def size(value: float | None) -> str:
    """Write a number of bytes: 940 B, 3.1 kB, 2.4 MB (powers of ten)."""
    if value is None:
        return NONE
    for unit, scale, digits in (("GB", 1e9, 1), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if abs(value) >= scale:
            return f"{value / scale:,.{digits}f} {unit}"
    return f"{value:,.0f} B"


def seconds_of(value: float) -> str:
    """Write a duration in seconds: 0, <0.1, 2.6; what rounds to nothing is not nothing."""
    if not value:
        return "0"
    return f"{value:.1f}" if value >= 0.05 else "<0.1"  # noqa: PLR2004 - half of the last digit


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does: `sticky, redis and database`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def sentence(text: str) -> str:
    """Begin a sentence with a capital letter, whatever stands first."""
    return text[:1].upper() + text[1:]
