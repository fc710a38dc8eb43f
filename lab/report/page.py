"""`report.html`: one self-contained page, drawn from a run's files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lab.report import compare, failover
from lab.report.results import BASELINE
from lab.report.tellings import telling
from lab.report.templates import figure, save, template
from lab.report.words import interval, number, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.report.charts import Drawn
    from lab.report.results import Run

FILE = "report.html"

ENGINES = {
    "local": "local: servers and stores were processes on this machine",
    "docker": "docker: servers, stores and balancer were containers on this machine",
    "target": "target: a deployment that ran already",
}
"""What ran the servers, in words."""

COMPARABLE = "Numbers of different engines must not be compared with each other; ratios within one run may."
"""A warning that goes with it."""


class Story(msgspec.Struct, frozen=True):
    """A witness as the page tells it.

    Attributes:
        title: which arm broke which rule.
        text: the requests, and what contradicts what.
    """

    title: str
    text: str


def write(run: Run, charts: Sequence[Drawn]) -> Path:
    """Write the page into the run's folder, whole or not at all, and return its path."""
    return save(run.folder / FILE, render(run, charts))


def render(run: Run, charts: Sequence[Drawn]) -> str:
    """Return the page as HTML."""
    claims = run.get("claims") or []
    experiment = run.results["experiment"]
    return template("page.html.j2").render(
        title=f"{experiment}: where should the session live?",
        experiment=f"make {experiment}",
        facts=run.get("run") or {},
        complete=run.results["complete"],
        **of_experiment(run),
        judged=[claim for claim in claims if claim["verdict"] != "not tested"],
        untested=[claim for claim in claims if claim["verdict"] == "not tested"],
        validity=validity(run),
        warnings=run.get("validity", "warnings") or [],
        charts=[figure(chart) for chart in charts if chart.caption],
        missing=[chart for chart in charts if chart.missing],
        watched=watched(run),
        stories=stories(run),
        level=2,
    )


def of_experiment(run: Run) -> dict[str, Any]:
    """Return what the page shows of this experiment alone: question, headline, tables, words."""
    told = telling(run.results["experiment"])
    alike = {"question": told.QUESTION, "headline": told.headline(run), "words": told.WORDS.items()}
    match run.results["experiment"]:
        case "compare":
            own = {
                "rows": compare.rows(run),
                "no_intervals": _has_points_only(run),
                "tables": compare.tables(run),
            }
            return {"experiment_page": "compare.html.j2", **alike, **own}
        case "failover":
            return {"experiment_page": "failover.html.j2", **alike, "faults": failover.table(run)}
    return {"experiment_page": "tables.html.j2", **alike, "tables": told.tables(run)}


def _has_points_only(run: Run) -> bool:
    ratios = [run.get("strategies", name, "latency_ratio", "p50") for name in run.compared if name != BASELINE]
    return any(ratios) and not any(ratio and ratio.get("low") is not None for ratio in ratios)


def validity(run: Run) -> list[tuple[str, str]]:
    """Return what tells how far a run can be trusted and how to repeat it, as name and text."""
    facts = run.get("run") or {}
    same = {p: run.get("validity", "same_against_same", p) for p in ("p50", "p95")}
    late = run.get("validity", "generator_lateness_ms") or {}
    requests = [run.get("strategies", name, "requests") or {} for name in run.strategies]
    machine = facts.get("machine") or {}
    sent = [sum(int(one.get(key) or 0) for one in requests) for key in ("scheduled", "sent", "failed")]
    noise = f"median {interval(same['p50'])}, 95th percentile {interval(same['p95'])}; 1 is perfect"
    lateness = f"median {number(late.get('p50'))} ms, 99th percentile {number(late.get('p99'))} ms"
    rows = [
        ("Engine", _engine(facts)),
        ("Not told here", " ".join(facts.get("not_told") or ())),
        ("Left out", "; ".join(f"{arm}: {reason}" for arm, reason in (facts.get("left_out") or {}).items())),
        ("Same against same", noise if any(same.values()) or (facts.get("blocks") and facts.get("rate_rps")) else ""),
        ("Pace of the machine", _pace(run)),
        ("Generator's lateness", lateness if late else ""),
        ("Requests", f"{sent[0]:,} scheduled, {sent[1]:,} sent, {sent[2]:,} failed" if any(requests) else ""),
        ("Blocks measured again", str(run.get("validity", "blocks_redone"))),
        ("Load", _load(facts)),
        ("Write policy", str(facts.get("write_policy") or "")),
        ("Command", str(facts.get("command") or "")),
        ("Seed", str(facts.get("seed", ""))),
        ("Took", number(facts.get("seconds"), 0, " s")),
        ("Machine", _machine(machine)),
        ("Versions", _pairs(facts.get("versions"))),
        ("Durability", _pairs(facts.get("durability"))),
    ]
    return [(name, text) for name, text in rows if text and "None" not in text]


