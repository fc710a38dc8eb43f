"""Sessions lost and resurrections: each rule and its near misses."""

from __future__ import annotations

import pytest
from stories import Story, checked, counts, violated


def test_session_that_changes_between_two_requests_of_a_tab_is_lost():
    """A write that starts a new session, as under `isolated`, loses the old one once."""
    story = Story().view(0, 1, "").add("a", 2, 3, cart="a", session="h2", server=2).view(4, 5, "a", session="h2")

    assert counts(story.final("a", session="h2"))["sessions_lost"] == "1 of 2"


def test_session_that_is_suddenly_unknown_is_lost_once():
    """What comes after the loss has no session to lose."""
    story = Story().view(0, 1, "").view(2, 3, "", session=None).view(4, 5, "", session=None).final("")

    assert counts(story)["sessions_lost"] == "1 of 1"


def test_answer_that_the_session_has_ended_is_a_loss():
    """401 is what a save onto a vanished session is answered with."""
    story = Story().view(0, 1, "").request("visit", 2, 3, outcome="fail", status=401).final("")

    assert violated(story) == ["sessions_lost"]


def test_server_error_says_nothing_of_the_session():
    """503 is a store that is down, not a logout."""
    story = Story().view(0, 1, "").view(2, 3, None, outcome="fail", status=503, session=None).view(4, 5, "").final("")

    assert counts(story)["sessions_lost"] == "0 of 1"


def test_first_session_of_a_tab_is_not_a_change():
    """A shopper who comes without a session gets one with the first write."""
    story = Story().view(0, 1, "", session=None).add("a", 2, 3, cart="a").final("a")

    assert "sessions_lost" not in counts(story)


def test_login_and_logout_change_the_session_by_intention():
    """Own logins and logouts are no loss, and the next session is a new one."""
    story = Story().view(0, 1, "").request("login", 2, 3, cart="", user="s1").view(4, 5, "", user="s1")

    story.request("logout", 6, 7, cart="").view(8, 9, "", session=None).add("a", 10, 11, cart="a", session="h2")

    assert violated(story.final("a", session="h2")) == []


def test_logout_in_the_other_tab_excuses_while_it_may_take_effect():
    """Tabs share the cookie: the other tab's logout ends this tab's session, too."""
    story = Story().view(0, 1, "").request("logout", 2, 5, cart="", tab=1, session=None)

    assert violated(story.view(3, 4, "", session=None).final("")) == []


def test_logout_of_the_other_tab_long_ago_excuses_nothing():
    """What ended before the tab's latest answer cannot explain a change after it."""
    story = Story().request("logout", 0, 1, cart="", tab=1, session=None).view(2, 3, "", session="h2")

    assert violated(story.view(4, 5, "", session=None).final("")) == ["sessions_lost"]


def test_logout_of_unknown_outcome_excuses_from_then_on():
    """It may take effect at any later time."""
    story = Story().request("logout", 0, 1, outcome="info", tab=1).view(2, 3, "").view(4, 5, "", session=None)

    assert violated(story.final("")) == []


def test_user_that_changes_without_a_login_is_a_loss():
    """The session stays and greets another: somebody else's, or forgotten."""
    story = Story().view(0, 1, "", user="s1").request("visit", 2, 3).view(4, 5, "", user=None).final("")

    assert counts(story)["sessions_lost"] == "1 of 2"


def test_answer_without_a_cart_greets_nobody():
    """A visit's answer shows no user: that is no change."""
    story = Story().view(0, 1, "", user="s1").request("visit", 2, 3).view(4, 5, "", user="s1").final("")

    assert counts(story)["sessions_lost"] == "0 of 2"


def test_catalogue_and_final_views_say_nothing_of_a_tabs_session():
    """The catalogue does not touch the session, and no tab made the final views."""
    story = Story().view(0, 1, "").request("product", 2, 3, session=None).view(4, 5, "").final("", session=None)

    assert counts(story)["sessions_lost"] == "0 of 1"


def test_request_that_comes_late_on_purpose_is_no_loss():
    """It presents the cookie of a session that has ended, so it cannot lose one."""
    story = Story().view(0, 1, "").view(9, 10, "", session=None, late="idle", presented="h1").final("")

    assert "sessions_lost" not in counts(story)


