"""How sessions end by themselves, as a capability mixin."""

from __future__ import annotations

import time

import pytest
from records import begin, packed, shown
from waiting import wait_until

from strategies.contract import Changes, SessionGone


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
