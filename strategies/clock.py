"""A hybrid logical clock: stamps that order saves across servers without asking any of them.

A stamp begins with wall-clock milliseconds, so that it stays close to real time, and goes on with a counter, so that
a server's stamps always rise: past its own last one, and past every stamp that it has seen from others. The server's
name makes it unique. Written with a fixed width, stamps compare as plain text.

Source: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases", 2014.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = ""
"""The stamp before all stamps."""

Stamp = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{16}[^\n]{1,64})?\Z")]
"""Twelve hex digits of milliseconds, four of the counter, and the server's name; or `NEVER`."""

MAX_AHEAD_SECONDS = 24 * 60 * 60
"""A stamp from further in the future than this moves no clock: one broken clock must not drag all others along."""

_STAMP = re.compile(r"[0-9a-f]{16}[^\n]{1,64}")
_TIME_DIGITS = 16
_COUNTER_BITS = 16


def server_of(stamp: Stamp) -> str:
    """Return the name of the server that made a stamp."""
    return stamp[_TIME_DIGITS:]


def is_stamp(text: str) -> bool:
    """Tell whether a text is a stamp that some server has made."""
    return _STAMP.fullmatch(text) is not None


def stamp_at(seconds: float) -> Stamp:
    """Return the stamp before all that clocks give out from a moment on, in seconds since the epoch."""
    return f"{_time(seconds):0{_TIME_DIGITS}x}"


def _time(seconds: float) -> int:
    return int(seconds * 1000) << _COUNTER_BITS


class HybridClock:
    """The clock of one server. Not safe to use from several threads at once: its owner holds a lock."""

    def __init__(self, server: str, wall_seconds: Callable[[], float] = time.time) -> None:
        self._server = server
        self._wall_seconds = wall_seconds
        self._last = 0

    def next(self) -> Stamp:
        """Return a stamp above all that this clock has given out or observed."""
        self._last = max(_time(self._wall_seconds()), self._last + 1)
        return f"{self._last:0{_TIME_DIGITS}x}{self._server}"

    def observe(self, stamp: Stamp) -> None:
        """Move past a stamp that another server has made, unless it is more than `MAX_AHEAD_SECONDS` ahead."""
        seen = int(stamp[:_TIME_DIGITS] or "0", 16)
        if seen <= _time(self._wall_seconds() + MAX_AHEAD_SECONDS):
            self._last = max(self._last, seen)
