"""What the pages say can be done: their commands, links and options exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from lab.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = {str(path.relative_to(ROOT)): path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOORS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
COMPARE = {str(option.name).upper(): option for option in cli.commands["compare"].params}


def prose(page: str) -> str:
    """Return a page's text."""
    return PAGES[page].read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets: lower case, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_door_that_a_page_names_exists(page: str) -> None:
    """`make …` in a page is something that can be typed."""
    named = set(re.findall(r"`make ([a-z][a-z-]*)", prose(page)))
    for block in re.findall(r"^```sh\n(.*?)^```", prose(page), re.MULTILINE | re.DOTALL):
        named |= set(re.findall(r"^make ([a-z][a-z-]*)", block, re.MULTILINE))
    assert named <= DOORS


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_lab_that_a_page_names_exists(page: str) -> None:
    """`python -m lab …` in a page is a command of the lab."""
    assert set(re.findall(r"python -m lab ([a-z-]+)", prose(page))) <= set(cli.commands)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A link to a file names a file that exists, and a heading in it where it names one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, heading = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    """`lab/…`, `strategies/…`, `loadtests/…` and `tests/…` in a page are where it says."""
    named = re.findall(r"`((?:lab|strategies|loadtests|tests|docs|benchmarks)/[\w./-]*)`", prose(page))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_readme_names_every_door() -> None:
    """A door that no page mentions is not found."""
    doors = README.split("## The doors")[1].split("\n## ")[0]
    assert set(re.findall(r"`make ([a-z-]+)", doors)) == DOORS


def test_the_readme_lists_every_page() -> None:
    """A page that nobody links to is not read."""
    assert {page for page in PAGES if page.startswith("docs/")} <= set(re.findall(r"\]\(([^)\s#]+)\)", README))


def test_options_are_the_same_in_readme_makefile_and_command_line() -> None:
    """README, Makefile and `compare --help` name the same options, with the same defaults."""
    options = README.split("## Options")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([A-Z]+)[^`]*` \| (.*?) \|", options, re.MULTILINE)
    listed = {name: default.strip("` ") for name, default in rows}
    passed = re.findall(r"--([a-z]+)", MAKEFILE.split("OPTIONS =")[1].split("\n\n")[0])
    told_apart = {"strategy"}  # handed over so that the lab can say that it takes STRATEGIES here
    assert set(listed) == {name.upper() for name in set(passed) - told_apart} == set(COMPARE)
    for name, option in COMPARE.items():
        if isinstance(option, click.Option) and option.show_default and option.default is not None:
            assert listed[name] == str(option.default)
