"""What every store promises, as a capability mixin that a store's test class inherits; see also `conformance_*.py`."""

from __future__ import annotations

import threading
import time

import msgspec
import nasty
import pytest
from records import SECRET_HASH, begin, canonical, new_handle, packed, shown
from waiting import at_once

from strategies.contract import MAX_SESSION_BYTES, Changes, NewSession, SessionExists, SessionGone, logical_bytes


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
