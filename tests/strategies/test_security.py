"""The security page (docs/security.md) names a test for what it says; those that no other file has are here."""

from __future__ import annotations

import ast
import base64
import pickle
import re
from collections import defaultdict
from pathlib import Path

import flask
import pytest
from behind_flask import cookie_of

from strategies.contract import Changes
from strategies.session_interface import ServerSideSessions

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/security.md", "docs/behaviours.md")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(?:(\w+)::)?(test_\w+)`")
HANDLE_BITS, SECRET_BITS = 128, 256


def bits(part):
    """Return a part of a cookie as text of zeros and ones."""
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return "".join(f"{byte:08b}" for byte in raw)


def test_ids_are_random(shop):
    """A handle has 128 bits and a secret 256; none repeats, and every single bit is as often one as zero."""
    sessions = 300
    cookies = [shop.begin(a=1).split(".") for _ in range(sessions)]
    for part, length in ((0, HANDLE_BITS), (1, SECRET_BITS)):
        drawn = [bits(cookie[part]) for cookie in cookies]
        assert {len(each) for each in drawn} == {length}
        assert len(set(drawn)) == sessions
        ones = [sum(each[at] == "1" for each in drawn) for at in range(length)]
        # Half of 300, and eight standard deviations either way: by chance once in a million million runs.
        assert sessions / 2 - 70 < min(ones) <= max(ones) < sessions / 2 + 70


def test_ids_come_from_the_systems_generator():
    """Handles and secrets are drawn from `secrets`, the operating system's generator, and `random` is not imported."""
    tree = ast.parse((ROOT / "strategies" / "session_interface.py").read_text(encoding="utf-8"))
    drawn = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("secrets")
    ]
    assert {ast.unparse(node) for node in drawn} == {
        "secrets.token_urlsafe(_HANDLE_BYTES)",
        "secrets.token_urlsafe(_SECRET_BYTES)",
    }
    assert "random" not in imported(tree)


def test_cookie_tells_nothing(shop):
    """A cookie is handle, secret and signature: nothing of what the session holds, or of whose it is, can be read."""
    cookie = shop.begin(user="ann", card="4111")
    decoded = b"".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in cookie.split("."))
    assert len(decoded) == (HANDLE_BITS + SECRET_BITS + 256) / 8
    assert not [text for text in (b"ann", b"4111", b"user") if text in decoded or text in cookie.encode()]


@pytest.mark.parametrize("where", ["query", "form", "header", "authorization", "path"])
def test_only_a_cookie_is_an_id(shop, where):
    """A genuine id in an address, a form or another header opens nothing: only the cookie does."""
    shop.app.add_url_rule("/post", "post", shop._run, methods=["POST"])
    shop.app.add_url_rule("/<path:rest>", "path", lambda rest: shop._run())
    cookie = shop.begin(a=1)
    client = shop.app.test_client(use_cookies=False)
    shop._action.now = dict
    answer = {
        "query": lambda: client.get(f"/?session={cookie}"),
        "form": lambda: client.post("/post", data={"session": cookie}),
        "header": lambda: client.get("/", headers={"Session": cookie, "X-Session": cookie}),
        "authorization": lambda: client.get("/", headers={"Authorization": f"Bearer {cookie}"}),
        "path": lambda: client.get(f"/;session={cookie}"),
    }[where]()
    assert (answer.status_code, answer.json) == (200, {})


def test_planted_cookie(shop):
    """Who planted a session of his own in a victim's browser sees nothing of what the victim does after the login."""
    planted = shop.begin(planted=1)
    logged_in = cookie_of(shop.do(planted, lambda session: [session.rotate(), session.update(user="victim")]))
    assert shop.shown(planted) == {}
    shop.do(planted, lambda session: session.update(user="mallory"))
    shop.do(planted, lambda session: session.clear())
    assert shop.shown(logged_in) == {"planted": 1, "user": "victim"}


