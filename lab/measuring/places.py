"""Opening the place that a user asked for; here alone it is known which ones there are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lab.cluster import Lab
from lab.docker import Containers
from lab.target import Deployment, Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.measuring.place import Place

Engine = Literal["local", "docker"]


class Where(msgspec.Struct, frozen=True):
    """Where a user wants something measured.

    Attributes:
        engine: what runs the servers, where no target is given.
        target: a deployment that runs already.
        servers: web servers of each strategy, where containers run them.
    """

    engine: Engine = "local"
    target: Target | None = None
    servers: int = 4


@contextmanager
def opened(where: Where, folder: Path, *, redis: bool, seed: int) -> Iterator[Place[Any]]:
    """Open a place while the context lasts; leave nothing behind.

    Args:
        where: which one.
        folder: the run's, for logs.
        redis: whether a strategy of this run needs Redis.
        seed: of the shop's catalogue, where the lab makes it.

    Raises:
        LabError: it cannot be opened.
    """
    if where.target is not None:
        with Deployment(where.target) as deployment:
            yield deployment
        return
    if where.engine == "docker":
        with Containers(folder, where.servers, redis=redis) as containers:
            yield containers
        return
    with Lab(folder, redis=redis, seed=seed) as lab:
        yield lab
