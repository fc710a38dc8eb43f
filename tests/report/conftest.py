"""Made-up runs, written once for all tests of the report."""

from __future__ import annotations

import made_up_run
import pytest

VARIANTS = {
    "usual": {"blocks": 20},
    "opposite": {"blocks": 20, "opposite": True},
    "quick": {"blocks": 6},
    "unmeasured": {"blocks": 9, "unmeasured": True},
    "interrupted": {"blocks": 9, "complete": False, "strategies": ("isolated", "sticky", "redis")},
}


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """Return a function from a variant's name to the folder of such a run, written once."""
    folders = {}

    def folder(variant):
        if variant not in folders:
            folders[variant] = made_up_run.write(tmp_path_factory.mktemp(variant), **VARIANTS[variant])
        return folders[variant]

    return folder
