"""A helper's side of `lab.report.crew`: draws charts until none is left, and leaves a line of JSON for each.

Run as `python -m lab.report.helper FOLDER JOBS CHART…`: the run, the number of an open file, and all its charts.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lab.report import charts, crew, results

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(folder: Path, jobs: int, names: Sequence[str]) -> None:
    """Draw one chart after another; one that fails is left to whoever asked, who sees why."""
    threading.Thread(target=_end_with_the_lab, daemon=True).start()
    run = results.load(folder)
    for number in crew.turns(jobs):
        with suppress(Exception):
            drawn = charts.draw_one(run, names[number], folder / charts.FOLDER)
            words = msgspec.json.encode(msgspec.structs.replace(drawn, svg=b""))
            sys.stdout.buffer.write(words + b"\n")
            sys.stdout.buffer.flush()


def _end_with_the_lab() -> None:
    """End in the midst of whatever is drawn when stdin ends, of which only the lab holds the other end."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
