"""Each claim's rule, at each of its outcomes, with made-up numbers."""

from __future__ import annotations

import copy

import pytest
from reasons import reasoned

from lab import claims
from lab.claim_rules.judgement import times, undecided
from lab.claims import CLAIMS
from lab.cli import cli
from lab.statistics import Interval

OK = {"verdict": "ok", "violations": 0, "opportunities": 400, "cross_server": 300, "cross_server_violations": 0}
GUARANTEES = ("read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads")
TIMED = ("sticky", "all-to-all", "database", "redis")


def consistent(**changes):
    """Return checks of an arm that broke nothing, with changes to all four guarantees."""
    return {name: {**OK, "shoppers": 60, **changes} for name in GUARANTEES}


def lifecycle(lost=0, left=0, back=0, shoppers=220, late=240):
    """Return the lifecycle checks of a strategy."""
    return {
        "sessions_lost": {"violations": lost, "opportunities": 1000, "shoppers": shoppers},
        "resurrections": {"violations": back, "opportunities": late},
        "handles_left": {"after_logout": {"ended": 200, "left": left}, "after_expiry": {"ended": 200, "left": 0}},
    }


def results():
    """Return results in which nothing speaks against any claim."""
    flickering = {**OK, "verdict": "violated", "cross_server": 600, "cross_server_violations": 590, "shoppers": 40}
    base = {
        "experiment": "compare",
        "strategies": {
            "isolated": {"consistency": {"read_your_writes": flickering}, "lifecycle": lifecycle(lost=90, left=150)},
            **{name: {"consistency": consistent(), "lifecycle": lifecycle()} for name in TIMED},
        },
        "arms": {
            "all-to-all sync": {"consistency": consistent(), "peer_timeouts": 0},
            "all-to-all with affinity": {"copies_unused": {"copies": 600, "never_read": 590}},
        },
    }
    base["strategies"]["redis"]["storage"] = {"copies_per_session": 1.0}
    base["strategies"]["redis"]["latency_ratio"] = {"p50": {"estimate": 1.2, "low": 1.15, "high": 1.25}}
    return base


def verdict(claim: str, found: dict) -> str:
    """Return the verdict on one claim; one that nobody can tell says why."""
    return next(reasoned(one)["verdict"] for one in claims.judge(found) if one["id"] == claim)


def evidence(claim: str, found: dict) -> str:
    """Return the evidence for one claim."""
    return next(one["evidence"] for one in claims.judge(found) if one["id"] == claim)


def with_strategy(name: str, key: str, value: dict) -> dict:
    """Return the usual results with one part of one strategy replaced."""
    found = copy.deepcopy(results())
    found["strategies"][name][key] = value
    return found


def with_arm(name: str, value: dict) -> dict:
    """Return the usual results with one untimed arm replaced."""
    found = copy.deepcopy(results())
    found["arms"][name] = value
    return found


def without(place: str, name: str) -> dict:
    """Return the usual results without a strategy or an arm."""
    found = copy.deepcopy(results())
    del found[place][name]
    return found


def flicker(violated: int, cross: int, shoppers: int = 40) -> dict:
    """Return results with so many broken cross-server views under `isolated`."""
    check = {**OK, "cross_server": cross, "cross_server_violations": violated, "shoppers": shoppers}
    return with_strategy("isolated", "consistency", {"read_your_writes": check})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (flicker(590, 600), "holds"),
        (flicker(540, 600), "cannot tell"),
        (flicker(250, 600), "does not hold"),
        (flicker(290, 299), "cannot tell"),
        (flicker(590, 600, shoppers=29), "cannot tell"),
        (flicker(0, 0), "cannot tell"),
        (without("strategies", "isolated"), "not tested"),
    ],
)
def test_cart_flickers(found, expected):
    """Holds from 90 % broken cross-server views on, with 300 of them by 30 shoppers; fails up to half."""
    assert verdict("cart-flickers", found) == expected


def test_cart_flickers_prefers_the_interval_by_shopper():
    """Where the checker resampled shoppers, its wider interval decides."""
    found = flicker(560, 600)
    check = found["strategies"]["isolated"]["consistency"]["read_your_writes"]
    check["cross_server_rate"] = {"estimate": 0.93, "low": 0.88, "high": 0.96}
    assert verdict("cart-flickers", found) == "cannot tell"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"violations": 1, "verdict": "violated"}, "does not hold"),
        ({"opportunities": 249}, "cannot tell"),
        ({"verdict": "unknown"}, "cannot tell"),
    ],
)
def test_sticky_consistent(changes, expected):
    """Holds without violation in 1,000 opportunities over the four guarantees, all of them exercised."""
    assert verdict("sticky-consistent", with_strategy("sticky", "consistency", consistent(**changes))) == expected


