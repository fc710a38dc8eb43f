"""CPU time of the lab's processes and of the whole machine.

Linux counts each thread's time on a CPU in nanoseconds (`/proc/<pid>/task/<tid>/schedstat`); `utime + stime`, which
every system has, moves in steps of 10 ms and is used where the finer figure is missing.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used since its start, in seconds; 0 if it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(_on_cpu_ns(task) for task in tasks) / 1e9
    except OSError:
        return _coarse_cpu_seconds(pid)


def _on_cpu_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_bytes().split(None, 1)[0])
    except FileNotFoundError:  # this thread ended meanwhile
        if task.exists():
            raise
        return 0


def _coarse_cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


class MachineTime(msgspec.Struct, frozen=True):
    """CPU time of the whole machine since its start, in seconds over all CPUs."""

    busy: float
    steal: float
    total: float


def machine_time() -> MachineTime:
    """Read the machine's CPU time; steal is 0 where the system does not count it."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    steal = float(getattr(times, "steal", 0.0))
    total = float(sum(times[:8]))  # guest time, the ninth and tenth on Linux, is part of user time already
    return MachineTime(busy=total - idle - steal, steal=steal, total=total)


def process_tree(pid: int) -> list[int]:
    """Return a process and its children, such as PostgreSQL's backends or nginx's worker; empty if it is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return _slow_process_tree(pid)
    return [pid, *map(int, children.split())]


def _slow_process_tree(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


class CpuMeter:
    """Adds up CPU time by component between two readings.

    Args:
        components: name of a component (`servers`, `store`, `balancer`) to its processes; their children belong to it.
        alone: likewise, but of processes whose children do other work, such as what starts containers.
    """

    def __init__(
        self, components: Mapping[str, Iterable[int]], alone: Mapping[str, Iterable[int]] = MappingProxyType({})
    ) -> None:
        self._components = {name: tuple(pids) for name, pids in components.items()}
        self._alone = {name: tuple(pids) for name, pids in alone.items()}
        self._seen: dict[int, float] = {}

    def read(self) -> dict[str, float]:
        """Return the CPU seconds that each component used since the last call; the first call returns what it finds.

        A process that has ended since the last call takes its last stretch with it.
        """
        trees = {
            name: sum(self._since_last(pid) for root in roots for pid in process_tree(root))
            for name, roots in self._components.items()
        }
        return trees | {name: sum(map(self._since_last, pids)) for name, pids in self._alone.items()}

    def _since_last(self, pid: int) -> float:
        now = cpu_seconds(pid)
        before = self._seen.get(pid, 0.0)
        self._seen[pid] = now
        return max(0.0, now - before)
