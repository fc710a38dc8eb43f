"""`docs/checks.md` says what the checker does."""

from __future__ import annotations

import re
from pathlib import Path

from lab.consistency.checks import RULES
from lab.consistency.scenarios import CROSS_SERVER, SCENARIOS

PAGE = (Path(__file__).parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")
ROWS = "\n".join(
    f"| `{scenario}` | {', '.join(f'{name} ({needed})' for name, needed in checks.items())} |"
    for scenario, checks in SCENARIOS.items()
    if scenario != "all"
)


def test_every_check_has_a_section():
    """Each with a rule, an example and what it cannot see."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)

    for name in RULES:
        section = next(text for text in sections if text.split()[0] == name)
        assert "- Opportunity: " in section, name
        assert "- Violation: " in section, name
        assert "```text" in section, name
        assert "**Cannot see**" in section, name


def test_table_of_scenarios_is_the_one_the_checker_uses():
    """If this fails, the page needs these rows."""
    assert ROWS in PAGE, ROWS
    assert f"need {CROSS_SERVER} cross-server opportunities" in PAGE
