"""Lost updates, lost writes, divergence, phantoms, conflicts: each rule and its near misses."""

from __future__ import annotations

from stories import Story, checked, counts, violated


def test_two_adds_from_the_same_cart_and_one_gone_is_a_lost_update():
    """Both were acknowledged, both started from the empty cart, one erased the other."""
    story = Story().add("a", 0, 5, cart="a").add("b", 1, 6, cart="b", tab=1).final("b", "b")

    assert counts(story) == {
        "lost_updates": "1 of 2",
        "lost_writes": "1 of 2",
        "divergence": "0 of 1",
        "phantoms": "0 of 4",
    }


def test_same_start_with_both_effects_kept_is_merged():
    """A store that saves fields merges what started from the same cart: counted, and no violation."""
    story = Story().add("a", 0, 5, cart="a").add("b", 1, 6, cart="b", tab=1).final("a b")

    assert violated(story) == []
    assert checked(story)["merged"] == 1


def test_overlapping_adds_that_saw_each_other_are_no_fork():
    """They overlapped in time, an opportunity; the second started from the first one's cart."""
    story = Story().add("a", 0, 5, cart="a").add("b", 1, 6, cart="a b", tab=1).final("a b")

    assert counts(story)["lost_updates"] == "0 of 2"
    assert checked(story)["merged"] == 0


def test_writes_that_never_met_are_no_opportunity():
    """One write after the other cannot lose an update; they are counted as writes."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b", tab=1).final("a b")
    found = checked(story)["lost_updates"]

    assert (found["opportunities"], found["writes"]) == (0, 2)
    assert found["verdict"] == "unknown"


def test_lost_add_that_shared_its_start_with_nobody_is_lost_but_no_lost_update():
    """An acknowledged write can vanish for other reasons: a server that died, say."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b", tab=1).final("a")

    assert violated(story) == ["lost_writes"]


def test_two_bumps_to_the_same_quantity_lose_one():
    """A line that was raised twice from 1 must end with 3."""
    story = Story().add("a", 0, 1, cart="a").bump("a", 2, 5, cart="a:2").bump("a", 3, 6, cart="a:2", tab=1)

    story.final("a:2", "a:2")

    assert counts(story) == {
        "lost_updates": "1 of 2",
        "lost_writes": "1 of 3",
        "divergence": "0 of 1",
        "phantoms": "0 of 5",
        "sessions_lost": "0 of 1",
    }


def test_two_bumps_that_both_count_lose_nothing():
    """The second started from the first one's quantity."""
    story = Story().add("a", 0, 1, cart="a").bump("a", 2, 5, cart="a:2").bump("a", 3, 6, cart="a:3", tab=1)

    story.final("a:3")

    assert violated(story) == []


def test_bump_of_unknown_outcome_excuses_a_quantity_but_accuses_nobody():
    """It may have raised the line or not: 2 and 3 are both fine after one acknowledged bump."""
    for final in ("a:2", "a:3"):
        story = Story().add("a", 0, 1, cart="a").bump("a", 2, 5, cart="a:2").bump("a", 3, 6, outcome="info", tab=1)

        assert violated(story.final(final)) == []


def test_bump_and_add_from_the_same_cart():
    """A save of the whole session erases whatever else had started from the same cart."""
    story = Story().add("a", 0, 1, cart="a").bump("a", 2, 5, cart="a:2").add("b", 3, 6, cart="a b", tab=1)

    assert violated(story.final("a b")) == ["lost_updates", "lost_writes"]


def test_bumps_of_a_lost_line_are_lost_with_it():
    """An effect is missing with the line that it belongs to."""
    story = Story().add("a", 0, 1, cart="a").bump("a", 2, 3, cart="a:2").final("")

    assert counts(story)["lost_writes"] == "2 of 2"


def test_equal_carts_before_and_after_a_checkout_are_no_same_start():
    """Both started from an empty cart, but not from the same one."""
    story = Story().add("a", 0, 1, cart="a").request("checkout", 2, 3, cart="").add("b", 4, 5, cart="b").final("b")

    assert violated(story) == []
    assert checked(story)["merged"] == 0


