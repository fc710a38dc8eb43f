"""What PostgreSQL did at each load: processors, log, waiting, dead rows; with the sessions in it, and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.contention import Point, is_crowded, load_of, points, waiting
from lab.report.results import get
from lab.report.words import number, percent, sentence, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

ARMS = ("database", "redis")

ROOM = 24
"""Points between a panel and its title, for a legend."""


def _cores(point: Point, arm: str) -> float | None:
    value = get(point, "arms", arm, "postgresql_cores", "estimate")
    return None if value is None else float(value)


def _log(point: Point, arm: str) -> float | None:
    value = get(point, "arms", arm, "wal_bytes_per_s")
    return None if value is None else float(value) / 1000


def _dead(point: Point, arm: str) -> float | None:
    value = get(point, "engine", "dead_rows") if arm == "database" else None
    return None if value is None else float(value)


_PANELS: dict[str, Callable[[Point, str], float | None]] = {
    "Processors busy (cores)": _cores,
    "Log written (kB/s)": _log,
    "Connections waiting (mean)": waiting,
    "Dead rows of sessions in the end": _dead,
}


def draw_database(run: Run, figure: Figure) -> Caption:
    """Draw four figures of PostgreSQL's work, load by load, for both arms."""
    every = points(run)
    if not every:
        raise NothingToDraw("No load was measured on both arms.")
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (title, figured) in zip(panels.flat, _PANELS.items(), strict=True):
        _panel(axes, title, figured, every)
    for axes in panels[0]:
        axes.set_title(axes.get_title(loc="left"), color=style.SOFT, size=10.5, pad=ROOM)
    for axes in panels[-1]:
        axes.set_xlabel("offered load (requests/s)", size=9.5)
    above(panels[0][0], arm_keys(), columns=2)
    counted = _counted(every)
    return Caption(
        database_title(every),
        "The distance between the two marks is what the sessions ask of PostgreSQL; the lower one is the catalogue, "
        "the orders and the report.",
        f"{len(every)} loads; R: while the report runs, which keeps about one core busy by itself",
        f"Waiting: for the disk or a lock, in an untimed stretch. {counted} Counts lag by up to a second. "
        "Hollow: 80 % of all CPU time in use or more.",
        ("offered load", *(f"{title}, {arm}" for title in _PANELS for arm in ARMS if (title, arm) != _NO_SUCH),
         "HOT", "row-lock waits", "checkpoints", "autovacuums", "log per request"),
        tuple(_row(one) for one in every),
    )  # fmt: skip


_LOGARITHMIC = "Processors busy (cores)"
"""The report keeps one busy; what sessions take shows beside it on this scale only."""

_NO_SUCH = ("Dead rows of sessions in the end", "redis")


def arm_keys() -> list[Line2D]:
    """Return what a legend says of the two arms."""
    return [
        Line2D([], [], color=style.look(arm).colour, marker=style.look(arm).marker, ls="", ms=8, label=label)
        for arm, label in zip(ARMS, ("sessions in the database", "sessions in Redis"), strict=True)
    ]


def above(axes: Axes, keys: Sequence[Artist], *, columns: int) -> None:
    """Put a legend between a panel and its title, in one line; the title leaves it `ROOM`."""
    legend = axes.legend(
        handles=list(keys), loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, frameon=False, fontsize=9.2,
        columnspacing=1.2, handlelength=1.2, handletextpad=0.5, borderaxespad=0.1,
    )  # fmt: skip
    legend.set_in_layout(False)


def _counted(every: Sequence[Point]) -> str:
    checkpoints = sum(get(one, "engine", "checkpoints") or 0 for one in every)
    vacuums = sum(get(one, "engine", "autovacuums") or 0 for one in every)
    return f"Autovacuum was on, its rounds: {vacuums}; checkpoints: {checkpoints}."


def _panel(axes: Axes, title: str, figured: Callable[[Point, str], float | None], every: Sequence[Point]) -> None:
    axes.set_title(title, color=style.SOFT, size=10.5)
    most = 0.0
    for index, one in enumerate(every):
        both = [(arm, value) for arm in ARMS if (value := figured(one, arm)) is not None]
        if len(both) > 1:
            axes.plot([index, index], [value for _, value in both], color=style.FAINT, lw=3, zorder=1)
        for arm, value in both:
            look = style.look(arm)
            face = "white" if is_crowded(one) else look.colour
            axes.plot(index, value, look.marker, ms=8, mec=look.colour, mfc=face, mew=1.6, zorder=3, clip_on=False)
            most = max(most, value)
    if title == _LOGARITHMIC:
        axes.set_yscale("log")
        axes.margins(y=0.15)
        style.log_ticks(axes.yaxis)
    else:
        axes.set_ylim(-0.07 * (most or 1), 1.15 * (most or 1))
    axes.set_xlim(-0.5, len(every) - 0.5)
    axes.set_xticks(range(len(every)), [f"{one['load_rps']:,}{' R' if one['report'] else ''}" for one in every])
    axes.tick_params(axis="x", labelsize=9, length=0)
    axes.grid(axis="y")


def _row(point: Point) -> tuple[str, ...]:
    figures = [
        number(figured(point, arm), 2 if title != _NO_SUCH[0] else 0)
        for title, figured in _PANELS.items()
        for arm in ARMS
        if (title, arm) != _NO_SUCH
    ]
    locks = [get(point, "arms", arm, "waits", "row lock") for arm in ARMS]
    return (
        load_of(point),
        *figures,
        percent(get(point, "engine", "hot_share")),
        " and ".join(number(lock, 2) for lock in locks),
        number(get(point, "engine", "checkpoints"), 0),
        number(get(point, "engine", "autovacuums"), 0),
        " and ".join(size(get(point, "arms", arm, "wal_bytes_per_request")) or "" for arm in ARMS),
    )


def database_title(every: Sequence[Point]) -> str:
    """Say how much more PostgreSQL does with the sessions in it, at the highest load without the report."""
    plain = [one for one in every if not one["report"]] or list(every)
    last = ([one for one in plain if not is_crowded(one)] or plain)[-1]
    parts = []
    for what, figured in (("CPU time", _cores), ("log", _log)):
        own, without = figured(last, "database"), figured(last, "redis")
        if own and without:
            more = f"{own / without:.1f} times the {what}" if own >= without * 1.05 else f"no more {what}"
            parts.append(more)
    if not parts:
        return "What the sessions cost PostgreSQL could not be measured here"
    return sentence(f"at {load_of(last)} PostgreSQL needs {' and '.join(parts)} when the sessions lie in it")
