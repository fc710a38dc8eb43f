"""What a lecture shows while it goes on: which experiment, which step of it, and roughly how long it still takes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from lab.measuring.runs import CtrlC, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console
    from rich.progress import Task

_MINUTE = 60
_LONG = 90
"""Seconds from which on minutes say enough."""


class Estimate:
    """How long a lecture still takes, from how long each part usually does and how this machine has kept to it.

    Args:
        usual: part to seconds, of the parts to come, in order.
        clock: seconds, ever growing.
    """

    def __init__(self, usual: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._usual = dict(usual)
        self._clock = clock
        self._current: str | None = None
        self._begun = 0.0
        self._expected = self._spent = 0.0

    def begin(self, part: str) -> None:
        """A part begins."""
        self._current, self._begun = part, self._clock()

    def end(self, *, whole: bool) -> float:
        """The part ends, wholly or by an error, which says nothing of how quick the machine is; return its seconds."""
        seconds = self._clock() - self._begun
        if self._current is not None and whole:
            self._expected += self._usual[self._current]
            self._spent += seconds
        if self._current is not None:
            del self._usual[self._current]
        self._current = None
        return seconds

    def seconds_left(self) -> float:
        """Return roughly how many seconds remain."""
        pace = self._spent / self._expected if self._expected else 1.0
        spent = self._clock() - self._begun
        return sum(
            max(0.0, pace * usual - (spent if part == self._current else 0)) for part, usual in self._usual.items()
        )


def in_words(seconds: float) -> str:
    """Write a rough duration: `about 4 min left`."""
    if seconds < _LONG:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    return f"about {round(seconds / _MINUTE)} min left"


class _Left(ProgressColumn):
    """Shows what remains of a task that can tell."""

    def render(self, task: Task) -> Text:
        estimate: Estimate | None = task.fields.get("estimate")
        return Text("" if estimate is None else in_words(estimate.seconds_left()))


class Display:
    """The lecture's progress: a line for the whole and a line for the step of the part that is under way.

    Attributes:
        steps: for the parts to show their steps by.

    Args:
        console: where the user looks.
        whole: draws the line of the lecture.
        steps: draws the line of a part.
        total: how many parts a lecture has.
        done: how many were complete at the start.
        usual: see `Estimate`.
    """

    def __init__(
        self, console: Console, whole: Progress, steps: Steps, *, total: int, done: int, usual: Mapping[str, float]
    ) -> None:
        self._console = console
        self._whole = whole
        self._total = total
        self._estimate = Estimate(usual)
        self._task = whole.add_task("lecture", total=total, completed=done, estimate=self._estimate)
        self.steps = steps

    def begin(self, number: int, part: str) -> None:
        """A part begins, the `number`th of all."""
        self._estimate.begin(part)
        self._whole.update(self._task, description=f"experiment {number} of {self._total}: {part}")
        self.steps.begin("starting")

    def end(self, number: int, part: str, failure: str | None) -> None:
        """A part has ended; say in a line that stays how long it took, or why it failed."""
        seconds = self._estimate.end(whole=failure is None)
        self._whole.advance(self._task)
        self.say(number, part, f"{seconds:.0f} s" if failure is None else f"failed: {failure}")

    def say(self, number: int, part: str, text: str) -> None:
        """Print a line about a part, above the progress."""
        line = f"{number} of {self._total}  {part:<12} {text}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def shown(console: Console, *, total: int, done: int, usual: Mapping[str, float]) -> Iterator[Display]:
    """Show a lecture's progress while the context lasts."""
    whole = Progress(TimeElapsedColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), _Left())
    step = Progress(TextColumn("        {task.description}"), BarColumn(bar_width=20))
    ctrl_c = CtrlC()
    live = Live(Group(whole, step), console=console, transient=True, refresh_per_second=2)
    with ctrl_c.remembered(), live:
        yield Display(console, whole, Steps(step, ctrl_c), total=total, done=done, usual=usual)