def test_dead_cookie_is_not_taken_over(shop):
    """An id that has ended is never used again: whoever writes with it gets a new one."""
    cookie = shop.begin(user="ann")
    shop.do(cookie, lambda session: session.clear())
    anew = cookie_of(shop.do(cookie, lambda session: session.update(a=1)))
    assert set(anew.split(".")[:2]).isdisjoint(cookie.split(".")[:2])


def test_redirect_after_login_is_not_stored(memory):
    """Also an answer without a body that hands out a cookie is kept by no cache."""
    app = flask.Flask(__name__)
    app.secret_key = "a secret key"
    app.session_interface = ServerSideSessions(memory)

    @app.post("/login")
    def login():
        flask.session["user"] = "ann"
        flask.session.rotate()
        response = flask.redirect("/")
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response

    answer = app.test_client().post("/login")
    assert "Set-Cookie" in answer.headers
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("no-store", "Cookie")


# No pickle


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_pickle_in_the_store_is_not_unpickled(memory, shop, tmp_path, caplog):
    """Whoever can write the store can run nothing on the servers: what is no JSON is a 503 and a line in the log."""
    cookie = shop.begin(a=1, b=2)
    memory.save(cookie.split(".")[0], Changes(set={"a": pickle.dumps(Bomb(tmp_path / "exploded"))}))
    answer = shop.do(cookie, dict)
    assert (answer.status_code, list(tmp_path.iterdir())) == (503, [])
    assert "session field 'a' is damaged" in caplog.text
    assert shop.do(cookie, lambda session: [session["b"]]).json == [2]
    shop.do(cookie, lambda session: session.clear())
    assert memory.census().handles == ()


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def imported(tree):
    """Return the first parts of the names of all modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("file", sorted((ROOT / "strategies").glob("*.py")), ids=lambda file: file.name)
def test_nothing_can_run_what_it_reads(file):
    """No module of `strategies` imports pickle or its like, or calls what runs a text."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert FORBIDDEN_IMPORTS.isdisjoint(imported(tree))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert FORBIDDEN_CALLS.isdisjoint(called)


# The pages


def functions(file):
    """Return the tests of a file, as (class or "", function), and its classes' bases."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = {("", node.name) for node in tree.body if isinstance(node, ast.FunctionDef)}
    found |= {(each.name, node.name) for each in classes for node in each.body if isinstance(node, ast.FunctionDef)}
    return found, {each.name: {ast.unparse(base) for base in each.bases} for each in classes}


def inherited():
    """Return the names of all classes that test classes inherit from, directly or not."""
    bases = defaultdict(set)
    for file in (ROOT / "tests").rglob("*.py"):
        for name, of_one in functions(file)[1].items():
            bases[name] |= of_one
    reached, todo = set(), [name for name in bases if name.startswith("Test")]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += bases[name]
    return reached


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page):
    """A test that a page points to is there under that name, and is run: in a test file, or in a mixin that is used."""
    named = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(named) > 20
    run = inherited()
    for path, owner, test in named:
        file = ROOT / path
        assert file.exists(), path
        assert (owner, test) in functions(file)[0], f"{path}::{owner}::{test}"
        assert file.name.startswith("test_") if not owner else owner in run, f"{path}::{owner} is run by nobody"


@pytest.mark.parametrize("page", PAGES)
def test_every_row_of_a_page_is_answered(page):
    """A row names a test, or says whose duty the thing is."""
    text = (ROOT / page).read_text(encoding="utf-8")
    tables = re.findall(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 15
    answered = re.compile(r"`tests/|the application's duty|not applicable|the operator's duty|not done", re.IGNORECASE)
    assert not [row for row in rows if not answered.search(row)]


def test_chapter_7_is_whole():
    """Every requirement of ASVS 5.0 chapter 7 has its row, and no other number is made up."""
    requirements = {1: 3, 2: 4, 3: 2, 4: 5, 5: 3, 6: 2}
    expected = {f"7.{section}.{number}" for section, count in requirements.items() for number in range(1, count + 1)}
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (7\.\d\.\d)", text, re.MULTILINE)) == expected
