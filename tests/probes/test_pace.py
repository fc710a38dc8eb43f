"""The machine's pace: a pacemaker that is really slowed down, and readings made up for the arithmetic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from subprocess import PIPE

import numpy as np
import psutil
import pytest

from lab.errors import LabError
from lab.probes import pace
from lab.probes.pace import Pace, Pacemaker


def test_reads_the_pace_many_times_a_second_until_it_is_stopped():
    """Readings come in order, within the time of the context, each of some CPU time; the process is gone afterwards."""
    began = time.monotonic()
    with Pacemaker() as pacemaker:
        pid = pacemaker._process.pid
        time.sleep(1.0)
    ended = time.monotonic()
    read = pacemaker.pace
    assert len(read.at_s) == len(read.work_s) > 10
    assert began < read.at_s[0] <= read.at_s[-1] < ended
    assert (np.diff(read.at_s) > 0).all()
    assert (read.work_s > 0).all()
    assert not psutil.pid_exists(pid)


def test_a_lab_that_is_gone_is_not_complained_about():
    """Its readings go nowhere then; it ends without a word."""
    process = subprocess.Popen([sys.executable, "-I", "-S", pace._PROGRAM], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_waiting_is_not_slowness():
    """A pacemaker that is stopped again and again, also in its work, counts the CPU time of that, and not the wait."""
    with Pacemaker() as pacemaker:
        time.sleep(0.2)
        for _ in range(150):
            os.kill(pacemaker._process.pid, signal.SIGSTOP)
            time.sleep(0.012)
            os.kill(pacemaker._process.pid, signal.SIGCONT)
            time.sleep(0.005)
    assert np.diff(pacemaker.pace.at_s).max() >= 0.012
    assert pacemaker.pace.work_s.max() < 0.01


def test_an_early_end_is_an_error():
    """Where it was killed, the run cannot pretend to know the pace."""
    with pytest.raises(LabError, match="pacemaker"), Pacemaker() as pacemaker:
        os.kill(pacemaker._process.pid, signal.SIGKILL)


def test_a_failure_inside_is_what_is_raised():
    """What went wrong in the measurement is not hidden by the pacemaker's own end."""

    def measure():
        with Pacemaker() as pacemaker:
            os.kill(pacemaker._process.pid, signal.SIGKILL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure()


class TestSlowness:
    """How slow it was around a stretch of time, relative to the median of all readings."""

    pace = Pace(np.arange(0, 10, 0.01), np.where(np.arange(1000) < 700, 0.001, 0.002))

    def test_is_relative_to_the_median(self):
        """Where the work took twice its usual time, slowness is 2; usually it is 1."""
        begin = np.array([3.0, 8.0])
        assert self.pace.slowness(begin, begin + 0.003) == pytest.approx([1.0, 2.0])

    def test_is_the_geometric_mean_of_the_readings_around(self):
        """A stretch that is half slow and half usual was the square root of two times as slow."""
        assert self.pace.slowness(np.array([6.9]), np.array([7.09])) == pytest.approx([2**0.5], rel=0.02)

    def test_takes_the_nearest_reading_where_there_is_none(self):
        """A gap, the time before the first reading and that after the last one take what comes next to them."""
        begin = np.array([-9.0, 99.0])
        assert self.pace.slowness(begin, begin + 0.003) == pytest.approx([1.0, 2.0])

    def test_without_readings_nothing_is_corrected(self):
        """No reading at all, no correction."""
        assert Pace(np.empty(0), np.empty(0)).slowness(np.zeros(2), np.ones(2)) == pytest.approx([1.0, 1.0])