def test_a_balancer_that_gave_up_on_busy_servers_is_named_where_sticky_broke():
    """Else a student takes what an overloaded laptop did for what binding does."""
    found = with_strategy("sticky", "consistency", consistent(violations=3, verdict="violated"))
    assert "504" not in evidence("sticky-consistent", found)
    found["strategies"]["sticky"]["gateway_timeouts"] = 12
    assert verdict("sticky-consistent", found) == "does not hold"
    assert "12 times 504" in evidence("sticky-consistent", found)


@pytest.mark.parametrize(
    ("unused", "expected"),
    [
        ({"copies": 600, "never_read": 590}, "holds"),
        ({"copies": 600, "never_read": 250}, "does not hold"),
        ({"copies": 600, "never_read": 420}, "cannot tell"),
        ({"copies": 0, "never_read": 0}, "cannot tell"),
        (None, "not tested"),
    ],
)
def test_copies_unused(unused, expected):
    """Holds if at least 90 % of the extra copies were never read under affinity, fails up to half."""
    assert verdict("copies-unused", with_arm("all-to-all with affinity", {"copies_unused": unused})) == expected


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ({"consistency": consistent(), "peer_timeouts": 0}, "cannot tell"),
        ({"consistency": consistent(violations=1, verdict="violated"), "peer_timeouts": 0}, "does not hold"),
        ({"consistency": consistent(violations=1, verdict="violated"), "peer_timeouts": 2}, "cannot tell"),
        ({}, "not tested"),
    ],
)
def test_all_to_all_free(arm, expected):
    """A violation without a peer's timeout refutes it at once; otherwise `failover` has to be heard."""
    assert verdict("all-to-all-free", with_arm("all-to-all sync", arm)) == expected


def test_all_to_all_free_says_what_remains_and_sets_async_beside():
    """The evidence names the door that is still to be opened, and the asynchronous rate."""
    text = evidence("all-to-all-free", results())
    assert "`make failover`" in text
    assert "async: 0 of 300 views" in text


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("consistency", consistent(), "cannot tell"),
        ("consistency", consistent(violations=1, verdict="violated"), "does not hold"),
        ("storage", {"copies_per_session": 1.02}, "does not hold"),
        ("latency_ratio", {"p50": {"estimate": 1.7, "low": 1.55, "high": 1.8}}, "does not hold"),
        ("latency_ratio", {"p50": {"estimate": 1.6, "low": 1.45, "high": 1.8}}, "cannot tell"),
        ("latency_ratio", None, "cannot tell"),
    ],
)
def test_redis_solves(key, value, expected):
    """Violations, a second copy or a median surely above 1.5 times refute it; the rest waits for `failover`."""
    assert verdict("redis-solves", with_strategy("redis", key, value)) == expected


def test_redis_solves_without_redis():
    """What did not take part is not tested."""
    assert verdict("redis-solves", without("strategies", "redis")) == "not tested"


@pytest.mark.parametrize(
    ("name", "life", "expected"),
    [
        ("database", lifecycle(), "holds"),
        ("database", lifecycle(lost=1), "does not hold"),
        ("database", lifecycle(shoppers=199), "cannot tell"),
        ("isolated", lifecycle(lost=500), "holds"),
    ],
)
def test_session_persists(name, life, expected):
    """No active shopper may lose a session under any strategy but the control, with 200 of them under each."""
    assert verdict("session-persists", with_strategy(name, "lifecycle", life)) == expected


@pytest.mark.parametrize(
    ("name", "life", "expected"),
    [
        ("redis", lifecycle(), "holds"),
        ("redis", lifecycle(left=1), "does not hold"),
        ("redis", lifecycle(back=1), "does not hold"),
        ("redis", lifecycle(late=199), "cannot tell"),
        ("isolated", lifecycle(left=500, back=3), "holds"),
    ],
)
def test_logout_deletes(name, life, expected):
    """No id may be left and no session return, in 200 late requests under each strategy but the control."""
    assert verdict("logout-deletes", with_strategy(name, "lifecycle", life)) == expected


