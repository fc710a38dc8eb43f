"""Where a request's time goes: `python -m benchmarks.session_profile [WAY ...] [--operation write] [--size-kb 1]`.

One server of the session-cost benchmark after the other answers the same request without a pause, and py-spy looks 500
times a second at what its threads are doing. Looks that find a request under way are counted by the part of the
program they fall into; waiting counts, so that shares are shares of the time by the clock.

py-spy is no part of the lab: `pip install py-spy`, or name it with `--py-spy`. On macOS it needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import linecache
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks._session_client import Arm, start, wait_for
from benchmarks._session_servers import SIZES_KB, WAYS
from lab.engines.keeper import Keeper
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis

PROFILED = ("none", "local", "all-to-all", "redis", "database", "flask-session redis")
OPERATIONS = ("untouched", "read", "write")
LOOKS_PER_SECOND = 500
PEERS = 4
REQUEST = re.compile(r"wsgi_app \(.*flask/app\.py:")
"""A frame that every look at a request under way has in its stack."""

_LETTING_IT_RUN = ("--nonblocking",)
"""To stop a process takes a while, thread by thread. Requests run on meanwhile, and answers arrive: a look then finds
four times as often what comes after a wait. Without stopping, a look now and then is torn, and thrown away."""

_FRAME = re.compile(r"(?P<function>.+) \((?P<path>.+?):(?P<line>\d+)\)")
_WAITS = re.compile(r"\b(recv_into|recv|sendall|poll|send_query_prepared|consume_input)\(")
"""Calls that give the processor away, in the line that a look finds at the top of a stack."""


class Part(NamedTuple):
    """A part of the program: frames whose file ends so, and whose function is one of these, if any are named."""

    name: str
    file: str
    functions: tuple[str, ...] = ()


PARTS = (
    Part("find the cookie among the browser's", "strategies/cookies.py", ("sent_cookie",)),
    Part("find the cookie among the browser's", "sansio/request.py", ("cookies",)),
    Part("check or make signature and hash", "strategies/cookies.py"),
    Part("check or make signature and hash", "session_interface.py", ("_matches", "_sha256")),
    Part("Vary", "session_interface.py", ("_vary_by_cookie", "_forbid_storing", "_has")),
    Part("check or make signature and hash", "strategies/signing.py"),
    Part("the session object: unpack, pack, what changed", "strategies/session.py", ("__getitem__", "__setitem__")),
    Part("the session object: unpack, pack, what changed", "strategies/session.py", ("changes", "contents")),
    Part("the rest of the session interface", "strategies/session_interface.py"),
    Part("the rest of the session interface", "strategies/session.py"),
    Part("the store's code", "/strategies/"),
    Part("the store's code", "benchmarks/_session_servers.py", ("_ask", "_run")),
    Part("redis-py", "/redis/"),
    Part("flask-session", "/flask_session/"),
    Part("the view", "benchmarks/_session_servers.py"),
)
"""The first that a stack's frames meet, from the innermost on, is where a look falls; else it is Flask's."""

WAITING = "waiting for the store"
FLASK = "Flask and Werkzeug"


def part_of(stack: list[str]) -> str:
    """Return the part that a stack falls into; frames are `function (file:line)`, the innermost last."""
    frames = [match for frame in stack if (match := _FRAME.fullmatch(frame))]
    if frames and _WAITS.search(linecache.getline(frames[-1]["path"], int(frames[-1]["line"]))):
        return WAITING
    for frame in reversed(frames):
        path, function = frame["path"], frame["function"].rpartition(".")[2]
        for part in PARTS:
            if part.file in path and (not part.functions or function in part.functions):
                return part.name
    return FLASK


def shares(raw: str) -> Counter[str]:
    """Count looks by part, from what `py-spy record --format raw` writes: stacks, and how often each was seen."""
    counts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        within = next((depth for depth, frame in enumerate(frames) if REQUEST.search(frame)), None)
        if within is not None:
            counts[part_of(frames[within:])] += int(times)
    return counts


def record(py_spy: str, pid: int, seconds: int, output: Path) -> subprocess.Popen[bytes]:
    """Have py-spy look at a process for some seconds."""
    often = ["--rate", str(LOOKS_PER_SECOND), "--duration", str(seconds)]
    how = [*_LETTING_IT_RUN, "--idle", "--full-filenames", "--format", "raw"]
    return subprocess.Popen(
        [py_spy, "record", "--pid", str(pid), *often, *how, "--output", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def profile(way: str, chosen: argparse.Namespace, redis_url: str, database_url: str) -> Counter[str]:
    """Ask one server again and again while py-spy looks at it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arm = Arm(way, way, servers=PEERS if way == "all-to-all" else 1)
        servers = start(0, arm, redis_url, database_url, stack)
        client = wait_for(servers)
        client.fill(chosen.size_kb)
        client.measure(chosen.operation, chosen.size_kb, 0.5)
        looking = record(chosen.py_spy, servers[0].process.pid or 0, chosen.seconds, folder / "raw")
        while looking.poll() is None:
            client.measure(chosen.operation, chosen.size_kb, 0.2)
        if looking.returncode != 0:
            raise SystemExit(f"py-spy ended with status {looking.returncode}: may it look into other processes here?")
        return shares((folder / "raw").read_text())


def show(title: str, counts: Counter[str]) -> None:
    """Print how much of the time was spent waiting, and how the rest divides."""
    looks, waiting = counts.total(), counts.pop(WAITING, 0)
    print(f"\n{title}; {looks} looks found a request under way, {waiting / looks:.0%} of them {WAITING}; of the rest:")
    for name, times in counts.most_common():
        print(f"  {times / counts.total():4.0%}  {name}", flush=True)


def main() -> None:
    """Print a table for each way to keep a session."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"which servers: {', '.join(map(repr, WAYS))}")
    parser.add_argument("--operation", choices=OPERATIONS, default="write")
    parser.add_argument("--size-kb", type=int, choices=SIZES_KB, default=SIZES_KB[0])
    parser.add_argument("--seconds", type=int, default=10, help="how long to look at each server")
    parser.add_argument("--quick", action="store_true", help="3 seconds each")
    parser.add_argument("--py-spy", default=shutil.which("py-spy"), help="the program, where it is not on the PATH")
    chosen = parser.parse_args()
    for way in chosen.ways:
        if way not in WAYS:
            parser.error(f"there is no way {way!r} to keep a session: name one of {', '.join(map(repr, WAYS))}")
    if chosen.py_spy is None:
        print("py-spy is not there, nothing is profiled: `pip install py-spy`, and run this again")
        return
    if chosen.quick:
        chosen.seconds = 3
    with tempfile.TemporaryDirectory() as logs, Keeper(Path(logs)) as keeper:
        redis, postgresql = Redis.start(keeper), PostgreSQL.start(keeper)
        for way in chosen.ways or PROFILED:
            counts = profile(way, chosen, redis.url, postgresql.url)
            show(f"{way}: {chosen.operation}, {chosen.size_kb} KB", counts)
        postgresql.stop()
        redis.stop()


if __name__ == "__main__":
    main()
