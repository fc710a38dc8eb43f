"""Two tabs at once: updates lost under each way of writing a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import NONE, interval, listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

POLICIES = {
    "fields": "fields: save only what changed",
    "blob": "blob: save the whole session",
    "versioned": "versioned: refuse an outdated base",
}


def draw(run: Run, figure: Figure) -> Caption:
    """Draw one panel per write policy with each strategy's rate of lost updates."""
    found = {
        policy: {
            name: check
            for name in run.strategies
            if (check := run.get("strategies", name, "two_tabs", policy, "lost_updates")) and check.get("opportunities")
        }
        for policy in POLICIES
    }
    found = {policy: checks for policy, checks in found.items() if checks}
    if not found:
        raise NothingToDraw("The two-tabs scenario was not run.")
    names = [name for name in run.strategies if any(name in checks for checks in found.values())]
    panels = figure.subplots(1, len(found), sharey=True, sharex=True, squeeze=False)[0]
    most = max([_high(check) for checks in found.values() for check in checks.values()])
    for axes, (policy, checks) in zip(panels, found.items(), strict=True):
        _panel(axes, policy, names, checks, most)
    style.rows(panels[0], names, list(names))
    return Caption(
        title(found),
        "Two tabs of one shopper write at the same moment. Saving the whole session lets the slower tab erase what the "
        "faster one did; saving fields keeps both unless they change the same field; versions make the slower one try "
        "again.",
        "Pairs of writes that started from the same state of the session",
        "Dots: share of such pairs in which one write vanished. Lines: 95 % intervals, from resampled shoppers; where "
        "none was lost, up to 3 ÷ number of shoppers.",
        ("strategy", *(f"{policy}: updates lost" for policy in found), "refused and retried under versioned"),
        tuple((name, *(_words(found[policy].get(name)) for policy in found), _conflicts(run, name)) for name in names),
    )


def title(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Say under which write policies updates were lost, and under which not."""
    shares = {policy: share for policy, checks in found.items() if (share := _share(checks)) is not None}
    safe = [policy for policy, share in shares.items() if share == 0]
    parts: list[str] = []
    for policy, share in shares.items():
        if share:
            parts.append(f"{percent(share)}{'' if parts else ' of their colliding updates'} under {policy}")
    if safe:
        parts.append(f"{'none' if parts else 'no update'} under {listed(safe)}")
    names = {name for checks in found.values() for name in checks}
    control = ", leaving out isolated" if "isolated" in names and len(names) > 1 else ""
    return f"Two tabs lost {', '.join(parts)}{control}"


def _share(checks: dict[str, dict[str, Any]]) -> float | None:
    """Return the share of updates lost over all strategies but the control, whose sessions are lost anyway."""
    judged = [check for name, check in checks.items() if name != "isolated"] or list(checks.values())
    chances = sum(check["opportunities"] for check in judged)
    return sum(check["violations"] for check in judged) / chances if chances else None


def _high(check: dict[str, Any]) -> float:
    rate = check.get("rate") or {}
    return float(max(rate.get("high") or 0.0, check["violations"] / check["opportunities"], 0.001))


def _panel(axes: Axes, policy: str, names: list[str], checks: dict[str, Any], most: float) -> None:
    axes.set_title(POLICIES[policy], color=style.SOFT, size=10)
    for row, name in enumerate(names):
        if name in checks:
            _mark(axes, row, name, checks[name])
        else:
            axes.text(2 * most, row, "cannot promise it", va="center", size=9, color=style.SOFT, style="italic")
    axes.set_xlim(-5 * most, 130 * most)
    axes.axvline(0, color=style.FAINT, lw=1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("updates lost (%)")
    axes.grid(axis="x")


def _mark(axes: Axes, row: int, name: str, check: dict[str, Any]) -> None:
    look, share, rate = style.look(name), check["violations"] / check["opportunities"], check.get("rate") or {}
    if rate.get("low") is not None:
        axes.plot([100 * rate["low"], 100 * rate["high"]], [row, row], color=look.colour, lw=3)
    axes.plot(100 * share, row, look.marker, color=look.colour, ms=10)
    text = f"{check['violations']:,} of {check['opportunities']:,}"
    place: Any = {"xytext": (0, 11), "textcoords": "offset points", "ha": "left"}
    axes.annotate(text, (100 * share, row), size=9, path_effects=style.HALO, **place)


def _words(check: dict[str, Any] | None) -> str:
    if not check:
        return NONE
    rate = {key: None if value is None else 100 * value for key, value in (check.get("rate") or {}).items()}
    return f"{check['violations']:,} of {check['opportunities']:,}; {interval(rate)} %"


def _conflicts(run: Run, name: str) -> str:
    conflicts = run.get("strategies", name, "two_tabs", "versioned", "conflicts")
    return NONE if conflicts is None else f"{conflicts:,}"
