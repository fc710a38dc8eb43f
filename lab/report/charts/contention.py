"""Pages without a session: how much slower where the sessions lie in the same database, load by load, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.charts.contention_database import ROOM, above, arm_keys, draw_database
from lab.report.contention import (
    PAGES,
    PROMISES,
    Point,
    has_few,
    is_crowded,
    load_of,
    pages_of,
    pairs,
    points,
    word,
)
from lab.report.results import get
from lab.report.words import NONE, TIMES, interval, listed, number, percent, sentence
from lab.statistics import BAND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

ARMS = ("database", "redis")
HOLLOW = "#9AA3AB"
"""Of what is drawn and not judged, because the machine was crowded."""

_FADED = 0.4
"""What is drawn and not judged, because there are too few pages, keeps so much of its colour."""

_PANELS = {False: "without the report", True: "while the report runs"}


def _all(run: Run) -> dict[bool, list[Point]]:
    """Return the points without and with the report, without circumstances that have none.

    Raises:
        NothingToDraw: there is none at all.
    """
    found = {busy: points(run, report=busy) for busy in _PANELS}
    found = {busy: own for busy, own in found.items() if own}
    if not found:
        raise NothingToDraw("No load was measured on both arms.")
    return found


def _panels(figure: Figure, found: dict[bool, list[Point]], room: float = 6) -> dict[bool, Axes]:
    """Make a panel for each circumstance, side by side on one scale, as wide as it has loads; room above in points."""
    widths = [len(own) + 0.6 for own in found.values()]
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (busy, own) in zip(panels, found.items(), strict=True):
        axes.set_title(_PANELS[busy], color=style.SOFT, pad=room)
        axes.set_xlim(-0.6, len(own) - 0.4)
        axes.set_xticks(range(len(own)), [f"{one['load_rps']:,}\n{percent(one['cpu_share'])}" for one in own])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("requests/s; total CPU", size=9.5)
        axes.grid(axis="y")
        for index, one in enumerate(own):
            if is_crowded(one):
                axes.axvspan(index - 0.5, index + 0.5, color="#F4F5F6", lw=0, zorder=0)
    for axes in panels[1:]:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return dict(zip(found, panels, strict=True))


def _subtitle(run: Run) -> str:
    facts = run.get("run") or {}
    blocks = facts.get("blocks_per_load")
    return f"{facts.get('servers')} servers per arm, {blocks} blocks per load, one plan for both"


def _has_intervals(found: Sequence[Point]) -> bool:
    return any(one["ratio"].get("low") is not None for one in found)


def _marks(found: Sequence[Point], more: str) -> str:
    lines = "Lines: 95 % intervals from resampled blocks." if _has_intervals(found) else "Too few blocks for intervals."
    crowded = " Hollow and grey: 80 % of all CPU time in use or more; everything waits then, so nothing is judged."
    few = f" Faded: fewer than {PAGES} catalogue pages on an arm, too few to be judged."
    return f"{more} {lines}{crowded if any(map(is_crowded, found)) else ''}{few if any(map(has_few, found)) else ''}"


# --- the ratio -------------------------------------------------------------------------------------------------------


def draw_ratio(run: Run, figure: Figure) -> Caption:
    """Draw how many times as long the catalogue's pages take, against the offered load."""
    found = _all(run)
    every = [one for own in found.values() for one in own]
    panels = _panels(figure, found)
    line = _claim_line(run)
    for busy, axes in panels.items():
        axes.axhspan(1 - BAND, 1 + BAND, color=style.GRID, lw=0, zorder=1)
        axes.axhline(1, color=style.SOFT, lw=1)
        if line:
            axes.axhline(line, color=style.BAD, lw=1.1, ls=(0, (5, 3)))
        for index, one in enumerate(found[busy]):
            _ratio(axes, index, one)
    ends = [value for one in every for value in one["ratio"].values() if value]
    first = next(iter(panels.values()))
    first.set_yscale("log")
    first.set_ylim(min(0.88, *ends) / 1.08, max(1.2, *ends) * 1.12)
    first.set_ylabel("95th percentile, database ÷ redis")
    style.log_ticks(first.yaxis)
    claim = f" Dashed: {line:g}, from which on the claim holds, if the whole interval is above." if line else ""
    same = run.get("contention", "same_against_same")
    noise = f" Redis against itself: {interval(same)}." if same else ""
    return Caption(
        ratio_title(every),
        "Above the grey band the catalogue is slower because the sessions lie in its database; inside, nobody would "
        "notice; a line that crosses an edge of the band is too wide to tell.",
        f"Product, search and list pages: no session. {_subtitle(run)}",
        _marks(every, f"Marks: ratio paired by block. Grey band: ± {100 * BAND:.0f} %.{claim}{noise}"),
        ("offered load", "database ÷ redis", "in words", "interval for all loads together", "total CPU", "judged"),
        tuple(
            (
                load_of(one),
                interval(one["ratio"]),
                word(one["ratio"]),
                interval(one.get("ratio_for_all")),
                percent(one["cpu_share"]),
                "yes" if one["judged"] else "no",
            )
            for one in every
        ),
    )


