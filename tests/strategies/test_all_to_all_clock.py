"""The shopper's browser carries the version of its last save from server to server."""

from __future__ import annotations

import time

import pytest
from all_to_all_cluster import SECRET, Cluster, Wire, wait_until
from behind_flask import Shop

from strategies.all_to_all import AllToAllStore
from strategies.clock import MAX_AHEAD_SECONDS, HybridClock
from strategies.contract import Changes, NewSession, StoreSettings
from strategies.cookies import write_clock
from strategies.local import LocalStore

CART = NewSession("hash", {"cart:1": b"1"})


class Browser:
    """One shopper's cookies, presented to any server."""

    def __init__(self):
        self.cookies = {}

    def do(self, shop, action):
        """Run an action on the session in a request to one server; return the response."""
        pairs = [f"{name}={value}" for name, value in self.cookies.items()]
        header = "; ".join(pairs).removeprefix("session=") if pairs else None
        response = shop.do(header, action)
        for line in response.headers.getlist("Set-Cookie"):
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return response

    def write(self, shop, **fields):
        """Save fields on one server."""
        assert self.do(shop, lambda session: session.update(fields)).status_code == 200

    def shown(self, shop):
        """Return what one server shows."""
        return self.do(shop, dict).json


@pytest.fixture
def cluster():
    """Give three servers that promise a shopper's own writes."""
    with Cluster(3, timeout_seconds=0.8, replication="sync") as running:
        yield running


@pytest.fixture
def shops(cluster):
    """Give the shops on them."""
    return [Shop(store) for store in cluster.stores]


def silence(*stores):
    """Have all that stores save from now on vanish, as if it were still on its way."""
    for store in stores:
        for link in store._peers._links.values():
            link.send = lambda _: None


def questions(store):
    """Return how often a store has asked because of an older copy, and how often in vain."""
    details = store.census().details
    return details["catch_ups"], details["catch_ups_in_vain"]


@pytest.mark.parametrize("minutes", [5, -5, 0])
def test_a_shoppers_later_write_wins_whatever_the_clocks_say(minutes):
    """Of two writes on servers whose clocks are minutes apart and who have not heard of each other, the later wins."""
    wire = Wire()
    now = [1_000_000.0]
    clocks = {"web-1": lambda: now[0] + 60 * minutes, "web-2": lambda: now[0]}
    first, second = (
        wire.connect(AllToAllStore(StoreSettings(server=name, peer_secret=SECRET), clock))
        for name, clock in clocks.items()
    )
    ann = Browser()
    ann.write(Shop(first), cart="none")
    second.received(wire.told, {})
    for store, field, value in ((first, "cart", "early"), (second, "cart", "late"), (first, "other", "later still")):
        now[0] += 1
        ann.write(Shop(store), **{field: value})
    for store in (first, second):
        store.received(wire.told, {})
        assert ann.shown(Shop(store)) == {"cart": "late", "other": "later still"}
        store.close()


def test_a_server_with_an_older_copy_asks_once(cluster, shops):
    """Reading one's own write on a server that has not heard of it yet shows it, for one question to the writer."""
    ann = Browser()
    ann.write(shops[0], cart="old")
    cluster.quiet()
    silence(cluster.stores[0])
    ann.write(shops[0], cart="new")
    assert [ann.shown(shops[1]) for _ in range(3)] == [{"cart": "new"}] * 3
    assert questions(cluster.stores[1]) == (1, 0)
    assert [store.census().details["asked"] for store in cluster.stores] == [1, 0, 0]  # the one that has it


def test_the_answer_of_the_server_that_has_the_write_is_enough():
    """Where the writer answers, a peer that hangs holds up nobody."""
    with Cluster(3, timeout_seconds=80, replication="sync") as cluster:
        first, second, _ = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        silence(first)
        version = first.save("h", Changes(set={"cart:1": b"2"}))
        released = cluster.speechless(1, 2)
        begin = time.monotonic()
        assert second.load("h", seen=version).fields == {"cart:1": b"2"}
        assert time.monotonic() - begin < 10
        released.set()


def test_where_the_writer_does_not_answer_the_others_are_asked():
    """A write that reached one peer before its server fell silent is found there, within the bound for asking."""
    with Cluster(3, timeout_seconds=4.0, replication="sync") as cluster:
        first, second, third = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        first._peers._links["web-2"].send = lambda _: None
        version = first.save("h", Changes(set={"cart:1": b"2"}))
        cluster.quiet()
        released = cluster.speechless(1, 0)
        assert second.load("h", seen=version).fields == {"cart:1": b"2"}
        assert third.census().details["asked"] == 1
        released.set()


def test_of_several_others_the_first_that_knows_is_enough():
    """Where the writer is down, nobody waits for a silent peer when another one has the write."""
    with Cluster(4, timeout_seconds=80, replication="sync") as cluster:
        first, second, _, _ = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        for name in ("web-2", "web-4"):
            first._peers._links[name].send = lambda _: None
        version = first.save("h", Changes(set={"cart:1": b"2"}))
        cluster.quiet()
        cluster.stop_listening(0)
        second._peers._links["web-1"].doubt()
        wait_until(lambda: not second._peers._links["web-1"].open)
        released = cluster.speechless(1, 3)
        begin = time.monotonic()
        assert second.load("h", seen=version).fields == {"cart:1": b"2"}
        assert time.monotonic() - begin < 10
        released.set()


