"""Made-up runs, written once for all tests of the report."""

from __future__ import annotations

import made_up_run
import pytest
from reading import MadeUp


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """Return a function from a variant's name to the folder of such a run, written once."""
    folders = {}

    def folder(variant):
        if variant not in folders:
            folders[variant] = made_up_run.write(tmp_path_factory.mktemp(variant), **made_up_run.VARIANTS[variant])
        return folders[variant]

    return folder


@pytest.fixture(scope="session")
def made_up_of(tmp_path_factory):
    """Return a function from an experiment, how to write its runs, and its variants to such runs."""

    def made_up_of(experiment, write, variants):
        return MadeUp(experiment, write, variants, tmp_path_factory.mktemp)

    return made_up_of
