"""The watchdog: a small process that outlives the lab for a moment, to end what the lab left behind.

It reads a pipe that only the lab holds. While the lab lives, the lab writes down there what it starts. When the pipe
ends, for whatever reason (`kill -9` of the lab included), the watchdog signals what is still running, waits
`GRACE_SECONDS`, kills the rest and removes the lab's temporary folder. Pipes work alike on every POSIX system;
`PR_SET_PDEATHSIG` exists on Linux alone, and leaves nginx's worker behind.

This file is both sides: `Watchdog` for the lab, and the process itself, run as `python -I -S watchdog.py FOLDER`
(standard library only, so that it starts within milliseconds).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

GRACE_SECONDS = 2.0
"""How long a signalled process may take to end by itself before it is killed."""


class Watchdog:
    """The lab's side: writes down what the watchdog process shall end when the lab is gone."""

    def __init__(self, folder: Path) -> None:
        """Start the watchdog process.

        Args:
            folder: the lab's temporary folder, removed at the end; it need not exist yet.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(folder)],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal is for the lab alone
            cwd="/",
        )

    def watch(self, pid: int, signum: int) -> None:
        """End this process with this signal when the lab is gone."""
        self._write(f"watch {pid} {int(signum)}\n")

    def forget(self, pid: int) -> None:
        """The process has ended: never signal its id again, which may become another's."""
        self._write(f"forget {pid} 0\n")

    def close(self) -> None:
        """End what is still watched, remove the folder and wait until that is done."""
        self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - asked for with PIPE
        return self._process.stdin

    def _write(self, line: str) -> None:
        # A watchdog that somebody killed must not take the lab down with it.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(line.encode())


# ---- the watchdog process ----


def born(pid: int) -> str | None:
    """Return when a live process started, as text to compare; None when it has ended (a zombie has)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _born_elsewhere(pid)
    return None if fields[0] in "ZX" else fields[19]


def _born_elsewhere(pid: int) -> str | None:
    """`born` where there is no /proc: macOS."""
    ps = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    state, _, started = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def _listen() -> dict[int, tuple[int, str | None]]:
    """Read the pipe to its end; return what is still to be ended: process id to signal and birth."""
    watched: dict[int, tuple[int, str | None]] = {}
    for line in sys.stdin.buffer:
        verb, pid, signum = line.split()
        if verb == b"watch":
            watched[int(pid)] = (int(signum), born(int(pid)))
        else:
            watched.pop(int(pid), None)
    return watched


def _alive(watched: dict[int, tuple[int, str | None]]) -> list[int]:
    return [pid for pid, (_, birth) in watched.items() if birth is not None and born(pid) == birth]


def _send(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _wait(watched: dict[int, tuple[int, str | None]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _alive(watched) and time.monotonic() < deadline:
        time.sleep(0.01)


def main(folder: str) -> None:
    """Listen until the lab is gone, then clean up after it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watched = _listen()
    for pid in _alive(watched):
        _send(pid, watched[pid][0])
        _send(pid, signal.SIGCONT)  # a paused process would not hear the signal
    _wait(watched, GRACE_SECONDS)
    for pid in _alive(watched):
        _send(pid, signal.SIGKILL)
    _wait(watched, GRACE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
