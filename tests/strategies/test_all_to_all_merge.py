"""All servers end with the same sessions, whatever happens to the messages between them."""

from __future__ import annotations

import contextlib
import hashlib

import msgspec
import pytest
from all_to_all_cluster import Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import replica
from strategies.all_to_all import AllToAllStore
from strategies.clock import HybridClock, server_of
from strategies.contract import Changes, NewSession, SessionExists, SessionGone, StoreSettings
from strategies.peer_http import MAX_BODY_BYTES, Message, encode
from strategies.replica import change, merge

NAMES = ("user", "cart:1", "cart:2", "recent")
names = st.sampled_from(NAMES)
servers = st.integers(0, 2)
saves = st.builds(
    Changes,
    set=st.dictionaries(names, st.binary(max_size=2), max_size=3),
    deleted=st.frozensets(names, max_size=2),
    whole=st.booleans(),
    secret_hash=st.none() | st.sampled_from(["hash 1", "hash 2"]),
)
steps = st.one_of(
    st.tuples(st.just("save"), servers, saves),
    st.tuples(st.just("touch"), servers, st.none()),
    st.tuples(st.just("deliver"), servers, st.randoms(use_true_random=False)),
)


class Simulation:
    """Three servers whose clocks are set apart by minutes, and a wire that delivers what and when the test wants."""

    def __init__(self):
        self.wire = Wire()
        self.accepted = []
        self.seconds = 1_000_000.0
        self.stores = [self._store(f"web-{i}", offset) for i, offset in enumerate((0.0, -180.0, 240.0))]
        self.stores[0].create("h", NewSession("hash 0", {"user": b"0"}))
        for store in self.stores:
            store.received(self.wire.told, {})

    def _store(self, name, offset):
        settings = StoreSettings(server=name, idle_seconds=3600)
        return self.wire.connect(AllToAllStore(settings, lambda: self.seconds + offset))

    def do(self, what, server, how):
        """Do one step on one server."""
        self.seconds += 0.0004  # several in one millisecond
        store = self.stores[server]
        if what == "deliver":
            chosen = [message for message in self.wire.told if how.random() < 0.5]
            how.shuffle(chosen)
            store.received(chosen, {})
        elif what == "save":
            with contextlib.suppress(SessionGone):
                self.accepted.append((store.save("h", how), how))
        else:
            getattr(store, what)("h")

    def deliver_everything(self, how):
        """Give every server all that was ever told, shuffled, twice."""
        for store in self.stores:
            messages = self.wire.told * 2
            how.shuffle(messages)
            store.received(messages, {})


@pytest.fixture(scope="module", autouse=True)
def _no_sweepers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("strategies.all_to_all.Sweeper", lambda *_: type("None", (), {"stop": lambda self: None})())
        yield


def replay(accepted):
    """Apply saves to a plain dict one after another, in the order of their stamps: the slow and obvious way."""
    fields, secret = {"user": b"0"}, "hash 0"
    for _, changes in sorted(accepted, key=lambda save: save[0]):
        if changes.whole:
            fields = {}
        for name in changes.deleted:
            fields.pop(name, None)
        fields.update(changes.set)
        secret = changes.secret_hash or secret
    return fields, secret


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=25), st.randoms(use_true_random=False))
def test_any_delivery_converges_to_the_saves_in_the_order_of_their_stamps(run, shuffling):
    """Shuffled, duplicated and delayed deliveries leave all servers with what one server would have made of it."""
    simulation = Simulation()
    for step in run:
        simulation.do(*step)
    simulation.deliver_everything(shuffling)
    first, *others = (store.snapshot() for store in simulation.stores)
    assert all(other == first for other in others)
    record = first[0].record()
    assert (dict(record.fields), record.secret_hash) == replay(simulation.accepted)
    assert record.version == max((version for version, _ in simulation.accepted), default=record.version)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=15), servers, st.lists(steps, max_size=15), st.randoms(use_true_random=False))