def test_a_write_that_nobody_has_any_more_is_asked_for_once(cluster, shops):
    """Where a server died with the write, each other server asks once, serves what it has, and can be written to."""
    ann = Browser()
    ann.write(shops[0], cart="old")
    cluster.quiet()
    silence(cluster.stores[0])
    ann.write(shops[0], cart="lost")
    cluster.stop_listening(0)
    assert [ann.shown(shops[1]) for _ in range(3)] == [{"cart": "old"}] * 3
    assert questions(cluster.stores[1]) == (1, 1)
    ann.write(shops[1], cart="new")
    assert ann.shown(shops[2]) == {"cart": "new"}


def test_without_the_clock_the_copy_here_is_served(cluster, shops):
    """A browser that does not send the clock back is served what the server knows; no peer is asked."""
    ann = Browser()
    ann.write(shops[0], cart="old")
    cluster.quiet()
    silence(cluster.stores[0])
    ann.write(shops[0], cart="new")
    del ann.cookies["session_clock"]
    assert ann.shown(shops[1]) == {"cart": "old"}
    assert questions(cluster.stores[1]) == (0, 0)


def test_under_async_the_copy_here_is_served():
    """A server that answers before its peers know promises no read of it: the clock has it ask nobody."""
    with Cluster(3) as cluster:
        shops = [Shop(store) for store in cluster.stores]
        ann = Browser()
        ann.write(shops[0], cart="old")
        cluster.quiet()
        silence(cluster.stores[0])
        ann.write(shops[0], cart="new")
        assert ann.shown(shops[1]) == {"cart": "old"}
        assert questions(cluster.stores[1]) == (0, 0)


def test_only_a_clock_that_was_signed_for_this_session_counts(cluster, shops):
    """Neither a changed clock, nor that of another session, nor noise moves a server's clock or has it ask."""
    ann, bob, store = Browser(), Browser(), cluster.stores[1]
    for shopper in (ann, bob):
        shopper.write(shops[0], a=1)
    cluster.quiet()
    mine, theirs = ann.cookies["session_clock"], bob.cookies["session_clock"]
    future = f"{int(mine[:16], 16) + (3_600_000 << 16):016x}web-1"
    forged = [f"{future}.{mine.rpartition('.')[2]}", theirs, f"{future}.", f".{future}", future, "", ".", "é.é"]
    for clock in (*forged, "x" * 5000, f"{future}.{'A' * 43}"):
        ann.cookies["session_clock"] = clock
        assert ann.do(shops[1], dict).json == {"a": 1}
    assert questions(store) == (0, 0)
    handle = ann.cookies["session"].partition(".")[0]
    assert store.save(handle, Changes(set={"b": b"1"})) < future


def test_versions_of_another_kind_are_no_clocks(cluster, shops):
    """A clock cookie that we signed, but over a version of some other store, is left alone."""
    ann = Browser()
    ann.write(shops[0], a=1)
    handle = ann.cookies["session"].partition(".")[0]
    for version in ("7", "zz", "g" * 20, "0" * 16 + "x" * 100):
        ann.cookies["session_clock"] = write_clock(shops[0].app, handle, version)
        assert ann.shown(shops[0]) == {"a": 1}


def test_the_clock_comes_with_writes_alone_and_leaves_with_the_session(cluster, shops):
    """Each save sends the clock and nothing else; reads send nothing; the logout removes both cookies."""
    ann, shop = Browser(), shops[0]
    first = ann.do(shop, lambda session: session.update(a=1)).headers.getlist("Set-Cookie")
    assert [line.partition("=")[0] for line in first] == ["session", "session_clock"]
    assert len({line.partition("; ")[2] for line in first}) == 1  # of the same attributes
    secret, clock = ann.cookies["session"], ann.cookies["session_clock"]
    (again,) = ann.do(shop, lambda session: session.update(a=2)).headers.getlist("Set-Cookie")
    assert again.startswith("session_clock=")
    assert ann.cookies["session"] == secret
    assert ann.cookies["session_clock"] > clock
    assert len(ann.cookies["session_clock"]) == 65
    assert ann.do(shop, dict).headers.getlist("Set-Cookie") == []
    assert ann.do(shop, lambda session: session.clear()).status_code == 200
    assert ann.cookies == {"session": "", "session_clock": ""}


def test_the_clock_survives_a_change_of_the_secret_key(cluster, shops):
    """A clock that was signed with a key that is a fallback by now is as good as before."""
    ann = Browser()
    ann.write(shops[0], cart="old")
    cluster.quiet()
    silence(cluster.stores[0])
    ann.write(shops[0], cart="new")
    shops[1].app.config |= {"SECRET_KEY": "another", "SECRET_KEY_FALLBACKS": ["a secret key"]}
    assert ann.shown(shops[1]) == {"cart": "new"}


def test_where_there_is_one_copy_no_clock_is_sent():
    """A store without copies needs no clock: nothing is sent, and one that comes is ignored."""
    store = LocalStore.open(StoreSettings())
    shop, ann = Shop(store), Browser()
    ann.write(shop, a=1)
    ann.write(shop, a=2)
    assert set(ann.cookies) == {"session"}
    ann.cookies["session_clock"] = "x"
    assert ann.shown(shop) == {"a": 2}
    store.close()


def test_a_stamp_from_the_far_future_moves_no_clock():
    """Minutes and hours ahead are followed; a stamp from further than a day ahead is a broken clock's."""
    clock = HybridClock("web-1", lambda: 1_000_000.0)
    near = HybridClock("web-2", lambda: 1_000_000.0 + MAX_AHEAD_SECONDS - 1).next()
    far = HybridClock("web-2", lambda: 1_000_000.0 + MAX_AHEAD_SECONDS + 1).next()
    clock.observe(far)
    clock.observe("f" * 16 + "web-2")
    assert clock.next() < near
    clock.observe(near)
    assert near < clock.next() < far
