"""What a shopper's server does with its own copies and its peers' answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from all_to_all_cluster import SECRET, Cluster, bound_socket, wait_until

from strategies.all_to_all import AllToAllStore
from strategies.clock import stamp_at
from strategies.contract import Changes, NewSession, Peer, SessionGone, StoreSettings, UnsupportedPolicy
from strategies.peer_http import Message, PeerAbsent, PeerClient, PeerSilent

CART = NewSession("hash", {"cart:1": b'{"product":7}'})


@pytest.fixture
def cluster():
    """Give three servers."""
    with Cluster(3, timeout_seconds=0.8) as running:
        yield running


def keep_from(cluster, sender, *receivers):
    """Have one server's messages to others vanish, as if they were still on their way."""
    for receiver in receivers:
        cluster.stores[sender]._peers._links[cluster.peers[receiver].name].send = lambda _: None


def details(store):
    """Return what a store counts."""
    return store.census().details


def test_a_save_arrives_at_every_server(cluster):
    """Each server holds every session, with its fields, version and origin."""
    first, *others = cluster.stores
    first.create("h", CART)
    version = first.save("h", Changes(set={"user": b'"ann"'}))
    cluster.quiet()
    for other in others:
        record = other.load("h")
        assert record == first.load("h")
        assert (record.version, record.origin) == (version, "web-1")
        assert other.census().handles == ("h",)


def test_an_unknown_session_is_asked_for_once(cluster):
    """A server that has not heard of a session yet asks, serves it, and then knows it."""
    first, second, _ = cluster.stores
    keep_from(cluster, 0, 1, 2)
    first.create("h", CART)
    assert second.load("h").fields == CART.fields
    assert second.load("h").fields == CART.fields
    assert (details(second)["asks"], details(second)["asks_saved"]) == (1, 1)


def test_a_newer_copy_is_asked_for_when_the_caller_knows_better(cluster):
    """With `ask_peers` a live but outdated copy is brought up to date before it is served."""
    first, second, _ = cluster.stores
    first.create("h", CART)
    cluster.quiet()
    keep_from(cluster, 0, 1, 2)
    first.save("h", Changes(secret_hash="rotated"))
    assert second.load("h").secret_hash == "hash"
    assert second.load("h", ask_peers=True).secret_hash == "rotated"
    assert details(second)["asks_saved"] == 1


def test_a_question_that_brings_nothing_is_not_counted_as_saving(cluster):
    """Asking for what nobody knows is answered with None, and saves no session."""
    second = cluster.stores[1]
    assert second.load("nobody knows this") is None
    assert (details(second)["asks"], details(second)["asks_saved"]) == (1, 0)


def test_any_tombstone_wins_over_a_live_copy(cluster):
    """One peer has the session, another knows that it was logged out: it is out."""
    first, second, third = cluster.stores
    keep_from(cluster, 0, 1, 2)
    keep_from(cluster, 2, 0, 1)
    first.create("h", CART)
    assert third.load("h") is not None
    third.delete("h")
    assert second.load("h") is None


def test_a_known_tombstone_is_not_asked_about(cluster):
    """A session that is known to have ended costs its old cookie's requests no messages."""
    first, second, _ = cluster.stores
    first.create("h", CART)
    first.delete("h")
    cluster.quiet()
    assert second.load("h", ask_peers=True) is None
    assert details(second)["asks"] == 0


def test_a_save_of_an_unknown_session_asks_first(cluster):
    """A save finds the session with a peer and changes it; what no peer knows is gone."""
    first, second, _ = cluster.stores
    keep_from(cluster, 0, 1, 2)
    first.create("h", CART)
    second.save("h", Changes(set={"user": b"1"}))
    assert second.load("h").fields == {**CART.fields, "user": b"1"}
    with pytest.raises(SessionGone):
        second.save("nobody knows this", Changes(set={"user": b"1"}))


def test_a_late_save_brings_nothing_back_on_any_server(cluster):
    """A save that crosses a logout on the wire is refused or absorbed: the session stays dead everywhere."""
    first, second, third = cluster.stores
    first.create("h", CART)
    cluster.quiet()
    held_back = first._peers._links["web-2"].send
    crossing = []
    first._peers._links["web-2"].send = crossing.append
    first.save("h", Changes(set={"user": b"1"}))
    second.delete("h")
    for message in crossing:
        held_back(message)
    cluster.quiet()
    wait_until(lambda: all(store.snapshot()[0].ended for store in cluster.stores))
    for store in (first, second, third):
        assert store.load("h") is None
        assert store.census().handles == ()
        with pytest.raises(SessionGone):
            store.save("h", Changes(set={"user": b"1"}))


def test_a_server_that_was_away_brings_nothing_back(cluster):
    """A server that missed a logout is told when it is back, whatever it still holds."""
    first, _, third = cluster.stores
    first.create("h", CART)
    cluster.quiet()
    cluster.stop_listening(2)
    first.delete("h")
    assert third.load("h") is not None
    cluster.listen_again(2)
    wait_until(lambda: third.snapshot()[0].ended)
    cluster.quiet()
    assert all(store.load("h") is None for store in cluster.stores)


