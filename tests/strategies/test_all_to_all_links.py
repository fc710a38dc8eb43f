"""What becomes of the peers that hang, die, return or cannot keep up."""

from __future__ import annotations

import threading
import time

import pytest
from all_to_all_cluster import Cluster, bound_socket, wait_until

from strategies import peer_link, peers
from strategies.all_to_all import AllToAllStore
from strategies.contract import Changes, NewSession, Peer, StoreSettings
from strategies.peer_http import Hello

CART = NewSession("hash", {"cart:1": b'{"product":7}'})


def details(store):
    """Return what a store counts."""
    return store.census().details


def same(*stores):
    """Tell whether all stores hold the same copies."""
    first, *others = ({copy.handle: copy for copy in store.snapshot()} for store in stores)
    return all(other == first for other in others)


class Gate:
    """Holds up what a store receives until opened."""

    def __init__(self, store, monkeypatch):
        self._passed = threading.Event()
        self._receive = store.received
        monkeypatch.setattr(store, "received", self._pass)

    def open(self):
        """Let everything through from now on."""
        self._passed.set()

    def _pass(self, messages, counts):
        self._passed.wait(30)
        self._receive(messages, counts)


class Steps:
    """Holds up every batch that a store receives until it is let through."""

    def __init__(self, store, monkeypatch):
        self._arrived, self._may_pass = threading.Semaphore(0), threading.Semaphore(0)
        self._receive = store.received
        monkeypatch.setattr(store, "received", self._pass)

    def wait_for_arrival(self):
        """Wait until one more batch is there."""
        assert self._arrived.acquire(timeout=10)

    def let_one_through(self):
        """Let one batch through."""
        self._may_pass.release()

    def _pass(self, messages, counts):
        self._arrived.release()
        self._may_pass.acquire(timeout=30)
        self._receive(messages, counts)


def test_a_cluster_starts_without_waiting_for_each_other(monkeypatch):
    """All at once, nobody waits; the first one up says so."""
    monkeypatch.setattr(peers, "JOIN_SECONDS", 30)
    begin = time.monotonic()
    with Cluster(4) as cluster:
        assert time.monotonic() - begin < 20
        assert all(store.ready for store in cluster.stores)


def test_a_server_alone_is_ready_at_once(monkeypatch):
    """Peers that refuse connections are not up: the server does not wait, and says that it is the first one."""
    monkeypatch.setattr(peers, "JOIN_SECONDS", 30)
    free = [bound_socket() for _ in range(3)]
    others = tuple(Peer(f"web-{i}", f"http://127.0.0.1:{s.getsockname()[1]}") for i, s in enumerate(free, 2))
    store = AllToAllStore.open(StoreSettings(peers=others, peer_secret="s"))
    assert not store.ready
    begin = time.monotonic()
    store.join()
    assert time.monotonic() - begin < 20
    assert store.ready
    assert details(store)["first_up"] == 1
    assert store.queues_empty()
    store.close()
    for bound in free:
        bound.close()


def test_a_peer_that_hangs_does_not_hold_up_async():
    """Saves return at once and reach the living; the one that hung is told everything when it is back."""
    with Cluster(3, timeout_seconds=3.0) as cluster:
        first, second, third = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        with cluster.hanging(2):
            for i in range(200):
                first.save("h", Changes(set={f"f{i % 10}": b"1"}))
            assert details(first)["peer_timeouts"] == 0  # all are answered before the peer is even given up
            wait_until(lambda: same(first, second))
            wait_until(lambda: details(first)["peer_timeouts"] == 1)
            assert not first.queues_empty()
        wait_until(lambda: same(first, third))
        cluster.quiet()
        assert details(first)["transfers"] >= 1


def test_a_deletion_is_waited_for_also_under_async(monkeypatch):
    """Nobody who has been told that they are logged out is still known on another server; a save waits for nobody."""
    with Cluster(3, timeout_seconds=60) as cluster:
        first, second, third = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        gate = Gate(third, monkeypatch)
        first.save("h", Changes(set={"n": b"1"}))  # returns though nothing gets through
        delete = threading.Thread(target=first.delete, args=("h",))
        delete.start()
        wait_until(lambda: second.load("h") is None)
        assert delete.is_alive()
        gate.open()
        delete.join()
        assert third.load("h") is None


