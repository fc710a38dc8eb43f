"""Results file, charts, page, terminal. What draws is loaded when something is drawn: it takes most of a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.report import results
from lab.report.results import ReportError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ReportError", "draw", "results"]


def draw(run_folder: Path) -> Path:
    """Draw the charts and the page of a run from its files alone; of a lecture, those of all its runs, too.

    Returns:
        The path of `report.html`.

    Raises:
        ReportError: the folder holds no results, or cannot be written.
        SamplesError: its samples are damaged.
    """
    from lab.report import charts, lecture_page, page  # noqa: PLC0415 - see above

    run = results.load(run_folder)
    try:
        if run.results["experiment"] == "lecture":
            return lecture_page.draw(run)
        return page.write(run, charts.draw_all(run))
    except OSError as error:
        raise ReportError(f"cannot write the report into {run_folder} ({error.strerror}).") from error
