"""What can be done to any engine that runs; the files beside this one say how each is found and started."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from lab.errors import EngineFailed, LabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.engines.keeper import Process

RESTART_SECONDS = 120.0
"""How long an engine may take until it answers again: it reads its log first, which a long run has made long."""


class Engine:
    """An engine that runs.

    One that is not the lab's own is left alone: asking it to pause, to die or to come back is a `LabError`.

    Args:
        name: what to call it.
        process: the engine; None where it is not the lab's own.
        launch: starts it again on its port and data; None likewise.
    """

    def __init__(self, name: str, process: Process | None = None, launch: Callable[[], Process] | None = None) -> None:
        self._name = name
        self._process = process
        self._launch = launch

    @property
    def pid(self) -> int | None:
        """The engine's first process; None where it is not the lab's own. `restart` changes it."""
        return self._process.pid if self._process else None

    @property
    def own(self) -> bool:
        """Whether it is the lab's own, so that it can be killed and started again."""
        return self._process is not None

    def pids(self) -> tuple[int, ...]:
        """Return it and all its children, to count CPU time of; empty where they are not the lab's own, or gone."""
        return self._process.pids() if self._process else ()

    def kill(self) -> None:
        """End it and its children as a crash would (SIGKILL). Killing what is dead is no error.

        Raises:
            LabError: it is not the lab's own.
        """
        self._own("killed").kill()

    def restart(self) -> None:
        """Start it again on its port and its data, killed before if it lives; return when it answers.

        Raises:
            LabError: it is not the lab's own.
            EngineFailed: it does not start, or its port is taken meanwhile.
        """
        self._own("restarted")
        self.kill()
        assert self._launch is not None  # noqa: S101 - given with the process
        self._process = process = self._launch()
        if not process.wait_until(lambda: self._is_up(process), seconds=RESTART_SECONDS):
            process.stop()
            raise process.failure(f"{self._name} did not come back")

    def pause(self) -> None:
        """Freeze it and its children: connections stay open and nothing answers.

        Raises:
            LabError: it is not the lab's own, or has ended.
        """
        self._living("paused").freeze()

    def resume(self) -> None:
        """Thaw it. Thawing what runs is no error.

        Raises:
            LabError: it is not the lab's own, or has ended.
        """
        self._living("resumed").signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in good order. Ending what has ended, or is not the lab's own, is no error."""
        if self._process:
            self._process.stop()

    def _is_up(self, process: Process) -> bool:
        """Whether this very process, just started, answers."""
        raise NotImplementedError

    def _own(self, what: str) -> Process:
        if self._process is None:
            raise LabError(f"this {self._name} is not the lab's own, so it is not {what}")
        return self._process

    def _living(self, what: str) -> Process:
        process = self._own(what)
        if not process.alive:
            raise EngineFailed(f"{self._name} does not run, so it cannot be {what}")
        return process
