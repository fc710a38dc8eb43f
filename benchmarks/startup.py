"""How soon the lab is ready, and how soon it is gone: `python -m benchmarks.startup [--quick]`.

Engines and 20 web servers, five clusters of four, as `compare` needs them. Aim: ready within 3 s together.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from lab.cluster import ClusterSpec, Lab
from strategies import STRATEGIES

AIM_SECONDS = 3.0


def measure() -> tuple[float, float, float, float]:
    """Start and stop everything once; return seconds to engines, to all, and to stop, and memory in MiB."""
    with tempfile.TemporaryDirectory() as run:
        began = time.perf_counter()
        with Lab(Path(run)) as lab:
            engines = time.perf_counter() - began
            lab.start(*[ClusterSpec(name=name, strategy=name) for name in STRATEGIES])
            ready = time.perf_counter() - began
            children = psutil.Process().children(recursive=True)
            memory = sum(child.memory_full_info().uss for child in children) / 2**20
            began = time.perf_counter()
        return engines, ready, time.perf_counter() - began, memory


def main() -> None:
    """Measure several times and print each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once")
    runs = []
    for _ in range(1 if parser.parse_args().quick else 5):
        runs.append(measure())
        engines, ready, stop, memory = runs[-1]
        print(f"engines {engines:.2f} s, with 20 servers {ready:.2f} s, stopped in {stop:.2f} s, {memory:.0f} MiB")
    median = statistics.median(ready for _, ready, _, _ in runs)
    print(f"ready after {median:.2f} s in the median of {len(runs)}; aim: {AIM_SECONDS:.0f} s")


if __name__ == "__main__":
    main()
