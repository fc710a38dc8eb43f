"""What a store promises to several writers, as capability mixins: it merges their fields, it compares versions."""

from __future__ import annotations

import threading

import msgspec
import pytest
from records import SECRET_HASH, begin, packed, shown
from waiting import at_once

from strategies.contract import Changes, SessionConflict, SessionGone


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
