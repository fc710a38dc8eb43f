"""The page "Use it in your own application" does what it says: its code runs, section by section, on real engines."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests
from waiting import wait_until

import strategies
from strategies import contract

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "use-in-your-application.md").read_text(encoding="utf-8")
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
}
APPLICATION = SECTIONS["In one line"][0]
IN_A_FORK = """
before = app.session_interface
worker = os.fork()
if worker == 0:
    post_fork(None, None)
    answer = app.test_client().get("/count")
    os._exit(0 if answer.json == {"n": 1} and app.session_interface is not before else 1)
assert os.waitpid(worker, 0)[1] == 0
"""
BESIDE_THE_PAGE = {"Several processes": IN_A_FORK}


@pytest.fixture
def environment(redis_url, database_url):
    """Return the environment that the page's programs run in; each has keys and tables of its own."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # Python 3.12 warns of any fork beside threads
        "SECRET_KEY": secrets.token_hex(),
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
    }


def test_page_has_its_sections():
    """The page's code is found; a section that lost its code would be no test."""
    assert {name for name, blocks in SECTIONS.items() if not blocks} == {
        "Install",
        "What a request saves",
        "Coming from flask-session",
    }
    assert len(SECTIONS) >= 15


EACH_SECTION = """
import sys, traceback
for section, program in {programs!r}.items():
    try:
        exec(compile(program, section, "exec"), {{"__name__": section}})
    except Exception:
        print(section, traceback.format_exc(), sep=": ")
"""


def test_code_of_the_page(environment):
    """A section's code, after the application of "In one line", runs to its end and its assertions hold."""
    programs = {
        section: "\n".join([APPLICATION, *blocks[blocks[:1] == [APPLICATION] :], BESIDE_THE_PAGE.get(section, "")])
        for section, blocks in SECTIONS.items()
        if blocks and section != "All-to-all"
    }
    done = subprocess.run(
        [sys.executable, "-"],
        input=EACH_SECTION.format(programs=programs),
        env=environment,
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def free_ports(count):
    """Return ports on which nobody listens, below those that the system gives to outgoing connections."""
    found = []
    for port in random.sample(range(20_000, 30_000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def answers(url):
    """Return whether somebody serves there."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@contextlib.contextmanager
def two_servers(program, environment):
    """Run a program as `web-1` and `web-2`; give their addresses, for users and for peers."""
    ports = free_ports(4)
    users, peers = ports[:2], ports[2:]
    started = [
        subprocess.Popen(
            [sys.executable, program],
            env=environment
            | {
                "SERVER": f"web-{i + 1}",
                "PEERS": f"web-{2 - i}=http://127.0.0.1:{peers[1 - i]}",
                "LISTEN": f"127.0.0.1:{users[i]}",
                "LISTEN_FOR_PEERS": f"127.0.0.1:{peers[i]}",
            },
        )
        for i in range(2)
    ]
    try:
        yield [[f"http://127.0.0.1:{port}" for port in of_one] for of_one in (users, peers)]
    finally:
        for server in started:
            server.kill()
            server.wait()


def test_servers_of_the_page(environment, tmp_path):
    """Two processes of the page's `server.py` share their sessions, over listeners that only peers are told of."""
    program = tmp_path / "server.py"
    program.write_text("\n".join([APPLICATION, *SECTIONS["All-to-all"]]))
    with two_servers(program, environment | {"PEER_SECRET": secrets.token_hex()}) as (urls, peer_urls):
        for url in urls:
            wait_until(lambda url=url: answers(f"{url}/count"), seconds=60)
        with requests.Session() as browser:
            counted = []

            def in_turn():
                counted.append(browser.get(f"{urls[len(counted) % 2]}/count", timeout=5).json()["n"])
                return counted[-1] >= 4

            wait_until(in_turn, seconds=30)
        assert requests.get(f"{urls[0]}/peers/state", timeout=5).status_code == 404
        assert requests.get(f"{peer_urls[0]}/peers/state", timeout=5).status_code == 403


# The public interface


def run(code):
    """Run code in a process of its own; return what it prints."""
    return subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, timeout=60).strip()


def test_drivers_are_imported_when_used():
    """Importing `strategies` imports no driver and not even Flask; naming a store imports its driver alone."""
    loaded = "print(*sorted({'flask', 'psycopg', 'redis', 'requests'} & set(sys.modules)))"
    assert run(f"import sys, strategies; {loaded}") == ""
    assert run(f"import sys; from strategies import LocalStore, AllToAllStore; {loaded}") == ""
    assert run(f"import sys; from strategies import ServerSideSessions; {loaded}") == "flask"
    assert run(f"import sys; from strategies import RedisStore; {loaded}") == "redis"
    assert run(f"import sys; from strategies import DatabaseStore; {loaded}") == "psycopg"


def test_missing_driver_is_one_clear_line():
    """A store whose driver is not installed names the command that installs it; the others work."""
    hide = "import sys; sys.modules['psycopg'] = None; import strategies; print(strategies.RedisStore.__name__)"
    said = run(f"{hide}\ntry: strategies.DatabaseStore\nexcept ImportError as error: print(error)")
    assert said.splitlines() == ["RedisStore", "DatabaseStore needs psycopg: pip install 'psycopg[binary]'"]


def test_unknown_names_are_attribute_errors():
    """A name that is not there is the usual error."""
    with pytest.raises(AttributeError, match="no attribute 'RediStore'"):
        strategies.RediStore  # noqa: B018 - asking is the test


def public(module):
    """Return the names that a module defines for others."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_public_names():
    """`strategies` offers the contract, the interface and every store, each of them documented and typed."""
    assert (ROOT / "strategies" / "py.typed").exists()
    stores = {strategy.store.partition(":")[2] for strategy in strategies.STRATEGIES.values()}
    contract_names = {name for name in public(contract) if not name.startswith("_")} - {"logical_bytes"}
    wanted = stores | contract_names | {"ServerSideSessions", "StoredSession", "short_hash"}
    assert wanted <= set(strategies.__all__)
    for name in strategies.__all__:
        offered = getattr(strategies, name)
        if inspect.isclass(offered) or inspect.isfunction(offered):
            assert offered.__doc__, name
        if inspect.isclass(offered):
            methods = (member for member in vars(offered).items() if not member[0].startswith("_"))
            assert not [f"{name}.{called}" for called, member in methods if callable(member) and not member.__doc__]


def test_metadata_of_the_package():
    """What pip installs for `strategies` is what its modules import, no more, and as new as the lab needs it."""
    ours = tomllib.loads((ROOT / "strategies" / "pyproject.toml").read_text())["project"]
    lab = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*ours["dependencies"], *(line for extra in ours["optional-dependencies"].values() for line in extra)]
    assert set(wanted) <= set(lab["dependencies"])
    assert (ours["version"], ours["requires-python"]) == (lab["version"], lab["requires-python"])
    imported = set()
    for file in (ROOT / "strategies").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    foreign = imported - set(sys.stdlib_module_names) - {"strategies"}
    needed = {re.match(r"[\w-]+", line)[0] for line in wanted}
    brought_along = {"werkzeug"}  # Flask's own
    assert foreign - brought_along == needed - ({"hiredis"} - foreign)