def test_a_new_secret_is_waited_for_also_under_async(monkeypatch):
    """Nobody who has been told that they are logged in can be met on another server with the cookie from before."""
    with Cluster(2, timeout_seconds=60) as cluster:
        first, second = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        steps = Steps(second, monkeypatch)
        login = threading.Thread(target=first.save, args=("h", Changes(secret_hash="2" * 64)))
        login.start()
        steps.wait_for_arrival()
        assert login.is_alive()
        steps.let_one_through()
        login.join()
        assert second.load("h").secret_hash == "2" * 64


def test_a_deletion_waits_for_a_hung_peer_no_longer_than_its_deadline():
    """A logout is answered in the end, whoever hangs."""
    with Cluster(2, timeout_seconds=4.0) as cluster:
        first, _ = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        with cluster.hanging(1):
            begin = time.monotonic()
            first.delete("h")
            assert time.monotonic() - begin > 1.99
            assert details(first)["peer_timeouts"] == 1


def test_sync_answers_when_all_peers_have_applied():
    """The moment a save returns, every peer serves it."""
    with Cluster(3, replication="sync") as cluster:
        first, *others = cluster.stores
        first.create("h", CART)
        for i in range(50):
            version = first.save("h", Changes(set={"n": b"%d" % i}))
            assert [other.snapshot()[0].version for other in others] == [version, version]


def test_sync_waits_for_a_hung_peer_up_to_its_deadline_and_then_no_longer():
    """One save is held up to the deadline; the peer then counts as down, and later saves do not wait for it."""
    with Cluster(3, replication="sync", timeout_seconds=4.0) as cluster:
        first, second, third = cluster.stores
        first.create("h", CART)
        with cluster.hanging(2):
            begin = time.monotonic()
            first.save("h", Changes(set={"n": b"1"}))
            assert 1.99 < time.monotonic() - begin < 3.9
            assert same(first, second)
            begin = time.monotonic()
            first.save("h", Changes(set={"n": b"2"}))
            assert time.monotonic() - begin < 1.9
            assert details(first)["peer_timeouts"] == 1
            wait_until(lambda: not first._peers._links["web-3"].open)
        wait_until(lambda: same(first, third))
        cluster.quiet()
        version = first.save("h", Changes(set={"n": b"3"}))
        assert third.snapshot()[0].version == version


def test_sync_shows_a_shopper_its_own_write_also_where_a_peer_has_timed_out():
    """A peer that was too late serves an older copy to nobody who knows better: the shopper's clock has it ask."""
    with Cluster(3, replication="sync", timeout_seconds=0.8) as cluster:
        first, _, third = cluster.stores
        first.create("h", CART)
        with cluster.hanging(2):
            version = first.save("h", Changes(set={"n": b"1"}))
            assert details(first)["peer_timeouts"] == 1
            assert "n" not in third.load("h").fields
            assert third.load("h", seen=version).fields["n"] == b"1"
            assert details(third)["catch_ups"] == 1


def test_no_save_waits_for_a_late_peer_before_it_has_caught_up(monkeypatch):
    """What was queued for a late peer while it took the batch before must arrive, too, before anyone waits for it."""
    with Cluster(2, replication="sync", timeout_seconds=60) as cluster:
        first, second = cluster.stores
        first.create("h", CART)
        steps = Steps(second, monkeypatch)
        link = first._peers._links["web-2"]
        link.late()
        first.save("h", Changes(set={"n": b"1"}))
        steps.wait_for_arrival()
        first.save("h", Changes(set={"n": b"2"}))
        steps.let_one_through()
        steps.wait_for_arrival()
        assert second.load("h").fields["n"] == b"1"
        saving = threading.Thread(target=first.save, args=("h", Changes(set={"n": b"3"})))
        saving.start()
        saving.join(10)
        assert not saving.is_alive(), "a save waits for a peer that has not caught up"
        steps.let_one_through()
        steps.let_one_through()
        wait_until(link.idle)
        steps.let_one_through()
        version = first.save("h", Changes(set={"n": b"4"}))
        assert second.snapshot()[0].version == version