def _after_logout(**late):
    story = Story().view(0, 1, "", user="s1", presented="h1")
    story.request("logout", 2, 3, cart="", session=None, presented="h1", server=2)
    known = {"cart": "", "session": None, "late": "logout", "presented": "h1", **late}
    return story.request(known.pop("f", "view"), known.pop("t0", 4), known.pop("t1", 5), **known).final("")


def test_late_request_that_is_answered_as_a_stranger_is_fine():
    """An empty cart, nobody greeted, no session."""
    assert counts(_after_logout())["resurrections"] == "0 of 1"


@pytest.mark.parametrize(
    "answer",
    [{"session": "h1"}, {"user": "s1"}, {"cart": "a"}, {"recent": [7]}, {"f": "visit", "recent": [7, 8], "cart": None}],
    ids=["session", "user", "cart", "recently viewed", "more than its own visit"],
)
def test_late_request_that_is_served_anything_of_the_session_is_a_resurrection(answer):
    """The session itself, the user, a cart line, a product seen before: each is the old session, alive."""
    assert checked(_after_logout(**answer))["resurrections"]["violations"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"f": "add", "token": "b", "cart": "b", "session": "h9"},
        {"f": "visit", "recent": [7], "cart": None, "session": "h9"},
        {"f": "login", "user": "s1", "session": "h9"},
        {"f": "add", "token": "b", "cart": None, "outcome": "fail", "status": 401},
    ],
    ids=["add", "visit", "login", "refused"],
)
def test_late_write_that_starts_a_new_session_is_fine(answer):
    """A write with a dead cookie may start afresh, with its own effect and nothing else, or be refused."""
    assert counts(_after_logout(**answer))["resurrections"] == "0 of 1"


def test_request_that_overtook_the_logout_may_still_be_served():
    """Sent before the logout was acknowledged, a tie included, it is no late request."""
    assert "resurrections" not in counts(_after_logout(t0=3, session="h1", tab=1))


def test_logout_of_another_session_proves_nothing():
    """The cookie must name the session that was logged out."""
    assert "resurrections" not in counts(_after_logout(presented="h7", session="h7"))


def test_unacknowledged_logout_proves_nothing():
    """Nobody was told that the session has ended."""
    story = Story().request("logout", 0, 1, outcome="info", presented="h1")
    story.view(2, 3, "a", late="logout", presented="h1").final("")

    assert "resurrections" not in counts(story)


def test_session_past_its_lifetime_must_be_dead():
    """The plan let the lifetime pass; the request with the old cookie is served its cart all the same."""
    story = Story().add("a", 0, 1, cart="a", presented="h1")
    late = {"late": "idle", "presented": "h1", "server": 2}
    story.view(5_000, 5_001, "a", **late).view(5_002, 5_003, "", session=None, **late).final("a")

    assert checked(story)["resurrections"] == {
        "verdict": "violated",
        "violations": 1,
        "opportunities": 2,
        "shoppers": 1,
        "rate": {"estimate": 0.5, "low": 0.5, "high": 0.5},
        "cross_server": 2,
        "cross_server_violations": 1,
        "cross_server_shoppers": 1,
        "cross_server_rate": {"estimate": 0.5, "low": 0.5, "high": 0.5},
        "after": {"idle": {"opportunities": 2, "violations": 1}},
    }


def test_late_request_that_no_server_answered_is_no_opportunity():
    """A timeout and a 5xx show nothing of the session."""
    assert "resurrections" not in counts(_after_logout(outcome="fail", status=503, cart=None))


def test_what_crossed_servers_is_told_by_the_request_just_before():
    """A visit greets nobody, but it is the tab's latest answer: the view on its server has not crossed again."""
    story = Story().request("login", 0, 1, server=1, cart="", user="ann", session="h1")
    story.request("visit", 2, 3, server=2).view(4, 5, "", server=2, user="ann")
    lost = checked(story)["sessions_lost"]
    assert (lost["opportunities"], lost["cross_server"]) == (2, 1)
