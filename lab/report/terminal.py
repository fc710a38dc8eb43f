"""What a run prints at its end: the table, and one sentence per strategy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lab.report import compare, failover
from lab.report.results import Run
from lab.report.tellings import Table as Told
from lab.report.tellings import telling

if TYPE_CHECKING:
    from lab.report.results import Results

WIDTH = 100
"""Columns that the table fits in."""

_MOST_WARNINGS = 5

_COLUMNS = (
    "failed: requests since the stroke, and for how long; sessions, writes: lost, of those alive or confirmed; "
    "wrong: carts shown since the stroke that lacked something confirmed; 95th ms: percentile of the wait meanwhile."
)
"""What the columns of a fault's table say."""

_COLOURS = {"ok": "green", "violated": "red", "unknown": "yellow"}


def show(results: Results, console: Console) -> None:
    """Print the table and the sentences of a run, within 100 columns or fewer, in words that need no colour."""
    run = Run(Path(), results)
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(file=console.file, width=WIDTH, color_system=None)
    width = min(console.width, WIDTH)
    if run.results["experiment"] == "compare":
        _show_comparison(run, console, width)
    elif run.results["experiment"] == "failover":
        _show_failover(run, console, width)
    else:
        _show_tables(run, console, width)


def _show_comparison(run: Run, console: Console, width: int) -> None:
    """Print one table, and one sentence per strategy."""
    rows = compare.rows(run)
    if rows:
        _print_table(_table(rows, narrow=width < WIDTH), console, width)
        console.print()
    for line in [row.sentence for row in rows] + _remarks(run):
        console.print(Text(_plain(line)), width=width)


def _show_failover(run: Run, console: Console, width: int) -> None:
    """Print a table per fault, then the headline, the broken promises and the claims that were judged."""
    for fault in failover.table(run):
        console.print(Text(f"{fault.title}. {fault.how}", style="bold"), width=width)
        if fault.rows:
            _print_table(_fault_table(fault.rows, narrow=width < WIDTH), console, width)
        console.print()
    lines = [_COLUMNS, failover.headline(run), *(f"Broken: {line}" for line in failover.broken(run.results))]
    for line in lines + _judged(run) + _remarks(run):
        console.print(Text(_plain(line)), width=width)


def _show_tables(run: Run, console: Console, width: int) -> None:
    """Print an experiment's own tables, then the headline and the claims that were judged."""
    told = telling(run.results["experiment"])
    for table in told.tables(run):
        console.print(Text(_plain(table.title), style="bold"), width=width)
        _print_table(_plain_table(table, narrow=width < WIDTH), console, width)
        if table.note:
            console.print(Text(_plain(table.note)), width=width)
        console.print()
    judged = [] if run.results["experiment"] == "lecture" else _judged(run)  # its table is that of the claims
    for line in [told.headline(run), *judged, *_remarks(run)]:
        console.print(Text(_plain(line)), width=width)


def _print_table(table: Table, console: Console, width: int) -> None:
    """Print a table with no word cut off: where it is too wide for that, its last columns are left out and named."""
    left_out: list[str] = []
    while len(table.columns) > 1 and _least_width(table, console) > width:
        left_out.insert(0, str(table.columns.pop().header))
    console.print(table, width=width)
    if left_out:
        console.print(Text(f"Not shown, as the terminal is narrow: {', '.join(left_out)}."), width=width)


def _least_width(table: Table, console: Console) -> int:
    needed = Measurement.get(console, console.options.update(width=10 * WIDTH), table)
    return needed.maximum if table.columns[0].no_wrap else needed.minimum


def _plain_table(told: Told, *, narrow: bool) -> Table:
    shown = [index for index, _ in enumerate(told.columns) if not (narrow and index in told.wide_only)]
    table = Table(box=box.ASCII2, padding=(0, 1), pad_edge=False, show_edge=False)
    for index in shown:
        table.add_column(_plain(told.columns[index]), justify="left" if index in told.text else "right")
    for row in told.rows:
        cells = [Text(_plain(row[index])) for index in shown]
        cells[0].stylize("bold")
        table.add_row(*cells)
    return table


def _judged(run: Run) -> list[str]:
    judged = [claim for claim in run.get("claims") or [] if claim["verdict"] != "not tested"]
    return [f"{claim['id']}: {claim['verdict']}. {claim['evidence']}" for claim in judged]


def _fault_table(rows: list[failover.Row], *, narrow: bool) -> Table:
    """Make the table of one fault: what was lost, of how much; a narrow one leaves out what the page has."""
    table = Table(box=box.ASCII2, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("strategy", no_wrap=True)
    for head in ("failed", "for", "sessions", "writes", *([] if narrow else ["wrong", "95th ms"])):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("promises", no_wrap=True)
    for row in rows:
        during = row.waits.split(" / ")[1]
        figures = [row.failed, row.recovery, row.sessions, row.writes, *([] if narrow else [row.wrong, during])]
        short = (_plain(figure.replace(" of ", "/")) for figure in figures)
        table.add_row(Text(row.arm, style="bold"), *short, _kept(row))
    return table


def _kept(row: failover.Row) -> Text:
    verdicts = [promise["verdict"] for promise in row.promises]
    kept = verdicts.count("kept")
    style = "red" if "broken" in verdicts else "green" if kept == len(verdicts) else "yellow"
    return Text(f"{kept}/{len(verdicts)} kept", style=style) if verdicts else Text("-")


def _table(rows: list[compare.Row], *, narrow: bool) -> Table:
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