def test_a_logout_beats_every_save_in_any_delivery(before, where, after, shuffling):
    """Once a session was deleted on one server, all end with the same tombstone, whatever was saved elsewhere."""
    simulation = Simulation()
    for step in (*before, ("delete", where, None), *after):
        simulation.do(*step)
    simulation.deliver_everything(shuffling)
    first, *others = (store.snapshot() for store in simulation.stores)
    assert all(other == first for other in others)
    assert [copy.ended for copy in first] == [True]
    assert all(store.load("h") is None for store in simulation.stores)


handles = st.sampled_from(["h", "i", "j"])
events = st.one_of(
    st.tuples(st.just("create"), servers, handles, st.binary(max_size=2)),
    st.tuples(st.just("save"), servers, handles, saves),
    st.tuples(st.just("touch"), servers, handles, st.none()),
    st.tuples(st.just("delete"), servers, handles, st.none()),
    st.tuples(st.just("deliver"), servers, servers, st.randoms(use_true_random=False)),
    st.tuples(st.just("answer"), servers, servers, handles),
    st.tuples(st.just("transfer"), servers, servers, st.none()),
    st.tuples(st.just("restart"), servers, servers, st.none()),
)


def digest(store):
    """Return one number for all that a server holds, tombstones included."""
    held = sorted(store.snapshot(), key=lambda copy: copy.handle)
    return hashlib.sha256(msgspec.msgpack.encode(held, order="deterministic")).hexdigest()


class Network(Simulation):
    """Several sessions, of which no server knows all; a server may forget everything and be told again."""

    def do(self, what, server, which, how):
        """Let one thing happen."""
        self.seconds += 0.0004
        store = self.stores[server]
        if what == "create":
            with contextlib.suppress(SessionExists):
                store.create(which, NewSession(f"hash of {server}", {"user": how}))
        elif what == "save":
            with contextlib.suppress(SessionGone):
                store.save(which, how)
        elif what in {"touch", "delete"}:
            getattr(store, what)(which)
        elif what == "deliver":
            chosen = [message for message in self.wire.told if how.random() < 0.3] * 2
            how.shuffle(chosen)
            store.received(chosen, {})
        elif what == "answer":
            store.learn(self.stores[which].known([how]))
        elif which != server:
            if what == "restart":
                self.stores[server] = store = self._store(f"web-{server}", store._now() - self.seconds)
            store.received([Message("state", copy) for copy in self.stores[which].snapshot()], {})


@settings(max_examples=200, deadline=None)
@given(st.lists(events, max_size=40), st.randoms(use_true_random=False))
def test_whatever_happens_on_the_way_all_servers_are_identical_once_quiet(run, shuffling):
    """Creates, saves, touches and deletes in any interleaving of deliveries, answers, transfers and restarts.

    Deliveries are partial, duplicated, shuffled and delayed, also of sessions that a server has never heard of.
    """
    network = Network()
    for event in run:
        network.do(*event)
    network.deliver_everything(shuffling)
    assert len({digest(store) for store in network.stores}) == 1
    served = [{copy.handle: store.load(copy.handle) for copy in store.snapshot()} for store in network.stores]
    assert served[0] == served[1] == served[2]
    deleted = {message.copy.handle for message in network.wire.told if message.kind == "delete"}
    assert not any(served[0][handle] for handle in deleted)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, min_size=3, max_size=12), st.data())
def test_merge_is_commutative_associative_and_idempotent(run, data):
    """The three laws of a join, over the changes of one session."""
    simulation = Simulation()
    for step in (*run, ("delete", 0, None)):
        simulation.do(*step)
    copies = st.sampled_from([message.copy for message in simulation.wire.told])
    one, two, three = data.draw(copies), data.draw(copies), data.draw(copies)
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(merge(one, two), two) == merge(one, two)


