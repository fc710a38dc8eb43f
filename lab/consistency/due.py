"""What a reader is owed: tokens, each from the moment it became certain."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtests.recorder import Operation

__all__ = ["Due", "Reader"]

Reader = tuple[int | None, int]
"""A tab (None: the shopper as a whole) in an epoch (see `shopper.py`)."""


class Due:
    """What one reader is owed in one epoch, in the order it became certain.

    Attributes:
        tokens: what is owed.
        since: from when, in ns; ascending.
        sources: the request that made it certain.
    """

    __slots__ = ("since", "sources", "tokens")

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.since: list[int] = []
        self.sources: list[Operation] = []

    def add(self, token: str, source: Operation) -> None:
        """Owe a token from the end of `source`."""
        self.tokens.append(token)
        self.since.append(source.t1_ns)
        self.sources.append(source)

    def before(self, t0_ns: int) -> int:
        """Return how many tokens were certain before `t0_ns`; ties are concurrent, and not owed."""
        return bisect_left(self.since, t0_ns)