def test_a_server_that_was_away_for_an_hour_brings_nothing_back():
    """A tombstone outlives every idle deadline and beats what a server cut off goes on to save and to touch."""
    now = [1_000_000.0]
    with Cluster(3, lambda: now[0], idle_seconds=1800, absolute_seconds=8 * 3600, sweep_seconds=0.01) as cluster:
        first, _, away = cluster.stores
        first.create("h", CART)
        cluster.quiet()
        cluster.stop_listening(2)
        first.create("of use", CART)
        keep_from(cluster, 2, 0, 1)
        first.delete("h")
        for _ in range(4):
            now[0] += 1000
            away.save("h", Changes(set={"user": b'"ann"'}))
            first.touch("of use")
            time.sleep(0.05)  # for a few sweeps, which must leave the tombstone alone
        assert away.load("h") is not None
        for link in away._peers._links.values():
            del link.send  # what was kept is lost with it: only what is held comes back
        cluster.listen_again(2)
        wait_until(lambda: away.load("h") is None and away.load("of use") is not None)
        away.touch("h")
        with pytest.raises(SessionGone):
            away.save("h", Changes(set={"late": b"1"}))
        first.learn(away.snapshot())
        cluster.quiet()
        assert [store.census().handles for store in cluster.stores] == [("of use",)] * 3


def test_asking_is_bounded_in_time_and_uses_what_was_answered():
    """A peer that hangs costs an ask its bound, not more; the others' answers count."""
    with Cluster(3, timeout_seconds=3.0) as cluster:
        first, second, _ = cluster.stores
        keep_from(cluster, 0, 1, 2)
        first.create("h", CART)
        with cluster.hanging(2):
            begin = time.monotonic()
            assert second.load("h") is not None
            assert time.monotonic() - begin < 2.9
            wait_until(lambda: not second._peers._links["web-3"].open, seconds=20)
            begin = time.monotonic()
            assert second.load("nobody knows this") is None
            assert time.monotonic() - begin < 0.7


def test_asking_is_bounded_also_where_questions_queue_up():
    """More questions than there are askers wait no longer for their turn than for the answer."""
    with Cluster(3, timeout_seconds=2.0) as cluster:
        released = cluster.speechless(1, 2)
        begin = time.monotonic()
        with ThreadPoolExecutor(20) as shoppers:
            found = list(shoppers.map(cluster.stores[1].load, [f"nobody knows {i}" for i in range(20)]))
        assert found == [None] * 20
        assert time.monotonic() - begin < 10
        released.set()


def test_a_peer_that_answers_in_drips_is_silent():
    """The time for an answer is for all of it: a peer that sends a byte now and then has not answered."""
    stop = threading.Event()
    with bound_socket() as slow:
        slow.listen()

        def drip():
            connection, _ = slow.accept()
            with connection, contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    connection.sendall(b"H")

        dripping = threading.Thread(target=drip)
        dripping.start()
        client = PeerClient(Peer("web-2", f"http://127.0.0.1:{slow.getsockname()[1]}"), SECRET, 0.4)
        begin = time.monotonic()
        with pytest.raises(PeerSilent):
            client.ask(["h"])
        assert time.monotonic() - begin < 10
        stop.set()
        dripping.join()


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(cluster):
    """A peer that closed an idle connection is not down: the request goes out again on a new one."""
    first, second, _ = cluster.stores
    first.create("h", CART)
    cluster.quiet()
    for connection in first._peers._links["web-2"].client._idle:
        connection.sock.shutdown(socket.SHUT_RDWR)
    first.save("h", Changes(set={"user": b"1"}))
    cluster.quiet()
    assert second.load("h").fields == {**CART.fields, "user": b"1"}
    assert details(first)["absences"] == 0


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", b"\r\n\r\n"]
)
def test_answers_of_another_protocol_are_an_absence(answer):
    """Whoever answers on a peer's port without being one is no peer: an error of the link, not of the server."""
    with bound_socket() as stranger:
        stranger.listen()

        def reply():
            connection, _ = stranger.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        replying = threading.Thread(target=reply)
        replying.start()
        client = PeerClient(Peer("web-2", f"http://127.0.0.1:{stranger.getsockname()[1]}"), SECRET, 5)
        with pytest.raises(PeerAbsent):
            client.ask(["h"])
        replying.join()


def test_touches_are_told_to_the_peers(cluster):
    """A touched session lives on everywhere; no save is counted."""
    first, second, _ = cluster.stores
    first.create("h", CART)
    cluster.quiet()
    before = second.load("h")
    first.touch("h")
    cluster.quiet()
    after = second.load("h")
    assert after.idle_deadline > before.idle_deadline
    assert (after.version, after.fields) == (before.version, before.fields)
    assert (details(second)["received_touch"], details(second)["received_save"]) == (1, 0)


