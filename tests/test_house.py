"""The house is as docs/architecture.md and the README describe it: imports run one way, and every door has a sign."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("strategies", "loadtests", "lab")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def table(heading: str) -> dict[str, list[str]]:
    """Return the table under a heading of the page: what is in backticks in the first column, to that in the others."""
    rows = re.findall(r"^\| (`.*)\|$", PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0], re.MULTILINE)
    cells = [row.split(" | ") for row in rows]
    return {name: re.findall(r"`([^`]+)`", row[-1]) for row in cells for name in re.findall(r"`([^`]+)`", row[0])}


def homes() -> dict[str, list[str]]:
    """Return the libraries with one home, and the rooms they are at home in."""
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", PAGE.split("\n## Libraries with one home\n")[1], re.MULTILINE)
    ticked = re.compile(r"`([^`]+)`")
    return {library: ticked.findall(rooms) for names, rooms in rows for library in ticked.findall(names)}


ROOMS = table("The rooms")


def room_of(module: str) -> str | None:
    """Return the room a module is in, None for what is no room: `lab` itself, which is empty."""
    return max((room for room in ROOMS if module == room or module.startswith(f"{room}.")), key=len, default=None)


@functools.cache
def imports(path: Path) -> set[str]:
    """Return the full names of all that a file imports, at its top, in its functions, and for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            found.update(name if name in FILES else str(node.module) for name in full)
    return found


def test_every_module_is_in_a_room() -> None:
    """A module that the page does not know is a room without a sign."""
    assert not [name for name in FILES if name != "lab" and room_of(name) is None]


def test_rooms_name_only_rooms_above_them() -> None:
    """The table is in such an order that nobody looks up, so no circle can arise."""
    order = list(ROOMS)
    assert not [
        (room, other) for room, may in ROOMS.items() for other in may if other not in order[: order.index(room)]
    ]


@pytest.mark.parametrize("module", FILES)
def test_imports_run_one_way(module: str) -> None:
    """A module imports its own room and the rooms that the page allows it, and nothing else of the house."""
    room = room_of(module)
    of_the_house = {
        name for name in imports(FILES[module]) if name.partition(".")[0] in (*FOLDERS, "tests", "benchmarks")
    }
    strangers = {
        name for name in of_the_house if (there := room_of(name)) != room and there not in ROOMS.get(room or "", ())
    }
    assert not strangers, f"{module} imports {strangers}; the table in docs/architecture.md does not allow that"


@pytest.mark.parametrize("library", homes())
def test_a_library_stays_in_its_home(library: str) -> None:
    """What the page gives one home is imported nowhere else."""
    users = {name for name, path in FILES.items() if library in {used.partition(".")[0] for used in imports(path)}}
    assert not [name for name in users if room_of(name) not in homes()[library]]


def test_the_labs_own_process_is_not_patched_by_gevent() -> None:
    """Running an experiment imports nothing that changes how threads and sockets of the lab's process wait."""
    modules = "lab.cli, lab.experiments.compare.experiment, sys"
    asks = f"import {modules}; print(sorted({{'gevent', 'locust'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", asks], cwd=ROOT, text=True) == "[]\n"


