"""`python -m lab`: the command line."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    try:
        from lab.cli import main
    except KeyboardInterrupt:  # pressed while all this was loading
        print("lab: interrupted; nothing had been started.", file=sys.stderr)  # noqa: T201 - click may not be there yet
        sys.exit(130)
    status = main()
    try:
        print(end="", flush=True)  # noqa: T201 - what is still to be written
    except OSError:  # nobody takes it; Python would try once more in the end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    sys.exit(status)
