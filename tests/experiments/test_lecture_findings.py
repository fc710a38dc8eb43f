"""The merged claims of a lecture: which judgement counts, and why there is none."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from lab import claims
from lab.claims import CLAIMS
from lab.experiments.lecture.findings import Part, assemble, merged
from lab.report.lecture import headline
from lab.report.results import Run, write

WHOLE = ("all-to-all-free", "redis-solves")
"""Claims that `compare` and `failover` judge together."""


def run(experiment, folder=Path(), **verdicts):
    """Return a made-up run: claims by id with underscores for hyphens, others not tested."""
    named = {name.replace("_", "-"): verdict for name, verdict in verdicts.items()}
    told = [
        {
            "id": claim.id,
            "claim": claim.claim,
            "korean": claim.korean,
            "experiment": ", ".join(claim.experiments),
            "verdict": named.get(claim.id, "not tested"),
            "evidence": f"{experiment} says so.",
            "numbers": {},
            "turns": "",
        }
        for claim in CLAIMS
    ]
    facts = {"id": folder.name, "seconds": 10.0, "servers": 4, "versions": {"python": "3.13", "redis": None}}
    base = {"schema": 1, "experiment": experiment, "complete": True, "strategies": {}, "run": facts}
    return Run(
        folder, {**base, "validity": {"ok": True, "warnings": ["late"]}, "claims": told, "compared": {"id": "x"}}
    )


def part(experiment, state="complete", reason=""):
    """Return a part."""
    folder = f"{experiment}-20260101T000000Z" if state == "complete" else None
    return Part(experiment=experiment, command=f"lab {experiment}", state=state, run=folder, reason=reason)


def of(claim, parts, runs):
    """Return a lecture's judgement of one claim."""
    return next(one for one in merged(parts, {one.results["experiment"]: one for one in runs}) if one["id"] == claim)


def test_every_claim_stands_there_once_in_the_textbooks_order():
    """With and without runs."""
    assert [one["id"] for one in merged([], {})] == [claim.id for claim in CLAIMS]


@pytest.mark.parametrize("claim", WHOLE)
@pytest.mark.parametrize("verdict", ["holds", "does not hold", "cannot tell"])
def test_the_later_experiment_counts(claim, verdict):
    """`failover` has the comparison's part of it, too: whatever the comparison alone said."""
    name = claim.replace("-", "_")
    runs = [run("compare", **{name: "does not hold"}), run("failover", **{name: verdict})]
    found = of(claim, [part("compare"), part("failover")], runs)
    assert (found["verdict"], found["judged_by"]) == (verdict, "failover")
    assert found["run"] == "failover-20260101T000000Z"


@pytest.mark.parametrize("state", ["failed", "interrupted", "to come"])
def test_where_the_later_one_is_missing_the_earlier_counts(state):
    """Half an answer is better than none, and says what remains."""
    runs = [run("compare", redis_solves="cannot tell")]
    found = of("redis-solves", [part("compare"), part("failover", state)], runs)
    assert (found["verdict"], found["judged_by"]) == ("cannot tell", "compare")


def test_where_the_later_one_could_not_test_it_the_earlier_counts():
    """A failover whose engines are not the lab's own judges less."""
    runs = [run("compare", redis_solves="holds"), run("failover")]
    assert of("redis-solves", [part("compare"), part("failover")], runs)["judged_by"] == "compare"


@pytest.mark.parametrize(
    ("parts", "runs", "why"),
    [
        ([part("hotspot", "failed", "no Redis")], [], "`hotspot` is to test it, and failed: no Redis."),
        ([part("hotspot", "interrupted")], [], "`hotspot` is to test it, and was interrupted."),
        ([part("hotspot", "to come")], [], "`hotspot` is to test it, and has not been carried out yet."),
        ([], [], "`hotspot` is to test it, and is no part of this lecture."),
        ([part("hotspot")], [run("hotspot")], "`hotspot`: hotspot says so."),
    ],
)
def test_a_claim_that_nobody_tested_says_why(parts, runs, why):
    """Failed, interrupted, to come, no part of it, or without numbers."""
    found = of("sticky-hotspot", parts, runs)
    assert (found["verdict"], found["evidence"], found["judged_by"]) == ("not tested", why, None)