class Imported(ast.NodeVisitor):
    """Collects what importing a file imports: not what its functions import when called, nor what types alone need."""

    def __init__(self, module: str) -> None:
        self.found: set[str] = set()
        self.visit(ast.parse(FILES[module].read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Pass over what happens later."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Likewise."""

    def visit_If(self, node: ast.If) -> None:
        """Pass over `if TYPE_CHECKING:`."""
        for inside in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else [*node.body, *node.orelse]:
            self.visit(inside)

    def visit_Import(self, node: ast.Import) -> None:
        """Keep the names of modules."""
        self.found.update(alias.name for alias in node.names if alias.name in FILES)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Keep a module that is imported from its package; of anything else, the module that it is in."""
        full = ((f"{node.module}.{alias.name}", str(node.module)) for alias in node.names)
        self.found.update(name if name in FILES else module for name, module in full if module in FILES)


def family(module: str) -> set[str]:
    """Return a module and the packages it is in, which Python imports before it."""
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


def test_every_module_can_be_imported_first() -> None:
    """No module counts on another having been imported before it: its imports lead nowhere back to it."""
    asked = {module: Imported(module).found for module in FILES}
    first = {module: names | set().union(*map(family, names)) - family(module) for module, names in asked.items()}
    assert sum(map(len, first.values())) > 2 * len(FILES)
    graphlib.TopologicalSorter(first).prepare()  # raises a CycleError, which names the circle


def doors() -> list[str]:
    """Return the Makefile's targets."""
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def make(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run make with a set-up that does nothing and a lab that prints what it was given, an argument a line."""
    stand_ins = {"PYTHON": "true", "LAB": "printf '<%s>\\n'"} | options
    command = ["make", "--no-print-directory", *arguments, *(f"{name}={value}" for name, value in stand_ins.items())]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_door_on_one_line() -> None:
    """The first thing a newcomer types shows all there is."""
    listed = re.findall(r"^  make ([a-z-]+) +\S", make().stdout, re.MULTILINE)
    assert listed == doors()


def test_options_reach_the_lab_as_they_were_typed() -> None:
    """Spaces, quotes and dollars in a make variable stay what they are; what is not set is not passed."""
    given = make("compare", SERVERS="0", STRATEGIES="sticky redis", OUT="a b'\"$$HOME;c", QUICK="1", FULL="0").stdout
    expected = ["compare", "--servers=0", "--strategies=sticky redis", "--out=a b'\"$HOME;c", "--quick"]
    assert given.splitlines() == [f"<{argument}>" for argument in expected]


@pytest.mark.parametrize("mistyped", ["SERVER", "servers", "STRATEGYS", "BLOCK"])
def test_a_mistyped_option_is_refused(mistyped: str) -> None:
    """It would go unheeded, and a run of minutes would measure something else."""
    done = make("compare", **{mistyped: "8"})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no option {mistyped}. Expected" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert " SERVERS RATE BLOCKS " in done.stderr


def test_every_option_that_help_names_is_known() -> None:
    """Help and guard tell of the same names, and what is meant for others on the same line passes."""
    named = set(re.findall(r"\b[A-Z]{3,}(?==|\b)", " ".join(re.findall(r"\(([A-Z][^)]*)\)", make().stdout))))
    assert {"SERVERS", "STRATEGY", "STRATEGIES", "FRESH", "VOLUMES"} <= named
    refused = {name for name in named - {"PYTHON"} if make("compare", **{name: ""}).returncode}
    assert not refused
    assert make("compare", COLUMNS="60", NO_COLOR="1", LAB_REDIS_URL="redis://…").stdout == "<compare>\n"


def test_one_strategy_and_several_are_not_mixed_up() -> None:
    """Both names reach every door that takes either, so that the lab can say which one it takes."""
    assert make("compare", STRATEGY="redis").stdout.splitlines() == ["<compare>", "<--strategy=redis>"]
    assert make("up", STRATEGIES="redis").stdout.splitlines() == ["<up>", "<--strategies=redis>"]
    assert make("load", STRATEGY="redis").stdout.splitlines() == ["<load>", "<--strategy=redis>"]


def test_report_takes_the_latest_run_if_none_is_named() -> None:
    """`make report` redraws what was measured last."""
    assert make("report").stdout == "<report>\n<results/latest>\n"
    assert make("report", RUN="results/my run").stdout == "<report>\n<results/my run>\n"


def test_a_lab_that_fails_makes_make_fail() -> None:
    """A script that calls `make compare` sees that it failed."""
    assert make("compare", LAB="false").returncode != 0


def test_a_setup_that_fails_stops_the_door() -> None:
    """Nothing is measured in an environment that could not be made."""
    done = make("compare", PYTHON="false")
    assert done.returncode != 0
    assert "compare>" not in done.stdout
