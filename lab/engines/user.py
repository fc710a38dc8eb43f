"""Another user to run PostgreSQL as, which refuses to run as root."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from lab.errors import EngineFailed

_CANDIDATES = ("nobody", "postgres")


def other_user() -> str | None:
    """Return the name of an existing user to run as, None where the lab is not root.

    Raises:
        EngineFailed: the machine knows neither of the usual ones.
    """
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _CANDIDATES:
        if name in known:
            return name
    raise EngineFailed(f"PostgreSQL does not run as root, and there is no user {' or '.join(_CANDIDATES)} to run it as")


def open_to_all(path: Path) -> bool:
    """Return whether any user can execute or enter this path: it and all folders above it let others pass."""
    real = path.resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (real, *real.parents))


def shared_temporary_folder() -> Path:
    """Return a folder for temporary files that any user can pass through.

    Root's own TMPDIR may lie beneath a private home.
    """
    usual = Path(os.environ.get("TMPDIR") or "/tmp").absolute()  # noqa: S108 - a base for a private folder of our own
    if usual.is_dir() and (os.geteuid() != 0 or open_to_all(usual)):
        return usual
    return Path("/tmp")  # noqa: S108 - as above
