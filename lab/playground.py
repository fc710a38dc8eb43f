"""`make up`: a cluster to play with, in a browser or with Locust's own web page, until Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.cluster import ClusterSpec, Lab
from lab.shop.cache import CacheSettings
from strategies import find

if TYPE_CHECKING:
    from rich.console import Console


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
        console.print("Ctrl-C stops everything.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("stopping.")