def test_logout_deletes_names_the_culprit_and_the_control():
    """The evidence says which strategy left ids, and what the control left."""
    text = evidence("logout-deletes", with_strategy("database", "lifecycle", lifecycle(left=4)))
    assert "(database)" in text
    assert "isolated, left 150" in text


def test_claims_of_other_experiments_name_their_door():
    """What this run cannot judge says which experiment will."""
    found = {one["id"]: one for one in claims.judge(results())}
    assert found["sticky-loses"]["verdict"] == "not tested"
    assert "`failover`" in found["sticky-loses"]["evidence"]
    assert found["cache-faster"]["verdict"] == "not tested"


def test_another_experiment_is_not_judged_by_the_rules_of_compare():
    """A run of `scale` must not be taken for a run of `compare`."""
    found = {**results(), "experiment": "scale"}
    assert {one["verdict"] for one in claims.judge(found)} == {"not tested"}


def test_every_verdict_comes_with_a_sentence_and_a_condition_when_refuted():
    """Evidence is one text with an end; a refuted claim says under which condition it would turn."""
    refuted = with_strategy("sticky", "consistency", consistent(violations=3, verdict="violated"))
    for one in claims.judge(refuted):
        assert one["evidence"].endswith(".")
        assert bool(one["turns"]) == (one["verdict"] == "does not hold")


def test_a_claim_between_two_verdicts_says_by_what_and_when_it_would_turn():
    """Its numbers lie between; one that lacks opportunities says how many it takes, and claims no condition."""
    found = {one["id"]: one for one in claims.judge(flicker(540, 600))}["cart-flickers"]
    assert found["evidence"].endswith("Left open by the share of views: from 90 % on holds, up to 50 % does not.")
    assert found["turns"]
    few = {one["id"]: one for one in claims.judge(flicker(290, 299))}["cart-flickers"]
    assert few["evidence"].endswith("It takes 300 such views by 30 shoppers to judge.")
    assert few["turns"] == ""


def test_only_what_lies_between_leaves_a_claim_open():
    """Parts that hold are not named; where one refutes the whole, nothing is open."""
    assert undecided(("cannot tell", "a: 1"), ("holds", "b: 2"), ("cannot tell", "c: 3")) == (
        "The whole interval counts. Left open by a: 1; and by c: 3."
    )
    assert undecided(("cannot tell", "a: 1"), ("does not hold", "b: 2")) == ""
    assert undecided(("holds", "a: 1")) == ""


def test_ids_are_unique_and_rules_belong_to_their_experiments():
    """The table has each claim once, and a rule for each of its experiments that there is a door to."""
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) == 22
    doors = set(cli.commands)
    assert all(doors & set(claim.experiments) <= set(claim.rules) <= set(claim.experiments) for claim in CLAIMS)


def killed(alive=40, lost=0):
    """Return the story of a killed server, as far as claims look at it."""
    return {"faults": {"kill-server": {"sessions": {"alive": alive, "lost": lost}}}}


def failover(compared=True, servers=4):
    """Return results of a failover run in which nothing speaks against any claim, with a comparison beside it."""
    death = {
        "failures": {"failed": 50, "requests": 200},
        "recovery": {"seconds": 2.5},
        "sessions": {"alive": 40, "lost": 0},
        "writes": {"acknowledged": 100, "lost": 0},
    }
    redis = killed()
    redis["faults"]["kill-redis"] = death
    return {
        "experiment": "failover",
        "run": {"servers": servers},
        "strategies": {"sticky": killed(lost=10), "all-to-all": killed(lost=1), "redis": redis},
        "arms": {"all-to-all sync": killed()},
        "compared": {**results(), "id": "compare-20260101T000000Z"} if compared else None,
    }


@pytest.mark.parametrize(
    ("alive", "lost", "expected"),
    [
        (40, 10, "holds"),
        (400, 100, "holds"),
        (20, 0, "cannot tell"),
        (40, 0, "does not hold"),
        (400, 0, "does not hold"),
        (400, 20, "does not hold"),
        (400, 160, "cannot tell"),
        (0, 0, "cannot tell"),
    ],
)
def test_sticky_loses(alive, lost, expected):
    """Holds if the interval of the lost share has 1/N in it and not 0; fails where all of it is at most half of 1/N."""
    found = failover()
    found["strategies"]["sticky"] = killed(alive, lost)
    assert verdict("sticky-loses", found) == expected


