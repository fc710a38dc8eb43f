"""The lab's side: ask the fork server for web servers, and hold on to them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import psutil

from lab.engines.keeper import stands_still, wait_briefly
from lab.errors import ServerFailed
from lab.servers.plan import PID_BYTES, Descriptors, Report, ServerPlan, receive_exactly, send_plan

if TYPE_CHECKING:
    from lab.engines.keeper import Keeper, Process

_ROOT = Path(__file__).parents[2]

START_SECONDS = 20.0
"""How long a web server may take until it serves."""

STOP_SECONDS = 6.0
"""How long it may take to finish its requests after SIGTERM."""


_decoder = msgspec.json.Decoder(Report)
"""Made before there are threads: msgspec crashes where two of them use a type for the first time together."""


class ServerProcess:
    """One web server's process. It is the fork server's child; the pipe of its report tells when it ends."""

    def __init__(self, plan: ServerPlan, pid: int, report: int) -> None:
        self.plan = plan
        self.pid = pid
        self._report = report
        self._lock = threading.Lock()
        self._said = b""
        self._ended = False
        self._paused = False

    def wait_until_ready(self) -> None:
        """Wait until it serves shoppers.

        Raises:
            ServerFailed: it cannot, or does not within `START_SECONDS`.
        """
        name = f"{self.plan.server} ({self.plan.strategy})"
        deadline = time.monotonic() + START_SECONDS
        while not self._has_ended() and not self._reported:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{name} did not get ready within {START_SECONDS:.0f} s (log: {self.plan.log})")
            time.sleep(0.001)
        if not self._reported:
            raise ServerFailed(f"{name} died while it started (log: {self.plan.log})")
        report = _decoder.decode(self._said)
        if report.error is not None:
            raise ServerFailed(f"{name} did not start. {report.error} (log: {self.plan.log})")

    @property
    def serves(self) -> bool:
        """Whether it runs, has said that it serves, and is not paused."""
        return self.alive and self._reported and not self._paused

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._has_ended()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, and new ones are made, but nothing answers once this returns."""
        self._paused = True
        self._signal(signal.SIGSTOP)
        with contextlib.suppress(psutil.NoSuchProcess):
            frozen = psutil.Process(self.pid)
            wait_briefly(lambda: stands_still(frozen))

    def resume(self) -> None:
        """Thaw it."""
        self._signal(signal.SIGCONT)
        self._paused = False

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self.ends_within(STOP_SECONDS)

    def terminate(self) -> None:
        """Ask it to finish its requests and end, thawed if it was frozen; returns at once."""
        self._signal(signal.SIGTERM)
        self.resume()

    def close(self) -> None:
        """Wait until it has ended after `terminate`; insist after `STOP_SECONDS`."""
        if not self.ends_within(STOP_SECONDS):
            self.kill()

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, which is the end of its pipe; return whether it came."""
        deadline = time.monotonic() + seconds
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._ended

    def _signal(self, signum: int) -> None:
        # Its id cannot be another's before its pipe has ended, except for the moment of its death.
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _has_ended(self) -> bool:
        with self._lock:
            while not self._ended and _readable(self._report, 0):
                said = os.read(self._report, 65536)
                self._said += said
                if not said:
                    os.close(self._report)
                    self._ended = True
            return self._ended

    @property
    def _reported(self) -> bool:
        return self._said.endswith(b"\n")


class ForkServer:
    """The lab's connection to the fork server."""

    def __init__(self, process: Process, control: socket.socket, hold: int) -> None:
        self._process = process
        self._control = control
        self._hold = hold  # the lab's end of the pipe that web servers watch
        self._lock = threading.Lock()

    @classmethod
    def start(cls, keeper: Keeper) -> Self:
        """Start the fork server; it imports while the engines start.

        Raises:
            LabError: it could not be started.
        """
        control, theirs = socket.socketpair()
        lab_alive, hold = os.pipe()
        try:
            process = keeper.launch(
                "servers",
                [sys.executable, "-m", "lab.servers.forkserver", str(theirs.fileno()), str(lab_alive)],
                stop_signal=signal.SIGKILL,  # it holds nothing, and web servers end with it
                cwd=_ROOT,
                pass_fds=(theirs.fileno(), lab_alive),
            )
        except BaseException:
            control.close()
            os.close(hold)
            raise
        finally:
            theirs.close()
            os.close(lab_alive)
        return cls(process, control, hold)

    def fork(self, plan: ServerPlan, public: socket.socket, internal: socket.socket) -> ServerProcess:
        """Start a web server on two bound sockets, of which the lab keeps no copy; it is not ready yet.

        Raises:
            ServerFailed: the fork server is gone.
        """
        report, theirs = os.pipe()
        try:
            with self._lock, public, internal:
                send_plan(self._control, plan, Descriptors(public.fileno(), internal.fileno(), theirs))
                pid = int.from_bytes(receive_exactly(self._control, PID_BYTES), "big")
        except (OSError, EOFError) as error:
            os.close(report)
            raise ServerFailed(f"the fork server is gone. {self._process.last_words()}") from error
        finally:
            os.close(theirs)
        return ServerProcess(plan, pid, report)

    def stop(self) -> None:
        """End the fork server, and with it every web server that still runs."""
        self._process.stop()
        self._control.close()
        with contextlib.suppress(OSError):
            os.close(self._hold)


def _readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
