"""What each strategy promises under each fault, as data, and how a run confirms or refutes it.

`docs/failover.md` has the same table with the reasons; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

Verdict = Literal["kept", "broken", "not tested"]
Story = dict[str, Any]
"""What `story.tell` returns; beside it `peer_timeouts`, None where servers have no peers, and
`lateness_p99_ms`, the generator's own lateness meanwhile."""

LEAST_SESSIONS = 10
LEAST_WRITES = 30
LEAST_VIEWS = 30
"""Fewer of them show nothing: a promise is then `not tested`, unless it was seen broken."""

RECOVER_SECONDS = 5.0
"""So soon after the repair, at the latest, requests must succeed again."""

LATENESS_LIMIT_MS = 50.0
"""A generator that was later than this (99th percentile, tab idle) did not offer a steady load."""

HARDLY_ANY = 0.01
"""A restart that fails no more than this share of the requests went by almost unnoticed. Not none at all: a request
may meet the very moment in which the balancer closes an idle connection."""

BOUND_SECONDS = 3.0
"""So soon, at the latest, a store that is down must be answered for."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run says about a promise.

    Attributes:
        verdict: see `Verdict`.
        evidence: a few words with the number.
    """

    verdict: Verdict
    evidence: str


class Promise(msgspec.Struct, frozen=True):
    """One promise.

    Attributes:
        id: its name.
        text: what is promised.
        judge: from the story of a fault to the outcome.
    """

    id: str
    text: str
    judge: Callable[[Story], Outcome]


def _counted(broken: int, chances: int, least: int, words: str) -> Outcome:
    evidence = words.format(broken=f"{broken:,}", chances=f"{chances:,}")
    if broken:
        return Outcome("broken", evidence)
    return Outcome("kept" if chances >= least else "not tested", evidence)


def _sessions(story: Story) -> Outcome:
    found = story["sessions"]
    return _counted(found["lost"], found["alive"], LEAST_SESSIONS, "{broken} of {chances} sessions lost")


def _sessions_of_others(story: Story) -> Outcome:
    found = story["sessions"]
    words = f"{{broken}} of {{chances}} sessions lost that another server held; {found['lost']} of the struck one's"
    return _counted(found["lost_elsewhere"], found["alive"], LEAST_SESSIONS, words)


def _writes(story: Story) -> Outcome:
    found = story["writes"]
    return _counted(found["lost"], found["acknowledged"], LEAST_WRITES, "{broken} of {chances} confirmed writes lost")


def _writes_of_others(story: Story) -> Outcome:
    found = story["writes"]
    broken = found["lost"] - found["lost_with_session"]
    words = f"{{broken}} of {{chances}} confirmed writes lost, beside {found['lost_with_session']} with their sessions"
    return _counted(broken, found["acknowledged"], LEAST_WRITES, words)


def _last_second(story: Story) -> Outcome:
    sessions, writes = story["sessions"], story["writes"]
    older = sessions["lost_before_last_second"] + writes["lost"] - writes["lost_in_last_second"]
    words = (
        f"{{broken}} of {{chances}} sessions and writes lost that were older; {sessions['lost']} sessions and "
        f"{writes['lost']} writes lost in all"
    )
    return _counted(older, sessions["alive"] + writes["acknowledged"], LEAST_SESSIONS + LEAST_WRITES, words)


def _correct(story: Story) -> Outcome:
    after = [story["answers"][window] for window in ("during", "after")]
    wrong, views = (sum(one[key] for one in after) for key in ("wrong", "views"))
    return _counted(wrong, views, LEAST_VIEWS, "{broken} of {chances} carts shown were wrong")


def _correct_in_time(story: Story) -> Outcome:
    found, timeouts = _correct(story), story.get("peer_timeouts")
    if timeouts is None or (timeouts and found.verdict == "broken"):
        return Outcome("not tested", f"{timeouts or 'unknown'} peer timeouts; {found.evidence}")
    return Outcome(found.verdict, f"{found.evidence}; {timeouts} peer timeouts")


def _in_time(judge: Callable[[Story], Outcome]) -> Callable[[Story], Outcome]:
    """Let a promise of seconds go untested where the machine was too busy to keep even the load generator in time."""

    def judged(story: Story) -> Outcome:
        found, late = judge(story), story["lateness_p99_ms"]
        if found.verdict == "broken" and (late is None or late > LATENESS_LIMIT_MS):
            why = f"the machine was too busy: the load generator itself was {late or 0:.0f} ms late"
            return Outcome("not tested", f"{why}; {found.evidence}")
        return found

    return judged


def _recovers(story: Story) -> Outcome:
    found = story["recovery"]
    if found["recovered"] is None:
        return Outcome("not tested", "the load ended before the repair had shown its effect")
    if not found["recovered"]:
        last, load = found["calm_seconds"], found["load_after_repair_seconds"]
        evidence = f"requests failed in the last {last:g} s of the load, which ended {load:.1f} s after the repair"
        return Outcome("broken" if load >= RECOVER_SECONDS else "not tested", evidence)
    late = found["after_repair_seconds"]
    failed = story["failures"]["failed"]
    evidence = f"the last of {failed:,} failures came {late:.1f} s after the repair" if late else f"{failed:,} failures"
    if not late and failed:
        evidence += ", none after the repair"
    return Outcome("kept" if late <= RECOVER_SECONDS else "broken", evidence)


