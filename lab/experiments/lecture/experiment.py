"""`make lecture`: every experiment in turn, and one page of what they say together.

A lecture is a folder of runs. What is complete in there is a matter of the runs' own files, so that a lecture that was
interrupted, even by `kill -9`, is continued where it stood: only what was under way is done again.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from lab import run_folder
from lab.errors import LabError, from_os_error
from lab.experiments.lecture.display import shown
from lab.experiments.lecture.findings import Part, State, assemble
from lab.experiments.lecture.folder import complete_run, held, open_folder
from lab.measuring.facts import Asked
from lab.measuring.runs import Backstage
from lab.report import results
from lab.report.lecture import QUESTION
from loadtests.client import LoadError
from strategies.contract import SessionError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from lab.experiments.lecture.display import Display
    from lab.report.results import Results, Run

_log = logging.getLogger("lab.lecture")

# --- the parts -------------------------------------------------------------------------------------------------------

EXPERIMENTS = {
    "compare": "lab.experiments.compare.experiment",
    "failover": "lab.experiments.failover.experiment",
    "scale": "lab.experiments.scale.experiment",
    "hotspot": "lab.experiments.hotspot.experiment",
    "contention": "lab.experiments.contention.experiment",
    "saturation": "lab.experiments.saturation.experiment",
    "redis-speed": "lab.experiments.redis_speed.experiment",
    "cache": "lab.experiments.cache.experiment",
}
"""Door to module, in the order of the lecture. `failover` reads what `compare` found, so it comes after it."""

SECONDS = {
    "compare": {"quick": 76, "default": 298},
    "failover": {"quick": 79, "default": 274},
    "scale": {"quick": 78, "default": 299},
    "hotspot": {"quick": 59, "default": 255},
    "contention": {"quick": 60, "default": 272},
    "saturation": {"quick": 58, "default": 220},
    "redis-speed": {"quick": 22, "default": 105},
    "cache": {"quick": 84, "default": 262},
}
"""How long each takes on two cores, its charts included, as docs/lecture.md has it.

The display corrects it by what it sees.
"""


class Settings(Asked, frozen=True, kw_only=True):
    """What a user can ask of a lecture; see `python -m lab lecture --help`.

    Attributes:
        parts: experiment to what it is asked; where its runs are kept is the lecture's to say.
        fresh: begin anew, also where an unfinished lecture could be continued.
    """

    parts: dict[str, Asked]
    fresh: bool

    @property
    def alike(self) -> dict[str, Any]:
        """What must be the same for a lecture to be continued."""
        return {"seed": self.seed, "size": self.size}


def settings(**options: Any) -> Settings:
    """Return what the user asked for."""
    return Settings(**options)


# --- the procedure ---------------------------------------------------------------------------------------------------


class Lecture:
    """A lecture in its folder.

    Args:
        chosen: what the user asked for.
        folder: the lecture's.
    """

    def __init__(self, chosen: Settings, folder: Path) -> None:
        self.folder = folder
        self._chosen = chosen
        self._runs: dict[str, Run] = {}
        self._parts = {name: Part(experiment=name, command=asked.command) for name, asked in chosen.parts.items()}
        for name in self._parts:
            self._look_for(name)

    @property
    def to_come(self) -> list[str]:
        """The experiments that have no complete run yet."""
        return [name for name, part in self._parts.items() if part.state != "complete"]

    @property
    def failed(self) -> list[str]:
        """The experiments that failed."""
        return [name for name, part in self._parts.items() if part.state == "failed"]

    def carry_out(self, display: Display) -> None:
        """Carry out what is not complete; an experiment that fails does not keep the others from their turn."""
        for number, name in enumerate(self._parts, 1):
            if self._parts[name].state == "complete":
                display.say(number, name, "complete already")
                continue
            display.begin(number, name)
            self._note(name, "interrupted")  # so it stays if the lab is killed; otherwise the end of the part says more
            self.write()
            failure = _attempt(name, self._chosen.parts[name], self.folder, display)
            self._look_for(name)
            if failure is None and self._parts[name].state != "complete":
                failure = "it left no complete run"
            if failure is not None:
                self._note(name, "failed", failure)
            display.end(number, name, failure)

    def write(self) -> Results:
        """Write results and page as far as the lecture has got, and return the results."""
        from lab.report import lecture_page  # noqa: PLC0415 - nothing that is measured waits for what draws

        chosen, parts = self._chosen, list(self._parts.values())
        found = assemble(self.folder, chosen.alike, chosen.command, parts, self._runs)
        results.write(self.folder, found)
        lecture_page.write(results.load(self.folder))
        return found

    def _look_for(self, name: str) -> None:
        """Take in the run of an experiment, if there is a complete one."""
        run = complete_run(self.folder, name)
        if run is not None:
            self._runs[name] = run
            self._note(name, "complete")

    def _note(self, name: str, state: State, reason: str = "") -> None:
        run = self._runs[name].folder.name if name in self._runs else None
        self._parts[name] = msgspec.structs.replace(self._parts[name], state=state, run=run, reason=reason)


def _attempt(name: str, asked: Asked, folder: Path, display: Display) -> str | None:
    """Carry out one experiment into the lecture's folder; return in a line why it failed, if so."""
    try:
        experiment = importlib.import_module(EXPERIMENTS[name])
        experiment.run(msgspec.structs.replace(asked, out=folder), Backstage(display.steps))
    except (LabError, LoadError, SessionError) as error:
        _log.error("%s failed: %s", name, error)
        return " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this part's alone
        _log.exception("%s failed", name)
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def run(chosen: Settings, console: Console) -> None:
    """Carry out a lecture, or the rest of it.

    Raises:
        LabError: an experiment failed; the others have their results.
    """
    console.print(QUESTION)
    folder = open_folder(chosen.out, chosen.alike, console, fresh=chosen.fresh)
    handler = run_folder.log_to(folder)
    try:
        with held(folder):
            _deliver(Lecture(chosen, folder), chosen, console)
    except OSError as error:
        raise from_os_error(error) from error
    finally:
        logging.getLogger("lab").removeHandler(handler)
        handler.close()


def _deliver(lecture: Lecture, chosen: Settings, console: Console) -> None:
    from lab.report import terminal  # noqa: PLC0415 - nothing that is measured waits for what draws

    total, usual = len(chosen.parts), {name: SECONDS[name][chosen.size] for name in lecture.to_come}
    try:
        with shown(console, total=total, done=total - len(usual), usual=usual) as display:
            lecture.carry_out(display)
    except KeyboardInterrupt:
        lecture.write()
        done = total - len(lecture.to_come)
        text = f"{done} of {total} experiments are complete in {lecture.folder}; the same command goes on from there."
        console.print(text, highlight=False, soft_wrap=True)
        raise
    found = lecture.write()
    if found["complete"]:
        run_folder.point_latest(lecture.folder)
    terminal.show(found, console)
    console.print(f"report: {lecture.folder / 'report.html'}", highlight=False, soft_wrap=True)
    if lecture.failed:
        names = ", ".join(lecture.failed)
        raise LabError(f"{len(lecture.failed)} of {total} experiments failed ({names}); the same command repeats them.")
