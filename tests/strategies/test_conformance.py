"""The five strategies keep the contract: each class lists what its store can do."""

from behind_flask import BehindFlask, BehindFlaskBlob, BehindFlaskShared, BehindFlaskVersioned
from conformance import Keeps
from conformance_ends import Ends
from conformance_servers import Alone, Shared
from conformance_writers import Compares, Merges


class TestIsolated(Keeps, Merges, Compares, Ends, Alone, BehindFlask, BehindFlaskBlob, BehindFlaskVersioned):
    """Memory of one server, behind a round robin."""

    strategy = "isolated"


class TestSticky(TestIsolated):
    """The same store: affinity is the balancer's."""

    strategy = "sticky"


class TestAllToAll(Keeps, Merges, Ends, Shared, BehindFlask, BehindFlaskBlob, BehindFlaskShared):
    """One server of three, replicating over HTTP; it cannot compare versions."""

    strategy = "all-to-all"


class TestDatabase(
    Keeps, Merges, Compares, Ends, Shared, BehindFlask, BehindFlaskBlob, BehindFlaskVersioned, BehindFlaskShared
):
    """PostgreSQL."""

    strategy = "database"


class TestRedis(
    Keeps, Merges, Compares, Ends, Shared, BehindFlask, BehindFlaskBlob, BehindFlaskVersioned, BehindFlaskShared
):
    """Redis."""

    strategy = "redis"