def test_a_change_that_comes_before_its_session_is_kept_but_not_served():
    """A save that overtakes the create is no session yet; with the create it is whole."""
    simulation = Simulation()
    simulation.do("save", 0, Changes(set={"cart:1": b"1"}))
    create, save = simulation.wire.told
    newcomer = simulation._store("web-9", 0.0)
    newcomer.received([save], {})
    assert newcomer.load("h") is None
    assert newcomer.census().handles == ()
    newcomer.received([create], {})
    assert newcomer.load("h").fields == {"user": b"0", "cart:1": b"1"}


def test_a_whole_save_removes_fields_it_never_knew():
    """`blob`: the later whole save wins over an earlier one on another server, fields unknown to it included."""
    simulation = Simulation()
    first, _, ahead = simulation.stores
    first.save("h", Changes(set={"cart:1": b"1"}, whole=True))
    ahead.save("h", Changes(set={"cart:2": b"2"}, whole=True))
    for store in simulation.stores:
        store.received(simulation.wire.told, {})
        assert store.load("h").fields == {"cart:2": b"2"}


def test_added_and_removed_fields_do_not_pile_up(monkeypatch):
    """Tombstones of deleted fields are folded away: the copy stays small, other fields stay, deleted ones stay away."""
    monkeypatch.setattr(replica, "MAX_FIELD_TOMBSTONES", 8)
    simulation = Simulation()
    store, other, _ = simulation.stores
    for i in range(100):
        store.save("h", Changes(set={f"cart:{i}": b"1"}))
        store.save("h", Changes(deleted=frozenset({f"cart:{i}"})))
    assert len(store.snapshot()[0].fields) < 15
    assert store.load("h").fields == {"user": b"0"}
    other.received(list(reversed(simulation.wire.told)), {})
    assert other.snapshot() == store.snapshot()


def test_long_names_of_removed_fields_do_not_pile_up():
    """Few tombstones can be large: a copy that outgrew what a peer accepts would shut it out for good."""
    simulation = Simulation()
    store, other, _ = simulation.stores
    for i in range(60):
        store.save("h", Changes(set={f"{i:060000}": b"1"}))
        store.save("h", Changes(deleted=frozenset({f"{i:060000}"})))
    (copy,) = store.snapshot()
    assert len(encode(Message("state", copy))) < MAX_BODY_BYTES / 10
    assert copy.values() == {"user": b"0"}
    other.received(list(reversed(simulation.wire.told)), {})
    assert other.snapshot() == [copy]


def test_a_change_sets_what_it_both_deletes_and_sets():
    """A field that one save both deletes and sets is there afterwards."""
    simulation = Simulation()
    copy = simulation.stores[0].snapshot()[0]
    delta = change(copy, Changes(set={"user": b"1"}, deleted=frozenset({"user"})), "f" * 16 + "web-0", 2e6)
    assert merge(copy, delta).values() == {"user": b"1"}


def test_stamps_rise_past_all_that_was_seen():
    """A clock that is behind gives stamps above those of a server whose clock is ahead, once it has seen them."""
    behind, ahead = HybridClock("web-1", lambda: 1000.0), HybridClock("web-2", lambda: 2000.0)
    seen = ahead.next()
    assert behind.next() < seen
    behind.observe(seen)
    later = [behind.next() for _ in range(3)]
    assert seen < later[0] < later[1] < later[2]
    assert server_of(seen) == "web-2"


def test_a_later_write_wins_where_the_clock_is_behind():
    """A server minutes behind overwrites what it has received from one minutes ahead."""
    simulation = Simulation()
    _, behind, ahead = simulation.stores
    ahead.save("h", Changes(set={"user": b"early"}))
    behind.received(simulation.wire.told, {})
    behind.save("h", Changes(set={"user": b"late"}))
    ahead.received(simulation.wire.told, {})
    assert ahead.load("h").fields == {"user": b"late"}
