"""How a web server leaves without losing a request: it takes no new connection, and says so on those it has.

A balancer that keeps a connection may send a request at the very moment at which the server closes it; a write that
was sent is not sent again, so the shopper would see an error. A server that leaves therefore closes no connection under
the balancer's hands: it answers what comes, with `Connection: close`, and the balancer uses the connection no more.

And it goes when the balancer has just been refused, and will leave it alone for its two seconds (`fail_timeout`): a
refusal is quick, and the request goes to another server, while an address where nobody is any more does not answer.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.task import WSGITask

QUIET_SECONDS = 2.0
"""A connection on which nothing came for this long after the goodbye is not in use."""

FAREWELL_SECONDS = 8.0
"""How long a server waits for that at most."""

REFUSAL_SECONDS = 3.0
"""How long it waits at most for somebody to be refused: where no shoppers come, nobody is."""

_TCP = Path("/proc/net/snmp")


class _LastTask(WSGITask):
    def build_response_header(self) -> Any:
        channel: Any = self.channel
        if channel.server.leaving.is_set():
            self.set_close_on_finish()
        return super().build_response_header()


class _LastChannel(HTTPChannel):
    task_class = _LastTask


class Farewell:
    """Serves with a listener until told to leave.

    Args:
        listener: what `listen` has made; nobody has run it yet.
    """

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        listener.leaving = threading.Event()
        self._closed = threading.Event()
        listener.channel_class = _LastChannel

    def serve(self) -> None:
        """Begin to serve, in a thread of its own."""
        threading.Thread(target=self._listener.run, name="shoppers", daemon=True).start()

    def leave(self) -> None:
        """Finish what has begun; return when nobody uses a connection any more, after `FAREWELL_SECONDS` at most."""
        self._listener.leaving.set()
        # In the listener's own thread, so that nothing is accepted and forgotten at the same moment.
        self._listener.trigger.pull_trigger(self._stop_accepting)
        self._closed.wait(QUIET_SECONDS)
        began = time.monotonic()
        deadline = began + FAREWELL_SECONDS
        while self._in_use(began) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._listener.task_dispatcher.shutdown(cancel_pending=False, timeout=1.0)

    def wait_for_a_refusal(self) -> None:
        """Return when somebody has connected in vain, after `REFUSAL_SECONDS` at most; at once where nothing tells."""
        before = _resets()
        deadline = time.monotonic() + REFUSAL_SECONDS
        while before is not None and _resets() == before and time.monotonic() < deadline:
            time.sleep(0.01)

    def _stop_accepting(self) -> None:
        for _ in range(len(self._listener.active_channels) + self._listener.adj.backlog):
            before = len(self._listener.active_channels)
            self._listener.handle_accept()  # who was connected already is served
            if len(self._listener.active_channels) == before:
                break
        wasyncore.dispatcher.close(self._listener)
        self._closed.set()

    def _in_use(self, began: float) -> bool:
        """Whether a request is under way, or a connection that was silent so far may still be used."""
        channels = list(self._listener.active_channels.values())
        if any(channel.requests or channel.total_outbufs_len for channel in channels):
            return True
        quiet_since = max([began, *(channel.last_activity - time.time() + time.monotonic() for channel in channels)])
        return bool(channels) and time.monotonic() - quiet_since < QUIET_SECONDS


def _resets() -> int | None:
    """Return how many resets this network has sent, as to whoever connects in vain; None where nothing tells."""
    try:
        names, values = (line.split() for line in _TCP.read_text().splitlines() if line.startswith("Tcp:"))
        return int(values[names.index("OutRsts")])
    except (OSError, ValueError, IndexError):
        return None
