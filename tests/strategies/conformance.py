"""What every store promises, as capability mixins: a store's test class inherits what the store can do."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import nasty
import pytest

from strategies.contract import (
    MAX_SESSION_BYTES,
    Changes,
    NewSession,
    SessionConflict,
    SessionExists,
    SessionGone,
    logical_bytes,
)

SECRET_HASH = hashlib.sha256(b"secret").hexdigest()


def packed(**fields):
    """Return fields as a store gets them."""
    return {name: msgspec.json.encode(value) for name, value in fields.items()}


def new_handle():
    """Return a handle as the session interface makes them."""
    return secrets.token_urlsafe(16)


def begin(store, **fields):
    """Create a session; return its handle."""
    handle = new_handle()
    store.create(handle, NewSession(SECRET_HASH, packed(**fields)))
    return handle


def shown(store, handle):
    """Return a session's fields as Python values; None if there is no such session."""
    record = store.load(handle)
    return record and {name: msgspec.json.decode(value) for name, value in record.fields.items()}


def wait_until(condition, seconds=5.0):
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def at_once(*actions):
    """Run actions in threads of their own, released together; return their results in order."""
    barrier = threading.Barrier(len(actions))

    def run(action):
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


class Keeps:
    """Create, load, save, touch, delete, census: what all stores do alike."""

    def test_created_is_loaded(self, open_store):
        """What was created is loaded as it was, with the server's name and both deadlines."""
        store = open_store("web-1", idle_seconds=100, absolute_seconds=1000)
        before = time.time()
        handle = new_handle()
        version = store.create(handle, NewSession(SECRET_HASH, packed(user="ann")))
        record = store.load(handle)
        assert record.fields == packed(user="ann")
        assert (record.secret_hash, record.version, record.origin) == (SECRET_HASH, version, "web-1")
        assert record.idle_deadline == pytest.approx(before + 100, abs=2)
        assert record.absolute_deadline == pytest.approx(before + 1000, abs=2)

    def test_unknown_is_none(self, open_store):
        """A handle that nobody created has no session."""
        assert open_store().load(new_handle()) is None

    def test_handles_are_not_reused(self, open_store):
        """Creating a handle twice is refused, and the first session stays as it was."""
        store = open_store()
        handle = begin(store, a=1)
        with pytest.raises(SessionExists):
            store.create(handle, NewSession("other", packed(a=2)))
        assert shown(store, handle) == {"a": 1}
        assert store.load(handle).secret_hash == SECRET_HASH

    def test_one_of_many_creates(self, open_store):
        """Of many that create the same handle at once, one succeeds."""
        store = open_store()
        handle = new_handle()

        def create(i):
            try:
                return store.create(handle, NewSession(SECRET_HASH, packed(i=i)))
            except SessionExists:
                return None

        outcomes = at_once(*[lambda i=i: create(i) for i in range(4)])
        assert [i for i, version in enumerate(outcomes) if version is not None] == [shown(store, handle)["i"]]

    def test_save_sets_and_deletes(self, open_store):
        """A save sets what it sets, deletes what it deletes, and leaves the rest alone."""
        store = open_store()
        handle = begin(store, a=1, b=1, c=1)
        store.save(handle, Changes(set=packed(b=2, d=2), deleted=frozenset({"c", "never there"})))
        assert shown(store, handle) == {"a": 1, "b": 2, "d": 2}

    def test_save_whole(self, open_store):
        """A save of the whole leaves nothing but itself."""
        store = open_store()
        handle = begin(store, a=1, b=1)
        store.save(handle, Changes(set=packed(c=1), whole=True))
        assert shown(store, handle) == {"c": 1}

    def test_save_nothing_left(self, open_store):
        """A session whose last field is deleted is empty, and alive."""
        store = open_store()
        handle = begin(store, a=1)
        store.save(handle, Changes(deleted=frozenset({"a"})))
        assert shown(store, handle) == {}

    def test_rotation(self, open_store):
        """A new secret is saved together with the request's other changes; without one the secret stays."""
        store = open_store()
        handle = begin(store, cart=1)
        store.save(handle, Changes(set=packed(user="ann"), secret_hash="new"))
        store.save(handle, Changes(set=packed(x=1)))
        assert store.load(handle).secret_hash == "new"
        assert shown(store, handle) == {"cart": 1, "user": "ann", "x": 1}

    def test_version_and_origin(self, open_store):
        """Every save has a version of its own, and a load shows the latest."""
        store = open_store("web-1")
        handle = begin(store, a=1)
        versions = [store.load(handle).version] + [store.save(handle, Changes(set=packed(a=i))) for i in range(3)]
        assert len(set(versions)) == 4
        assert store.load(handle).version == versions[-1]

    def test_loaded_stays_as_it_was(self, open_store):
        """A later save does not reach into a record that was loaded before."""
        store = open_store()
        handle = begin(store, a=1)
        record = store.load(handle)
        store.save(handle, Changes(set=packed(a=2), deleted=frozenset()))
        assert record.fields == packed(a=1)

    def test_no_half_save(self, open_store):
        """A reader sees a save as a whole or not at all: both its fields, and the version that goes with them."""
        store = open_store()
        handle = begin(store, a=0, b=0)
        written = {store.load(handle).version: 0}
        done = threading.Event()
        seen = []

        def write():
            for i in range(1, 60):
                written[store.save(handle, Changes(set=packed(a=i, b=i)))] = i
            done.set()

        def read():
            while not done.is_set():
                seen.append(store.load(handle))

        at_once(write, read, read)
        assert all(record.fields == packed(a=written[record.version], b=written[record.version]) for record in seen)

    def test_no_save_without_session(self, open_store):
        """Saving a session that never was is refused and creates nothing."""
        store = open_store()
        handle = new_handle()
        with pytest.raises(SessionGone):
            store.save(handle, Changes(set=packed(a=1)))
        assert store.load(handle) is None
        assert store.census().handles == ()

    def test_deleted_stays_deleted(self, open_store):
        """Neither a late save, whole or not, nor a late touch brings a deleted session back."""
        store = open_store()
        handle = begin(store, user="ann")
        store.delete(handle)
        for changes in (Changes(set=packed(a=1)), Changes(set=packed(a=1), whole=True)):
            with pytest.raises(SessionGone):
                store.save(handle, changes)
        store.touch(handle)
        assert store.load(handle) is None
        assert store.census().handles == ()

    def test_deleting_nothing(self, open_store):
        """Deleting what is not there, or no longer there, is no error."""
        store = open_store()
        handle = begin(store)
        store.delete(handle)
        store.delete(handle)
        store.delete(new_handle())

    @pytest.mark.parametrize("value", nasty.VALUES.values(), ids=nasty.VALUES)
    def test_values(self, open_store, value):
        """Every JSON value comes back equal, of the same types, and as long, created or saved."""
        store = open_store()
        field = packed(value=value)
        handle = new_handle()
        store.create(handle, NewSession(SECRET_HASH, field))
        assert repr(canonical(shown(store, handle)["value"])) == repr(canonical(value))
        assert logical_bytes(store.load(handle).fields) == logical_bytes(field)
        store.save(handle, Changes(set=field, deleted=frozenset({"value"})))
        assert repr(canonical(shown(store, handle)["value"])) == repr(canonical(value))

    def test_names(self, open_store):
        """Every text can name a field: to create, to save, and to delete."""
        store = open_store()
        fields = {name: msgspec.json.encode(i) for i, name in enumerate(nasty.NAMES)}
        handle = new_handle()
        store.create(handle, NewSession(SECRET_HASH, fields))
        assert store.load(handle).fields == fields
        store.save(handle, Changes(deleted=frozenset(fields)))
        assert store.load(handle).fields == {}
        store.save(handle, Changes(set=fields))
        assert store.load(handle).fields == fields
        assert store.load(handle).secret_hash == SECRET_HASH

    def test_many_fields(self, open_store):
        """A session at the size limit, all of it in small fields, is kept."""
        store = open_store()
        fields = {f"{i:05}": b"123" for i in range(MAX_SESSION_BYTES // 8)}
        handle = begin(store)
        store.save(handle, Changes(set=fields))
        store.save(handle, Changes(set=fields, whole=True))
        assert store.load(handle).fields == fields
        store.save(handle, Changes(deleted=frozenset(fields)))
        assert store.load(handle).fields == {}

    def test_census(self, open_store):
        """The census names the live sessions, their bytes, and the calls of each operation."""
        store = open_store()
        kept = [begin(store, user="ann", n=i) for i in range(3)]
        gone = begin(store, user="bob")
        store.save(kept[0], Changes(set=packed(more="x" * 100)))
        store.load(kept[0])
        store.load(kept[1])
        store.touch(kept[1])
        store.delete(gone)
        census = store.census()
        assert set(census.handles) == set(kept)
        assert len(census.handles) == 3
        assert census.logical_bytes == 3 * (4 + 5 + 1 + 1) + 4 + 102
        calls = (census.creates, census.loads, census.saves, census.touches, census.deletes)
        assert calls == (4, 2, 1, 1, 1)


def canonical(value):
    """Return a value with the keys of its objects in order: JSON objects have none."""
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    return [canonical(inner) for inner in value] if isinstance(value, list) else value


class Merges:
    """Concurrent saves of different fields all survive (write policy `fields`)."""

    def test_hammered(self, open_store):
        """Six threads that set fields of their own, and delete some again, lose nothing of each other's."""
        store = open_store()
        handle = begin(store, kept=0)

        def work(thread):
            for i in range(15):
                store.save(handle, Changes(set=packed(**{f"{thread}-{i}": i})))
            store.save(handle, Changes(deleted=frozenset({f"{thread}-0"})))

        at_once(*[lambda thread=thread: work(thread) for thread in range(6)])
        expected = {f"{thread}-{i}": i for thread in range(6) for i in range(1, 15)}
        assert shown(store, handle) == {"kept": 0} | expected

    def test_deletion_beats_late_saves(self, open_store):
        """A session that is deleted among saves is dead when all have returned; later saves are refused."""
        store = open_store()
        handle = begin(store)
        deleted = threading.Event()

        def work(thread):
            for i in range(20):
                was_deleted = deleted.is_set()
                try:
                    store.save(handle, Changes(set=packed(**{f"{thread}-{i}": i})))
                except SessionGone:
                    continue
                assert not was_deleted

        def end():
            store.delete(handle)
            deleted.set()

        at_once(end, *[lambda thread=thread: work(thread) for thread in range(4)])
        assert store.load(handle) is None
        assert store.census().handles == ()


class Compares:
    """Refuses a save that starts from an outdated version (write policy `versioned`)."""

    def test_outdated_is_refused(self, open_store):
        """A save from an outdated version is refused and changes nothing; from the latest it succeeds."""
        store = open_store()
        handle = begin(store, a=1)
        first = store.load(handle).version
        second = store.save(handle, Changes(set=packed(a=2)), first)
        with pytest.raises(SessionConflict):
            store.save(handle, Changes(set=packed(a=3), whole=True, secret_hash="x"), first)
        assert shown(store, handle) == {"a": 2}
        assert store.load(handle).secret_hash == SECRET_HASH
        store.save(handle, Changes(set=packed(a=4)), second)
        assert shown(store, handle) == {"a": 4}

    def test_gone_is_not_a_conflict(self, open_store):
        """Where the session has ended, a versioned save says so."""
        store = open_store()
        handle = begin(store, a=1)
        version = store.load(handle).version
        store.delete(handle)
        with pytest.raises(SessionGone):
            store.save(handle, Changes(set=packed(a=2)), version)

    def test_rotation_counts(self, open_store):
        """A rotation changes the version, so that a save from before the login is refused."""
        store = open_store()
        handle = begin(store, a=1)
        before = store.load(handle).version
        store.save(handle, Changes(secret_hash="new"), before)
        with pytest.raises(SessionConflict):
            store.save(handle, Changes(set=packed(a=2)), before)

    def test_counting_together(self, open_store):
        """Threads that count up one field and repeat after a conflict arrive at the exact sum."""
        store = open_store()
        handle = begin(store, n=0)

        def count_up():
            while True:
                record = store.load(handle)
                n = msgspec.json.decode(record.fields["n"])
                try:
                    return store.save(handle, Changes(set=packed(n=n + 1)), record.version)
                except SessionConflict:
                    continue

        at_once(*[lambda: [count_up() for _ in range(8)] for _ in range(4)])
        assert shown(store, handle) == {"n": 32}


class Ends:
    """Idle and absolute lifetime, enforced by the store."""

    def test_idle(self, open_store):
        """A session that nobody uses ends, for every operation; reading it extends nothing."""
        store = open_store(idle_seconds=0.4, absolute_seconds=60)
        handle = begin(store, a=1)
        deadline = store.load(handle).idle_deadline
        asked = time.time()
        while (record := store.load(handle)) is not None:
            assert record.idle_deadline == deadline
            assert asked < deadline + 0.05
            asked = time.time()
        assert time.time() >= deadline - 0.05
        with pytest.raises(SessionGone):
            store.save(handle, Changes(set=packed(a=2)))
        store.touch(handle)
        assert store.load(handle) is None
        assert store.census().handles == ()

    def test_save_and_touch_extend(self, open_store):
        """A save and a touch move the idle deadline; a touch changes neither fields nor version."""
        store = open_store(idle_seconds=60)
        handle = begin(store, a=1)
        first = store.load(handle)
        time.sleep(0.02)
        store.touch(handle)
        touched = store.load(handle)
        time.sleep(0.02)
        store.save(handle, Changes(set=packed(a=1)))
        saved = store.load(handle)
        assert first.idle_deadline < touched.idle_deadline < saved.idle_deadline
        assert first.absolute_deadline == touched.absolute_deadline == saved.absolute_deadline
        assert touched.fields == first.fields
        assert touched.version == first.version

    @pytest.mark.parametrize("how", ["touch", "save"])
    def test_outlives_first_deadline(self, open_store, how):
        """A session that is touched, or saved, now and then is alive long after its first idle deadline."""
        store = open_store(idle_seconds=0.4)
        handle = begin(store, a=1)
        first = store.load(handle).idle_deadline
        while time.time() < first + 0.2:
            store.touch(handle) if how == "touch" else store.save(handle, Changes(set=packed(b=2)))
            time.sleep(0.05)
        assert shown(store, handle)["a"] == 1

    def test_touched_at_the_end(self, open_store):
        """A touch near the absolute deadline does not reach past it."""
        store = open_store(idle_seconds=60, absolute_seconds=0.3)
        handle = begin(store, a=1)
        store.touch(handle)
        wait_until(lambda: store.load(handle) is None, seconds=1.0)

    def test_absolute(self, open_store):
        """However busy, a session ends at its absolute deadline, which no save or touch moves."""
        store = open_store(idle_seconds=0.3, absolute_seconds=0.7)
        handle = begin(store, a=1)
        absolute = store.load(handle).absolute_deadline
        with pytest.raises(SessionGone):  # noqa: PT012 - it is busy until then
            while time.time() < absolute + 2:
                for extend in (store.touch, lambda handle: store.save(handle, Changes(set=packed(a=2)))):
                    extend(handle)
                    record = store.load(handle)
                    assert record is None or record.idle_deadline <= record.absolute_deadline == absolute
        assert time.time() == pytest.approx(absolute, abs=0.2)
        assert store.load(handle) is None


class Shared:
    """What one server saves, the others see."""

    def test_seen_by_others(self, cluster):
        """Creation, saves, rotation and deletion on one server show on another, with their origin."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        cluster.settle()
        assert shown(two, handle) == {"a": 1}
        two.save(handle, Changes(set=packed(b=2), secret_hash="new"))
        cluster.settle()
        record = one.load(handle)
        assert record.fields == packed(a=1, b=2)
        assert (record.secret_hash, record.origin) == ("new", "web-2")
        one.delete(handle)
        cluster.settle()
        assert two.load(handle) is None
        with pytest.raises(SessionGone):
            two.save(handle, Changes(set=packed(c=3)))

    def test_writers_on_two_servers(self, cluster):
        """Writers of different fields on two servers at once lose nothing of each other's."""
        stores = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(stores[0])
        cluster.settle()

        def work(which):
            for i in range(15):
                stores[which].save(handle, Changes(set=packed(**{f"{which}-{i}": i})))

        at_once(lambda: work(0), lambda: work(1))
        cluster.settle()
        expected = {f"{which}-{i}": i for which in range(2) for i in range(15)}
        assert shown(stores[0], handle) == shown(stores[1], handle) == expected

    def test_outlives_a_server(self, cluster):
        """A session is still there when the server that created it is gone."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        cluster.settle()
        one.close()
        assert shown(two, handle) == {"a": 1}


class Alone:
    """Each server has a memory of its own."""

    def test_unseen_by_others(self, cluster):
        """Another server knows nothing of the session, and cannot be made to save it."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        assert two.load(handle) is None
        with pytest.raises(SessionGone):
            two.save(handle, Changes(set=packed(a=2)))
        assert shown(one, handle) == {"a": 1}
