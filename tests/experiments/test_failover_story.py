"""What a fault did, on histories written by hand: each number is one that a reader can count."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from lab.consistency.shopper import arrange
from lab.experiments.failover import story
from lab.experiments.failover.experiment import Struck
from lab.experiments.failover.faults import CONTAINER_RENEWAL_SECONDS, known_to
from lab.experiments.failover.findings import _validity
from lab.experiments.failover.story import Marks
from loadtests.recorder import Operation

SECOND = 1_000_000_000
MARKS = Marks(start_ns=0, struck_ns=10 * SECOND, repaired_ns=12 * SECOND, end_ns=20 * SECOND)
COUNT = itertools.count()


def request(f, at, *, took=0.01, due=None, status=200, server="web-1", session="S", shopper="s1", **more):
    """Make up a request sent at `at` seconds; a failed write is of unknown outcome, as the load records it."""
    failed = "fail" if f in {"view", "product", "final_view"} or 400 <= status < 500 else "info"
    return Operation(
        i=next(COUNT),
        arm="redis kill-server",
        strategy="redis",
        scenario="failover",
        phase="final" if f == "final_view" else "main",
        shopper=shopper,
        tab=0,
        f=f,
        intended_ns=round((at if due is None else due) * SECOND),
        t0_ns=round(at * SECOND),
        t1_ns=round((at + took) * SECOND),
        slept=due is None,
        outcome="ok" if status == 200 else failed,
        status=status,
        server=server,
        session=session if status == 200 else None,
        presented="S" if f == "final_view" else None,
        **more,
    )


def add(token, at, cart=None, **more):
    """Make up an acknowledged add."""
    return request("add", at, token=token, cart=cart or [token], **more)


def view(cart, at, **more):
    """Make up a view."""
    return request("view", at, cart=cart, **more)


def final(cart, server="web-1", **more):
    """Make up a final view."""
    return request("final_view", 30, cart=cart, server=server, **more)


class TestCause:
    """Why a request failed."""

    @pytest.mark.parametrize(
        ("status", "error", "expected"),
        [
            (200, None, None),
            (401, "HTTP 401: your session has ended", None),
            (409, "HTTP 409: conflict", None),
            (0, "ConnectionResetError: reset", "server"),
            (502, "HTTP 502: unreadable answer", "server"),
            (504, "HTTP 504: unreadable answer", "server"),
            (503, "HTTP 503: the session store is not available: try again later", "store"),
            (503, "HTTP 503: the catalogue is not available: no connection", "origin"),
            (500, "HTTP 500: something went wrong on our side", "error"),
        ],
    )
    def test_each_status_has_its_cause(self, status, error, expected):
        """Nobody answered, the store was down, the shop's database was down, or something else; 4xx is no failure."""
        assert story.cause(request("add", 1, status=status, error=error)) == expected


class TestFailures:
    """Failed requests, by cause."""

    def test_those_that_ended_after_the_stroke_count_by_cause(self):
        """One that had failed before stands apart; one under way at the stroke was hit by it."""
        history = [
            request("view", 5, status=502),
            request("view", 9.9, took=0.3, status=502),
            request("add", 11, status=503, error="the catalogue is not available", took=1.5),
            request("login", 11, status=503, error="the session store is not available", took=0.5),
            request("view", 13),
        ]
        found = story.failures(history, MARKS)
        assert found["before"] == 1
        assert found["requests"] == 4
        assert found["failed"] == 3
        assert found["by_cause"] == {"server": 1, "store": 1, "origin": 1, "error": 0}
        assert found["session_only"] == 2
        assert found["slowest_seconds"] == pytest.approx({"server": 0.3, "store": 0.5, "origin": 1.5})


def fate_of(*history):
    """Return what became of the one session, `None` where none was alive."""
    found = story.fates(history, MARKS)
    return found[0].lost if found else "none alive"


