"""The fork server: imports everything once, then forks a web server for each plan that the lab sends.

Starting twenty Flask processes one by one takes seconds; forking them takes milliseconds each, and they share their
code's memory. It has one thread, as fork demands, and no connection of its own.

Run as `python -m lab.servers.forkserver CONTROL LAB_ALIVE`, the numbers of two open files: the connection to the lab,
and a pipe that ends with the lab.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress

from lab.servers import process
from lab.servers.plan import PID_BYTES, receive_plan
from strategies import STRATEGIES, load_store_class


def main(control: socket.socket, lab_alive: int) -> None:
    """Fork a web server for each plan, until the lab closes the connection."""
    for strategy in STRATEGIES:
        with suppress(ImportError):  # a missing driver is the business of whoever asks for that strategy
            load_store_class(strategy)
    gc.collect()
    gc.freeze()  # the collector leaves shared memory alone
    self_alive, hold = os.pipe()  # ends when this process does: web servers watch it
    deaths = _notice_deaths()
    while True:
        ready, _, _ = select.select([control.fileno(), deaths], [], [])
        if deaths in ready:
            os.read(deaths, 512)
            _reap()
        if control.fileno() not in ready:
            continue
        order = receive_plan(control)
        if order is None:
            return
        plan, descriptors = order
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (control.detach(), hold, deaths):
                os.close(inherited)
            process.main(plan, descriptors, (lab_alive, self_alive))
        for descriptor in descriptors:
            os.close(descriptor)
        control.sendall(pid.to_bytes(PID_BYTES, "big"))


def _notice_deaths() -> int:
    """Return the end of a pipe that has something to read when a child has died."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
