"""The shop does not know which strategy keeps its sessions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lab.shop
from strategies import STRATEGIES, load_store_class
from strategies.contract import StoreSettings

FILES = sorted(Path(lab.shop.__file__).parent.rglob("*"))
SOURCES = [file for file in FILES if file.suffix == ".py"]
TEXTS = [file for file in FILES if file.suffix in {".py", ".html", ".js"}]

SHOPPING = [
    ("GET", "/api/cart", None),
    ("POST", "/api/cart", {"token": "b", "product": 2}),
    ("POST", "/api/cart", {"token": "a", "product": 7, "quantity": 3}),
    ("POST", "/api/cart/a/bump", None),
    ("POST", "/api/visit", {"page": "product", "product": 9, "seconds": 1.25}),
    ("POST", "/api/login", {"user": "Ada Lovelace"}),
    ("GET", "/api/cart", None),
    ("POST", "/api/cart", {"token": "c", "product": 9}),
    ("DELETE", "/api/cart/b", None),
    ("POST", "/api/cart/b/bump", None),
    ("GET", "/api/cart", None),
    ("GET", "/", None),
    ("GET", "/products/9", None),
    ("GET", "/cart", None),
    ("POST", "/api/logout", None),
    ("GET", "/api/cart", None),
]


def imported(source):
    """The modules that a source file imports, also for its types only."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_imports(source):
    """Nothing in the shop imports a strategy, or anything of the lab but the shop itself."""
    known = {module for module in imported(source) if module.split(".")[0] in {"strategies", "lab", "loadtests"}}
    assert all(module == "lab.shop" or module.startswith("lab.shop.") for module in known)


@pytest.mark.parametrize("source", TEXTS, ids=lambda source: source.name)
def test_words(source):
    """No strategy is named in the shop's code, templates or script, apart from ordinary English."""
    ordinary = {"database"}  # the origin database, under every strategy
    if source.name == "cache.py":
        ordinary |= {"redis"}  # an engine of its own in front of the catalogue, under every strategy
    words = set(re.findall(r"[a-z-]+", source.read_text().lower()))
    assert not words & (STRATEGIES.keys() - ordinary)


def serve(make_shop, strategy, settings):
    """What a shopper is answered under a strategy, without what is random in a page: tokens and the trace."""
    store = load_store_class(strategy).open(settings)
    client = make_shop(store).test_client()
    answers = []
    for method, path, body in SHOPPING:
        response = client.open(path, method=method, json=body)
        masked = re.sub(rb'name="token" value="[^"]+"|<dl class="trace".*?</dl>', b"", response.data, flags=re.DOTALL)
        answers.append((response.status_code, response.headers["Content-Type"], masked))
    store.close()
    return answers


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "isolated"])
def test_answers_are_the_same_bytes(make_shop, strategy, origin_url, redis_url):
    """The same requests get the same bytes, wherever the session lives."""
    settings = StoreSettings(
        namespace="blind", database_url=origin_url, redis_url=redis_url, peer_secret="a secret for tests"
    )
    expected = serve(make_shop, "isolated", settings)
    assert [status for status, _, _ in expected].count(200) == len(SHOPPING) - 1
    assert serve(make_shop, strategy, settings) == expected
