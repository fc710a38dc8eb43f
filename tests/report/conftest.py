"""Made-up runs, written once for all tests of the report."""

from __future__ import annotations

import made_up_run
import pytest


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """Return a function from a variant's name to the folder of such a run, written once."""
    folders = {}

    def folder(variant):
        if variant not in folders:
            folders[variant] = made_up_run.write(tmp_path_factory.mktemp(variant), **made_up_run.VARIANTS[variant])
        return folders[variant]

    return folder