def test_sticky_loses_without_sticky():
    """What did not take part is not tested."""
    found = failover()
    del found["strategies"]["sticky"]
    assert verdict("sticky-loses", found) == "not tested"


@pytest.mark.parametrize(
    ("claim", "place", "arm"),
    [("all-to-all-free", "arms", "all-to-all sync"), ("redis-solves", "strategies", "redis")],
)
class TestClaimsThatNeedBothRuns:
    """A killed server costs nothing, and a comparison says that all is well in peace: only both together hold."""

    def test_holds_with_both(self, claim, place, arm):
        """Nothing lost, and enough opportunities in the comparison, which is named."""
        assert verdict(claim, failover()) == "holds"
        assert "From compare-20260101T000000Z" in evidence(claim, failover())

    def test_a_lost_session_refutes_it(self, claim, place, arm):
        """With or without a comparison."""
        for compared in (True, False):
            found = failover(compared)
            found[place][arm]["faults"]["kill-server"]["sessions"]["lost"] = 1
            assert verdict(claim, found) == "does not hold"

    def test_without_a_comparison_nobody_can_tell(self, claim, place, arm):
        """And the evidence says what to run."""
        assert verdict(claim, failover(compared=False)) == "cannot tell"
        assert "`make compare`" in evidence(claim, failover(compared=False))

    def test_too_few_live_sessions_show_nothing(self, claim, place, arm):
        """Thirty at the least."""
        found = failover()
        found[place][arm]["faults"]["kill-server"]["sessions"]["alive"] = 29
        assert verdict(claim, found) == "cannot tell"

    def test_a_violation_in_the_comparison_refutes_it(self, claim, place, arm):
        """Even if the killed server cost nothing."""
        found = failover()
        found["compared"][place][arm]["consistency"] = consistent(violations=1, verdict="violated")
        assert verdict(claim, found) == "does not hold"

    def test_a_comparison_with_few_opportunities_shows_nothing(self, claim, place, arm):
        """A thousand across servers at the least."""
        found = failover()
        found["compared"][place][arm]["consistency"] = consistent(opportunities=240, cross_server=240)
        assert verdict(claim, found) == "cannot tell"

    def test_an_arm_that_lived_through_no_kill_is_not_tested(self, claim, place, arm):
        """Without the fault there is no verdict."""
        found = failover()
        del found[place][arm]["faults"]["kill-server"]
        assert verdict(claim, found) == "not tested"


def test_peer_timeouts_in_the_comparison_leave_all_to_all_open():
    """The promise is made only while no peer has timed out."""
    found = failover()
    found["compared"]["arms"]["all-to-all sync"]["peer_timeouts"] = 2
    assert verdict("all-to-all-free", found) == "cannot tell"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("storage", {"copies_per_session": 1.02}, "does not hold"),
        ("storage", {}, "cannot tell"),
        ("latency_ratio", {"p50": {"estimate": 1.7, "low": 1.55, "high": 1.8}}, "does not hold"),
        ("latency_ratio", {"p50": {"estimate": 1.4, "low": 1.3, "high": 1.6}}, "cannot tell"),
        ("latency_ratio", {"p50": {"estimate": 1.2}}, "cannot tell"),
    ],
)
def test_redis_solves_needs_one_copy_and_a_quick_median(key, value, expected):
    """Copies 1 ± 1 %, and the whole interval of the median's ratio at most 1.5."""
    found = failover()
    found["compared"]["strategies"]["redis"][key] = value
    assert verdict("redis-solves", found) == expected


def test_redis_own_death_stands_beside_the_claim_always():
    """Failed requests, seconds, sessions and writes; or that it was not tested."""
    text = evidence("redis-solves", failover())
    assert "failed 50 of 200 requests for 2.5 s and lost 0 of 40 sessions and 0 of 100 confirmed writes" in text
    found = failover()
    del found["strategies"]["redis"]["faults"]["kill-redis"]
    assert "was not tested" in evidence("redis-solves", found)


def test_a_ratio_that_rounds_to_nothing_is_not_told_as_nothing():
    """A request that goes to the origin once in a thousand times does go there."""
    assert times(Interval(0.001, 0.0, 0.004)) == "less than 0.01 times"
    assert times(Interval(0.001)) == "less than 0.01 times"
    assert times(Interval(0.004, 0.002, 0.006)) == "0.00 times (0.00 to 0.01)"
    assert times(Interval(1.34, 1.31, 1.37)) == "1.34 times (1.31 to 1.37)"