def test_a_save_that_a_peer_breaks_off_is_waited_for_no_longer(monkeypatch):
    """Under `sync` nobody waits for a peer that has failed in the midst of a message; it is counted, and sent again."""
    with Cluster(2, replication="sync", timeout_seconds=120) as cluster:
        first, second = cluster.stores
        first.create("h", CART)
        receive, broken_off = second.received, []

        def break_off_once(messages, counts):
            if not broken_off:
                broken_off.append(messages)
                raise OSError("as if it broke down")
            receive(messages, counts)

        monkeypatch.setattr(second, "received", break_off_once)
        saving = threading.Thread(target=first.save, args=("h", Changes(set={"n": b"1"})))
        saving.start()
        saving.join(40)  # its deadline is 60 s
        assert not saving.is_alive()
        wait_until(lambda: same(first, second))
        assert details(first)["messages_missed"] == 1


def test_an_overflowing_queue_is_counted_and_repaired(monkeypatch):
    """What does not fit into the queue is not lost: the peer is sent everything instead."""
    monkeypatch.setattr(peer_link, "MAX_QUEUED_MESSAGES", 5)
    with Cluster(2) as cluster:
        first, second = cluster.stores
        gate = Gate(second, monkeypatch)
        for i in range(40):
            first.create(f"h{i}", CART)
        gate.open()
        cluster.quiet()
        assert same(first, second)
        assert details(first)["queue_overflows"] >= 1
        assert details(first)["transfers"] == 1
        assert details(first)["absences"] == 0


def test_an_overflowing_queue_is_bounded_in_bytes_too(monkeypatch):
    """Large sessions overflow the queue before there are many."""
    monkeypatch.setattr(peer_link, "MAX_QUEUED_BYTES", 50_000)
    with Cluster(2) as cluster:
        first, second = cluster.stores
        gate = Gate(second, monkeypatch)
        for i in range(40):
            first.create(f"h{i}", NewSession("hash", {"big": b"x" * 10_000}))
        gate.open()
        cluster.quiet()
        assert same(first, second)
        assert details(first)["queue_overflows"] >= 1


def test_a_burst_travels_in_few_requests():
    """Saves that gather while a batch is under way share the next one: far fewer than one request per save and peer."""
    with Cluster(4) as cluster:
        first, *others = cluster.stores
        first.create("h", CART)
        for i in range(300):
            first.save("h", Changes(set={f"f{i % 10}": b"1"}))
        cluster.quiet()
        assert same(first, *others)
        assert details(first)["sent_save"] == 900
        assert details(first)["batches_sent"] < 300


def test_a_restarted_server_has_the_state_before_it_is_ready():
    """It comes back with every session and tombstone, and hears of what is saved from then on."""
    with Cluster(3) as cluster:
        first, second, _ = cluster.stores
        for i in range(600):
            first.create(f"h{i}", CART)
        first.delete("h0")
        cluster.quiet()
        cluster.stop_listening(2)
        second.save("h1", Changes(set={"while away": b"1"}))
        third = cluster.restart(2)
        assert third.ready
        assert same(second, third)
        assert details(third)["first_up"] == 0
        first.save("h2", Changes(set={"after": b"1"}))
        wait_until(lambda: same(first, third))
        cluster.quiet()


def test_a_server_takes_the_state_from_one_that_has_it(monkeypatch):
    """Not from one that is only starting, too, and has nothing yet, though it was the first to answer."""
    first_contacts = peers.Peers._first_contacts
    monkeypatch.setattr(peers, "JOIN_SECONDS", 30.0)
    monkeypatch.setattr(peers.Peers, "_first_contacts", lambda self: by_name(first_contacts(self), "web-2"))
    with Cluster(3, timeout_seconds=30) as cluster:
        for i in range(5):
            cluster.stores[0].create(f"h{i}", CART)
        cluster.quiet()
        for index in (1, 2):
            cluster.stop_listening(index)
        cluster.stores[1].close()
        starting = cluster.stores[1] = AllToAllStore(cluster._settings_of(1))
        monkeypatch.setattr(starting, "received", lambda *_: None)
        cluster.listen_again(1)
        third = cluster.restart(2)
        assert details(third)["received_answers"] == 5
        assert details(third)["first_up"] == 0


