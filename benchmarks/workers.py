"""How many requests a second one process can send, and two workers together, against an nginx that only says `200`.

Everything falls due far sooner than it can be sent, so each sends as fast as it can. In turns, block by block, on this
machine: what the workers take from each other and from nginx is part of the answer.

    python -m benchmarks.workers [--quick]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.generator import nginx
from lab.statistics import mean_of_blocks, paired_ratio
from loadtests.client import ArmTarget, Generator
from loadtests.fleet import Fleet, Gathered
from loadtests.plans import shopping_plan

if TYPE_CHECKING:
    from loadtests.client import Result

RATE_RPS = 40_000
SECONDS = 0.05
SHOPPERS = 64
WORKERS = 2


def sent_rps(result: Result) -> float:
    """Return requests a second, from the first that left to the last answer."""
    first, last = (end(o.t1_ns if end is max else o.t0_ns for o in result.operations) for end in (min, max))
    return len(result.operations) / (last - first) * 1e9


def cpu_seconds(result: Result) -> float:
    """Return the CPU time of everybody who sent, and of who passed it on."""
    return result.process_cpu_seconds + (result.master_cpu_seconds if isinstance(result, Gathered) else 0.0)


def main() -> None:
    """Send block after block, now from one process, now from two workers."""
    blocks = 10 if "--quick" in sys.argv else 40
    plan = shopping_plan(1, 0, rate_rps=RATE_RPS, seconds=SECONDS, shoppers=SHOPPERS)
    with (
        TemporaryDirectory() as name,
        nginx(Path(name)) as url,
        Generator(Path(name) / "one.log", exact=False) as one,
        Fleet(Path(name) / "many.log", WORKERS) as many,
    ):
        many.listening()
        many.muster()
        senders = {"one process": one, f"{WORKERS} workers": many}
        reached: dict[str, dict[int, float]] = {sender: {} for sender in senders}
        cpu: dict[str, list[float]] = {sender: [] for sender in senders}
        for sender in senders.values():
            sender.open(ArmTarget(arm="nginx", strategy="none", url=url, server_urls={}, cookie_name="none"))
            sender.run([("nginx", plan)])  # opens the connections
        for block in range(blocks):
            for sender, load in list(senders.items())[:: 1 if block % 2 else -1]:
                result = load.run([("nginx", plan)])
                reached[sender][block] = sent_rps(result)
                cpu[sender].append(1e6 * cpu_seconds(result) / len(result.operations))
    for sender, rps in reached.items():
        mean = mean_of_blocks(list(rps.values()))
        if mean is not None and mean.low is not None and mean.high is not None:
            print(
                f"{sender:12s} {mean.estimate:7,.0f} requests/s ({mean.low:,.0f} to {mean.high:,.0f}), best "
                f"{max(rps.values()):,.0f}; CPU {np.median(cpu[sender]):.0f} us a request (median of the blocks)"
            )
    ratio = paired_ratio(reached[f"{WORKERS} workers"], [reached["one process"]])
    if ratio is not None:
        interval = "" if ratio.low is None else f" ({ratio.low:.2f} to {ratio.high:.2f})"
        print(
            f"{WORKERS} workers send {ratio.estimate:.2f} times{interval} as much, with {os.cpu_count()} CPUs for all"
        )


if __name__ == "__main__":
    main()
