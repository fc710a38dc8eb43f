"""Real engines, started once for all tests that ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.engines.keeper import Keeper
from lab.engines.postgresql import PostgreSQL
from lab.engines.redis import Redis

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """Keeps what the tests start; nothing outlives the test session."""
    with Keeper(tmp_path_factory.mktemp("engines")) as keeper:
        yield keeper


@pytest.fixture(scope="session")
def redis_engine(keeper: Keeper) -> Redis:
    """One Redis for all tests: use a namespace of your own."""
    return Redis.start(keeper)


@pytest.fixture(scope="session")
def redis_url(redis_engine: Redis) -> str:
    """Where it answers."""
    return redis_engine.url


@pytest.fixture(scope="session")
def postgresql_engine(keeper: Keeper) -> Iterator[PostgreSQL]:
    """One PostgreSQL for all tests: use a namespace of your own."""
    engine = PostgreSQL.start(keeper)
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def database_url(postgresql_engine: PostgreSQL) -> str:
    """Where its database answers."""
    return postgresql_engine.url
