"""How an exchange is read into the history."""

import pytest

from loadtests.answers import Exchange, operation, outcome
from loadtests.plans import Plan, PlannedRequest
from loadtests.wire import ArmTarget

TARGET = ArmTarget(arm="redis blob", strategy="redis", url="http://x", server_urls={}, cookie_name="c")
PLAN = Plan(scenario="shopping", block=3, seconds=1, requests=[])


@pytest.mark.parametrize(
    ("f", "status", "error", "expected"),
    [
        ("add", 200, None, "ok"),
        ("view", 200, None, "ok"),
        ("add", 409, None, "fail"),
        ("add", 401, None, "fail"),
        ("add", 503, None, "info"),
        ("add", 504, None, "info"),
        ("add", 302, None, "info"),
        ("view", 503, None, "fail"),
        ("final_view", 503, None, "fail"),
        ("add", 0, TimeoutError(), "info"),
        ("add", 0, ConnectionResetError(), "info"),
        ("add", 0, ConnectionRefusedError(), "fail"),
        ("view", 0, TimeoutError(), "fail"),
        ("logout", 0, TimeoutError(), "info"),
    ],
)
def test_outcomes(f, status, error, expected):
    """An answer, a refusal and silence are told apart, and silence after a write stays unknown."""
    assert outcome(f, status, error) == expected


def exchange(f, **changes):
    """Make an exchange of shopper s001."""
    return Exchange(planned=PlannedRequest(at_seconds=0, shopper="s001", f=f, token="t"), f=f, intended_ns=1, **changes)


def test_an_answer_becomes_an_operation():
    """Everything that the answer says about the session is in the operation."""
    headers = {"x-served-by": "web-2", "x-session": "abc", "x-session-version": "7", "x-session-saved": "1"}
    body = b'{"user": "s001", "cart": [{"token": "t", "product": 5, "quantity": 2}], "recent": [4]}'
    done = operation(9, exchange("add", status=200, headers=headers, body=body, t0_ns=2, t1_ns=3), TARGET, PLAN)
    assert (done.i, done.arm, done.strategy, done.block, done.shopper) == (9, "redis blob", "redis", 3, "s001")
    assert (done.cart, done.quantities, done.user, done.recent) == (["t"], {"t": 2}, "s001", [4])
    assert (done.server, done.session, done.version, done.saved) == ("web-2", "abc", "7", True)
    assert (done.intended_ns, done.t0_ns, done.t1_ns, done.outcome, done.error) == (1, 2, 3, "ok", None)
    assert done.received_bytes == len(body)


@pytest.mark.parametrize(("f", "expected"), [("view", "fail"), ("add", "info")])
@pytest.mark.parametrize("body", [b"<html>", b'{"user": null}', b"[]", b'{"cart": 3}', b""])
def test_an_unreadable_answer_is_not_ok(f, expected, body):
    """A 200 that is not the JSON it should be does not count as success, and the error says so."""
    done = operation(0, exchange(f, status=200, body=body), TARGET, PLAN)
    assert done.outcome == expected
    assert done.cart is None
    assert "answer" in done.error


def test_a_refusal_is_quoted():
    """The error holds the status and the server's own words."""
    done = operation(0, exchange("add", status=409, body=b'{"error": "saved elsewhere"}'), TARGET, PLAN)
    assert (done.outcome, done.error) == ("fail", "HTTP 409: saved elsewhere")
