"""What the tests of the checker share."""

from __future__ import annotations

import pytest

from lab.consistency import scenarios
from lab.consistency.checks import RULES


@pytest.fixture(autouse=True)
def _scenario_with_every_check(monkeypatch):
    """A scenario called `all` that exercises every check, and is content with one opportunity."""
    monkeypatch.setitem(scenarios.SCENARIOS, "all", dict.fromkeys(RULES, 1))
