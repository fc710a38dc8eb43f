"""What each experiment tells: a module per experiment, found by name and loaded when one of its runs is shown."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from lab.report.results import ReportError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.report.results import Run

MODULES = {
    "compare": "lab.report.compare",
    "contention": "lab.report.contention",
    "failover": "lab.report.failover",
    "hotspot": "lab.report.hotspot",
    "saturation": "lab.report.saturation",
    "redis-speed": "lab.report.redis_speed",
    "cache": "lab.report.cache",
    "scale": "lab.report.scale",
    "load": "lab.report.load",
    "lecture": "lab.report.lecture",
}
"""Experiment to the module that tells its runs in words; its charts stand in `lab.report.charts`."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a report, for the page and the terminal alike.

    Attributes:
        title: what it is about.
        columns: its heads, each with its unit.
        rows: as text; the first cell names the row.
        note: how to read it.
        text: columns that hold words, and so are left-aligned; the others hold numbers.
        wide_only: columns that a terminal of 80 columns leaves out.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    text: frozenset[int] = frozenset({0})
    wide_only: frozenset[int] = frozenset()


class Telling(Protocol):
    """What a module of `MODULES` has.

    Attributes:
        QUESTION: what the experiment asks.
        WORDS: the glossary of its page.
    """

    QUESTION: str
    WORDS: Mapping[str, str]

    def headline(self, run: Run) -> str:
        """Return what was found, in two or three sentences that are true for this run's data."""

    def tables(self, run: Run) -> Sequence[Table]:
        """Return the run's tables. `compare` and `failover` have templates of their own instead."""


def telling(experiment: str) -> Telling:
    """Return what tells a run of an experiment.

    Raises:
        ReportError: this lab knows no such experiment.
    """
    if experiment not in MODULES:
        raise ReportError(f"this lab has no experiment {experiment!r}; it has: {', '.join(MODULES)}.")
    return cast("Telling", importlib.import_module(MODULES[experiment]))
