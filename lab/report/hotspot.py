"""A run on hot servers in words: a headline and four tables. For the page and the terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report.results import get
from lab.report.tellings import Table
from lab.report.words import NONE, interval, listed, number, percent, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.report.results import Run

QUESTION = "Few shoppers do most of the shopping. Does one server get most of the work, and does a new server help?"

WORDS = {
    "uneven appetite (Zipf)": "The busiest shopper makes twice as many requests as the second, three times as many "
    "as the third, and so on: a few do a large part of all shopping.",
    "population": "A set of shoppers who come together. Each population is bound to the servers anew, so that no "
    "figure hangs on where one heavy shopper happened to land.",
    "bound (affinity)": "The balancer sends all requests of a shopper to the same server, by a cookie of its own.",
    "busiest ÷ mean": "Requests of the busiest server, divided by the mean over all servers. 1 is perfectly even; with "
    "four servers, 4 would be all on one.",
    "hot server": "The busiest server of a population while that population shops.",
    "even share": "What each server would get if requests were shared out evenly: one in N.",
    "drain": "The balancer is told to send a server nobody new, before it is stopped or repaired. Who is bound to it "
    "by a cookie stays.",
    "95th percentile": "One request in twenty waits longer than this, from when it was due to its answer.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value. Here "
    "they are over populations, except where it says shoppers.",
    "modelled": "Worked out from measured figures under an assumption that is named, and not measured itself.",
}
"""The glossary of the page."""


def stories(run: Run) -> dict[str, dict[str, Any]]:
    """Return what each strategy lived through, in the order of the run; empty for a run that did not get there."""
    return run.get("hotspot", "strategies") or {}


def shares(value: dict[str, Any] | None) -> str:
    """Write a share with its interval: `20 % (18 % to 22 %)`."""
    if not value or value.get("estimate") is None:
        return NONE
    text = percent(value["estimate"])
    if value.get("low") is None or value.get("high") is None:
        return text
    return f"{text} ({percent(value['low'])} to {percent(value['high'])})"


def headline(run: Run) -> str:
    """Say how uneven the work was, what the new server took, and what draining did."""
    told = stories(run)
    if not told:
        return "This run saw too little to say whether work was uneven."
    parts = [_uneven(run, told), _added(told), _drained(told), _carts_kept(run)]
    return " ".join(sentence(part) + "." for part in parts if part)


def _uneven(run: Run, told: dict[str, dict[str, Any]]) -> str:
    ratios = {name: get(story, "concentration", "estimate") for name, story in told.items()}
    ratios = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    if not ratios:
        return ""
    bound = [name for name in ratios if told[name]["binds"]]
    free = [name for name in ratios if name not in bound]
    said = [f"{ratios[name]:.2f} times the mean under {name}" for name in bound]
    if free:
        spread = sorted({f"{ratios[name]:.2f}" for name in free})
        range_ = spread[0] if len(spread) == 1 else f"{spread[0]} to {spread[-1]}"
        said.append(
            f"{range_} times under {listed(free)}" if bound else f"{range_} times the mean under {listed(free)}"
        )
    servers, shoppers = run.get("run", "servers"), run.get("hotspot", "shoppers")
    return f"with {shoppers} shoppers of uneven appetite, the busiest of {servers} servers served {listed(said)}"


def _added(told: dict[str, dict[str, Any]]) -> str:
    groups: dict[str, list[str]] = {}
    for name, story in told.items():
        share = get(story, "added", "share", "estimate")
        if share is not None:
            groups.setdefault(percent(share), []).append(name)
    if not groups:
        return ""
    first = next(iter(told.values()))["added"]
    said = [f"{share} under {listed(names)}" for share, names in groups.items()]
    when, fair = number(first["after_seconds"], 0, " s"), percent(first["fair_share"])
    return (
        f"{when} after one more server was added, its share of the requests of those who had been there before was "
        f"{listed(said)}; an even share is {fair}"
    )


def _drained(told: dict[str, dict[str, Any]]) -> str:
    left = {name: get(story, "drained", "after", "share") for name, story in told.items()}
    stays = [f"{percent(share)} under {name}" for name, share in left.items() if share]
    gone = [name for name, share in left.items() if share == 0]
    if not stays and not gone:
        return ""
    parts = [*stays, *([f"none under {listed(gone)}"] if gone else [])]
    return f"draining the busiest server left this share of the load with it: {listed(parts)}"


def _counted(run: Run, name: str, check: str) -> tuple[int, int]:
    """Return how often a check was violated under a strategy, and of how many opportunities."""
    found = run.get("strategies", name, "consistency", check) or {}
    return int(found.get("violations") or 0), int(found.get("opportunities") or 0)


def _carts_kept(run: Run) -> str:
    """Say whether anybody lost a session, or what was in the cart, and who looked too early."""
    names = [name for name in stories(run) if _counted(run, name, "sessions_lost")[1]]
    if not names:
        return ""
    lost = {name: [_counted(run, name, check) for check in ("sessions_lost", "lost_writes")] for name in names}
    losers = {name: both for name, both in lost.items() if any(violations for violations, _ in both)}
    text = (
        "nobody lost a session or an item of the cart"
        if not losers
        else listed(
            [
                f"under {name} {sessions:,} requests found their session gone and {puts:,} of {of:,} items were lost"
                for name, ((sessions, _), (puts, of)) in losers.items()
            ]
        )
    )
    stale = {name: _counted(run, name, "stale_reads") for name in names}
    early = [f"{some:,} of {every:,} looks at the cart under {name}" for name, (some, every) in stale.items() if some]
    late = f"; {listed(early)} came before the server that answered had heard of the last item" if early else ""
    return f"while servers came and went, {text}{late}"


def tables(run: Run) -> Sequence[Table]:
    """Return the tables of a run."""
    told = stories(run)
    if not told:
        return []
    return [table for table in _every(run, told) if table.rows]


def _every(run: Run, told: dict[str, dict[str, Any]]) -> list[Table]:
    return [_served(run, told), _joined(told), _left(told), _carts(run), _full(run, told)]


def _served(run: Run, told: dict[str, dict[str, Any]]) -> Table:
    facts = run.get("hotspot")
    return Table(
        title="The busiest server: what it served, and how long shoppers waited there",
        columns=(
            "strategy",
            "times the mean",
            "its share",
            "95th there (ms)",
            "elsewhere",
            "there / elsewhere",
        ),
        rows=tuple(
            (
                name,
                interval(story["concentration"]),
                percent(story["concentration"]["shares"][0]),
                number(get(story, "latency", "hot", "p95", "estimate"), 1),
                number(get(story, "latency", "rest", "p95", "estimate"), 1),
                interval(get(story, "latency", "ratio", "p95")),
            )
            for name, story in told.items()
        ),
        note=f"{facts['populations']} populations of {facts['shoppers']} shoppers, each in its turn of "
        f"{number(facts['turn_seconds'], 1, ' s')} at {number(facts['rate_rps_each'], 0)} requests/s; the heaviest "
        f"shopper makes {percent(facts['heaviest_share'])} of them. Of each one's busiest server: how many times the "
        "mean over all servers it served, and its share; mean over populations (95 % interval). 95th percentile of the "
        "wait there and at all other servers in ms, and their ratio, paired by population.",
        wide_only=frozenset({3, 4}),
    )


def _joined(told: dict[str, dict[str, Any]]) -> Table:
    first = next(iter(told.values()))["added"]
    return Table(
        title="What a server that was added under load got",
        columns=(
            "strategy",
            "requests of those bound before",
            "share (95 % interval)",
            "of newcomers",
            "adding took (s)",
            "failed",
        ),
        rows=tuple(
            (
                name,
                f"{added['requests']:,} of {added['of']:,}",
                shares(added["share"]),
                percent(get(added, "newcomers", "share")),
                number(added["seconds"], 1),
                f"{story['failed']:,}",
            )
            for name, story in told.items()
            for added in (story["added"],)
        ),
        note=f"Counted from {number(first['after_seconds'], 0, ' s')} after it was added; an even share is "
        f"{percent(first['fair_share'])}. Newcomers came only then. Failed: requests without an answer or with a "
        "server error, of those sent while a server was added or drained and afterwards; a write may meet the moment "
        "in which the balancer's old worker closes its connection. Where the new server got nothing, the interval is "
        "over shoppers (rule of three), else over populations.",
        wide_only=frozenset({4}),
    )


def _left(told: dict[str, dict[str, Any]]) -> Table:
    return Table(
        title="What a drained server still got, of those who were bound before",
        columns=("strategy", "server", "share before", "share after", "last request after (s)"),
        rows=tuple(
            (
                name,
                drained["server"],
                percent(get(drained, "before", "share")),
                percent(get(drained, "after", "share")),
                "stays" if drained["last_seconds"] is None else number(drained["last_seconds"], 1),
            )
            for name, story in told.items()
            for drained in (story["drained"],)
        ),
        note="Drained: the busiest server of the first population's turn. After: from when the balancer had changed "
        "over, about a second after the order.",
        text=frozenset({0, 1}),
    )


def _carts(run: Run) -> Table:
    checks = ("sessions_lost", "lost_writes", "stale_reads")
    rows = []
    for name in stories(run):
        counts = [_counted(run, name, check) for check in checks]
        if any(opportunities for _, opportunities in counts):
            rows.append((name, *(f"{some:,} of {every:,}" if every else NONE for some, every in counts)))
    return Table(
        title="Who lost a session or an item of the cart while servers came and went",
        columns=("strategy", "sessions gone", "items lost", "stale looks"),
        rows=tuple(rows),
        note="Every answer of the whole run is checked, from the logins to the draining. Sessions gone: requests that "
        "found another session than the one before, of all that carried one. Items lost for good: of those "
        "who shopped while a server was added and while one was drained; in the end each server is asked for their "
        "carts, and what none of them shows is lost. Stale: the cart did not show yet what had been put in. The "
        "requests are in history.jsonl.",
    )


def _full(run: Run, told: dict[str, dict[str, Any]]) -> Table:
    return Table(
        title="Modelled: the load at which the busiest server is full",
        columns=(
            "strategy",
            "CPU per request (ms)",
            "busy: hot server",
            "busy: others",
            "hot server full at (requests/s)",
            "if shared evenly",
        ),
        rows=tuple(
            (
                name,
                number(cpu["ms_per_request"], 2),
                percent(cpu["hot_busy"]),
                percent(cpu["rest_busy"]),
                number(cpu["modelled"]["full_rps"], 0),
                number(cpu["modelled"]["full_rps_even"], 0),
            )
            for name, story in told.items()
            for cpu in (story["cpu"],)
        ),
        note="CPU time of the web servers' processes alone, and the part of one core that they used: measured. The "
        "loads are modelled: a core for each of the "
        f"{run.get('run', 'servers')} servers, and as much CPU time for a request as measured.",
        wide_only=frozenset({3}),
    )
