"""What every chart is: a function from a run to a drawn figure and the words around it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from matplotlib.figure import Figure

from lab.report.results import Run


class Caption(msgspec.Struct, frozen=True):
    """The words around a chart, all computed from the data.

    Attributes:
        title: what was found, as a sentence.
        what_to_see: one sentence for the page: where to look and what it means.
        subtitle: of what: number of requests, rate, blocks.
        note: how to read the marks: what intervals are, what a unit means.
        columns: heads of the table with the chart's numbers.
        rows: its rows, as text.
    """

    title: str
    what_to_see: str
    subtitle: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class NothingToDraw(Exception):
    """The run has no data for a chart; the text says why, and stands in the page in the chart's place."""


Draw = Callable[[Run, Figure], Caption]


def load_subtitle(run: Run) -> str:
    """Say under which load the timed figures were taken."""
    facts = run.get("run") or {}
    parts = {"servers": "{} servers", "rate_rps": "{} requests/s offered", "blocks": "{} blocks"}
    return ", ".join(words.format(facts[key]) for key, words in parts.items() if facts.get(key) is not None)
