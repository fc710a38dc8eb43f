"""Results file, charts, page, terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.report import charts, page, results, terminal
from lab.report.results import ReportError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ReportError", "draw", "results", "terminal"]


def draw(run_folder: Path) -> Path:
    """Draw the charts and the page of a run from its files alone.

    Returns:
        The path of `report.html`.

    Raises:
        ReportError: the folder holds no results, or cannot be written.
        SamplesError: its samples are damaged.
    """
    run = results.load(run_folder)
    try:
        return page.write(run, charts.draw_all(run))
    except OSError as error:
        raise ReportError(f"cannot write the report into {run_folder} ({error.strerror}).") from error