class TestSessions:
    """Sessions alive at the stroke, and what became of them."""

    def test_a_session_that_answers_name_afterwards_is_kept(self):
        """The usual case."""
        assert fate_of(view([], 9), view([], 13)) is False

    def test_a_session_that_is_replaced_or_ended_is_lost(self):
        """Another session, none, or a 401."""
        assert fate_of(view([], 9), view([], 13, session="T")) is True
        assert fate_of(view([], 9), view([], 13, session=None)) is True
        assert fate_of(view([], 9), request("visit", 13, status=401)) is True

    def test_one_that_was_hidden_for_a_while_is_not_lost(self):
        """What is known last decides."""
        assert fate_of(view([], 9), view([], 11, session=None), view([], 13)) is False

    def test_a_refused_request_says_nothing(self):
        """A store that is down has not lost anything yet."""
        assert fate_of(view([], 9), request("view", 11, status=503)) is None
        assert fate_of(view([], 9), request("view", 11, status=503), final([], session="S")) is False

    def test_final_views_speak_for_silent_shoppers(self):
        """Whoever sent nothing since is asked for in the end: one server that knows it is enough."""
        assert fate_of(view([], 9), final([], session=None), final([], "web-2")) is False
        assert fate_of(view([], 9), final([], session=None), final([], "web-2", session=None)) is True

    def test_final_views_that_failed_prove_nothing(self):
        """A server that does not answer may know the session."""
        assert fate_of(view([], 9), final([], session=None), request("final_view", 30, status=503)) is None

    def test_what_the_catalogue_answers_says_nothing(self):
        """It never looks at the session."""
        assert fate_of(view([], 9), request("product", 13, session=None)) is None

    def test_a_logout_ends_the_story(self):
        """Whoever logged out before had no session to lose; whoever logs out afterwards gives it up."""
        assert fate_of(view([], 8), request("logout", 9, session=None)) == "none alive"
        assert fate_of(view([], 8), request("logout", 9.99, took=0.1, session=None)) == "none alive"
        assert fate_of(view([], 9), request("logout", 11, session=None), view([], 13, session=None)) is None

    def test_counts_against_one_in_n(self):
        """Three of four lost: one that the victim held, two that another server held."""
        held = {"a": "web-2", "b": "web-1", "c": "web-1", "d": "web-1"}
        history = [
            *(view([], 9, shopper=name, server=server) for name, server in held.items()),
            *(view([], 13, shopper=name, session=None) for name in "abc"),
            view([], 13, shopper="d"),
        ]
        found = story.sessions(story.fates(history, MARKS), MARKS, victim="web-2", struck_share=1 / 4)
        assert (found["alive"], found["lost"], found["on_victim"], found["lost_elsewhere"]) == (4, 3, 1, 2)
        assert found["expected_share"] == 0.25
        assert found["share"]["estimate"] == pytest.approx(3 / 4)

    def test_a_login_of_the_last_second_is_told_apart(self):
        """The victim's word of 0.3 s before may have reached nobody; that of 3 s before had time enough."""
        late = [request("login", 9.7, server="web-2", cart=[]), view([], 13, session=None)]
        early = [request("login", 7, server="web-2", cart=[], shopper="s2"), view([], 13, session=None, shopper="s2")]
        elsewhere = [request("login", 9.7, cart=[], shopper="s3"), view([], 13, session=None, shopper="s3")]
        found = story.sessions(
            story.fates([*late, *early, *elsewhere], MARKS), MARKS, victim="web-2", struck_share=1 / 2
        )
        assert (found["lost"], found["lost_before_last_second"]) == (3, 2)


