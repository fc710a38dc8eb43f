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
