"""The page, the terminal and the sentences of a run: complete, honest, and made from its files alone."""

from __future__ import annotations

import io
import re
import shutil
from html.parser import HTMLParser

import pytest
from rich.console import Console

from lab.report import charts, compare, draw, results, terminal
from lab.report.compare import WORDS
from lab.report.page import render, validity


class Page(HTMLParser):
    """Collects what a page refers to, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.references, self.alternatives, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note a tag and what it refers to."""
        facts = dict(attrs)
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)
        self.references += [facts[name] for name in ("src", "href") if name in facts]
        self.ids += [facts["id"]] if "id" in facts else []
        if tag == "img":
            self.alternatives.append(facts.get("alt", ""))

    def handle_endtag(self, tag):
        """Check that the innermost open tag is the one that closes."""
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def page(made_up):
    """Return the page of the usual run as text."""
    return draw(made_up("usual")).read_text(encoding="utf-8")


def test_the_page_stands_alone(page):
    """Nothing is fetched from elsewhere: pictures are inside, links stay within, every tag closes."""
    parsed = Page(page)
    assert parsed.open == []
    assert all(reference.startswith(("data:image/svg+xml;base64,", "#")) for reference in parsed.references)
    assert {reference[1:] for reference in parsed.references if reference.startswith("#")} <= set(parsed.ids)
    assert "<script" not in page
    assert "url(" not in page


def test_every_picture_has_words_for_those_who_cannot_see_it(page):
    """Each chart has an alternative text with its finding, and a table with its numbers."""
    parsed = Page(page)
    assert len(parsed.alternatives) == page.count("<summary>The numbers</summary>") == 12
    assert all(len(text) > 60 for text in parsed.alternatives)


def test_the_page_says_what_decides(page):
    """Verdicts, the number behind each, Korean sentence, condition, seed and command stand on the page."""
    for text in (
        "0 violations of the four guarantees",
        "종속되어야",
        "Same against same",
        "--seed 1",
        "18.1",
        "fsync on",
    ):
        assert text in page
    assert "<code>failover</code>" in page
    assert all(word in page for word in WORDS)
    assert not re.search(r"\b(None|nan|undefined)\b", page)


def test_what_users_typed_is_text_and_not_markup(made_up):
    """A command or a warning with angle brackets cannot change the page."""
    run = results.load(made_up("quick"))
    evil = "<script>alert(1)</script>"
    facts = {**run.results["run"], "command": evil}
    found = {**run.results, "run": facts, "claims": [{**run.results["claims"][0], "evidence": evil}]}
    assert "<script>" not in render(results.Run(run.folder, found), [])


def test_an_interrupted_run_says_so(made_up):
    """What is missing is not passed over in silence."""
    assert "This run was interrupted" in render(results.load(made_up("interrupted")), [])


def test_a_short_run_says_that_it_has_points_only(made_up):
    """Without intervals there is no verdict on speed, and the page says why."""
    text = render(results.load(made_up("quick")), [])
    assert "points without intervals" in text
    assert "slower</td>" not in text


def test_an_unfinished_run_has_a_page(tmp_path):
    """What a killed run leaves behind can be looked at, and says that it is unfinished."""
    run = {"schema": 1, "experiment": "compare", "complete": False, "run": {"id": "x"}, "strategies": {}, "claims": []}
    results.write(tmp_path, {**run, "validity": {"ok": False, "warnings": ["this run was interrupted"]}})
    text = draw(tmp_path).read_text(encoding="utf-8")
    assert "This run was interrupted" in text
    assert "<li>this run was interrupted</li>" in text
    assert not re.search(r"\b(None|nan|undefined)\b", text)


def test_redrawing_needs_the_files_only_and_changes_nothing(made_up, tmp_path, monkeypatch):
    """A copy of results and samples gives the same page, to the byte."""
    monkeypatch.setitem(charts.CHARTS, "compare", {name: charts.COMPARE[name] for name in ("storage", "witness")})
    for name in ("results.json", "samples.npz"):
        shutil.copy(made_up("quick") / name, tmp_path)
    assert draw(tmp_path).read_bytes() == draw(made_up("quick")).read_bytes()


