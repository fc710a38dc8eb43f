"""A comparison in words: a headline, and per strategy a sentence and a table row. For page and terminal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lab.report.results import BASELINE
from lab.report.tellings import Table
from lab.report.words import NONE, interval, listed, number, percent, sentence
from lab.statistics import Interval, blocks_needed
from strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.report.results import Run

QUESTION = "When one web server becomes many, where should the session live?"

WORDS = {
    "session": "What a shop remembers of one visitor between requests: who it is, and what lies in the cart. "
    "The browser keeps only a cookie that names it.",
    "affinity (sticky)": "The balancer sends all requests of a visitor to the same server, by a cookie of its own.",
    "replication": "Servers send each other every change, so that each holds a copy. Asynchronous: after the visitor "
    "got the answer; synchronous: before.",
    "latency": "From the moment a request was due until its answer was read, in milliseconds. Waiting behind a slow "
    "answer counts.",
    "median, 95th percentile": "Half of the requests are faster than the median; one in twenty is slower than the "
    "95th percentile.",
    "95 % interval": "Were the run repeated many times, about 19 of 20 such intervals would hold the true value. "
    "Wide means: measure longer.",
    "block": "One short stretch of load on every strategy, one right after the other. What the machine does in that "
    "time hits all alike, so ratios within a block are fair.",
    "same against same": "The baseline measured twice in each block and compared with itself. It ought to be 1; how "
    "far off it is shows what noise alone can do.",
    "read your writes": "What I put in, I see at my next look. The first of four guarantees that a visitor expects.",
    "stale, lost": "Stale: an old state is shown, and the new one turns up later. Lost: it never does.",
}
"""The glossary of the page: ten words that it uses."""

CHECKS = {
    "read_your_writes": "own items missing",
    "monotonic_reads": "items vanished again",
    "monotonic_writes": "own changes out of order",
    "writes_follow_reads": "change built on an older cart",
    "lost_writes": "confirmed items lost for good",
    "stale_reads": "outdated carts shown",
    "divergence": "servers disagree at the end",
    "sessions_lost": "sessions lost",
    "phantoms": "items nobody put in",
}
"""The checks of the `shopping` scenario and what a violation looks like to a shopper."""


_MOST_BLOCKS = 1000
"""Nobody waits for more."""


COMPONENTS = {"servers": "web server", "store": "store", "balancer": "balancer"}
"""Parts that containers are, in words."""

DOCKER = "Docker itself"
"""What the container engine's own processes are called."""


class Row(msgspec.Struct, frozen=True):
    """One strategy in the headline table, as text.

    Attributes:
        strategy: its name.
        lives_in: where it keeps sessions.
        consistency: `ok`, `violated` or `unknown`.
        broken: share of views without something of the shopper's own.
        median: median latency in ms.
        ratio: median as a multiple of the baseline's, with its interval.
        verdict: that ratio in words.
        ratio_p95: the same for the 95th percentile.
        verdict_p95: likewise.
        cpu: CPU time per request in ms.
        copies: how many copies of a session there are.
        traffic: bytes per request between servers and to the store.
        sentence: what to remember of it.
    """

    strategy: str
    lives_in: str
    consistency: str
    broken: str
    median: str
    ratio: str
    verdict: str
    ratio_p95: str
    verdict_p95: str
    cpu: str
    copies: str
    traffic: str
    sentence: str


def rows(run: Run) -> list[Row]:
    """Return the table of a run, one row per strategy."""
    return [_row(run, name) for name in run.strategies]


def _row(run: Run, name: str) -> Row:
    def at(*keys: str) -> Any:
        return run.get("strategies", name, *keys)

    links = at("traffic", "bytes_per_request") or {}
    behind = [links[link] for link in ("server_server", "server_store") if links.get(link) is not None]
    return Row(
        strategy=name,
        lives_in=STRATEGIES[name].lives_in,
        consistency=at("consistency", "verdict") or "unknown",
        broken=_broken(at("consistency", "read_your_writes")),
        median=number(at("latency_ms", "all", "p50", "estimate"), 2),
        ratio="1" if name == BASELINE else interval(at("latency_ratio", "p50")),
        verdict=_verdict(name, at("latency_ratio", "p50")),
        ratio_p95="1" if name == BASELINE else interval(at("latency_ratio", "p95")),
        verdict_p95=_verdict(name, at("latency_ratio", "p95")),
        cpu=number(at("cpu_ms_per_request", "total"), 2),
        copies=number(at("storage", "copies_per_session"), 2),
        traffic=number(sum(behind), 0) if behind else number(None),
        sentence=_sentence(run, name),
    )


def _verdict(name: str, ratio: dict[str, Any] | None) -> str:
    if name == BASELINE:
        return "baseline"
    return (ratio or {}).get("verdict") or "not compared"


def _broken(check: dict[str, Any] | None) -> str:
    if not check or not check.get("opportunities"):
        return number(None)
    return percent(check["violations"] / check["opportunities"])


def _sentence(run: Run, name: str) -> str:
    clauses = [_cart(run.get("strategies", name, "consistency") or {}), _speed(run, name), _copies(run, name)]
    return sentence(f"{name}: {'; '.join(clause for clause in clauses if clause)}.")


