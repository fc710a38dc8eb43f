"""A lecture in words: how many claims hold, which do not, and the table of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.tellings import Table
from lab.report.words import NONE, listed

if TYPE_CHECKING:
    from lab.report.results import Run

QUESTION = "When one web server becomes many, where should the session live, and when does a cache pay?"

WORDS = {
    "claim": "A sentence that students meet in courses on scaling web servers. Each has a rule, fixed before any run, "
    "that says which numbers make it hold.",
    "holds, does not hold": "What the rule says of the numbers measured here. Elsewhere it may turn; the condition is "
    "named.",
    "cannot tell": "The numbers lie in between, their intervals are too wide, or there were too few opportunities.",
    "not tested": "No run of this lecture has what the rule needs; the reason is named.",
}
"""The glossary of the page, before those of the experiments."""

VERDICTS = ("holds", "does not hold", "cannot tell", "not tested")
"""In the order in which they are counted."""

_AS_TOLD = {
    "holds": ("holds here", "hold here"),
    "does not hold": ("does not hold", "do not hold"),
    "cannot tell": ("cannot be told", "cannot be told"),
    "not tested": ("was not tested", "were not tested"),
}


def headline(run: Run) -> str:
    """Return how many claims hold, which ones do not, and what is missing."""
    claims = run.get("claims") or []
    parts = parts_of(run)
    counts = {verdict: [one["id"] for one in claims if one["verdict"] == verdict] for verdict in VERDICTS}
    told = [f"{len(ids)} {_AS_TOLD[verdict][len(ids) != 1]}" for verdict, ids in counts.items() if ids]
    lines = [f"Of {len(claims)} claims of the textbook, {listed(told)}."] if claims else []
    if counts["does not hold"]:
        lines.append(f"What does not hold here: {listed(counts['does not hold'])}.")
    missing = [part["experiment"] for part in parts if part["state"] != "complete"]
    if missing:
        lines.append(f"Without results: {listed(missing)}.")
    return " ".join(lines)


def tables(run: Run) -> list[Table]:
    """Return one table: every claim with its verdict and the experiment that judged it."""
    rows = tuple(
        (one["id"], one["verdict"], one.get("judged_by") or NONE, one["claim"]) for one in run.get("claims") or []
    )
    columns = ("claim", "verdict", "judged by", "in words")
    title = "What the textbook says, and what was found"
    return [Table(title=title, columns=columns, rows=rows, text=frozenset({0, 1, 2, 3}), wide_only=frozenset({3}))]


def parts_of(run: Run) -> list[dict[str, Any]]:
    """Return the parts of a lecture: `experiment`, `state`, `run`, `reason`, `command` of each."""
    return list(run.get("lecture", "parts") or [])
