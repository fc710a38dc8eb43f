"""Lives of sessions: whose requests kept to the plan, decided by times alone."""

from __future__ import annotations

from types import SimpleNamespace

from lab.measuring.scenarios import held_up, two_tabs
from loadtests.recorder import Operation

IDLE, ABSOLUTE = 4.0, 12.0


def request(f, t0, took=0.01, late=None, shopper="a1"):
    """Make up a request sent at `t0` seconds."""
    return Operation(
        i=0,
        arm="redis",
        strategy="redis",
        scenario="lifecycle",
        phase="main",
        shopper=shopper,
        tab=0,
        f=f,
        late=late,
        intended_ns=int(t0 * 1e9),
        t0_ns=int(t0 * 1e9),
        t1_ns=int((t0 + took) * 1e9),
        outcome="ok",
        status=200,
    )


def out(*operations):
    """Return who was held up."""
    return held_up(operations, IDLE, ABSOLUTE)


def test_whoever_keeps_to_the_plan_counts():
    """Requests within the lifetimes, and late ones after them."""
    assert out(request("login", 0), request("view", 2), request("view", 5), request("view", 9.1, late="idle")) == set()
    assert (
        out(request("login", 0), request("view", 3), request("view", 6), request("view", 12.1, late="absolute"))
        == set()
    )


def test_an_ordinary_request_that_came_after_the_idle_lifetime_shows_nothing():
    """The machine slept; the session had every right to end."""
    assert out(request("login", 0), request("view", 3.9), request("view", 5)) == {"a1"}


def test_a_slow_answer_counts_as_silence():
    """A request that waited four seconds for its answer may have been served after the end."""
    assert out(request("login", 0), request("view", 1, took=4)) == {"a1"}


def test_an_ordinary_request_past_the_absolute_lifetime_shows_nothing():
    """Nor does one that came after the session's last possible moment."""
    steps = [request("view", t) for t in (3, 6, 9, 11.9, 12.2)]
    assert out(request("login", 0), *steps) == {"a1"}


def test_a_late_request_that_was_not_late_shows_nothing():
    """A late request must find the session ended."""
    assert out(request("login", 0), request("view", 2, took=0.5), request("view", 6.2, late="idle")) == {"a1"}
    assert out(request("login", 0, took=1), request("view", 12.5, late="absolute")) == {"a1"}


def test_a_tab_that_did_not_wait_for_the_login_shows_nothing():
    """A second tab that started before the login was answered had no cookie to show."""
    assert out(request("login", 0, took=1), request("visit", 0.5)) == {"a1"}


def test_each_shopper_is_judged_alone():
    """One shopper's trouble is not another's."""
    assert out(request("login", 0), request("login", 0, shopper="a2"), request("view", 6, shopper="a2")) == {"a2"}


class SlowAnswers:
    """A stand-in for the load generator: notes what it is asked to send, and has some logins fail."""

    def __init__(self, failing):
        self.plans, self._failing = [], failing

    def run(self, plans):
        """Answer every request of the plans."""
        self.plans.append(dict(plans))
        return SimpleNamespace(operations=[self._answer(arm, asked) for arm, plan in plans for asked in plan.requests])

    def final_views(self, arm, shoppers):
        """See no carts."""
        return []

    def _answer(self, arm, asked):
        done = request(asked.f, asked.at_seconds, shopper=asked.shopper)
        done.arm, done.tab = arm, asked.tab
        if asked.f == "login" and (arm, asked.shopper) in self._failing:
            done.outcome = "info"
        return done


def test_second_tabs_open_when_the_logins_are_answered():
    """However slow the machine: pairs are sent when the first part has ended, by those who have a session to share."""
    generator = SlowAnswers(failing={("redis", "d002")})
    clusters = dict.fromkeys(("redis", "database"), SimpleNamespace(quiet=lambda: None))
    operations = two_tabs(generator, clusters, seed=1, rate_rps=100, seconds=2, shoppers=5)
    beginnings, pairs = generator.plans
    assert {asked.tab for plan in beginnings.values() for asked in plan.requests} == {0}
    everybody = {f"d{number:03d}" for number in range(5)}
    assert {asked.shopper for asked in pairs["database"].requests} == everybody
    assert {asked.shopper for asked in pairs["redis"].requests} == everybody - {"d002"}
    sent = sum(len(plan.requests) for part in generator.plans for plan in part.values())
    assert len(operations) == sent
