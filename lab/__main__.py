"""`python -m lab`: the command line."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from lab.cli import main
    except KeyboardInterrupt:  # pressed while all this was loading
        print("lab: interrupted; nothing had been started.", file=sys.stderr)  # noqa: T201 - click may not be there yet
        sys.exit(130)
    sys.exit(main())
