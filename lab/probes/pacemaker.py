"""The process that times a fixed piece of work, again and again, until its input ends; `pace.py` starts it.

Standard library alone, so that it starts at once. What it found goes to its output as doubles: two for each reading,
the time of the monotonic clock and the CPU seconds that the work took.
"""

import array
import select
import signal
import sys
import time

EVERY_SECONDS = 0.004
STEPS = 3000


def work() -> None:
    """Do the fixed piece of work: about a twentieth to a tenth of a millisecond of the interpreter's loop."""
    for _ in range(STEPS):
        pass


def main() -> None:
    """Take readings until the lab closes the pipe, or is gone; then hand them over."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a lab that is gone reads nothing: no traceback about it
    readings = array.array("d")
    while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
        at, began = time.monotonic(), time.thread_time()
        work()
        readings.extend((at, time.thread_time() - began))
    sys.stdout.buffer.write(readings.tobytes())


if __name__ == "__main__":
    main()