def _claim_line(run: Run) -> float | None:
    claims = run.get("claims") or []
    numbers = next((claim.get("numbers") or {} for claim in claims if claim["id"] == "database-slows"), {})
    value = numbers.get("holds_from")
    return None if value is None else float(value)


def _ratio(axes: Axes, index: int, point: Point) -> None:
    ratio, look = point["ratio"], style.look("database")
    colour = HOLLOW if is_crowded(point) else style.shade(look.colour, _FADED if has_few(point) else 1)
    if ratio.get("low") is not None:
        axes.plot([index, index], [ratio["low"], ratio["high"]], color=colour, lw=3, solid_capstyle="round", zorder=3)
    axes.plot(
        index, ratio["estimate"], look.marker, ms=10, mec=colour, mew=2, mfc="white" if is_crowded(point) else colour,
        zorder=4,
    )  # fmt: skip
    axes.annotate(
        f"{number(ratio['estimate'])}{TIMES}", (index, ratio["estimate"]), (11, 0), textcoords="offset points",
        va="center", size=9.5, color=style.INK if point["judged"] else style.SOFT, path_effects=style.HALO, zorder=5,
    )  # fmt: skip


def ratio_title(every: Sequence[Point]) -> str:
    """Say at how many of the judged loads the catalogue is slower, faster, about the same, or too close to call."""
    judged, few = [one for one in every if one["judged"]], [one for one in every if has_few(one)]
    if not judged and few:
        return f"Too few catalogue pages to say whether sessions in the database slow them: {pages_of(few)}, at most"
    if not judged:
        return "At every load 80 % of all CPU time or more was in use: nothing can be said about the catalogue's pages"
    by_word = {kind: [one for one in judged if word(one["ratio"]) == kind] for kind in ("slower", "faster")}
    close = [one for one in judged if word(one["ratio"]) == "cannot tell"]
    parts = []
    for kind, own in by_word.items():
        if own:
            most = max(own, key=lambda one: abs(float(one["ratio"]["estimate"]) - 1))
            parts.append(f"{kind} at {len(own)} of {len(judged)} loads ({most['ratio']['estimate']:.2f} times at "
                         f"{load_of(most)})")  # fmt: skip
    alike = len(judged) - len(close) - sum(map(len, by_word.values()))
    parts += [f"about as slow at {alike}"] if alike else []
    parts += [f"too close to call at {len(close)}"] if close else []
    if len(close) == len(judged):
        return f"Whether sessions in the database slow catalogue pages is too close to call at {_at_each(judged)}"
    only = f" of {len(judged)} loads" if not any(by_word.values()) else ""
    return f"With sessions in the database, catalogue pages are {listed(parts)}{only}"


def _at_each(judged: Sequence[Point]) -> str:
    return "the one load that is judged" if len(judged) == 1 else f"each of {len(judged)} loads"


# --- milliseconds ----------------------------------------------------------------------------------------------------