def by_name(contacts, first):
    """Return links and greetings, one peer's before all others'."""
    return sorted(contacts, key=lambda contact: contact[0].peer.name != first)


def test_sync_includes_a_server_from_the_moment_it_is_ready():
    """Under `sync`, a server that hung and was restarted has every save when it returns, from when it is ready on."""
    with Cluster(3, replication="sync", timeout_seconds=0.4) as cluster:
        first, second, _ = cluster.stores
        first.create("h", CART)
        cluster.stop_listening(2)
        with bound_socket(int(cluster.peers[2].url.rpartition(":")[2])) as silent:
            silent.listen()
            first.save("h", Changes(set={"while away": b"1"}))
        second.save("h", Changes(set={"while away": b"2"}))
        third = cluster.restart(2)
        assert third.load("h").fields["while away"] == b"2"
        for store in (second, first):
            version = store.save("h", Changes(set={"after": b"1"}))
            assert third.snapshot()[0].version == version


@pytest.mark.parametrize("replication", ["async", "sync"])
@pytest.mark.parametrize("servers", [1, 3])
def test_one_more_server_joins_a_running_cluster(servers, replication):
    """Those that run are told of it first; it comes with every session, and all hear of each other's saves."""
    with Cluster(servers, replication=replication) as cluster:
        first = cluster.stores[0]
        first.create("h", CART)
        first.create("gone", CART)
        first.delete("gone")
        cluster.meet()
        name = cluster.peers[-1].name
        assert all(name in store._peers._links for store in cluster.stores)
        first.save("h", Changes(set={"before it was there": b"1"}))
        newcomer = cluster.start_newcomer()
        assert newcomer.ready
        assert same(first, newcomer)
        assert details(newcomer)["first_up"] == 0
        first.save("h", Changes(set={"from an old one": b"1"}))
        newcomer.save("h", Changes(set={"from the new one": b"1"}))
        wait_until(lambda: same(newcomer, *cluster.stores))
        assert {"from an old one", "from the new one"} <= set(newcomer.load("h").fields)
        cluster.quiet()


def test_meeting_a_server_twice_or_oneself_changes_nothing():
    """Each peer has one link, whoever speaks of it how often."""
    with Cluster(2) as cluster:
        before = dict(cluster.stores[0]._peers._links)
        for peer in cluster.peers:
            cluster.stores[0].meet(peer)
        assert cluster.stores[0]._peers._links == before


def test_servers_that_meet_late_hear_of_what_was_saved_before():
    """One that was forgotten, or found by the other alone, serves meanwhile; when they meet, both hold the same."""
    with Cluster(2) as cluster:
        first, second = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        first.forget("web-2")
        first.save("h", Changes(set={"meanwhile": b"1"}))
        assert "meanwhile" not in second.load("h").fields
        first.meet(cluster.peers[1])
        wait_until(lambda: same(first, second))
        assert "meanwhile" in second.load("h").fields


def test_another_server_at_a_known_address_takes_its_place():
    """Whoever was there before is forgotten: it can never be reached again, and would be told everything twice."""
    with Cluster(3) as cluster:
        first = cluster.stores[0]
        before = first._peers._links["web-3"]
        first.meet(Peer("web-3-again", cluster.peers[2].url))
        assert set(first._peers._links) == {"web-2", "web-3-again"}
        wait_until(lambda: not before._thread.is_alive())


