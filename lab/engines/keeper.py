"""The keeper of everything that the lab starts: processes in the foreground and one temporary folder.

Nothing outlives it. Leaving its context stops what still runs, whatever the reason; when the lab has no time left for
that, the watchdog does it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from secrets import token_hex
from typing import TYPE_CHECKING, Self

import psutil

from lab.engines.user import shared_temporary_folder
from lab.engines.watchdog import GRACE_SECONDS, Watchdog
from lab.errors import DiskFull, EngineFailed, LabError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# The program is started only after the watchdog knows its process id: a shell waits for a line, and becomes it.
# When the lab dies in between, the line never comes.
_GATE = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")

_FAILURE = re.compile(r"\b(error|fatal|panic|emerg|could not|can't)\b", re.IGNORECASE)

START_SECONDS = 20.0
"""How long an engine may take until it answers."""


class Process:
    """One program that runs in the foreground, with a log."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path, stop_signal: int, keeper: Keeper) -> None:
        self.name = name
        self.pid = popen.pid
        self.log = log
        self._popen = popen
        self._log_start = log.stat().st_size
        self._stop_signal = stop_signal
        self._keeper = keeper
        self._stopping = threading.Lock()
        self.to_end = False  # the lab itself ends it, or has

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def pids(self) -> tuple[int, ...]:
        """Return the ids of the program and of all its children, for CPU accounting; empty once it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.alive:
                return (self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True)))
        return ()

    def signal(self, signum: int) -> None:
        """Send a signal to the program and to its children; to a program that has ended, nothing."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def freeze(self) -> None:
        """Stop it and its children (SIGSTOP), until `signal(SIGCONT)`; they stand still when this returns."""
        family = self._frozen_family()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()
        wait_briefly(lambda: all(map(stands_still, family)))

    def kill(self) -> None:
        """End it and its children at once, as a crash would (SIGKILL); they are gone when this returns."""
        self.to_end = True
        family = self._frozen_family()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self._ended()
        wait_briefly(lambda: all(map(_has_ended, family)))

    def stop(self) -> None:
        """Ask it to end, insist after `GRACE_SECONDS`. Stopping what has ended is no error."""
        self.to_end = True
        with self._stopping:
            if self.alive:
                self._popen.send_signal(self._stop_signal)
                self.signal(signal.SIGCONT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(GRACE_SECONDS)
            self.kill()

    def wait_until(
        self, ready: Callable[[], bool], *, unless: str | None = None, seconds: float = START_SECONDS
    ) -> bool:
        """Wait until `ready()`, or until the program has ended.

        Args:
            ready: whether it is.
            unless: stop waiting when it writes this to its log.
            seconds: how long to wait at most.

        Returns:
            Whether it is ready.

        Raises:
            EngineFailed: it neither got ready nor ended in this time.
        """
        deadline = time.monotonic() + seconds
        while self.alive:
            if ready():
                return True
            if unless and self.said(unless):
                return False
            if time.monotonic() > deadline:
                raise EngineFailed(f"{self.name} did not get ready within {seconds:.0f} s. {self.last_words()}")
            time.sleep(0.005)
        return False

    def finish(self) -> int:
        """Wait until the program has done its work; return its exit status.

        Raises:
            EngineFailed: it did not end within `START_SECONDS`.
        """
        self.wait_until(lambda: False)
        self._ended()
        return int(self._popen.returncode)

    def failure(self, what: str) -> LabError:
        """Return the error to raise: what happened, and what the program said last, in one line."""
        kind = DiskFull if self.said(os.strerror(errno.ENOSPC)) else EngineFailed
        return kind(f"{what}. {self.last_words()}")

    def last_words(self) -> str:
        """Return the last line of its log, or the last that speaks of a failure, with the log's path."""
        lines = [line.strip() for line in self._output().splitlines() if line.strip()]
        full = [line for line in lines if os.strerror(errno.ENOSPC) in line]  # whatever else went wrong, went so by it
        telling = full or [line for line in lines if _FAILURE.search(line)]
        return f"Its last words: {(telling or lines or ['none'])[-1]} (log: {self.log})"

    def said(self, text: str) -> bool:
        """Return whether it wrote a text to its log."""
        return text in self._output()

    def _output(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _frozen_family(self) -> list[psutil.Process]:
        """Stop the program, so that it starts no child unseen, and return it with all it has; empty if it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.alive:
                program = psutil.Process(self.pid)
                program.suspend()
                wait_briefly(lambda: stands_still(program))
                return [program, *program.children(recursive=True)]
        return []

    def _ended(self) -> None:
        self._popen.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of a program that somebody else killed
            os.killpg(self.pid, signal.SIGKILL)
        self._keeper.forget(self)


class Keeper:
    """Starts programs and keeps one temporary folder; a context manager that leaves neither behind."""

    def __init__(self, logs: Path) -> None:
        """Name things; `with` starts them.

        Args:
            logs: an existing folder for the engines' logs.
        """
        self.logs = logs
        # A short name: some systems allow a path of 103 bytes for a socket.
        self.folder = shared_temporary_folder() / f"lab-{token_hex(4)}"
        self._lock = threading.Lock()
        self._processes: list[Process] = []
        self._closed = False

    def __enter__(self) -> Self:
        # The watchdog knows the folder before there is one, and each process before it is one.
        self._watchdog = Watchdog(self.folder)
        try:
            self.folder.mkdir(mode=0o700)
            self.folder.chmod(0o711)  # an engine that runs as another user must pass through
        except OSError as error:
            self._watchdog.close()
            raise from_os_error(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            processes = self._processes[::-1]
        try:
            for process in processes:
                process.stop()
        finally:
            self._watchdog.close()
            shutil.rmtree(self.folder, ignore_errors=True)  # in case that somebody killed the watchdog

    def launch(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        stop_signal: int = signal.SIGTERM,
        user: str | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start a program in the foreground, in a session of its own; its output goes to `logs/<name>.log`.

        Args:
            name: what to call it; the log's name.
            command: program and arguments.
            stop_signal: what ends it in good order.
            user: run as this user, where the lab runs as root.
            cwd: where it works; None for the temporary folder.
            pass_fds: open files that it inherits.

        Raises:
            LabError: it could not be started, or the keeper is closing.
        """
        log = self.logs / f"{name}.log"
        try:
            with self._lock, log.open("ab") as output:
                if self._closed:
                    raise LabError("the lab is closing")
                popen = subprocess.Popen(
                    [*_GATE, *map(str, command)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    cwd=cwd or self.folder,
                    bufsize=0,
                    pass_fds=pass_fds,
                    user=user,
                    group=_group_of(user) if user else None,
                    extra_groups=[] if user else None,
                )
                self._watchdog.watch(popen.pid, stop_signal)
                process = Process(name, popen, log, stop_signal, self)
                self._processes.append(process)
        except OSError as error:
            raise from_os_error(error) from error
        _open_gate(popen)
        return process

    def check(self) -> None:
        """See that everything that was started still runs.

        Raises:
            EngineFailed: a program has ended that the lab did not end itself.
        """
        with self._lock:
            ended = next((one for one in self._processes if not one.alive and not one.to_end), None)
        if ended is not None:
            raise EngineFailed(f"{ended.name} has ended while it was needed. {ended.last_words()}")

    def forget(self, process: Process) -> None:
        """A process has ended and been reaped: its id may become another's."""
        with self._lock:
            if process in self._processes:
                self._processes.remove(process)
                self._watchdog.forget(process.pid)


def _has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or a zombie: whoever inherits an orphan may be slow to reap it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def stands_still(process: psutil.Process) -> bool:
    """Whether a process is stopped, or has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return _has_ended(process) or process.status() == psutil.STATUS_STOPPED
    return True


def wait_briefly(come: Callable[[], bool]) -> None:
    """Wait for what the kernel is about to do, `GRACE_SECONDS` at most."""
    deadline = time.monotonic() + GRACE_SECONDS
    while not come() and time.monotonic() < deadline:
        time.sleep(0.001)


def _group_of(user: str) -> int:
    import pwd  # noqa: PLC0415 - only root needs it

    return pwd.getpwnam(user).pw_gid


def _open_gate(popen: subprocess.Popen[bytes]) -> None:
    assert popen.stdin is not None  # noqa: S101 - asked for with PIPE
    with popen.stdin as gate, contextlib.suppress(BrokenPipeError):
        gate.write(b"\n")
