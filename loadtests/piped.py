"""A process of the load's own, spoken to through its pipes, as the lab sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class PipedProcess:
    """A module that runs as a process until its input ends; a context manager."""

    def __init__(
        self, log_path: Path, module: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it; this does not wait.

        Args:
            log_path: file for whatever it says on stderr.
            module: its name, `loadtests.generator`.
            arguments: what it is started with.
            environment: variables that it has beside the lab's own.
        """
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=Path(__file__).parents[1],
                env=os.environ | (environment or {}),
            )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)

    @property
    def pid(self) -> int:
        """The process, for probes and watchdogs; what it starts are its children."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it and what it has started; a run under way ends at once."""
        try:
            self._input.close()
            self._process.wait(5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._output.close()