def test_a_server_that_has_moved_is_told_everything_at_its_new_address():
    """It has been at the old one for nobody: what was saved meanwhile, it gets with the rest."""
    with Cluster(2) as cluster, bound_socket() as nobody:
        first, second = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        first.meet(Peer("web-2", f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        first.save("h", Changes(set={"meanwhile": b"1"}))
        assert "meanwhile" not in second.load("h").fields
        first.meet(cluster.peers[1])
        assert set(first._peers._links) == {"web-2"}
        wait_until(lambda: same(first, second))
        assert "meanwhile" in second.load("h").fields


def test_a_server_that_is_gone_for_good_can_be_forgotten():
    """Nobody calls it any more, the others hear of everything as before, and what was counted of it stays."""
    with Cluster(3) as cluster:
        first, second, _ = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        gone, sent = first._peers._links["web-3"], details(first)["sent_create"]
        cluster.stop_listening(2)
        for _ in range(2):
            first.forget("web-3")
        assert set(first._peers._links) == {"web-2"}
        assert details(first)["sent_create"] == sent == 2
        wait_until(lambda: not gone._thread.is_alive())
        first.save("h", Changes(set={"after": b"1"}))
        wait_until(lambda: same(first, second))
        assert first.load("unknown") is None


def test_a_restart_that_nobody_noticed_is_repaired():
    """Peers that sent nothing meanwhile learn of the restart from the greeting, and each sends what the donor lacks."""
    with Cluster(3) as cluster:
        first, second, _ = cluster.stores
        first._peers._links["web-2"].send = lambda _: None
        second._peers._links["web-1"].send = lambda _: None
        first.create("of the first", CART)
        second.create("of the second", CART)
        cluster.quiet()
        cluster.stop_listening(2)
        third = cluster.restart(2)
        wait_until(lambda: set(third.census().handles) == {"of the first", "of the second"})


@pytest.mark.parametrize(("known", "ready"), [(True, True), (False, False)])
def test_whoever_greets_with_an_empty_memory_is_sent_everything(known, ready):
    """One that has restarted since, though it serves already; and one that nobody has met, as long as it starts."""
    with Cluster(2) as cluster:
        first = cluster.stores[0]
        first.create("h", CART)
        cluster.quiet()
        before = details(first)["transfers"]
        if not known:
            first._peers._links["web-2"]._incarnation = None
        first.greeted(Hello("web-2", "another incarnation", ready))
        wait_until(lambda: details(first)["transfers"] == before + 1)


def test_a_peer_that_hangs_does_not_hold_up_a_start_for_long():
    """A server that joins waits for a silent peer no longer than a second."""
    with bound_socket() as silent:
        silent.listen()
        peer = Peer("web-2", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = AllToAllStore.open(StoreSettings(peers=(peer,), peer_secret="s", timeout_seconds=4))
        begin = time.monotonic()
        store.join()
        assert time.monotonic() - begin < 3.5
        assert store.ready
    store.close()


def test_what_a_dead_server_saved_last_reaches_the_others():
    """A save that reached only one peer before its server died is passed on by that peer."""
    with Cluster(3) as cluster:
        first, second, third = cluster.stores
        first.create("kept", CART)
        first.create("ended", CART)
        cluster.quiet()
        first._peers._links["web-3"].send = lambda _: None
        first.save("kept", Changes(set={"last": b"1"}))
        first.delete("ended")
        cluster.quiet()
        cluster.stop_listening(0)
        second.create("notice", CART)
        wait_until(lambda: same(second, third))
        assert third.load("kept").fields["last"] == b"1"
        assert third.load("ended") is None


def test_closing_sends_what_is_queued(monkeypatch):
    """A server that is told to stop does so after its last saves have left."""
    with Cluster(2) as cluster:
        first, second = cluster.stores
        for i in range(100):
            first.create(f"h{i}", CART)
        first.close()
        assert len(second.census().handles) == 100


@pytest.mark.parametrize("servers", [1, 2])
def test_small_clusters_work_alike(servers):
    """One server is a cluster, too."""
    with Cluster(servers, replication="sync") as cluster:
        cluster.stores[0].create("h", CART)
        assert all(store.load("h") for store in cluster.stores)
        assert cluster.stores[0].queues_empty()
