"""A failover run in words: a headline, a row per fault and arm, every promise. For the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lab.report.results import Results, arms, get
from lab.report.words import NONE, listed, number, percent, seconds_of, sentence

if TYPE_CHECKING:
    from lab.report.results import Run

FAULTS = ("kill-server", "stop-server", "rolling-restart", "kill-redis", "kill-postgresql", "fill-redis")
"""The faults by name, in the order in which a run strikes."""

IN_CONTAINERS = (*FAULTS[:2], "cut-server", *FAULTS[2:])
"""With the one that takes containers, which have a network each."""

QUESTION = "When something dies: who notices, what is gone, and for how long?"

WORDS = {
    "fault": "Something that is done to the running shop on purpose, while shoppers shop: a server or an engine is "
    "killed, stopped, or filled up; and put right again some seconds later.",
    "kill -9": "The process ends at once and says goodbye to nobody. What only its memory held is gone.",
    "stop (SIGSTOP)": "The process stands still. Its connections stay open, and others wait for answers in vain.",
    "rolling restart": "What an update does: every server in turn is taken out of the balancer's rotation, finishes "
    "what it has begun, ends, and comes back with empty memory.",
    "session": "What a shop remembers of one visitor between requests: who it is, and what lies in the cart. "
    "The browser keeps only a cookie that names it.",
    "alive, lost": "Alive: known to the shop right before the fault. Lost: the shopper, or all servers asked one by "
    "one in the end, find that it no longer exists.",
    "confirmed write": "The shopper was told that the item is in the cart. Lost: no server shows it in the end.",
    "wrong cart": "An answer without an error that lacks something confirmed before: a stale or a lost item.",
    "origin": "The shop's own database of products and orders, PostgreSQL. Every strategy's catalogue needs it, and so "
    "does putting a product into the cart; looking at the cart does not.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value.",
    "promise": "What a strategy is meant to keep under a fault, written down before any run. Kept, broken, or not "
    "tested: seen too rarely to say.",
}
"""The glossary of the page."""


class Row(msgspec.Struct, frozen=True):
    """What one fault did to one arm, as text.

    Attributes:
        arm: its name.
        failed: requests that failed, of those since the stroke.
        causes: by cause; empty where none failed.
        sessions: lost, of those alive.
        writes: confirmed writes lost.
        wrong: wrong carts shown, of those since the stroke.
        waits: 95th percentile before, during and after, in ms.
        recovery: how long requests failed.
        promises: each with `promise`, `verdict`, `evidence`.
    """

    arm: str
    failed: str
    causes: str
    sessions: str
    writes: str
    wrong: str
    waits: str
    recovery: str
    promises: list[dict[str, str]]


class FaultRows(msgspec.Struct, frozen=True):
    """A fault with what it did.

    Attributes:
        name: of the fault.
        title: what was done.
        how: under which circumstances, or why it was not done.
        rows: one per arm that lived through it.
    """

    name: str
    title: str
    how: str
    rows: list[Row]


def stories(results: Results, fault: str) -> dict[str, dict[str, Any]]:
    """Return what a fault did, by arm."""
    found = {arm: get(one, "faults", fault) for arm, one in ordered(results).items()}
    return {arm: story for arm, story in found.items() if story}


def ordered(results: Results) -> dict[str, dict[str, Any]]:
    """Return all arms by name; a variant stands behind its strategy."""
    every = arms(results)
    return {name: every[name] for strategy in results["strategies"] for name in every if _is_of(name, strategy)}


def _is_of(arm: str, strategy: str) -> bool:
    return arm == strategy or arm.startswith(f"{strategy} ")


def table(run: Run) -> list[FaultRows]:
    """Return every fault of a run with its rows."""
    found = []
    for name, facts in (run.get("faults") or {}).items():
        rows = [_row(arm, story) for arm, story in stories(run.results, name).items()]
        found.append(FaultRows(name, sentence(facts["title"]), _how(run, facts, rows), rows))
    return found


def _how(run: Run, facts: dict[str, Any], rows: list[Row]) -> str:
    if not rows:
        return f"Not struck in this run: {facts.get('left_out') or 'it did not get there'}."
    rate, servers, together = run.get("run", "rate_rps"), run.get("run", "servers"), facts.get("together") or 1
    what = _STRUCK.get(facts["target"], "the engine of all").format(servers=servers)
    load = f"all at once, {rate} requests/s in all" if together > 1 else f"one after another, {rate} requests/s each"
    return f"Struck: {what}. Clusters of their own for this fault, {load}."


_STRUCK = {
    "server": "one of the {servers} servers of each strategy",
    "servers": "each of the {servers} servers of each strategy, one after the other",
}


def _row(arm: str, story: dict[str, Any]) -> Row:
    failures, sessions, writes = story["failures"], story["sessions"], story["writes"]
    after = [story["answers"][window] for window in ("during", "after")]
    views, wrong = (sum(one[key] for one in after) for key in ("views", "wrong"))
    seconds = story["recovery"]["seconds"]
    return Row(
        arm=arm,
        failed=f"{failures['failed']:,} of {failures['requests']:,}",
        causes=", ".join(f"{cause} {count:,}" for cause, count in failures["by_cause"].items() if count),
        sessions=NONE if sessions is None else f"{sessions['lost']:,} of {sessions['alive']:,}",
        writes=NONE if writes is None else f"{writes['lost']:,} of {writes['acknowledged']:,}",
        wrong=f"{wrong:,} of {views:,}",
        waits=" / ".join(number(story["waits_ms"][window]["p95"], 0) for window in ("before", "during", "after")),
        recovery="no end"
        if seconds is None
        else f"{seconds_of(seconds)} s{'' if story['recovery']['recovered'] else ' ?'}",
        promises=story["promises"],
    )


def promises(results: Results) -> dict[str, int]:
    """Count the promises of a run by verdict, those under faults that were not struck included."""
    counts = {"kept": 0, "broken": 0, "not tested": 0}
    for arm in arms(results).values():
        made = [promise for story in (arm.get("faults") or {}).values() for promise in story["promises"]]
        made += [promise for left in (arm.get("not_struck") or {}).values() for promise in left]
        for promise in made:
            counts[promise["verdict"]] += 1
    return counts


def broken(results: Results) -> list[str]:
    """Return each broken promise as a sentence."""
    titles = {name: facts["title"] for name, facts in (results.get("faults") or {}).items()}
    return [
        f"{arm} ({titles[fault]}) broke its promise that {promise['promise']}: {promise['evidence']}."
        for arm, one in ordered(results).items()
        for fault, story in (one.get("faults") or {}).items()
        for promise in story["promises"]
        if promise["verdict"] == "broken"
    ]


def headline(run: Run) -> str:
    """Say what a killed server and the engines' deaths cost, and how many promises were kept."""
    counts = promises(run.results)
    made = sum(counts.values())
    if not made:
        return "This run saw too little to say what a failure costs."
    kept = (
        f"of {made} promises {counts['kept']} were kept, {counts['broken']} broken, {counts['not tested']} not tested"
    )
    return " ".join(sentence(part) + "." for part in [*_killed(run), *_restarted(run), *_engines(run), kept])


