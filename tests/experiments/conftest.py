"""A tiny run of an experiment for all tests of a file: each file says in `run` which one, and how small."""

from __future__ import annotations

import json

import pytest

from lab.cli import main
from lab.report import crew, style


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Draw small pictures, which nobody looks at: it takes a third of the time. Helpers would draw large ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "PNG_DPI", 20)
        patch.setattr(crew, "MOST", 1)
        yield


@pytest.fixture(scope="module")
def carry_out(tmp_path_factory):
    """Return a function that carries out a command of the lab from question to report, and returns the run's folder."""

    def carry_out(*command):
        out = tmp_path_factory.mktemp("results")
        assert main([*command, "--out", str(out)]) == 0
        return (out / "latest").resolve()

    return carry_out


@pytest.fixture(scope="module")
def results(run):
    """The results.json of the file's run."""
    return json.loads((run / "results.json").read_text())
