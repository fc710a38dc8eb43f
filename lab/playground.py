"""`make up`: a cluster to play with, in a browser or with Locust's own web page, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.cluster import ClusterSpec, Lab
from lab.containers import Compose, env_file
from lab.errors import LabError
from lab.shop.cache import CacheSettings
from strategies import STRATEGIES, find
from strategies.contract import UnsupportedPolicy

if TYPE_CHECKING:
    from rich.console import Console

FRONT_PORT = 8080
"""Of the front page, within the balancer's container; the strategies' ports follow, in the order of the registry."""


def run(strategy: str, console: Console, *, cache: bool = False, **options: Any) -> None:
    """Start a cluster of one strategy, say where it is, and wait for Ctrl-C.

    Args:
        strategy: its name.
        console: where the user looks.
        cache: whether product pages and searches come from a cache where they can.
        options: servers, writes and replication, as in `ClusterSpec`.

    Raises:
        UnsupportedPolicy: the strategy cannot promise the writes that are asked for.
        LabError: something does not start.
    """
    facts = find(strategy)
    with (
        tempfile.TemporaryDirectory(prefix="lab-up-") as folder,
        Lab(Path(folder), redis="redis" in facts.needs, cache=cache) as lab,
    ):
        settings = CacheSettings() if cache else None
        (cluster,) = lab.start(ClusterSpec(name=strategy, strategy=strategy, cache=settings, **options))
        console.print(f"the shop, with sessions in {facts.lives_in}:", highlight=False)
        console.print(f"  {cluster.url}    through the balancer ({facts.balancer})", soft_wrap=True)
        for server in cluster.servers:
            console.print(f"  {server.url}    {server.name}, past the balancer", soft_wrap=True)
        if lab.cache:
            console.print(f"products and searches are cached in {lab.cache.url}", soft_wrap=True, highlight=False)
            console.print(f"  curl -si {cluster.url}/api/products/7 | grep X-Cache", soft_wrap=True, highlight=False)
        console.print("load by hand, with Locust's web page on http://127.0.0.1:8089:")
        console.print(
            f"  .venv/bin/locust -f loadtests/locustfile.py --web-host 127.0.0.1 --host {cluster.url}",
            soft_wrap=True,
            highlight=False,
        )
        _wait(console)


def run_in_containers(console: Console, *, servers: int, writes: str, replication: str) -> None:
    """Start all five clusters in containers, say where they are, and wait for Ctrl-C; then remove them.

    Args:
        console: where the user looks.
        servers: how many web servers each strategy has.
        writes: what a request saves.
        replication: when all-to-all answers.

    Raises:
        UnsupportedPolicy: a strategy cannot promise the writes that are asked for.
        LabError: there is no engine, or something does not start.
    """
    for strategy in STRATEGIES.values():
        if writes not in strategy.policies:
            raise UnsupportedPolicy(f"{strategy.name} cannot promise {writes!r} writes, and all five are started")
    project = os.environ.get("COMPOSE_PROJECT_NAME") or "session-lab-up"
    compose = Compose(project, {"SERVERS": str(servers), "WRITES": writes, "REPLICATION": replication})
    if left := compose.left():
        raise LabError(
            f"project {project} is there already ({left}), and would be removed in the end. Remove it "
            f"(docker compose --project-name {project} down --volumes), or name another: COMPOSE_PROJECT_NAME=…"
        )
    if not env_file.NAMES.keys() <= os.environ.keys() and (added := env_file.write()):
        console.print(f"secrets written to .env: {', '.join(added)}", highlight=False)
    console.print("building the images, which takes minutes the first time", highlight=False)
    compose.build()
    with compose.guarded():
        console.print(f"starting {servers * len(STRATEGIES)} web servers, the stores and the balancer", highlight=False)
        compose.up()
        console.print(f"the shop under every strategy:  http://127.0.0.1:{compose.port('balancer', FRONT_PORT)}")
        for port, strategy in enumerate(STRATEGIES.values(), start=FRONT_PORT + 1):
            url = f"http://127.0.0.1:{compose.port('balancer', port)}"
            console.print(f"  {url}    sessions in {strategy.lives_in}", soft_wrap=True, highlight=False)
        _wait(console)


def _wait(console: Console) -> None:
    console.print("Ctrl-C stops everything.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping.")