def _killed(run: Run) -> list[str]:
    found = _losses(run, "kill-server")
    one_in = run.get("run", "servers")
    fair = f" (one in {one_in} is {percent(1 / one_in)})" if found and found.some else ""
    return [f"when one server died, {found.text}{fair}"] if found else []


def _restarted(run: Run) -> list[str]:
    found = _losses(run, "rolling-restart")
    return [f"when all were restarted, one by one, {found.text}"] if found else []


class _Losses(msgspec.Struct, frozen=True):
    """Which strategies lost how much of their sessions, in words; and whether any did."""

    text: str
    some: bool


def _losses(run: Run, fault: str) -> _Losses | None:
    told = stories(run.results, fault)
    lost = {arm: story["sessions"] for arm, story in told.items() if story["sessions"] and story["sessions"]["alive"]}
    if not lost:
        return None
    shares = {arm: percent(one["lost"] / one["alive"]) for arm, one in lost.items() if one["lost"]}
    some = [f"{arm} lost {share} of its sessions" for arm, share in shares.items()]
    none = [arm for arm, one in lost.items() if not one["lost"]]
    return _Losses(", ".join([*some, *([f"{listed(none)} lost none"] if none else [])]), bool(some))


def _engines(run: Run) -> list[str]:
    found = []
    for fault, engine, arm in (("kill-redis", "Redis", "redis"), ("kill-postgresql", "PostgreSQL", "database")):
        story = stories(run.results, fault).get(arm)
        if story:
            seconds, lost = story["recovery"]["seconds"], story["sessions"]["lost"]
            long = "to the end" if seconds is None else f"for {seconds_of(seconds)} s"
            found.append(f"when {engine} died, {arm} failed {long} and lost {lost or 'no'} sessions")
    return found