def _hardly_noticed(story: Story) -> Outcome:
    failed, requests = story["failures"]["failed"], story["failures"]["requests"]
    evidence = f"{failed:,} of {requests:,} requests failed"
    if requests < LEAST_VIEWS:
        return Outcome("not tested", evidence)
    return Outcome("kept" if failed <= HARDLY_ANY * requests else "broken", evidence)


def _untouched(story: Story) -> Outcome:
    found = story["failures"]
    words = "{broken} of {chances} requests failed because of the session's store"
    return _counted(found["by_cause"]["store"], found["requests"], LEAST_VIEWS, words)


def _bounded(story: Story) -> Outcome:
    found = story["failures"]
    failed, longest = found["by_cause"]["store"], found["slowest_seconds"].get("store")
    if longest is None:
        return Outcome("not tested", "nothing failed because of the store")
    evidence = f"{failed:,} times 503, the slowest after {longest:.2f} s"
    return Outcome("kept" if longest <= BOUND_SECONDS else "broken", evidence)


def _reads_go_on(story: Story) -> Outcome:
    found = story["views_during"]
    words = "{broken} of {chances} views refused while it was full"
    return _counted(found["refused"], found["views"], LEAST_VIEWS, words)


PROMISES = {
    promise.id: promise
    for promise in (
        Promise("sessions", "no session is lost", _sessions),
        Promise("own-sessions", "no session is lost but those that the struck server held", _sessions_of_others),
        Promise("writes", "no confirmed write is lost", _writes),
        Promise(
            "own-writes",
            "no confirmed write is lost but with a session that the struck server held",
            _writes_of_others,
        ),
        Promise(
            "last-second",
            "nothing is lost but what the dead server had confirmed in its last second",
            _last_second,
        ),
        Promise("correct", "no wrong cart is shown", _correct),
        Promise("correct-in-time", "no wrong cart is shown while no peer has timed out", _correct_in_time),
        Promise(
            "recovers", f"requests succeed again at most {RECOVER_SECONDS:g} s after the repair", _in_time(_recovers)
        ),
        Promise("untouched", "no request fails because of the session's store", _untouched),
        Promise("bounded", f"a store that is down gives 503 within {BOUND_SECONDS:g} s", _in_time(_bounded)),
        Promise(
            "hardly-noticed",
            f"at most one request in {1 / HARDLY_ANY:.0f} fails",
            _in_time(_hardly_noticed),
        ),
        Promise("reads-go-on", "carts are still shown while the store is full", _reads_go_on),
    )
}
"""Every promise, by its name."""

_SHARED = ("sessions", "writes", "correct", "recovers")
_ELSEWHERE = ("untouched", "sessions", "writes", "recovers")

MADE: dict[str, dict[str, tuple[str, ...]]] = {
    "kill-server": {
        "sticky": ("own-sessions", "own-writes", "recovers"),
        "all-to-all": ("last-second", "recovers"),
        "all-to-all sync": ("sessions", "writes", "correct-in-time", "recovers"),
        "database": _SHARED,
        "redis": _SHARED,
    },
    "stop-server": {
        "sticky": ("own-sessions", "own-writes", "recovers"),
        "all-to-all": ("sessions", "writes", "recovers"),
        "all-to-all sync": ("sessions", "writes", "correct-in-time", "recovers"),
        "database": _SHARED,
        "redis": _SHARED,
    },
    "rolling-restart": {
        "sticky": ("recovers", "hardly-noticed"),
        "all-to-all": ("sessions", "writes", "recovers", "hardly-noticed"),
        "all-to-all sync": ("sessions", "writes", "correct-in-time", "recovers", "hardly-noticed"),
        "database": (*_SHARED, "hardly-noticed"),
        "redis": (*_SHARED, "hardly-noticed"),
    },
    "kill-redis": {
        **dict.fromkeys(("sticky", "all-to-all", "all-to-all sync", "database"), _ELSEWHERE),
        "redis": (*_SHARED, "bounded"),
    },
    "kill-postgresql": {
        **dict.fromkeys(("sticky", "all-to-all", "all-to-all sync", "redis"), _ELSEWHERE),
        "database": (*_SHARED, "bounded"),
    },
    "fill-redis": {
        **dict.fromkeys(("sticky", "all-to-all", "all-to-all sync", "database"), _ELSEWHERE),
        "redis": (*_SHARED, "bounded", "reads-go-on"),
    },
}
"""Fault to arm to what it promises. `isolated`, the control, promises nothing."""

MADE_IN_CONTAINERS: dict[str, dict[str, tuple[str, ...]]] = {
    **MADE,
    "cut-server": {
        "sticky": ("own-sessions", "own-writes", "recovers"),
        "all-to-all": ("sessions", "writes", "recovers"),
        "database": _SHARED,
        "redis": _SHARED,
    },
}
"""The same with what can be struck in containers alone."""


def judge(fault: str, arm: str, story: Story | None) -> list[dict[str, str]]:
    """Say for each promise of an arm under a fault whether it was kept: `id`, `promise`, `verdict`, `evidence`.

    Args:
        fault: its name.
        arm: the arm's name, without the fault.
        story: what was seen; None where the fault was not struck.
    """
    found = []
    for name in MADE_IN_CONTAINERS[fault].get(arm, ()):
        promise = PROMISES[name]
        outcome = Outcome("not tested", "this fault was not struck") if story is None else promise.judge(story)
        found.append({"id": name, "promise": promise.text, "verdict": outcome.verdict, "evidence": outcome.evidence})
    return found
