"""Refresh `requirements.lock` from `pyproject.toml`: `make lock`.

One file pins everything, with hashes, in four sections; `lab/bootstrap.py` installs the sections that are wanted. The
resolver is uv, itself pinned in the section `lock`: it resolves for every platform and every Python from 3.11 at once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every package that the lab installs, pinned with its hashes. Written by `make lock` from pyproject.toml.
# `lab/bootstrap.py` installs the sections it is asked for.
"""
TITLES = {
    "run": "what the lab runs on",
    "tests": "what `make test` needs beside that",
    "engines": "Redis, PostgreSQL and nginx as wheels; fetched whatever the interpreter",
    "lock": "what `make lock` needs beside that",
}


def main() -> None:
    """Resolve every section anew and write the lock file."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.txt"
        whole.write_text(_resolve("pyproject.toml", "--group", "test"), encoding="utf-8")
        run = _resolve("pyproject.toml", "--constraints", str(whole))
        in_run = set(_entries(run))
        sections = {
            "run": run,
            "tests": "".join(entry for entry in _entries(whole.read_text(encoding="utf-8")) if entry not in in_run),
            "engines": _resolve("--group", "engines", "--no-deps"),
            "lock": _resolve("--group", "lock"),
        }
    text = "".join(f"\n# [{name}] {TITLES[name]}\n{sections[name]}" for name in TITLES)
    (ROOT / "requirements.lock").write_text(HEADER + text, encoding="utf-8")


def _resolve(*what: str) -> str:
    """Return the pinned requirements of `what`, for all platforms, as pip reads them."""
    options = ["--universal", "--python-version=3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    quiet = ["--no-emit-index-url", "--native-tls", "--quiet"]  # no host names in the file; the system's certificates
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, *quiet, *what]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _entries(pins: str) -> list[str]:
    """Split pins into one text a package: its first line starts in the first column, its hashes are indented."""
    entries: list[str] = []
    for line in pins.splitlines(keepends=True):
        if line[0].isspace():
            entries[-1] += line
        else:
            entries.append(line)
    return entries


if __name__ == "__main__":
    main()
