"""Redis behind TLS, with users and passwords: the URL says all that is needed, and no error tells a secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis
from certificate import make_certificate
from conformance import Keeps
from conformance_servers import Shared
from records import begin, packed, shown
from redis_servers import TlsProxy, launch_redis
from waiting import wait_until

from strategies.contract import Changes, StoreSettings, StoreUnavailable
from strategies.redis import RedisStore
from strategies.redis_connections import Connections

PASSWORD = "s3cret of the default user"
USER, USERS_PASSWORD = "shop", "another-s3cret"

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
RIGHTS = re.search(r"ACL SETUSER shop on >password (.*)", PAGE.read_text(encoding="utf-8")).group(1).split()
"""The rights that the page says are enough."""


@pytest.fixture(scope="module")
def secured(keeper, tmp_path_factory):
    """Return what leads to a Redis with passwords: its port, the port with TLS, and the certificate."""
    process, port = launch_redis(keeper, "redis-secured", "--requirepass", PASSWORD)
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    proxy = TlsProxy(keeper, port, certificate)
    with redis.Redis(port=port, password=PASSWORD) as admin:
        admin.execute_command("ACL", "SETUSER", USER, "on", f">{USERS_PASSWORD}", "~*", "+@all", "-@admin")
        admin.execute_command("ACL", "SETUSER", "least", "on", f">{USERS_PASSWORD}", *RIGHTS)
    yield port, proxy.port, certificate[0]
    proxy.stop()
    process.stop()


@pytest.fixture
def tls_url(secured):
    """Return the URL of a user over TLS."""
    _, port, certificate = secured
    return f"rediss://{USER}:{USERS_PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"


class TestTls(Keeps, Shared):
    """The contract, as a user with a password over TLS."""

    strategy = "redis"

    @pytest.fixture
    def engine_url(self, tls_url):
        """Return the settings that say where Redis answers."""
        return {"redis_url": tls_url}


def open_at(url):
    """Open a store."""
    return RedisStore.open(StoreSettings(redis_url=url, timeout_seconds=5.0))


@pytest.mark.parametrize(
    "login", [":s3cret%20of%20the%20default%20user@", f"least:{USERS_PASSWORD}@"], ids=["password", "least rights"]
)
def test_login(secured, login):
    """A password alone will do, and a user that may do what a session store does and nothing else."""
    store = open_at(f"redis://{login}127.0.0.1:{secured[0]}")
    handle = begin(store, a=1)
    store.save(handle, Changes(set=packed(b=2), deleted=frozenset({"a"})))
    store.save(handle, Changes(set=packed(c=3), whole=True))
    store.touch(handle)
    assert shown(store, handle) == {"c": 3}
    assert handle in store.census().handles
    store.delete(handle)
    assert shown(store, handle) is None
    store.close()


@pytest.mark.parametrize("login", ["", ":wr0ng-one@", f"{USER}:wr0ng-one@", f"nobody:{USERS_PASSWORD}@"])
def test_refused_login(secured, login):
    """Whoever may not enter gets a store that is unavailable, and an error without any password in it."""
    with pytest.raises(StoreUnavailable) as raised:
        open_at(f"redis://{login}127.0.0.1:{secured[0]}")
    assert not {"wr0ng-one", PASSWORD, USERS_PASSWORD} & set(str(raised.value).split())
    assert "wr0ng" not in str(raised.value)


def test_rights_taken_away(secured):
    """A user who loses a right while the store is open makes it unavailable, and with the right it works again."""
    port = secured[0]
    store = open_at(f"redis://least:{USERS_PASSWORD}@127.0.0.1:{port}")
    handle = begin(store, a=1)
    with redis.Redis(port=port, password=PASSWORD) as admin:
        admin.execute_command("ACL", "SETUSER", "least", "-hgetall")
        with pytest.raises(StoreUnavailable):
            store.load(handle)
        admin.execute_command("ACL", "SETUSER", "least", "+hgetall")
    assert shown(store, handle) == {"a": 1}
    store.close()


def test_unknown_certificate(secured, tmp_path):
    """A server whose certificate nobody vouches for is not talked to: the password would go to a stranger."""
    other, _ = make_certificate(tmp_path)
    for query in ("", f"?ssl_ca_certs={other}"):
        with pytest.raises(StoreUnavailable, match="certificate"):
            open_at(f"rediss://{USER}:{USERS_PASSWORD}@127.0.0.1:{secured[1]}/0{query}")


def test_certificate_of_another_name(secured, tls_url):
    """Nor one whose certificate is for another name."""
    with pytest.raises(StoreUnavailable, match="certificate"):
        open_at(tls_url.replace("127.0.0.1", "localhost"))


def test_without_tls(secured):
    """A URL without TLS does not reach a server with it, and fails in time."""
    with pytest.raises(StoreUnavailable):
        open_at(f"redis://{USER}:{USERS_PASSWORD}@127.0.0.1:{secured[1]}")


@pytest.mark.timeout(60)
def test_no_answer(tls_url):
    """A call over TLS whose answer does not come has its time-out, as one without."""
    connections = Connections(redis.ConnectionPool.from_url(tls_url, protocol=2, socket_timeout=1.0))
    with pytest.raises(redis.TimeoutError):
        connections.call("BLPOP", "nobody-writes-here", 0)


def test_closed_meanwhile(secured, tls_url):
    """Also over TLS a connection that was closed meanwhile costs no request, and a used one is used again."""
    settings = StoreSettings(redis_url=tls_url, timeout_seconds=5.0, server="closed-meanwhile")
    store = RedisStore.open(settings)
    handle = begin(store, a=1)
    with redis.Redis(port=secured[0], password=PASSWORD, decode_responses=True) as admin:
        open_now = lambda: [c["id"] for c in admin.client_list() if c["name"].endswith("closed-meanwhile")]  # noqa: E731
        assert shown(store, handle) == {"a": 1}
        before = open_now()
        assert shown(store, handle) == {"a": 1}
        assert open_now() == before  # what TLS itself sends does not look like a goodbye
        assert len(before) == 1
        admin.client_kill_filter(_id=before[0])
        wait_until(lambda: not store._connections._idle[0].is_good())  # the news has come through the proxy
        store.save(handle, Changes(set=packed(b=2)))
    assert shown(store, handle) == {"a": 1, "b": 2}
    store.close()