def shown(run, width=160) -> str:
    """Return what is written into a file, which has no width of its own, whatever the console believes."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    terminal.show(run.results, console)
    return console.file.getvalue()


@pytest.mark.parametrize("variant", ["usual", "opposite", "quick", "unmeasured", "interrupted"])
def test_the_terminal_fits_and_needs_no_special_letters(made_up, variant):
    """The table and the sentences fit 100 columns, in ASCII, with nothing cut off."""
    run = results.load(made_up(variant))
    lines = shown(run).splitlines()
    assert max(map(len, lines)) <= terminal.WIDTH
    assert all(line.isascii() for line in lines)
    assert not any("?" in line for line in lines)
    assert shown(run, width=80).splitlines() == lines
    assert [line.split()[0] for line in lines[2 : 2 + len(run.strategies)]] == run.strategies


def test_a_narrow_terminal_gets_a_narrow_table(made_up):
    """On 80 columns nothing is cut off: what fits is shown."""
    console = Console(file=io.StringIO(), width=80, color_system=None, force_terminal=True)
    terminal.show(results.load(made_up("usual")).results, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "not compared" in text


def test_many_warnings_are_counted(made_up):
    """The terminal shows the first few; the rest stand in the report."""
    run = results.load(made_up("quick"))
    run.results["validity"]["warnings"] = [f"block {block} was disturbed" for block in range(9)]
    assert "4 more warnings" in shown(run)


def test_the_terminal_shows_words_and_warnings(made_up):
    """Verdict words, same against same and what is wrong with a run are printed."""
    assert "violated" in shown(results.load(made_up("usual")))
    assert "Same against same" in shown(results.load(made_up("usual")))
    assert "interrupted" in shown(results.load(made_up("interrupted")))
    assert "Too few blocks" in shown(results.load(made_up("quick")))


class TestSentences:
    """What is said of a strategy is what was measured."""

    def test_the_headline_names_who_kept_and_who_broke(self, made_up):
        """The usual and the opposite run have opposite headlines."""
        usual = compare.headline(results.load(made_up("usual")))
        assert usual.startswith("Sticky, database and redis kept every session whole; isolated and all-to-all did not.")
        assert "redis is quickest" in usual
        opposite = compare.headline(results.load(made_up("opposite")))
        assert opposite.startswith(
            "Isolated and all-to-all kept every session whole; sticky, database and redis did not."
        )

    def test_nobody_is_called_quickest_without_an_interval_apart(self, made_up):
        """Points, and intervals that overlap, do not make a winner."""
        assert "quickest" not in compare.headline(results.load(made_up("quick")))
        run = results.load(made_up("usual"))
        ratios = run.results["strategies"]["database"]["latency_ratio"]["p50"]
        ratios.update(run.results["strategies"]["redis"]["latency_ratio"]["p50"])
        assert "redis cannot be told apart in speed" in compare.headline(run)

    def test_the_control_is_not_compared_for_speed(self, made_up):
        """Empty carts are quick: the control's speed is shown, never compared."""
        rows = {row.strategy: row for row in compare.rows(results.load(made_up("usual")))}
        assert rows["isolated"].verdict == "not compared"
        assert "not compared, because its carts are empty" in rows["isolated"].sentence
        assert rows["sticky"].verdict == "baseline"

    def test_what_was_not_measured_is_a_dash(self, made_up):
        """No zero stands for what nobody measured."""
        rows = {row.strategy: row for row in compare.rows(results.load(made_up("unmeasured")))}
        assert rows["redis"].cpu == rows["redis"].traffic == "\N{EN DASH}"


def test_validity_leaves_out_what_is_unknown(made_up):
    """The box says how to repeat the run, and has no empty line."""
    box = dict(validity(results.load(made_up("usual"))))
    assert box["Requests"] == "21,000 scheduled, 21,000 sent, 0 failed"
    assert all(text and "None" not in text for text in box.values())