class TestWrites:
    """Confirmed writes in no final view."""

    def counts(self, *history):
        """Count them."""
        return story.writes(arrange(history), story.fates(history, MARKS), MARKS, victim="web-2")

    def test_a_write_that_a_final_view_shows_is_kept(self):
        """One server's word is enough."""
        found = self.counts(add("a", 5), final([], "web-1"), final(["a"], "web-2"))
        assert found == {"acknowledged": 1, "lost": 0, "lost_with_session": 0, "lost_in_last_second": 0}

    def test_a_write_that_none_shows_is_lost(self):
        """And why it may be forgiven is told apart."""
        found = self.counts(
            add("a", 5, server="web-2"),
            add("b", 9.5, server="web-2", cart=["a", "b"]),
            view([], 13, session=None),
            final([], session=None),
        )
        assert found == {"acknowledged": 2, "lost": 2, "lost_with_session": 2, "lost_in_last_second": 1}

    def test_a_write_that_is_missing_from_a_session_that_lives_on_has_no_excuse(self):
        """It was not lost with its session; nor was one lost with a session that another server held."""
        found = self.counts(add("a", 5, server="web-2"), view([], 13), final([]))
        assert (found["lost"], found["lost_with_session"]) == (1, 0)
        found = self.counts(add("a", 5, server="web-1"), view([], 13, session=None), final([], session=None))
        assert (found["lost"], found["lost_with_session"]) == (1, 0)

    def test_a_write_of_unknown_outcome_is_nobodys_fault(self):
        """A request that failed after it was sent may or may not have been done."""
        assert self.counts(add("a", 11, status=502), final([]))["acknowledged"] == 0

    def test_a_final_view_that_failed_accuses_nobody(self):
        """The server that did not answer may hold it."""
        assert self.counts(add("a", 5), final([]), request("final_view", 30, server="web-2", status=504))["lost"] == 0


class TestAnswers:
    """Wrong carts."""

    def counts(self, *history):
        """Count them by window."""
        judged, wrong = story.wrong_answers(arrange(history))
        return story.answers(history, judged, wrong, MARKS)

    def test_a_view_without_a_confirmed_item_is_wrong_lost_or_not(self):
        """What the shopper sees counts, and when it was asked for."""
        found = self.counts(add("a", 5), view(["a"], 6), view([], 11), view(["a"], 13), final(["a"]))
        assert (found["before"], found["during"]) == ({"views": 1, "wrong": 0}, {"views": 1, "wrong": 1})
        assert found["after"] == {"views": 1, "wrong": 0}
        assert found["last_seconds"] == pytest.approx(1.01)

    def test_lost_items_are_missed_at_every_look(self):
        """Unlike in the guarantees, which leave lost items out."""
        assert self.counts(add("a", 5), view([], 11), view([], 13), final([]))["after"]["wrong"] == 1

    def test_an_item_that_nobody_put_in_is_wrong(self):
        """Someone else's cart."""
        assert self.counts(view(["x"], 11))["during"] == {"views": 1, "wrong": 1}

    def test_an_error_is_no_wrong_answer(self):
        """It says nothing about the cart."""
        assert self.counts(add("a", 5), request("view", 11, status=503))["during"]["views"] == 0

    def test_a_bought_cart_is_rightly_empty(self):
        """A checkout takes the obligation away."""
        history = [add("a", 5), request("checkout", 6, cart=[], token="o"), view([], 11)]
        assert self.counts(*history)["during"] == {"views": 0, "wrong": 0}


class TestRecovery:
    """How long requests failed."""

    def seconds(self, *history):
        """Return seconds since the stroke, seconds since the repair, and whether it was seen to recover."""
        found = story.recovery(history, MARKS)
        return found["seconds"], found["after_repair_seconds"], found["recovered"]

    def test_nothing_failed(self):
        """There is nothing to recover from."""
        assert self.seconds(view([], 11)) == (0.0, 0.0, True)

    def test_the_last_failure_counts(self):
        """From the stroke to its end, whether before or after the repair."""
        assert self.seconds(request("view", 11, took=0.5, status=504)) == (1.5, 0.0, True)
        assert self.seconds(request("view", 13, took=0.5, status=504)) == (3.5, 1.5, True)

    def test_what_failed_before_the_stroke_was_not_its_doing(self):
        """Only what ended later can be."""
        assert self.seconds(request("view", 9, status=504)) == (0.0, 0.0, True)

    def test_a_failure_near_the_end_is_no_recovery(self):
        """Who knows what the next request would have met."""
        assert self.seconds(request("view", 19, status=504)) == (None, None, False)

    def test_a_repair_near_the_end_shows_nothing(self):
        """The load ended before it could."""
        late = Marks(start_ns=0, struck_ns=10 * SECOND, repaired_ns=19 * SECOND, end_ns=20 * SECOND)
        found = story.recovery([request("view", 11, status=504)], late)
        assert (found["recovered"], found["seconds"]) == (None, pytest.approx(1.01))