def _cart(consistency: dict[str, Any]) -> str:
    own = consistency.get("read_your_writes") or {}
    views = own.get("opportunities") or 0
    if not views:
        return "no view of a filled cart, so nothing is known of its consistency"
    others = [words for key, words in CHECKS.items() if key != "read_your_writes" and _violated(consistency.get(key))]
    also = f" ({listed([*others[:1], 'more'] if len(others) > 1 else others)} besides)" if others else ""
    if own.get("violations"):
        share = percent(own["violations"] / views)
        return f"{share} of the views missed something that the shopper had put in{also}"
    return f"in {views:,} views nobody missed anything of their own{also}"


def _violated(check: dict[str, Any] | None) -> bool:
    return (check or {}).get("verdict") == "violated"


def _speed(run: Run, name: str) -> str:
    median = run.get("strategies", name, "latency_ms", "all", "p50", "estimate")
    ratio = run.get("strategies", name, "latency_ratio", "p50")
    if name == BASELINE:
        return "" if median is None else f"its median request takes {median:.2f} ms, the others' are compared with it"
    if not ratio or ratio.get("estimate") is None:
        return "its speed is not compared, because its carts are empty" if name == "isolated" else ""
    took = f"the median request takes {interval(ratio)} times as long as under {BASELINE}"
    if ratio.get("low") is None:
        return f"{took} (too few blocks for an interval)"
    if ratio.get("verdict") == "cannot tell":
        return f"{took}, too close to tell{_remedy(run, ratio)}"
    return f"{took}, {ratio.get('verdict')}"


def _remedy(run: Run, ratio: dict[str, Any]) -> str:
    """Say how many blocks would settle it, where that is a run that one could make."""
    needed = blocks_needed(Interval(ratio["estimate"], ratio["low"], ratio["high"]), run.get("run", "blocks") or 0)
    return f" (some {round(needed, -1):,} blocks might)" if needed and needed <= _MOST_BLOCKS else ""


def _copies(run: Run, name: str) -> str:
    copies = run.get("strategies", name, "storage", "copies_per_session")
    if copies is None:
        return ""
    held = f"{copies:.1f}".removesuffix(".0")
    return "one copy of a session" if held == "1" else f"{held} copies of a session"


def tables(run: Run) -> list[Table]:
    """Return what stands below the headline table: what each container used, where there were containers."""
    rows = tuple(row for name in run.strategies for row in _container_rows(run, name))
    if not rows:
        return []
    columns = ("strategy", "container", "part", "CPU (ms)", "received (bytes)", "sent (bytes)")
    note = (
        "Per request, by the engine's own counters, in a stretch of load on that strategy alone. Bytes are those on "
        "the container's network, headers of Ethernet, IP and TCP included, so that they are more than the payload "
        "bytes of the links. The balancer and the stores serve every strategy, and what they do of themselves is in it."
    )
    if any(container == DOCKER for _, container, *_ in rows):
        note += (
            f" {DOCKER} is its daemon and what carries bytes to and from published ports, as this machine counts them "
            "in the timed slices: the price of measuring from outside, and part of no strategy's CPU time."
        )
    title = "What each container used for a request"
    return [Table(title=title, columns=columns, rows=rows, note=note, text=frozenset({0, 1, 2}))]


def _container_rows(run: Run, name: str) -> Iterator[tuple[str, ...]]:
    for container, used in sorted((run.get("strategies", name, "containers") or {}).items()):
        spent = number(used["cpu_ms_per_request"], 3)
        received, sent = used["received_bytes_per_request"], used["sent_bytes_per_request"]
        yield (name, container, COMPONENTS[used["component"]], spent, number(received, 0), number(sent, 0))
    if engine := run.get("strategies", name, "container_engine"):
        yield (name, DOCKER, "engine", number(engine["cpu_ms_per_request"], 3), NONE, NONE)


def headline(run: Run) -> str:
    """Say in one or two sentences which strategies kept the carts whole, and which of those was quickest."""
    verdicts = {name: run.get("strategies", name, "consistency", "verdict") for name in run.strategies}
    kept = [name for name, verdict in verdicts.items() if verdict == "ok"]
    broke = [name for name, verdict in verdicts.items() if verdict == "violated"]
    parts = []
    if kept:
        parts.append(f"{listed(kept)} kept every session whole{'; ' + listed(broke) + ' did not' if broke else ''}")
    elif broke:
        parts.append(f"{listed(broke)} broke sessions, and no strategy was seen to keep them all whole")
    else:
        parts.append("this run saw too little to say which strategies keep sessions whole")
    return " ".join(sentence(part) + "." for part in [*parts, *_quickest(run, kept)])


def _quickest(run: Run, kept: list[str]) -> list[str]:
    ratios = {
        name: ratio
        for name in kept
        if STRATEGIES[name].balancer == "round robin" and (ratio := run.get("strategies", name, "latency_ratio", "p50"))
    }
    if not ratios or any(ratio.get("low") is None for ratio in ratios.values()):
        return []
    best = min(ratios, key=lambda name: ratios[name]["estimate"])
    close = [name for name in ratios if name != best and ratios[name]["low"] <= ratios[best]["high"]]
    took = f"takes {interval(ratios[best])} times as long as {BASELINE} for a median request"
    if len(ratios) == 1:
        return [f"where any server can answer, {best} {took}"]
    if close:
        return [f"of those where any server can answer, {listed([best, *close])} cannot be told apart in speed"]
    return [f"of those where any server can answer, {best} is quickest: it {took}"]
