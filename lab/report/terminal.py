"""What a run prints at its end: the table, and one sentence per strategy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.report import summary
from lab.report.results import Run

if TYPE_CHECKING:
    from lab.report.results import Results

WIDTH = 100
"""Columns that the table fits in."""

_MOST_WARNINGS = 5

_COLOURS = {"ok": "green", "violated": "red", "unknown": "yellow"}


def show(results: Results, console: Console) -> None:
    """Print the table and the sentences of a run, within 100 columns (80 if need be), in words that need no colour."""
    run = Run(Path(), results)
    rows = summary.rows(run)
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(file=console.file, width=WIDTH, color_system=None)
    width = min(console.width, WIDTH)
    if rows:
        console.print(_table(rows, narrow=width < WIDTH), width=width)
        console.print()
    for line in [row.sentence for row in rows] + _remarks(run):
        console.print(Text(_plain(line)), width=width)


def _table(rows: list[summary.Row], *, narrow: bool) -> Table:
    """Make the table; a narrow one leaves out CPU time and copies, which the sentences and the page have."""
    table = Table(box=box.ASCII2, padding=(0, 1), pad_edge=False, show_edge=False)
    for head in ("strategy", "consistency"):
        table.add_column(head, no_wrap=True)
    for head in ("broken", "median ms", "times sticky"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for head in () if narrow else ("CPU ms", "copies"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        judged = Text(row.consistency, style=_COLOURS.get(row.consistency, ""))
        ratio = row.ratio.replace("(", "[").replace(" to ", ", ").replace(")", "]")
        figures = [row.broken, row.median, ratio, row.verdict, *([] if narrow else [row.cpu, row.copies])]
        table.add_row(Text(row.strategy, style="bold"), judged, *(_plain(figure) for figure in figures))
    return table


def _remarks(run: Run) -> list[str]:
    same = run.get("validity", "same_against_same", "p50") or {}
    lines = []
    if not run.results["complete"]:
        lines.append("This run was interrupted: what it did not get to is missing.")
    if same.get("estimate") is not None:
        reach = "" if same.get("low") is None else f", interval {same['low']:.2f} to {same['high']:.2f}"
        lines.append(f"Same against same: sticky takes {same['estimate']:.2f} times as long as itself{reach}.")
    if same and same.get("low") is None:
        lines.append("Too few blocks for intervals: the figures are points, and no verdict on speed is given.")
    warnings = run.get("validity", "warnings") or []
    lines += [f"Warning: {warning}" for warning in warnings[:_MOST_WARNINGS]]
    if len(warnings) > _MOST_WARNINGS:
        lines.append(f"{len(warnings) - _MOST_WARNINGS} more warnings stand in the report.")
    return lines


def _plain(text: str) -> str:
    """Keep to ASCII, so that no log or terminal garbles it."""
    return text.replace("\N{EN DASH}", "-").encode("ascii", "replace").decode()
