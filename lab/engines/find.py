"""Where the engines' programs are: the pinned wheel first, so that every laptop runs the same, then the PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from lab.errors import EngineMissing

WHEELS = Path(__file__).parents[2] / ".venv" / "engines"
"""Where `make setup` unpacks the engines' wheels."""


def find_program(name: str, in_wheel: str, elsewhere: str | None = None) -> Path:
    """Return the path of an engine's program.

    Args:
        name: the program, such as `redis-server`.
        in_wheel: where its wheel has it, as a pattern beneath `WHEELS`.
        elsewhere: a pattern of absolute paths to look at last, where systems keep it off the PATH.

    Raises:
        EngineMissing: it is nowhere; the text says how to get it.
    """
    wheels = [path for path in sorted(WHEELS.glob(in_wheel)) if os.access(path, os.X_OK)]
    if wheels:
        return wheels[-1]
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    others = sorted(Path("/").glob(elsewhere.lstrip("/")), key=_version_in_path) if elsewhere else []
    if others:
        return others[-1]
    raise EngineMissing(
        f"{name} is missing: there is none in {WHEELS} and none on the PATH. Run `make setup` to fetch it, or install "
        f"it with your system's package manager."
    )


def version_of(program: Path, flag: str) -> str:
    """Return the first version number in what `program flag` prints, such as `1.31.3`.

    Raises:
        EngineMissing: the program does not run on this machine.
    """
    try:
        done = subprocess.run([program, flag], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineMissing(f"{program} does not run on this machine: {error}") from error
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    if not found:
        raise EngineMissing(f"{program} {flag} does not tell its version")
    return found.group()


def as_numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers to compare: `1.29.6` is (1, 29, 6)."""
    return tuple(int(part) for part in version.split("."))


def _version_in_path(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))
