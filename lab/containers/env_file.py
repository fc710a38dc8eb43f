"""Write `.env`, the secrets of `docker-compose.yml`, or add those that it lacks: `python3 -m lab.containers.env_file`.

Runs on whatever Python a server with Docker has, before anything is installed: standard library only.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / ".env"

NAMES = {
    "SECRET_KEY": "signs the shoppers' cookies",
    "PEER_SECRET": "what servers of all-to-all show each other",
    "LAB_SECRET": "what the lab shows the servers' internal routes",
    "REDIS_PASSWORD": "of Redis",
    "POSTGRES_PASSWORD": "of PostgreSQL, and stays in its volume: a new one needs `docker compose down --volumes`",
}
"""Every secret of the compose file, and what it is for."""

_HEAD = "# Secrets of docker-compose.yml, made by `make .env`. Keep them to yourself; docs/deploy.md has the rest."


def fresh() -> dict[str, str]:
    """Return a new value for each secret: 192 random bits each, safe in an address."""
    return {name: secrets.token_urlsafe(24) for name in NAMES}


def write(path: Path = PATH) -> list[str]:
    """Write the file, readable to its owner alone; in one that exists, add the secrets that it lacks and keep the rest.

    Returns:
        The names of the secrets that were written.

    Raises:
        OSError: it cannot be read or written.
    """
    before = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else _HEAD
    given = r"""^[ \t]*(?:export[ \t]+)?{}[ \t]*=[ \t]*["']?[^\s#"']"""
    has = {name for name in NAMES if re.search(given.format(name), before, re.MULTILINE)}
    added = {name: value for name, value in fresh().items() if name not in has}
    if not added:
        return []
    lines = [before.rstrip("\n"), *(f"# {NAMES[name]}\n{name}={value}" for name, value in added.items())]
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("\n".join(lines) + "\n")
        if before is _HEAD:
            os.link(unfinished, path)  # whole or not at all, and never over what somebody else has just written
        else:
            unfinished.replace(path)
    except FileExistsError:
        return []
    finally:
        unfinished.unlink(missing_ok=True)
    return list(added)


def main() -> int:
    """Write `.env`, complete it, or say that nothing is missing; return the exit status."""
    existed = PATH.exists()
    try:
        added = write()
    except OSError as error:
        print(f"lab: {PATH} cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    if existed:
        said = f"added what it lacked: {', '.join(added)}" if added else "is there already, and stays as it is"
    else:
        said = "secrets written"
    print(f"{PATH.name}: {said}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
