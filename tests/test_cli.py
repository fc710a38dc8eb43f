"""The command line: bad input is one clear line and a status, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.cli import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "--strategies", "redsi"], "Did you mean redis?"),
        (["compare", "--strategies", " "], "at least one strategy"),
        (["compare", "--servers", "0"], "0 is not in the range"),
        (["compare", "--rate", "abc"], "'abc' is not a valid integer"),
        (["compare", "--blocks", "0"], "0 is not in the range"),
        (["compare", "--quick", "--full"], "exclude each other"),
        (["compare", "--writes", "bolb"], "'bolb' is not one of"),
        (["compare", "--writes", "versioned"], "STRATEGIES="),
        (["compare", "--sevrers", "4"], "Did you mean"),
        (["failover", "--servers", "1"], "1 is not in the range"),
        (["failover", "--strategies", "redsi"], "Did you mean redis?"),
        (["failover", "--blocks", "3"], "No such option"),
        (["redis-speed", "--strategies", "redis"], "No such option"),
        (["redis-speed", "--seed", "x"], "'x' is not a valid integer"),
        (["comprae"], "No such command 'comprae'"),
        (["up"], "expected a strategy: --strategy"),
        (["up", "--engine", "docker", "--strategy", "redis"], "leave STRATEGY and CACHE out"),
        (["up", "--engine", "docker", "--writes", "versioned"], "all-to-all cannot promise 'versioned'"),
        (["up", "--engine", "podman"], "'podman' is not one of"),
        (["up", "--strategy", "redis sticky"], "expected one strategy, got 2"),
        (["up", "--strategy", "all-to-all", "--writes", "versioned"], "cannot promise 'versioned'"),
        (["report", "/no/such/run"], "holds no results.json"),
        (["check", "/no/such/run"], "history.jsonl"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, says, capsys):
    """What was wrong, in one line on stderr, and a status that is not zero."""
    status = main(arguments)
    told = capsys.readouterr()

    assert status in {1, 2}
    assert says in told.err
    assert told.err.startswith("lab: ")
    assert told.err.count("\n") == 1


def test_an_unwritable_folder_for_runs_is_one_clear_line(capsys, tmp_path):
    """A folder that is a file cannot hold runs."""
    (tmp_path / "taken").write_text("")

    assert main(["compare", "--out", str(tmp_path / "taken")]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_a_link_that_leads_nowhere_is_no_folder_for_runs(capsys, tmp_path):
    """Nor is it made one: what it was to lead to may be a disk that is not there today."""
    (tmp_path / "results").symlink_to(tmp_path / "absent" / "disk")

    assert main(["compare", "--out", str(tmp_path / "results")]) == 1
    assert "expected a folder" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/unshare").exists(), reason="mounting needs root")
def test_a_disk_that_fills_up_during_a_run_is_named_and_nothing_half_written_stays(tmp_path):
    """Whatever complains first cannot write its log either; the results that were there stay whole."""
    (tmp_path / "disk").mkdir()
    program = tmp_path / "run.py"
    program.write_text(FILLS_UP)
    script = f"mount -t tmpfs -o size=512m none disk && PYTHONPATH={ROOT} exec {sys.executable} run.py"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if "permission denied" in done.stderr.lower() or "operation not permitted" in done.stderr.lower():
        pytest.skip("this machine does not allow mounting")

    assert done.stderr == ""
    assert "is full: nobody knows why. Free some space" in done.stdout
    assert "['charts', 'engines', 'lab.log', 'results.json']" in done.stdout
    assert "this run has not finished" in done.stdout


FILLS_UP = """
import os
from pathlib import Path
from rich.console import Console
from lab.errors import DiskFull, EngineFailed
from lab.measuring.runs import carry_out

def procedure(folder, steps):
    with open("disk/filling", "wb", buffering=0) as filling:
        try:
            while filling.write(bytes(1 << 16)):
                pass
        except OSError:
            pass
    raise EngineFailed("nobody knows why.")

try:
    carry_out("compare", Path("disk"), Console(quiet=True), procedure)
except DiskFull as error:
    print(error)
(folder,) = Path("disk").glob("compare-*")
print(sorted(os.listdir(folder)))
print((folder / "results.json").read_text())
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_output_that_nobody_can_keep_is_one_clear_line():
    """Such as a log on a full disk, instead of a terminal."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "lab", "compare", "--help"]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(
            command, cwd=ROOT, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "lab: the disk is full\n"


def test_packages_of_another_project_do_not_stand_in_for_the_labs(tmp_path):
    """A PYTHONPATH that some shells set ends at the Makefile."""
    (tmp_path / "click.py").write_text("raise SystemExit('not the lab')")
    done = _make("compare", "RATE=x", env=os.environ | {"PYTHONPATH": str(tmp_path)})

    assert "lab: Invalid value for '--rate'" in done.stderr


def test_a_cluster_to_play_with_keeps_the_promise_that_make_is_told_of():
    """What is typed reaches the lab, and is refused there where it has to be."""
    done = _make("up", "STRATEGY=all-to-all", "WRITES=versioned")

    assert "all-to-all cannot promise 'versioned'" in done.stderr


def _make(door, *variables, env=None):
    """Call a door of the Makefile that ends at once, in the environment of these tests."""
    command = ["make", "--old-file=setup", door, *variables, f"LAB={sys.executable} -m lab"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/unshare").exists(), reason="mounting needs root")
def test_a_full_disk_is_one_clear_line(tmp_path):
    """A run is not begun on a disk that is nearly full."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    script = f"mount -t tmpfs -o size=1m none {tiny} && cd {ROOT} && exec {sys.executable} -m lab compare --out {tiny}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "permission denied" in done.stderr.lower() or "operation not permitted" in done.stderr.lower():
        pytest.skip("this machine does not allow mounting")

    assert done.returncode == 1
    assert "nearly full" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("compare", "servers rate blocks quick full seed strategies writes replication out"),
        ("failover", "servers rate quick seed strategies out"),
        ("redis-speed", "quick seed out"),
    ],
)
def test_help_names_every_option(command, options, capsys):
    """Each make variable of an experiment is an option with a line of help."""
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out

    for option in options.split():
        assert f"--{option}" in told