def test_a_claim_of_a_later_lesson_is_no_part_of_the_lecture():
    """It is shown by an experiment that a lecture does not have."""
    assert "`insights` is to test it" in of("dwell-useful", [part("compare")], [run("compare")])["evidence"]


def test_a_failover_that_came_before_its_comparison_gets_it_afterwards(tmp_path):
    """The comparison failed at first and was repeated: the claims that need both are judged from both."""
    compared = run("compare", tmp_path / "compare-20260101T000000Z")
    compared.results["run"] |= {"write_policy": "fields", "started": "2026-01-01T00:00:00Z"}
    ok = {"verdict": "ok", "violations": 0, "opportunities": 400, "cross_server": 300, "cross_server_violations": 0}
    names = ("read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads")
    compared.results["strategies"]["redis"] = {
        "consistency": {name: {**ok, "shoppers": 60} for name in names},
        "storage": {"copies_per_session": 1.0},
        "latency_ratio": {"p50": {"estimate": 1.1, "low": 1.05, "high": 1.15}},
    }
    compared.folder.mkdir()
    write(compared.folder, compared.results)
    failed_over = run("failover", tmp_path / "failover-20260101T000000Z")
    killed = {"sessions": {"alive": 60, "lost": 0}}
    failed_over.results["strategies"]["redis"] = {"faults": {"kill-server": killed}}
    failed_over.results["compared"] = None
    alone = copy.deepcopy(failed_over.results)
    failed_over.results["claims"] = claims.judge(alone)

    before = of("redis-solves", [part("failover")], [failed_over])
    after = of("redis-solves", [part("compare"), part("failover")], [compared, failed_over])
    assert before["verdict"] == "cannot tell"
    assert after["verdict"] == "holds"
    assert "From compare-20260101T000000Z" in after["evidence"]


def test_results_say_which_runs_they_consist_of():
    """Complete only if every part is; seconds, versions and warnings come from the parts."""
    folder = Path("lecture-20261122T210000Z")
    asked = {"seed": 1, "size": "quick"}
    runs = {"compare": run("compare")}
    found = assemble(folder, asked, "lab lecture", [part("compare"), part("failover", "failed", "no luck")], runs)
    assert found["complete"] is False
    assert found["run"]["started"] == "2026-11-22T21:00:00Z"
    assert found["run"]["seconds"] == 10.0
    assert found["run"]["versions"] == {"python": "3.13"}
    assert found["validity"] == {
        "ok": False,
        "warnings": ["failover failed: no luck", "compare has 1 warning; the page has them"],
    }
    assert [one["state"] for one in found["lecture"]["parts"]] == ["complete", "failed"]
    assert assemble(folder, asked, "lab lecture", [part("compare")], runs)["complete"] is True


def test_the_headline_counts_verdicts_and_names_what_does_not_hold():
    """Both ways: what usually holds, and the opposite."""
    parts = [part("compare")]

    def told(**verdicts):
        found = assemble(Path("lecture-20261122T210000Z"), {}, "", parts, {"compare": run("compare", **verdicts)})
        return headline(Run(Path(), found))

    usual = told(cart_flickers="holds", sticky_consistent="holds", session_persists="cannot tell")
    assert usual == "Of 22 claims of the textbook, 2 hold here, 1 cannot be told and 19 were not tested."
    opposite = told(cart_flickers="does not hold", sticky_consistent="does not hold")
    assert "2 do not hold" in opposite
    assert opposite.endswith("What does not hold here: cart-flickers and sticky-consistent.")
