"""Sweeping: in batches with a breath between them, at moments of each server's own."""

from __future__ import annotations

import itertools
import threading

import pytest
from waiting import wait_until

from strategies.contract import StoreUnavailable
from strategies.upkeep import Sweeper


class Asked:
    """Stands in for the event that a sweeper waits on: notes how long it was to wait, and ends the sweeper in time."""

    def __init__(self, waits):
        self.seconds = []
        self._waits = waits

    def wait(self, seconds):
        """Return whether it was waited for often enough."""
        self.seconds.append(seconds)
        return len(self.seconds) >= self._waits

    def set(self):
        """Nobody waits."""


def pauses(sweep, every_seconds, waits):
    """Return how long a sweeper paused each time, without waiting for it."""
    sweeper = Sweeper(sweep, every_seconds=3600)
    sweeper.stop()
    sweeper._every_seconds = every_seconds
    sweeper._stopping = Asked(waits)
    sweeper._run()
    return sweeper._stopping.seconds


def test_servers_sweep_at_moments_of_their_own():
    """Servers that start together do not sweep together: the pauses differ, the first as well, by a quarter at most."""
    servers = [pauses(lambda: False, 100.0, 20) for _ in range(20)]
    drawn = [pause for server in servers for pause in server]
    assert len(set(drawn)) == len(drawn)
    assert all(75 <= pause <= 125 for pause in drawn)
    assert max(drawn) - min(drawn) > 25
    firsts = [server[0] for server in servers]
    assert max(firsts) - min(firsts) > 10


def test_breath_between_batches():
    """While there is more the next batch follows after a breath, never at once; then comes a whole pause."""
    answers = itertools.cycle([True, True, False])
    seconds = pauses(lambda: next(answers), 100.0, 10)
    assert [pause > 1 for pause in seconds] == [True, False, False] * 3 + [True]
    assert all(pause > 0.01 for pause in seconds)


def test_breaths_are_no_longer_than_pauses():
    """A store that is to sweep all the time does not wait longer between batches than between rounds."""
    assert max(pauses(lambda: True, 0.001, 20)) <= 0.00125


def test_sweeps_on_after_a_failure(caplog):
    """A store that was unavailable once is swept again, and the failure is logged."""
    swept = threading.Event()
    answers = iter([StoreUnavailable("down"), True])

    def sweep():
        answer = next(answers, False)
        if isinstance(answer, Exception):
            raise answer
        swept.set()
        return answer

    sweeper = Sweeper(sweep, every_seconds=0.01)
    wait_until(swept.is_set)
    sweeper.stop()
    assert "down" in caplog.text


def test_stopped_between_batches():
    """Stopping does not wait until everything has been swept."""
    swept = threading.Event()
    sweeper = Sweeper(lambda: swept.set() or True, every_seconds=0.01)
    wait_until(swept.is_set)
    sweeper.stop()
    assert not sweeper._thread.is_alive()


@pytest.mark.parametrize("answer", [None, False])
def test_nothing_more(answer):
    """A sweep that returns nothing has done all there was."""
    assert all(pause > 1 for pause in pauses(lambda: answer, 100.0, 5))