def draw_latency(run: Run, figure: Figure) -> Caption:
    """Draw the 95th percentile of the catalogue's pages on both arms, against the offered load."""
    found = {busy: [one for one in own if all(_p95(one, arm) for arm in ARMS)] for busy, own in _all(run).items()}
    found = {busy: own for busy, own in found.items() if own}
    if not found:
        raise NothingToDraw("Too few requests for a 95th percentile at any load.")
    every = [one for own in found.values() for one in own]
    panels = _panels(figure, found, ROOM)
    for busy, axes in panels.items():
        for arm, shift in zip(ARMS, (-0.07, 0.07), strict=True):
            _waits(axes, arm, found[busy], shift)
    first = next(iter(panels.values()))
    first.set_yscale("log")
    ends = [value for one in every for arm in ARMS for value in _p95(one, arm).values() if value]
    first.set_ylim(min(ends) / 1.15, max(ends) * 1.3)
    first.set_ylabel("95th percentile (ms)")
    style.log_ticks(first.yaxis)
    above(first, arm_keys(), columns=2)
    return Caption(
        latency_title(every),
        "The same two lines as the ratio, in milliseconds: where they rise together, it is the machine that is busy; "
        "where they part, it is the sessions.",
        f"Product, search and list pages, timed from when they were due. {_subtitle(run)}",
        _marks(every, "Order statistics of all timed requests; logarithmic."),
        ("offered load", "database (ms)", "redis (ms)", "database median (ms)", "redis median (ms)", "requests"),
        tuple(
            (
                load_of(one),
                *(interval(_p95(one, arm), 1) for arm in ARMS),
                *(interval(get(one, "arms", arm, "catalogue", "p50_ms"), 1) for arm in ARMS),
                " and ".join(f"{get(one, 'arms', arm, 'catalogue', 'requests'):,}" for arm in ARMS),
            )
            for one in every
        ),
    )


def _p95(point: Point, arm: str) -> dict[str, Any]:
    return get(point, "arms", arm, "catalogue", "p95_ms") or {}


def _waits(axes: Axes, arm: str, found: list[Point], shift: float) -> None:
    look = style.look(arm)
    places = [index + shift for index in range(len(found))]
    axes.plot(places, [_p95(one, arm)["estimate"] for one in found], color=look.colour, ls=look.line, lw=1.8, zorder=2)
    for place, one in zip(places, found, strict=True):
        value = _p95(one, arm)
        if value.get("low") is not None:
            axes.plot([place, place], [value["low"], value["high"]], color=look.colour, lw=3, alpha=0.45, zorder=2)
        colour = style.shade(look.colour, _FADED if has_few(one) else 1)
        face = "white" if is_crowded(one) else colour
        axes.plot(place, value["estimate"], look.marker, ms=8, mec=colour, mfc=face, mew=1.8, zorder=3)


def latency_title(every: Sequence[Point]) -> str:
    """Say how slow one page in twenty is at the busiest judged load; of none, at the busiest that is not crowded."""
    judged = [one for one in every if one["judged"]]
    plain = judged or [one for one in every if has_few(one)]
    if not plain:
        return "No load left the machine room enough: whoever keeps the sessions, pages wait for a processor"
    last = max(plain, key=lambda one: float(one["cpu_share"]))
    values = {arm: _p95(last, arm)["estimate"] for arm in ARMS}
    text = (
        f"1 catalogue page in 20 takes {number(values['database'], 1)} ms or longer with sessions in the database and "
        f"{number(values['redis'], 1)} ms in Redis, at {load_of(last)}"
    )
    if not judged:
        return f"{text}; too few pages to tell that from chance"
    return text if len(judged) == 1 else f"{text}, the busiest load that is judged"


# --- the machine -----------------------------------------------------------------------------------------------------

_PARTS = {
    "servers": ("web servers", style.COMPONENTS["servers"]),
    "postgresql": ("PostgreSQL with the report", style.LOOKS["database"].colour),
    "redis": ("Redis", style.LOOKS["redis"].colour),
    "balancer": ("balancer", style.COMPONENTS["balancer"]),
    "load generator": ("load generator", style.COMPONENTS["generator"]),
    "rest of the machine": ("everything else", style.COMPONENTS["others"]),
}