def test_versioned_is_refused():
    """Neither is `versioned` offered, nor a version accepted: two servers could accept the same."""
    store = AllToAllStore.open(StoreSettings())
    version = store.create("h", CART)
    assert "versioned" not in store.policies
    with pytest.raises(UnsupportedPolicy, match="two servers can accept the same version"):
        store.save("h", Changes(set={"a": b"1"}), version)
    store.close()


def test_two_servers_can_accept_the_same_version():
    """Why `versioned` is refused, as `docs/all-to-all.md` tells it: both would sell the last one in stock."""
    with Cluster(2) as cluster:
        first, second = cluster.stores
        first.create("h", NewSession("hash", {"stock": b"1"}))
        cluster.quiet()
        seen = {store.load("h").version for store in cluster.stores}
        assert len(seen) == 1  # the same version on both, so that both would find it current
        keep_from(cluster, 0, 1)
        keep_from(cluster, 1, 0)
        sold = []
        for store in (first, second):
            if store.load("h").version in seen:  # what `versioned` would check
                store.save("h", Changes(set={"stock": b"0", f"sold by {store.settings.server}": b"true"}))
                sold.append(store.settings.server)
        assert sold == ["web-1", "web-2"]
        first.learn(second.snapshot())
        assert first.load("h").fields == {"stock": b"0", "sold by web-1": b"true", "sold by web-2": b"true"}


def test_peers_without_a_secret_are_refused():
    """A cluster whose peer routes anyone could use does not start."""
    with pytest.raises(ValueError, match="peer_secret"):
        AllToAllStore.open(StoreSettings(peers=(Peer("web-2", "http://127.0.0.1:1"),)))


def test_copies_are_counted_by_their_use(cluster):
    """A copy counts as foreign where another server saved it, and as read once a shopper has been served it there."""
    first, second, third = cluster.stores
    for handle in ("a", "b"):
        first.create(handle, CART)
        first.save(handle, Changes(set={"user": b"1"}))
    cluster.quiet()
    second.load("a")
    second.load("a")
    first.load("a")
    uses = [
        [details(store)[name] for name in ("foreign_copies", "foreign_copies_read")] for store in (first, second, third)
    ]
    assert uses == [[0, 0], [2, 1], [2, 0]]
    assert details(second)["changes_received"] == 4
    assert details(second)["changes_read"] == 2


def test_a_change_that_arrives_late_is_counted_but_makes_no_foreign_copy(cluster):
    """Where this server saved last, an older save from elsewhere is a change received; the copy stays its own."""
    first, second, _ = cluster.stores
    first.create("h", CART)
    cluster.quiet()
    keep_from(cluster, 1, 0)
    saved = second.save("h", Changes(set={"user": b"1"}))
    wait_until(lambda: stamp_at(time.time()) > saved)
    first.save("h", Changes(set={"recent": b"[]"}))
    first.received([Message("save", second.snapshot()[0])], {})
    assert first.load("h").fields == {**CART.fields, "user": b"1", "recent": b"[]"}
    assert (details(first)["changes_received"], details(first)["foreign_copies"]) == (1, 0)


def test_messages_are_counted_by_kind_on_both_sides(cluster):
    """What one server has sent, the others have received, in number and in bytes."""
    first, second, third = cluster.stores
    first.create("h", CART)
    first.save("h", Changes(set={"user": b"1"}))
    first.touch("h")
    first.delete("h")
    cluster.quiet()
    kinds = ("create", "save", "touch", "delete")
    sizes = {}
    for kind in kinds:
        assert details(first)[f"sent_{kind}"] == 2
        assert details(second)[f"received_{kind}"] == details(third)[f"received_{kind}"] == 1
        sizes[kind] = details(second)[f"received_{kind}_bytes"]
        assert details(first)[f"sent_{kind}_bytes"] == 2 * sizes[kind] == 2 * details(third)[f"received_{kind}_bytes"]
    assert sizes["create"] > sizes["save"] > sizes["touch"] > 0
    assert 0 < details(second)["bytes_received"] - sum(sizes.values()) <= 9 * details(second)["batches_received"]
    assert details(first)["bytes_sent"] == details(second)["bytes_received"] + details(third)["bytes_received"] > 0


def test_expired_sessions_and_old_tombstones_are_forgotten():
    """The sweeper removes sessions past their idle deadline, and tombstones past the absolute one, not before."""
    now = [1000.0]
    settings = StoreSettings(idle_seconds=10, absolute_seconds=100, sweep_seconds=0.01, peer_secret=SECRET)
    store = AllToAllStore(settings, lambda: now[0])
    store.create("idle", CART)
    store.create("ended", CART)
    store.delete("ended")
    now[0] += 11
    assert store.load("idle") is None
    wait_until(lambda: [copy.handle for copy in store.snapshot()] == ["ended"])
    now[0] += 90
    wait_until(lambda: store.snapshot() == [])
    store.close()
