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
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

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
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
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


class Seen(NamedTuple):
    """A live process: parent, group, and when it started, as text to compare, which tells it from a later one."""

    parent: int
    group: int
    birth: str


def processes() -> dict[int, Seen]:
    """Return every live process of the machine; a zombie is not alive, however long nobody reaps it."""
    if not Path("/proc/self/stat").exists():
        return _processes_by_ps()
    seen = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent, group, *rest = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if state not in "ZX":
                seen[int(entry.name)] = Seen(int(parent), int(group), rest[16])
    return seen


def _processes_by_ps() -> dict[int, Seen]:
    """`processes` where there is no /proc: macOS."""
    columns = "pid=,ppid=,pgid=,stat=,lstart="
    done = subprocess.run(["/bin/ps", "-axo", columns], capture_output=True, text=True, check=False)
    lines = (line.split(maxsplit=4) for line in done.stdout.splitlines())
    return {
        int(pid): Seen(int(parent), int(group), birth)
        for pid, parent, group, state, birth in lines
        if not state.startswith("Z")
    }


def _listen() -> tuple[dict[int, int], dict[int, str]]:
    """Read the pipe to its end; return what is still to be ended, process id to signal, and process id to birth."""
    signals: dict[int, int] = {}
    births: dict[int, str] = {}
    for line in sys.stdin.buffer:
        verb, pid, signum = line.split()
        signals.pop(int(pid), None)
        births.pop(int(pid), None)
        if verb == b"watch":
            signals[int(pid)] = int(signum)
            births |= {int(pid): seen.birth for seen in [processes().get(int(pid))] if seen}
    return signals, births


def _family(roots: set[int], now: dict[int, Seen]) -> dict[int, str]:
    """Return these processes and all that descend from them: process id to birth."""
    family = set(roots)
    while grown := {pid for pid, seen in now.items() if seen.parent in family} - family:
        family |= grown
    return {pid: now[pid].birth for pid in family}


def _orphans(roots: set[int], now: dict[int, Seen]) -> dict[int, int]:
    """Return what has outlived one of these processes, each of which led a group of its own: process id to the root's.

    Its parent is gone, and so is the way from the root to it; the group has stayed. As long as anybody is in a group,
    its number is given to no new process.
    """
    return {pid: seen.group for pid, seen in now.items() if seen.group in roots and seen.group not in now}


def _inhabitants(folder: str, now: dict[int, Seen]) -> dict[int, str]:
    """Return what works in the lab's folder: process id to birth. Nothing where there is no /proc.

    A PostgreSQL process leads a group of its own. Paused, and with its parent killed, it is known by its folder alone.
    """
    inhabitants = {}
    for pid, seen in now.items():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                inhabitants[pid] = seen.birth
    return inhabitants


def _alive(births: dict[int, str], now: dict[int, Seen]) -> list[int]:
    return [pid for pid, birth in births.items() if pid in now and now[pid].birth == birth]


def _send(pids: Iterable[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _wait(births: dict[int, str]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while _alive(births, processes()) and time.monotonic() < deadline:
        time.sleep(0.02)


def main(folder: str) -> None:
    """Listen until the lab is gone, then clean up after it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signals, births = _listen()
    now = processes()
    left = {pid: signals[pid] for pid in _alive(births, now) if pid in signals}
    left |= {pid: signals[root] for pid, root in _orphans(set(signals), now).items()}
    family = _family(set(left), now)
    for pid, signum in left.items():
        _send([pid], signum)
    inhabitants = _inhabitants(folder, now)  # not to be killed: it may be somebody's shell
    _send({*family, *inhabitants}, signal.SIGCONT)  # a paused process hears no signal, and not that its parent is gone
    _wait(family | inhabitants)
    _send(_alive(family, processes()), signal.SIGKILL)
    _wait(family)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