def draw_machine(run: Run, figure: Figure) -> Caption:
    """Draw who used the machine's CPU time at each load, on either arm, and where judging ends."""
    found = {busy: [one for one in own if _shares(one, "database")] for busy, own in _all(run).items()}
    found = {busy: own for busy, own in found.items() if own}
    if not found:
        raise NothingToDraw("CPU time was not measured.")
    every = [one for own in found.values() for one in own]
    limit = 100 * float(run.get("contention", "crowded") or 0)
    panels = _panels(figure, found, ROOM)
    for busy, axes in panels.items():
        for index, one in enumerate(found[busy]):
            for arm, shift in zip(ARMS, (-0.2, 0.2), strict=True):
                _stack(axes, index + shift, arm, _shares(one, arm))
        axes.axhline(limit, color=style.BAD, lw=1.2, ls=(0, (5, 3)), zorder=4)
    first = next(iter(panels.values()))
    first.set_ylim(0, 118)
    first.set_yticks(range(0, 101, 20))
    first.set_ylabel("share of all CPU time (%)")
    keys = [Patch(fc=colour, label=label) for label, colour in _PARTS.values()]
    above(first, keys, columns=len(keys))
    return Caption(
        machine_title(every, limit),
        "Two bars per load: D with the sessions in the database, R in Redis. What differs between them is what the "
        "sessions cost; what reaches the dashed line is not judged.",
        _subtitle(run),
        "D: sessions in the database, R: in Redis. CPU time of all processes of a part, divided by that of all "
        f"processors. Dashed: {limit:.0f} %, from which on nothing is judged.",
        ("offered load", "arm", *(f"{label} (%)" for label, _ in _PARTS.values()), "total (%)"),
        tuple(
            (
                load_of(one),
                arm,
                *(number(_shares(one, arm).get(key), 1) for key in _PARTS),
                number(100 * (get(one, "arms", arm, "cpu_share") or 0), 1),
            )
            for one in every
            for arm in ARMS
        ),
    )


def _shares(point: Point, arm: str) -> dict[str, float]:
    """Return each part's share of the machine's CPU time, in percent."""
    spent = {key: value for key, value in (get(point, "arms", arm, "cpu_ms_per_request") or {}).items() if value}
    total, share = sum(spent.values()), get(point, "arms", arm, "cpu_share")
    return {key: 100 * share * value / total for key, value in spent.items()} if total and share else {}


def _stack(axes: Axes, place: float, arm: str, shares: dict[str, float]) -> None:
    bottom = 0.0
    for key, (_, colour) in _PARTS.items():
        axes.bar(place, shares.get(key, 0.0), 0.34, bottom=bottom, color=colour, ec="white", lw=0.6, zorder=3)
        bottom += shares.get(key, 0.0)
    axes.annotate(
        arm[0].upper(), (place, bottom), (0, 4), textcoords="offset points", ha="center", size=9.5, weight="bold",
        color=style.look(arm).ink, path_effects=style.HALO, zorder=5,
    )  # fmt: skip


def machine_title(every: Sequence[Point], limit: float) -> str:
    """Say at which load the machine is full, and what PostgreSQL's part of it is at the busiest that left it room."""
    roomy = [one for one in every if not is_crowded(one)]
    crowded = [one for one in every if is_crowded(one)]
    parts = []
    if roomy:
        last = max(roomy, key=lambda one: float(one["cpu_share"]))
        own = [_shares(last, arm).get("postgresql") for arm in ARMS]
        if all(own):
            parts.append(
                f"At {load_of(last)} PostgreSQL uses {number(own[0], 0)} % of the machine with sessions in it, "
                f"{number(own[1], 0)} % with them in Redis"
            )
    if crowded:
        parts.append(f"total CPU reaches {limit:.0f} % at {listed([load_of(one) for one in crowded])}")
    return sentence("; ".join(parts)) if parts else f"Total CPU stays below {limit:.0f} % at every load"


# --- equal promises --------------------------------------------------------------------------------------------------


def draw_pairs(run: Run, figure: Figure) -> Caption:
    """Draw the ratio of each pair of equal promise, for pages without a session and with one."""
    found = pairs(run)
    if not found:
        reason = run.get("contention", "pairs_left_out")
        raise NothingToDraw(f"No pair of equal promise was measured{f': {reason}' if reason else ''}.")
    rows = {_named(one): (one["ratio"], one["session_pages_ratio"]) for one in found}
    usual = [one for one in points(run, report=False) if one["load_rps"] == run.get("contention", "pair_rps")]
    if usual:
        rows["as the lab usually has them\n(commit on ÷ every second: unlike)"] = (
            usual[0]["ratio"],
            usual[0]["session_pages_ratio"],
        )
    panels = figure.subplots(1, 2, sharey=True)
    ends = [value for both in rows.values() for one in both if one for value in one.values() if value]
    for column, (axes, title) in enumerate(zip(panels, ("Catalogue pages", "Pages with a session"), strict=True)):
        axes.set_title(title, color=style.SOFT)
        _ratio_axis(axes, ends)
        for row, both in enumerate(rows.values()):
            if both[column]:
                _forest(axes, row, both[column], hollow=row >= len(found))
    style.rows(panels[0], list(rows), [None] * len(rows))
    panels[0].tick_params(axis="y", labelsize=9.5)
    panels[1].tick_params(axis="y", length=0)
    panels[1].spines["left"].set_visible(False)
    return Caption(
        pairs_title(found),
        "Each row compares two stores that lose the same in a crash of the machine, from nothing to everything. The "
        "hollow one is how the lab usually runs them, with unlike promises.",
        f"{number(run.get('contention', 'pair_rps'), 0)} requests/s offered, without the report. {_wait(run)}",
        f"{_lines(found)} Grey band: ± {100 * BAND:.0f} %. Each pair on servers of its own, in alternating order.",
        ("pair", "a crash of the machine", "catalogue pages", "in words", "pages with a session", "in words"),
        tuple(_pair_row(one) for one in found),
    )