class TestTime:
    """The timeline, and what shoppers waited."""

    def test_each_request_is_of_one_kind_where_it_was_due(self):
        """Right, slow, wrong, failed, failed for want of the catalogue."""
        wrong = view([], 11)
        history = [
            view([], 9.9),
            request("view", 10.1, took=1.2),
            wrong,
            request("view", 10.3, status=503, error="the session store is not available"),
            request("view", 10.3, status=503, error="the catalogue is not available"),
        ]
        line = story.timeline(history, {wrong.i}, MARKS)
        place = (0 - line["from_ms"]) // line["bucket_ms"]
        assert len(line["ok"]) == 20 * 4
        assert line["ok"][place - 1] == line["slow"][place] == line["wrong"][place + 4] == 1
        assert line["failed"][place + 1] == line["origin"][place + 1] == 1
        assert sum(sum(line[kind]) for kind in story.KINDS) == len(history)

    def test_waiting_counts_from_when_a_request_was_due(self):
        """A tab that was busy made its next request late: the shopper's wait. A late generator is not."""
        assert story.waited_ms(request("view", 11, due=10.5, took=0.1)) == pytest.approx(600)
        assert story.waited_ms(request("view", 11, took=0.1)) == pytest.approx(100)

    def test_few_requests_have_no_percentile(self):
        """Twenty at the least; failures count."""
        history = [request("view", 11, status=504, took=2) for _ in range(20)] + [view([], 13)] * 19
        found = story.waits(history, MARKS)
        assert found["during"]["p95"] == pytest.approx(2000)
        assert found["after"] == {"requests": 19, "p95": None, "longest": pytest.approx(10)}


def test_the_control_is_told_without_sessions_and_writes():
    """Under `isolated` they come and go without any fault."""
    history = [add("a", 5), view([], 11), final([])]
    assert story.tell(history, MARKS, victim="web-2", struck_share=1 / 2, control=True)["sessions"] is None
    assert story.tell(history, MARKS, victim="web-2", struck_share=1 / 2)["sessions"]["alive"] == 1


def test_a_fault_that_lasted_longer_than_its_load_is_told_so():
    """Nobody was there to see its end; one whose repair was seen by shoppers gives no warning."""
    unseen = replace(MARKS, repaired_ns=MARKS.end_ns + 3 * SECOND)
    struck = [
        Struck(arm, "redis", fault, 1, [], marks, None, [])
        for arm, fault, marks in (("redis", "rolling-restart", unseen), ("redis", "kill-redis", MARKS))
    ]
    validity = _validity(SimpleNamespace(struck=struck, left_out={}))
    assert not validity["ok"]
    assert len(validity["warnings"]) == 1
    assert validity["warnings"][0].startswith("rolling-restart lasted 3.0 s longer than its load")


def test_the_load_is_as_long_as_a_container_takes_to_be_renewed():
    """A process is there again in a second and a half; with that, the load would end before the second container."""
    here, there = known_to("local")["rolling-restart"], known_to("docker")["rolling-restart"]
    assert there.seconds_per_server == CONTAINER_RENEWAL_SECONDS > 4 * here.seconds_per_server
    assert {name for name, fault in known_to("docker").items() if fault.seconds_per_server} == {"rolling-restart"}
