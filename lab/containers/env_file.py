"""Write `.env`, the secrets of `docker-compose.yml`, once: `python3 -m lab.containers.env_file`.

Runs on whatever Python a server with Docker has, before anything is installed: standard library only.
"""

from __future__ import annotations

import os
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


def fresh() -> dict[str, str]:
    """Return a new value for each secret: 192 random bits each, safe in an address."""
    return {name: secrets.token_urlsafe(24) for name in NAMES}


def write(path: Path = PATH) -> bool:
    """Write the file, readable to its owner alone, and never over an existing one; return whether it was written.

    Raises:
        OSError: it cannot be written.
    """
    values = fresh()
    lines = [
        "# Secrets of docker-compose.yml, made by `make .env`. Keep them to yourself; docs/deploy.md has the rest."
    ]
    lines += [f"# {NAMES[name]}\n{name}={value}" for name, value in values.items()]
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        os.link(unfinished, path)  # whole or not at all, and an error where there is one
    except FileExistsError:
        return False
    finally:
        unfinished.unlink()
    return True


def main() -> int:
    """Write `.env`, or say that it is there; return the exit status."""
    try:
        written = write()
    except OSError as error:
        print(f"lab: {PATH} cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{PATH.name}: {'secrets written' if written else 'is there already, and stays as it is'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
