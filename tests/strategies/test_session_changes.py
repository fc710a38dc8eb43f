"""What of a request's changes is saved, and what that costs, whatever the store."""

from __future__ import annotations

import flask
import pytest
from behind_flask import Shop, cookie_of
from records import packed

from strategies.contract import Changes


def test_reading_only_in_a_transaction(shop):
    """Opening the session in a test without looking into it costs nothing."""
    with shop.app.test_client().session_transaction():
        pass
    assert shop.calls() == (0, 0, 0, 0, 0)


def test_nested_changes(shop):
    """A change inside a field is saved if the session is flagged as modified, and only then, as in Flask."""
    cookie = shop.begin(cart=[1], other=[1])

    def unflagged(session):
        session["cart"].append(2)
        session["x"] = 1

    shop.do(cookie, unflagged)
    assert shop.shown(cookie) == {"cart": [1], "other": [1], "x": 1}

    def flagged(session):
        session["cart"].append(2)
        session.modified = True

    assert shop.cost(cookie, flagged) == (0, 1, 1, 0, 0)
    assert shop.shown(cookie) == {"cart": [1, 2], "other": [1], "x": 1}


def test_flagged_without_change(shop):
    """A flag alone saves nothing, however the store writes the JSON of the fields that were read."""
    cookie = shop.begin(a=1, b=[2])
    shop.store.save(cookie.split(".")[0], Changes(set={"a": b'{ "x" : 1.0 }'}))

    def look(session):
        assert session["a"]
        assert session["b"]
        session.modified = True

    assert shop.cost(cookie, look) == (0, 1, 0, 0, 0)


def test_flag_taken_back(shop):
    """`session.modified = False` keeps a change from being saved, as in Flask."""
    cookie = shop.begin(a=1)

    def change(session):
        session["a"] = 2
        session.modified = False

    assert shop.cost(cookie, change) == (0, 1, 0, 0, 0)
    assert shop.shown(cookie) == {"a": 1}


def test_set_default(shop):
    """A list made with `setdefault` and filled afterwards is saved as it is at the end of the request."""
    cookie = cookie_of(shop.do(None, lambda session: session.setdefault("cart", []).append(1)))
    assert shop.shown(cookie) == {"cart": [1]}


def test_dict_methods(shop):
    """The session is a dict: membership, length, items, pop and friends agree with one another."""

    def check(session):
        assert "a" in session
        assert "x" not in session
        assert session.get("x", 7) == 7
        assert session.pop("a") == 1
        assert "a" not in session
        assert sorted(session) == ["b", "c"]
        assert len(session) == 2
        with pytest.raises(KeyError):
            session["a"]
        with pytest.raises(KeyError):
            del session["a"]
        session["a"] = 9
        assert dict(session) == {"a": 9, "b": 2, "c": 3}
        del session["a"]

    cookie = shop.begin(a=1, b=2, c=3)
    assert shop.do(cookie, check).status_code == 200
    assert shop.shown(cookie) == {"b": 2, "c": 3}


def test_cleared_and_filled_again(shop):
    """A session that is cleared and filled again lives on with the new fields alone, whoever added others meanwhile."""
    cookie = shop.begin(user="ann", cart=1)

    def refill(session):
        session.clear()
        shop.store.save(cookie.split(".")[0], Changes(set=packed(late=1)))
        session["message"] = "bye"

    assert cookie_of(shop.do(cookie, refill)) is None
    assert shop.shown(cookie) == {"message": "bye"}


def test_clearing_without_a_session(shop):
    """A logout without a session, or with a dead cookie, is no error, and removes the cookie if there is one."""
    assert cookie_of(shop.do(None, lambda session: session.clear())) is None
    cookie = shop.begin(a=1)
    shop.do(cookie, lambda session: session.clear())
    assert cookie_of(shop.do(cookie, lambda session: session.clear())) == ""


def test_empty_sessions_are_not_created(shop):
    """A request that writes nothing, or takes back what it wrote, creates no session."""

    def write_and_remove(session):
        session["a"] = 1
        del session["a"]

    for action in (dict, write_and_remove, lambda session: session.rotate(), lambda session: session.pop("a", None)):
        response = shop.do(None, action)
        assert (response.status_code, cookie_of(response)) == (200, None)
    assert shop.store.census().creates == 0


def test_shrinking_below_the_limit(shop):
    """A session that two writers together made too large can be made smaller, in steps."""
    cookie = shop.begin(a="x" * 40_000)
    shop.store.save(cookie.split(".")[0], Changes(set=packed(b="x" * 40_000)))
    assert shop.do(cookie, lambda session: session.update(a="x" * 39_000)).status_code == 200
    assert shop.do(cookie, lambda session: session.update(a="x" * 39_001)).status_code == 413
    assert shop.do(cookie, lambda session: session.pop("a")).status_code == 200


class Unkept:
    """Something that JSON cannot hold."""


@pytest.mark.parametrize(
    "value",
    [
        Unkept(),
        {1: "integer keys become text"},
        {"deep": [float("nan")]},
        float("inf"),
        b"bytes",
        {"a set"},
        "a lone surrogate \ud800",
        {"\ud800": 1},
        complex(1, 1),
        Exception,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_json_cannot_hold(memory, value):
    """A value that JSON cannot hold, or would change, is refused in the view's own line, by the field's name."""
    shop = Shop(memory, TESTING=True)
    with pytest.raises(TypeError, match="session field 'cart:1' cannot be kept as JSON"):
        shop.do(None, lambda session: session.update({"cart:1": value}))
    assert memory.census().handles == ()


def test_endless_values(memory):
    """A list that contains itself is refused like every other value that nests too deep."""
    shop = Shop(memory, TESTING=True)
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested more than"):
        shop.do(None, lambda session: session.update(a=endless))


@pytest.mark.parametrize("name", [1, None, "\ud800"])
def test_names_that_json_cannot_hold(memory, name):
    """A field's name is text that UTF-8 can write."""
    shop = Shop(memory, TESTING=True)
    with pytest.raises(TypeError, match="session field"):
        shop.do(None, lambda session: session.update({name: 1}))


def test_value_made_unkeepable_later(memory):
    """A value that is spoilt after it was set is refused when it is saved, by name, and nothing is saved."""
    shop = Shop(memory, TESTING=True)

    def spoil(session):
        session["cart"] = cart = []
        cart.append(Unkept())

    with pytest.raises(TypeError, match="'cart'"):
        shop.do(None, spoil)
    assert memory.census().handles == ()


def test_saved_when_the_view_fails(shop):
    """What a view saved before it raised is kept, as in Flask."""
    cookie = shop.begin(a=1)

    def fail(session):
        session["a"] = 2
        flask.abort(404)

    assert shop.do(cookie, fail).status_code == 404
    assert shop.shown(cookie) == {"a": 2}