def _ratio_axis(axes: Axes, ends: Sequence[float]) -> None:
    """Make an axis for ratios: log, 1 in the middle of a grey band, and room for all ends of intervals."""
    axes.axvspan(1 - BAND, 1 + BAND, color=style.GRID, lw=0)
    axes.axvline(1, color=style.SOFT, lw=1)
    axes.set_xscale("log")
    axes.set_xlim(min(0.85, *ends) / 1.12, max(1.18, *ends) * 1.12)
    axes.set_xlabel("95th percentile, database ÷ redis (log scale)")
    axes.grid(axis="x")
    style.log_ticks(axes.xaxis)


def _pair_row(one: Point) -> tuple[str, ...]:
    """Write a pair as a row of the table."""
    return (
        PROMISES.get(one["promise"]["commit"], one["promise"]["commit"]),
        one["promise"]["promise"],
        interval(one["ratio"]),
        word(one["ratio"]),
        interval(one["session_pages_ratio"]),
        word(one["session_pages_ratio"]),
    )


def _named(point: Point) -> str:
    names = PROMISES.get(point["promise"]["commit"], "").replace("PostgreSQL ", "").replace("Redis ", "")
    return f"{point['promise']['promise']}\n({names})"


def _lines(found: Sequence[Point]) -> str:
    if _has_intervals(found):
        return "Marks: ratio paired by block. Lines: 95 % intervals from resampled blocks."
    return "Marks: ratio paired by block; too few blocks for intervals, so these points say little."


def _wait(run: Run) -> str:
    """Say what the disk of this machine takes to keep one write."""
    times = run.get("contention", "commit_ms", "postgresql") or {}
    if not {"on", "off"} <= set(times):
        return ""
    return f"One commit alone waits {number(times['on'], 2)} ms with the disk, {number(times['off'], 2)} ms without"


def _forest(axes: Axes, row: int, ratio: dict[str, Any], *, hollow: bool) -> None:
    look = style.look("database")
    if ratio.get("low") is not None:
        axes.plot([ratio["low"], ratio["high"]], [row, row], color=look.colour, lw=3, solid_capstyle="round")
    axes.plot(
        ratio["estimate"], row, look.marker, ms=10, mec=look.colour, mew=2, mfc="white" if hollow else look.colour
    )
    axes.annotate(
        f"{number(ratio['estimate'])}{TIMES}", (ratio["estimate"], row), (0, 12), textcoords="offset points",
        ha="center", size=9.5, color=style.INK, path_effects=style.HALO,
    )  # fmt: skip


def pairs_title(found: Sequence[Point]) -> str:
    """Say what becomes of the ratio where both stores promise the same."""
    words = {kind: [one for one in found if word(one["ratio"]) == kind] for kind in _SAID}
    if len(words["cannot tell"]) == len(found) > 1:
        return "At an equal promise, whether catalogue pages are slower is too close to call in every pair"
    told = [
        f"{_SAID[kind]} where {listed([one['promise']['promise'] for one in own])}"
        for kind, own in words.items()
        if own
    ]
    return f"At an equal promise the catalogue's pages are {'; '.join(told)}" if told else NONE


_SAID = {
    "slower": "slower with sessions in the database",
    "faster": "faster with sessions in the database",
    "about the same": "about as slow",
    "cannot tell": "too close to call",
}


CHARTS: dict[str, Draw] = {
    "catalogue-ratio": draw_ratio,
    "catalogue-latency": draw_latency,
    "machine-cpu": draw_machine,
    "database-work": draw_database,
    "equal-promises": draw_pairs,
}
"""Of a contention run, in the order of the page."""
