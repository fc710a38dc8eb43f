"""Sessions in the server's own memory: lifetimes by the clock, and sweeping."""

from __future__ import annotations

import pytest
from records import SECRET_HASH, begin, packed, shown
from waiting import wait_until

from strategies.contract import Changes, NewSession, SessionGone, StoreSettings
from strategies.local import LocalStore


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self):
        """Tell the time."""
        return self.now


@pytest.fixture
def clock():
    """Return a clock at 1000 s."""
    return Clock()


@pytest.fixture
def store(clock):
    """Return a store with 10 s idle and 25 s absolute lifetime."""
    store = LocalStore(StoreSettings(idle_seconds=10, absolute_seconds=25, sweep_seconds=0.02), clock)
    yield store
    store.close()


def test_deadlines_to_the_second(store, clock):
    """Idle and absolute deadlines are exact: alive just before, ended at the deadline."""
    handle = begin(store, a=1)
    assert (store.load(handle).idle_deadline, store.load(handle).absolute_deadline) == (1010, 1025)
    clock.now = 1009
    store.save(handle, Changes(set=packed(a=2)))
    assert store.load(handle).idle_deadline == 1019
    clock.now = 1018
    store.touch(handle)
    assert store.load(handle).idle_deadline == 1025
    clock.now = 1024.999
    assert shown(store, handle) == {"a": 2}
    clock.now = 1025
    assert store.load(handle) is None
    with pytest.raises(SessionGone):
        store.save(handle, Changes())


def test_shorter_absolute_lifetime(clock):
    """An absolute lifetime shorter than the idle one wins from the start."""
    store = LocalStore(StoreSettings(idle_seconds=10, absolute_seconds=5), clock)
    assert store.load(begin(store)).idle_deadline == 1005
    store.close()


def test_swept(store, clock):
    """Expired records leave memory, live ones stay."""
    begin(store, a=1)
    clock.now = 1005
    alive = begin(store, a=1)
    clock.now = 1010
    wait_until(lambda: set(store._records) == {alive})


def test_caller_keeps_its_dict(store):
    """What the caller does to its own dict afterwards does not reach the store, nor can a loaded record be changed."""
    fields = packed(a=1)
    store.create("handle", NewSession(SECRET_HASH, fields))
    fields["b"] = b"2"
    record = store.load("handle")
    assert record.fields == packed(a=1)
    with pytest.raises(TypeError):
        record.fields["b"] = b"2"


def test_sweeper_ends(store):
    """Closing the store ends its thread."""
    store.close()
    assert not store._sweeper._thread.is_alive()
