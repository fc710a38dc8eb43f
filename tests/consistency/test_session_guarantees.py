"""The four session guarantees and stale reads: each rule and its near misses."""

from __future__ import annotations

from stories import Story, checked, counts, violated


def test_view_without_own_acknowledged_add_breaks_read_your_writes():
    """The tab was shown its item by the add itself, so going back breaks monotonic reads as well."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "", server=2).final("a", "a")

    assert counts(story) == {
        "read_your_writes": "1 of 1",
        "monotonic_reads": "1 of 1",
        "lost_writes": "0 of 1",
        "stale_reads": "1 of 1",
        "divergence": "0 of 1",
        "phantoms": "0 of 4",
        "sessions_lost": "0 of 1",
    }


def test_view_with_everything_is_ok():
    """Nothing is violated where every view shows every item."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "a", server=2).final("a", "a")

    assert counts(story) == {
        "read_your_writes": "0 of 1",
        "monotonic_reads": "0 of 1",
        "lost_writes": "0 of 1",
        "stale_reads": "0 of 1",
        "divergence": "0 of 1",
        "phantoms": "0 of 4",
        "sessions_lost": "0 of 1",
    }


def test_view_that_overlaps_the_add_owes_nothing():
    """A view sent before the add was acknowledged may or may not show it."""
    story = Story().add("a", 0, 5, cart="a").view(4, 6, "", tab=1).final("a")

    assert counts(story) == {"lost_writes": "0 of 1", "phantoms": "0 of 3"}


def test_tie_is_concurrent():
    """A view sent in the very tick of the acknowledgement owes nothing; one tick later it does."""
    tie = Story().add("a", 0, 5, cart="a").view(5, 6, "").final("a")
    later = Story().add("a", 0, 5, cart="a").view(6, 7, "").final("a")

    assert violated(tie) == []
    assert violated(later) == ["read_your_writes", "monotonic_reads", "stale_reads"]


def test_add_of_unknown_outcome_never_seen_accuses_nobody():
    """A timed-out add may not have happened."""
    story = Story().add("a", 0, 1, outcome="info").view(2, 3, "").final("")

    assert counts(story) == {"phantoms": "0 of 2"}


def test_add_of_unknown_outcome_once_seen_must_stay():
    """What a view has shown has happened: going back breaks monotonic reads, but nothing was promised before."""
    story = Story().add("a", 0, 1, outcome="info").view(2, 3, "a").view(4, 5, "").final("a")

    assert violated(story) == ["monotonic_reads"]


def test_refused_add_is_owed_to_nobody():
    """A refused add need not be shown."""
    story = Story().add("a", 0, 1, outcome="fail", status=409).view(2, 3, "").final("")

    assert violated(story) == []


def test_refused_add_that_succeeded_at_the_second_try_is_owed():
    """A retry after a conflict sends the same token; the acknowledged attempt counts."""
    story = Story().add("a", 0, 1, outcome="fail", status=409).add("a", 2, 3, cart="a", attempt=1)

    story.view(4, 5, "").final("a")

    assert violated(story) == ["read_your_writes", "monotonic_reads", "stale_reads"]


def test_checkout_in_between_ends_the_obligation():
    """What was added before an acknowledged checkout need not be shown after it."""
    story = Story().add("a", 0, 1, cart="a").request("checkout", 2, 3, cart="", token="o").view(4, 5, "").final("")

    assert violated(story) == []


def test_logout_in_between_ends_the_obligation():
    """A logout destroys the session, and the cart with it."""
    story = Story().add("a", 0, 1, cart="a").request("logout", 2, 3, cart="", session=None)

    story.view(4, 5, "", session=None).final("", session=None)

    assert violated(story) == []


def test_refused_checkout_ends_nothing():
    """A checkout that definitely did not happen excuses nobody."""
    story = Story().add("a", 0, 1, cart="a").request("checkout", 2, 3, outcome="fail").view(4, 5, "").final("a")

    assert violated(story) == ["read_your_writes", "monotonic_reads", "stale_reads"]


def test_add_that_overlaps_a_checkout_may_have_been_bought():
    """Nobody knows which came first, so both outcomes are fine; one tick after the checkout there is no doubt."""
    doubt = Story().request("checkout", 0, 5, cart="", tab=1).add("a", 5, 6, cart="a").view(7, 8, "").final("")
    certain = Story().request("checkout", 0, 5, cart="", tab=1).add("a", 6, 6, cart="a").view(7, 8, "").final("a")

    assert violated(doubt) == []
    assert violated(certain) == ["read_your_writes", "monotonic_reads", "stale_reads"]


def test_checkout_of_unknown_outcome_may_take_effect_at_any_later_time():
    """A timed-out checkout excuses what was added after it, too."""
    story = Story().add("a", 0, 1, cart="a").request("checkout", 2, 3, outcome="info").add("b", 4, 5, cart="a b")

    story.view(6, 7, "").final("")

    assert violated(story) == []


def test_view_before_a_checkout_is_still_owed_what_the_checkout_takes_later():
    """The obligation ends when the checkout is sent, not before; no final view is needed to know the item was there."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "").request("checkout", 4, 5, cart="").final("")

    assert violated(story) == ["read_your_writes", "monotonic_reads", "stale_reads"]


def test_lost_item_is_lost_once_and_not_stale_ever_after():
    """Every later view would report it again: the guarantees leave lost items out, and count them beside."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "").view(4, 5, "").final("", "")
    result = checked(story)

    assert violated(story) == ["lost_writes"]
    assert result["read_your_writes"]["opportunities"] == 0
    assert result["read_your_writes"]["including_lost"] == {
        "violations": 2,
        "opportunities": 2,
        "shoppers": 1,
        "rate": {"estimate": 1.0, "low": 0.0, "high": 1.0},
        "cross_server": 0,
        "cross_server_violations": 0,
        "cross_server_shoppers": 0,
        "cross_server_rate": {"estimate": None, "low": None, "high": None},
    }


