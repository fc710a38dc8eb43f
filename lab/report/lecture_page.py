"""A lecture's page: the claims on top, then a section per experiment, from the files of the lecture and of its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lab.report import charts, lecture, page, results
from lab.report.templates import figure, save, template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.report.results import Run

_GROUPS = {"sessions": "Where the session lives", "cache": "When a cache pays"}


def draw(run: Run) -> Path:
    """Draw every part's charts and page again, then the lecture's page, and return its path."""
    for part in lecture.parts_of(run):
        if part["run"]:
            one = results.load(run.folder / part["run"])
            page.write(one, charts.draw_all(one))
    return write(run)


def write(run: Run) -> Path:
    """Write the lecture's page around the charts as its parts have drawn them, and return its path."""
    return save(run.folder / page.FILE, render(run))


def render(run: Run) -> str:
    """Return the page as HTML."""
    claims = run.get("claims") or []
    sections = [_section(run, number, part) for number, part in enumerate(lecture.parts_of(run), 1)]
    return template("lecture.html.j2").render(
        title="A lecture: where should the session live?",
        facts=run.get("run") or {},
        complete=run.results["complete"],
        question=lecture.QUESTION,
        headline=lecture.headline(run),
        groups=_groups([claim for claim in claims if claim["verdict"] != "not tested"]),
        untested=[claim for claim in claims if claim["verdict"] == "not tested"],
        counts={
            verdict: count
            for verdict in lecture.VERDICTS
            if (count := sum(one["verdict"] == verdict for one in claims))
        },
        sections=sections,
        validity=[row for row in page.validity(run) if row[0] in {"Command", "Seed", "Took", "Machine", "Versions"}],
        words=_words(sections),
    )


def _groups(claims: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the claims by what they are about, as heading and claims."""
    about = {"sessions": [one for one in claims if one["experiment"] != "cache"]}
    about["cache"] = [one for one in claims if one["experiment"] == "cache"]
    return [(_GROUPS[name], list(some)) for name, some in about.items() if some]


def _section(run: Run, number: int, part: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of one experiment; of one without a complete run, why there is none."""
    alike = {"number": number, "name": part["experiment"], "state": part["state"], "reason": part["reason"]}
    if not part["run"]:
        return {**alike, "words": {}}
    one = results.load(run.folder / part["run"])
    own = page.of_experiment(one)
    drawn = charts.drawn_before(one)
    inner = template(own["experiment_page"]).render(
        facts=one.get("run") or {}, level=3, prefix=f"{part['experiment']}-", **own
    )
    return {
        **alike,
        "folder": part["run"],
        "question": own["question"],
        "headline": own["headline"],
        "words": dict(own["words"]),
        "own": Markup(inner),  # noqa: S704 - a template made it, and escaped what is not its own
        "charts": [figure(chart) for chart in drawn if chart.caption],
        "missing": [chart for chart in drawn if chart.missing],
        "stories": len(page.stories(one)),
        "validity": page.validity(one),
        "warnings": one.get("validity", "warnings") or [],
        "claims": [claim for claim in run.get("claims") or [] if claim.get("judged_by") == part["experiment"]],
    }


def _words(sections: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return one glossary: a word that two experiments explain differently stands there twice."""
    words = dict(lecture.WORDS)
    for section in sections:
        for word, meaning in section["words"].items():
            if words.setdefault(word, meaning) != meaning:
                words[f"{word} ({section['name']})"] = meaning
    return list(words.items())
