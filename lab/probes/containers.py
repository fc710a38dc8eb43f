"""What containers used, by the counters of the engine that runs them; and which processes that engine is itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping


_ENGINE = ("dockerd", "containerd", "docker-proxy", "rootlesskit", "slirp4netns")
"""How the names of an engine's own processes begin: the daemon, what starts containers, what forwards their ports."""


def engine_processes() -> list[int]:
    """Return the container engine's own processes on this machine, in no order: not what runs in containers.

    Every byte that enters a container through a published port is carried by one of them, and so is every line of a
    log; so they work whenever the containers do.
    """
    return [
        process.pid for process in psutil.process_iter(["name"]) if (process.info["name"] or "").startswith(_ENGINE)
    ]


class Use(msgspec.Struct, frozen=True):
    """What a container has used since it started.

    Attributes:
        component: what it is for: `servers`, `store` or `balancer`.
        cpu_seconds: CPU time of all its processes.
        received_bytes: that came in over its networks, headers of TCP, IP and Ethernet included.
        sent_bytes: that went out, likewise.
    """

    component: str
    cpu_seconds: float
    received_bytes: int
    sent_bytes: int

    def __sub__(self, earlier: Use) -> Use:
        return Use(
            self.component,
            self.cpu_seconds - earlier.cpu_seconds,
            self.received_bytes - earlier.received_bytes,
            self.sent_bytes - earlier.sent_bytes,
        )


def since(now: Mapping[str, Use], before: Mapping[str, Use]) -> dict[str, Use]:
    """Return what each container used between two readings; one that came or went meanwhile is left out."""
    return {name: now[name] - before[name] for name in now if name in before}
