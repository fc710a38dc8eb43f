"""The very first requests of a server come together, on several threads, before anything has been used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TOGETHER = """
import threading, time, typing
from lab.shop import inputs

usual = typing._AnnotatedAlias.__hash__

def slowly(self):  # msgspec asks for it while it works out a type: now other threads have time to come
    time.sleep(0.05)
    return usual(self)

typing._AnnotatedAlias.__hash__ = slowly

BODIES = {
    inputs.Add: b'{"token": "a", "product": 3, "quantity": 1}',
    inputs.Visit: b'{"page": "product", "product": 1, "seconds": 1.5}',
    inputs.Login: b'{"user": "ann"}',
    inputs.Checkout: b'{"token": "o"}',
}
threads = [
    threading.Thread(target=inputs.from_json, args=(body, kind)) for kind, body in BODIES.items() for _ in range(4)
]
for thread in threads:
    thread.start()
    time.sleep(0.01)
for thread in threads:
    thread.join()
"""


def test_first_requests_that_come_together_do_not_crash_the_server():
    """Every kind of input is worked out before there are threads; msgspec 0.22 does not guard its first use."""
    done = subprocess.run([sys.executable, "-c", TOGETHER], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