def _engine(facts: dict[str, Any]) -> str:
    what = ENGINES.get(str(facts.get("engine")), "")
    where = f" ({facts['target']})" if facts.get("target") else ""
    return f"{what}{where}. {COMPARABLE}" if what else ""


def _load(facts: dict[str, Any]) -> str:
    load = f"{facts.get('rate_rps')} requests/s on {facts.get('servers')} servers"
    if "shoppers" in facts:
        return f"{load}, {facts['shoppers']} shoppers in each cluster"
    return f"{load}, {facts.get('blocks')} blocks"


def _pace(run: Run) -> str:
    slowness = run.get("validity", "slowness") or {}
    raw = {name: run.get("strategies", name, "latency_ratio", "p50", "uncorrected") for name in run.compared}
    if not slowness:
        return ""
    ratios = ", ".join(f"{name} {interval(ratio)}" for name, ratio in raw.items() if ratio)
    return (
        f"the same piece of work took {number(slowness['p5'])} to {number(slowness['p95'])} times its usual CPU time "
        f"(5th to 95th percentile); ratios are corrected for it, request by request. Uncorrected medians: {ratios}"
    )


def _machine(machine: dict[str, Any]) -> str:
    if not machine:
        return ""
    return f"{machine.get('cpus')} CPUs, {size(machine.get('memory_bytes'))} of memory, {machine.get('platform')}"


def _pairs(values: dict[str, Any] | None) -> str:
    return "; ".join(f"{name} {value}" for name, value in (values or {}).items() if value)


def stories(run: Run) -> list[Story]:
    """Return the witnesses of all arms and scenarios, the shopping ones first."""
    found: list[Story] = []
    for arm, path, witness in witnesses(run):
        where = f"{arm}, {path}" if path else arm
        found.append(Story(f"{where}: {witness['check'].replace('_', ' ')}", witness.get("text") or ""))
    return [story for story in found if story.text]


def watched(run: Run) -> bool:
    """Return whether carts were checked in a run: not every experiment looks at them."""
    return any(
        record.get(checks)
        for record in {**run.results["strategies"], **(run.get("arms") or {})}.values()
        for checks in ("consistency", "two_tabs", "lifecycle", "faults")
    )


def witnesses(run: Run) -> list[tuple[str, str, dict[str, Any]]]:
    """Return every saved witness with its arm and the scenario and policy it was seen in."""
    found = []
    for arm, record in {**run.results["strategies"], **(run.get("arms") or {})}.items():
        found += [(arm, "", one) for one in (record.get("consistency") or {}).get("witnesses") or []]
    for arm, record in run.results["strategies"].items():
        for policy, checks in (record.get("two_tabs") or {}).items():
            found += [(arm, f"two tabs, {policy}", one) for one in (checks or {}).get("witnesses") or []]
        found += [(arm, "lifecycle", one) for one in (record.get("lifecycle") or {}).get("witnesses") or []]
    for arm, record in {**run.results["strategies"], **(run.get("arms") or {})}.items():
        for fault, story in (record.get("faults") or {}).items():
            found += [(arm, fault, one) for one in (story.get("consistency") or {}).get("witnesses") or []]
    return found