def test_write_before_a_checkout_cannot_be_called_lost():
    """It was bought, or the checkout never saw it: final views cannot tell."""
    story = Story().add("a", 0, 1, cart="a").request("checkout", 2, 3, cart="").final("")

    assert "lost_writes" not in counts(story)


def test_write_is_kept_if_any_server_shows_it():
    """Servers that disagree have not lost what one of them still shows."""
    story = Story().add("a", 0, 1, cart="a").final("", "a")

    assert violated(story) == ["divergence"]


def test_final_view_that_timed_out_leaves_the_shopper_unjudged():
    """The silent server may be the one that holds the item; a dead one holds nothing."""
    silent = Story().add("a", 0, 1, cart="a").final("").request("final_view", 10_005, 10_006, outcome="fail")
    angry = Story().add("a", 0, 1, cart="a").final("")
    angry.request("final_view", 10_005, 10_006, outcome="fail", status=503, error="HTTP 503: the store refused")
    dead = Story().add("a", 0, 1, cart="a").final("")
    dead.request("final_view", 10_005, 10_006, outcome="fail", error="ConnectionRefusedError: refused")
    for story in (silent, dead):
        story.operations[-1].status = 0

    assert violated(silent) == []
    assert violated(angry) == []
    assert violated(dead) == ["lost_writes"]


def test_servers_that_agree_in_another_order_do_not_diverge():
    """A cart is a set of lines with quantities."""
    assert violated(Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b").final("a b", "b a")) == []


def test_servers_that_differ_in_quantity_or_user_diverge():
    """Everything that a final view shows must be the same everywhere."""
    quantity = Story().add("a", 0, 1, cart="a").bump("a", 2, 3, cart="a:2").final("a:2", "a")
    user = Story().final("")
    user.request("final_view", 10_005, 10_006, server=2, cart="", user="s1")

    assert violated(quantity) == ["divergence"]
    assert violated(user) == ["divergence"]


def test_item_that_nobody_sent_is_a_phantom():
    """A token from nowhere is wrong in any answer."""
    assert violated(Story().view(0, 1, "ghost").final("")) == ["phantoms"]


def test_item_of_another_shopper_is_a_phantom():
    """Carts are nobody else's business."""
    own = Story().add("a", 0, 1, cart="a").final("a")
    other = Story(shopper="s2").view(2, 3, "a").final("")

    assert violated(own, other) == ["phantoms"]


def test_item_whose_add_was_refused_is_a_phantom():
    """Refused means that it definitely did not happen."""
    assert violated(Story().add("a", 0, 1, outcome="fail").view(2, 3, "a").final("")) == ["phantoms"]


def test_item_shown_twice_is_a_phantom():
    """A token is one item."""
    assert violated(Story().add("a", 0, 1, cart="a").view(2, 3, "a a").final("a")) == ["phantoms"]


def test_item_of_a_timed_out_add_is_no_phantom():
    """It may have happened, and it did."""
    assert violated(Story().add("a", 0, 1, outcome="info").view(2, 3, "a").final("a")) == []


def test_item_that_was_bought_and_is_shown_again_is_told_beside():
    """A copy that lags behind shows what an acknowledged checkout took: no rule of its own, but it is counted."""
    story = Story().add("a", 0, 1, cart="a").request("checkout", 2, 3, cart="").view(4, 5, "a", server=2).final("")

    assert violated(story) == []
    assert checked(story)["phantoms"]["returned"] == 1


def test_conflicts_are_counted_with_the_retries_they_took():
    """A refused save is no violation: it is what `versioned` answers instead of losing an update."""
    story = Story().add("a", 0, 1, cart="a").add("b", 1, 2, tab=1, outcome="fail", status=409)
    story.add("b", 3, 4, tab=1, outcome="fail", status=409, attempt=1).add("b", 5, 6, tab=1, cart="a b", attempt=2)
    result = checked(story.add("c", 7, 8, outcome="fail", status=409).final("a b"))

    assert {key: result[key] for key in ("verdict", "merged", "conflicts", "retries", "gave_up")} | {
        "lost": result["lost_updates"]["violations"]
    } == {"verdict": "unknown", "merged": 0, "conflicts": 3, "retries": {"2": 1}, "gave_up": 1, "lost": 0}