def test_stale_item_beside_a_lost_one_is_still_stale():
    """Only what is lost is left out."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b").view(4, 5, "").final("b")

    assert violated(story) == ["read_your_writes", "monotonic_reads", "lost_writes", "stale_reads"]
    assert checked(story)["read_your_writes"]["items"] == 1


def test_other_tabs_add_is_stale_but_no_broken_promise_to_this_tab():
    """Read your writes is about the tab's own writes; stale reads about the shopper's."""
    story = Story().add("a", 0, 1, cart="a", tab=1).view(2, 3, "").final("a")

    assert violated(story) == ["stale_reads"]


def test_item_that_a_tab_saw_and_sees_no_more_breaks_monotonic_reads():
    """The item was the other tab's, so it is no matter of reading one's own writes."""
    story = Story().add("a", 0, 1, cart="a", tab=1).view(2, 3, "a").view(4, 5, "").final("a")

    assert violated(story) == ["monotonic_reads", "stale_reads"]


def test_two_tabs_may_disagree_on_what_they_see():
    """Monotonic reads holds for each tab by itself."""
    story = Story().add("a", 0, 9, cart="a", tab=1).view(2, 3, "a").view(4, 5, "", tab=2).final("a")

    assert violated(story) == []


def test_final_view_was_shown_to_no_tab():
    """The lab asked, not the shopper: nothing that it was shown is owed to a tab."""
    story = Story().add("a", 0, 1, cart="a", tab=1).final("a").view(20_000, 20_001, "")

    assert violated(story) == ["stale_reads"]


def test_later_write_without_the_earlier_breaks_monotonic_writes():
    """The server wrote the second item on top of a copy that lacked the first."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="b", server=2).final("a b", "a b")

    assert violated(story) == ["monotonic_writes", "writes_follow_reads"]
    assert checked(story)["monotonic_writes"]["opportunities"] == 1


def test_earlier_write_without_the_later_is_no_matter_of_order():
    """A copy that lags behind may lack the later one."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="a b").view(4, 5, "a", tab=1).final("a b")

    assert violated(story) == ["stale_reads"]


def test_writes_of_different_tabs_may_arrive_in_any_order():
    """Monotonic writes holds for each tab by itself."""
    story = Story().add("a", 0, 1, cart="a").add("b", 2, 3, cart="b", tab=1).final("a b")

    assert violated(story) == []


def test_answer_that_shows_a_write_without_what_its_tab_had_read_breaks_writes_follow_reads():
    """Tab 0 read the other tab's item, then wrote; tab 1 is shown the consequence without the cause."""
    story = Story().add("a", 0, 1, cart="a", tab=1).view(2, 3, "a").add("b", 4, 5, cart="a b")

    story.view(6, 7, "b", tab=2, server=2).final("a b", "a b")

    assert violated(story) == ["writes_follow_reads", "stale_reads"]


def test_write_that_overlaps_the_read_does_not_follow_it():
    """What was read after the write was sent is not its cause."""
    story = Story().add("a", 0, 1, cart="a", tab=1).view(2, 5, "a").add("b", 5, 6, cart="b").final("a b")

    assert violated(story) == []


def test_counts_across_servers_stand_beside():
    """Across servers: the latest own add was answered by another server than the view."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "a").view(4, 5, "", server=2).final("a", "a")
    found = checked(story)["read_your_writes"]

    assert (found["violations"], found["opportunities"]) == (1, 2)
    assert (found["cross_server_violations"], found["cross_server"]) == (1, 1)


def test_staleness_says_how_many_behind_and_for_how_long():
    """`k` counts the adds a view lacks, `t_ms` is the age of the oldest, points tell if the latest was visible."""
    ms = 1_000_000
    story = Story().add("a", 0, 1 * ms, cart="a").add("b", 2 * ms, 3 * ms, cart="a b")

    story.view(4 * ms, 5 * ms, "", server=2).view(10 * ms, 11 * ms, "a b", server=2).final()
    for server in (1, 2):
        story.request("final_view", 20 * ms, 21 * ms, cart="a b", server=server)

    assert checked(story)["stale_reads"] == {
        "verdict": "violated",
        "violations": 1,
        "opportunities": 2,
        "shoppers": 1,
        "rate": {"estimate": 0.5, "low": 0.5, "high": 0.5},
        "cross_server": 2,
        "cross_server_violations": 1,
        "cross_server_shoppers": 1,
        "cross_server_rate": {"estimate": 0.5, "low": 0.5, "high": 0.5},
        "k": {"max": 2, "views": {"2": 1}},
        "t_ms": {"p50": 3.0, "p95": 3.0, "max": 3.0},
        "t_visibility": {
            "views": 2,
            "bins": [{"from_ms": 1, "views": 1, "visible": 0}, {"from_ms": 5, "views": 1, "visible": 1}],
            "points": [[1.0, 0], [7.0, 1]],
        },
    }


def test_failed_view_says_nothing():
    """A view that timed out shows no cart, and is no opportunity."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, None, outcome="fail").final("a")

    assert counts(story) == {"lost_writes": "0 of 1", "phantoms": "0 of 2"}


def test_shopper_without_final_views_is_not_called_lost_nor_stale():
    """Without a final view nobody knows whether an item was late or lost, so neither is said."""
    story = Story().add("a", 0, 1, cart="a").view(2, 3, "")

    assert counts(story) == {"phantoms": "0 of 2", "sessions_lost": "0 of 1"}
