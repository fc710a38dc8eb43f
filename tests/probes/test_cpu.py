"""CPU time: a process burns a known amount, and the meter reads it back."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from lab.probes import cpu
from lab.probes.cpu import CpuMeter, cpu_seconds, machine_time, process_tree

BURN = """
import sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
for line in sys.stdin:
    burn(float(line)); print(time.process_time(), flush=True)
"""


class Burner:
    """A process that burns CPU time on demand and says what it has used."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", BURN], stdin=-1, stdout=-1, text=True)
        return self

    def burn(self, seconds):
        """Burn CPU time; return all that the process has used."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __exit__(self, *_):
        self.process.communicate()


def test_the_meter_reads_what_a_process_used_since_the_last_reading():
    """Burning 0.2 s of CPU between two readings shows as 0.2 s, under the component that burnt it."""
    with Burner() as busy, Burner() as idle:
        meter = CpuMeter({"busy": [busy.process.pid], "idle": [idle.process.pid]})
        before = busy.burn(0.01)
        meter.read()
        after = busy.burn(0.2)
        used = meter.read()

    assert abs(used["busy"] - (after - before)) < 0.02
    assert used["idle"] < 0.02


def test_children_of_those_that_are_counted_alone_do_not_belong_to_them():
    """What starts containers is not charged with what they do."""
    with Burner() as busy:
        before = busy.burn(0.01)
        meter = CpuMeter({}, {"starter": [os.getpid()], "busy": [busy.process.pid]})
        meter.read()
        after = busy.burn(0.3)
        used = meter.read()

    assert abs(used["busy"] - (after - before)) < 0.02
    assert used["starter"] < 0.2


def test_children_belong_to_their_component():
    """A component given by its parent process counts the children's CPU time, too."""
    parent = subprocess.Popen(["/bin/sh", "-c", f"{sys.executable} -c 'import time; time.sleep(60)' & wait"])
    try:
        deadline = time.monotonic() + 10
        while len(process_tree(parent.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

        assert len(process_tree(parent.pid)) == 2
        assert set(cpu._slow_process_tree(parent.pid)) >= set(process_tree(parent.pid))
    finally:
        for pid in reversed(process_tree(parent.pid)):
            os.kill(pid, 9)
        parent.wait()


def test_the_coarse_figure_agrees_with_the_fine_one():
    """Systems without nanosecond counts see the same CPU time within their 10 ms steps."""
    with Burner() as burner:
        burner.burn(0.15)
        fine, coarse = cpu_seconds(burner.process.pid), cpu._coarse_cpu_seconds(burner.process.pid)

    assert abs(fine - coarse) < 0.05


def test_a_process_that_is_gone_has_used_nothing_more():
    """Asking after a process that has ended is no error."""
    process = subprocess.Popen(["true"])
    process.wait()

    assert cpu_seconds(process.pid) == 0
    assert process_tree(process.pid) == []


def test_the_machine_is_busy_at_least_while_this_process_is():
    """Burning CPU here shows in the machine's busy time, and busy time is part of the total."""
    before, own = machine_time(), time.process_time()
    while time.process_time() < own + 0.3:
        pass
    after = machine_time()

    assert after.busy - before.busy > 0.2
    assert after.total - before.total > after.busy - before.busy - 0.001  # equal, but for rounding, on a busy machine
