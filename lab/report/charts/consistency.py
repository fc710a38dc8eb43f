"""Every check under every arm: how often it was broken, of how often it could have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patches import Rectangle

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.compare import CHECKS
from lab.report.results import Run, arms
from lab.report.words import NONE, listed, percent, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIFE = {"sessions_lost": "sessions lost (short-lived sessions)", "resurrections": "ended sessions that came back"}
_WASH = {"ok": "#E3F1EC", "unknown": "#FFF4D6", "violated": "#B3261E"}


def draw(run: Run, figure: Figure) -> Caption:
    """Draw a table of checks by arms; the redder, the more often broken."""
    grid = _grid(run)
    names = list(arms(run.results))
    names = [name for name in names if any(name in row for row in grid.values())]
    if not names:
        raise NothingToDraw("No history was checked.")
    axes = figure.subplots()
    for y, cells in enumerate(grid.values()):
        for x, name in enumerate(names):
            _cell(axes, x, y, cells.get(name))
    _heads(axes, list(grid), names)
    verdicts = {name: (arms(run.results)[name].get("consistency") or {}).get("verdict") for name in names}
    return Caption(
        title(verdicts),
        "Green columns kept every promise; a red cell says how often a promise was broken, of how often it could have "
        "been.",
        "One shopper, one tab, unless said otherwise; every request of the run was checked",
        "A share, and below it broken of possible. Yellow: too few chances to judge. A dash: the check does not apply.",
        ("check", *names),
        tuple((check, *(_words(cells.get(name)) for name in names)) for check, cells in grid.items()),
    )


def title(verdicts: dict[str, str | None]) -> str:
    """Say which arms kept every promise and which did not."""
    kept = [name for name, verdict in verdicts.items() if verdict == "ok"]
    broke = [name for name, verdict in verdicts.items() if verdict == "violated"]
    if kept and broke:
        return sentence(f"{listed(kept)} kept every promise to a shopper; {listed(broke)} did not")
    if kept:
        return sentence(f"every promise to a shopper was kept under {listed(kept)}")
    if broke:
        return sentence(f"promises to shoppers were broken under {listed(broke)}; nothing was seen to keep them all")
    return "Too few chances to say which promises to shoppers are kept"


def _grid(run: Run) -> dict[str, dict[str, dict[str, Any]]]:
    """Return check to arm to record, without checks that no arm exercised."""
    every = arms(run.results)
    rows = {words: {name: _at(arm, "consistency", key) for name, arm in every.items()} for key, words in CHECKS.items()}
    rows |= {words: {name: _at(arm, "lifecycle", key) for name, arm in every.items()} for key, words in _LIFE.items()}
    kept = {check: {name: record for name, record in cells.items() if record} for check, cells in rows.items()}
    return {check: cells for check, cells in kept.items() if any(_applies(record) for record in cells.values())}


def _at(arm: dict[str, Any], *keys: str) -> dict[str, Any]:
    value: Any = arm
    for key in keys:
        value = (value or {}).get(key)
    return value or {}


def _applies(record: dict[str, Any] | None) -> bool:
    return bool(record) and (record or {}).get("verdict") in _WASH


def _words(record: dict[str, Any] | None) -> str:
    if not record or not _applies(record):
        return NONE
    return f"{record.get('violations') or 0:,} of {record.get('opportunities') or 0:,} ({record['verdict']})"


def _cell(axes: Axes, x: int, y: int, record: dict[str, Any] | None) -> None:
    if not record or not _applies(record):
        axes.text(x, y, NONE, ha="center", va="center", color=style.FAINT)
        return
    violations, chances = record.get("violations") or 0, record.get("opportunities") or 0
    share = violations / chances if chances else 0.0
    wash = style.shade(_WASH["violated"], 0.25 + 0.6 * share**0.5) if violations else _WASH[record["verdict"]]
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=wash, ec="none"))
    ink = "white" if violations and share > 0.45 else style.INK  # noqa: PLR2004 - where the wash gets dark
    look: Any = {"ha": "center", "va": "center", "color": ink}
    axes.text(x, y - 0.17, percent(share) if chances else "0", size=10, weight="bold", **look)
    axes.text(x, y + 0.24, f"{violations:,} of {chances:,}", size=7.3, **look)


def _heads(axes: Axes, checks: list[str], names: list[str]) -> None:
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(checks) - 0.5, -0.5)
    axes.set_yticks(range(len(checks)), checks)
    axes.set_xticks(range(len(names)), [name.replace(" with ", "\nwith ").replace(" sync", "\nsync") for name in names])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9.8)
    axes.spines[:].set_visible(False)
    for label, name in zip(axes.get_xticklabels(), names, strict=True):
        label.set(color=style.look(name).ink, fontweight="bold")
