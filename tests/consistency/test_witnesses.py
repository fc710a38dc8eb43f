"""Witnesses: the smallest story of a violation, in words, and enough to check it again alone."""

from __future__ import annotations

import pytest
from stories import Story, checked

from lab.consistency.command import recheck_witness
from lab.consistency.history import HistoryError

MS = 1_000_000


def witness(story, check):
    """Return the saved witness of one check."""
    return next(found for found in checked(story)["witnesses"] if found["check"] == check)


def told(story, check):
    """Return the indexes of the requests that the witness tells, in order."""
    return [op["i"] for op in witness(story, check)["operations"]]


def test_story_of_a_stale_cart_is_told_request_by_request():
    """What was acknowledged before, what is missing however, and that it was not lost."""
    story = Story().add("tea", 0, 3 * MS, cart="tea").view(5 * MS, 6 * MS, "", server=2)
    story.final("tea", "tea")
    for op in story.operations[2:]:
        op.t0_ns, op.t1_ns = op.t0_ns + 64 * MS, op.t1_ns + 64 * MS

    assert witness(story, "read_your_writes")["text"].splitlines() == [
        "READ YOUR WRITES: shopper s1, 3 requests",
        "",
        "        +0.0 ms  web-1  tab 0  adds tea                     200   cart: tea",
        "        +5.0 ms  web-2  tab 0  view                         200   cart: (empty)",
        "       +64.0 ms  web-1  tab 0  final view                   200   cart: tea",
        "",
        "  - web-1 acknowledged tea 2 ms before the view was sent;",
        "  - however the view on web-2, by the same tab, does not show it.",
        "  - It was not lost: the final view on web-1 shows tea.",
    ]


def test_fewest_requests_in_between_win_then_the_shortest_gap_then_the_first():
    """The smallest witness is the one that a reader can hold in mind."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "a").view(4, 5, "").add("b", 10, 11, cart="a b")
    story.view(20, 21, "a").add("c", 30, 31, cart="a b c").view(33, 34, "a b").final("a b c")

    assert told(story, "read_your_writes") == [6, 7, 8]


def test_monotonic_reads_are_best_told_by_two_views():
    """A view that showed the item, and the next that does not; the add stands before them."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "a").view(4, 5, "").final("a")

    assert told(story, "monotonic_reads") == [1, 2, 3, 4]


def test_write_out_of_order_is_told_with_the_latest_item_that_it_lacks():
    """Two items are missing beside the third: the one written just before tells it in fewer steps."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b").add("c", 4, 5, cart="c", server=2)

    assert told(story.final("a b c", "a b c"), "monotonic_writes") == [2, 3, 4]


def test_what_was_bought_later_is_proved_by_the_checkout():
    """No final view can show it, but the checkout was sent only after the view."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "").request("checkout", 4, 5, cart="").final("")
    found = witness(story, "read_your_writes")

    assert told(story, "read_your_writes") == [1, 2, 3]
    assert "Nothing had removed a: the checkout on web-1 was sent only later." in found["text"]


def test_large_cart_is_told_by_what_the_story_is_about():
    """Of five lines and more only those that are named stand in the story."""
    story = Story()
    for number, token in enumerate(cart := ["a", "b", "c", "d", "e"]):
        story.add(token, 10 * number, 10 * number + 1, cart=" ".join(cart[: number + 1]))
    lines = witness(story.view(50, 51, "a b c d").final("a b c d e"), "read_your_writes")["text"].splitlines()

    assert [line.partition("cart: ")[2] for line in lines[2:5]] == ["e and 4 more", "and 4 more", "e and 4 more"]


def test_lost_update_tells_both_writes_and_the_final_view():
    """Two writes from the same cart, and what became of them."""
    story = Story().add("a", 0, 5, cart="a").add("b", 1, 6, cart="b", tab=1).final("b", "b")

    assert told(story, "lost_updates") == [1, 2, 3]
    assert "both writes (add a and add b) started from the same cart" in witness(story, "lost_updates")["text"]


def test_lost_bump_is_told_in_four_requests_and_keeps_the_others_beside():
    """That one of many is missing takes all of them to check, but not to tell."""
    story = Story().add("a", 0, 1, cart="a").bump("a", 2, 3, cart="a:2").bump("a", 4, 5, cart="a:3")
    story.bump("a", 6, 9, cart="a:4").bump("a", 7, 10, cart="a:4", tab=1).final("a:4")
    found = witness(story, "lost_updates")

    assert told(story, "lost_updates") == [1, 4, 5, 6]
    assert [op["i"] for op in found["beside"]] == [2, 3]
    assert "a began with quantity 1 and was raised 4 times, each acknowledged: 5 are due;" in found["text"]
    assert recheck_witness(found) == "violated"


def test_witness_that_was_tampered_with_is_not_violated_any_more():
    """Checking a witness again looks at its requests, not at what was said about them."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "").final("a")
    found = witness(story, "read_your_writes")
    found["operations"][1]["cart"] = ["a"]

    assert recheck_witness(found) == "ok"


@pytest.mark.parametrize("broken", [{}, {"check": "x", "operations": []}, {"check": "x", "operations": [{"i": 1}]}])
def test_garbage_is_no_witness(broken):
    """One clear line."""
    with pytest.raises(HistoryError, match="not a saved witness"):
        recheck_witness(broken)
