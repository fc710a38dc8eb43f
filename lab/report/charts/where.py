"""Where sessions live: every filled square is a copy of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import listed, number, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Results, Run

_SESSIONS = 24
"""At most so many sessions are shown per strategy: enough for the pattern, few enough to see single ones."""

_COLUMNS = 3
_ONE = 0.05
"""Copies within this of one are one."""


def draw(run: Run, figure: Figure) -> Caption:
    """Draw sessions by places, one small matrix per strategy."""
    storages = {name: run.get("strategies", name, "storage") for name in run.strategies}
    held = {name: found["held_by"] for name, found in storages.items() if found and found.get("held_by")}
    if not held:
        raise NothingToDraw("This run did not record where its sessions were held.")
    rows = -(-len(held) // _COLUMNS)
    panels = figure.subplots(rows, min(_COLUMNS, len(held)), squeeze=False).ravel()
    for axes, (name, places) in zip(panels, held.items(), strict=False):
        _matrix(axes, name, places)
    for place, axes in enumerate(panels[len(held) :]):
        _key(axes) if place == 0 else axes.set_axis_off()
    shown = min(_SESSIONS, max(len(_sessions(places)) for places in held.values()))
    copies = {name: storages[name].get("copies_per_session") for name in held}
    return Caption(
        title(copies),
        "Look down a column: as many filled squares as there are copies of that session. Look along a row: what is "
        "gone if that place dies.",
        f"{shown} sessions of shoppers, found by asking every server and store at the end",
        "One column per session, one row per place; a filled square means that the place holds the session.",
        ("strategy", "copies per session", "of the sessions shown, held by"),
        tuple((name, number(copies[name]), _counts(places)) for name, places in held.items()),
    )


def title(copies: dict[str, float | None]) -> str:
    """Say which strategies keep one copy of a session and which more."""
    known = {name: value for name, value in copies.items() if value is not None}
    single = [name for name, value in known.items() if abs(value - 1) <= _ONE]
    parts = [
        f"{name} holds {f'{value:.1f}'.removesuffix('.0')} copies" for name, value in known.items() if value > 1 + _ONE
    ]
    text = ", ".join(parts)
    if text:
        text += " of a session"
    if single:
        one = f"{listed(single)} hold{'s' if len(single) == 1 else ''} one"
        text = f"{text}; {one}" if text else f"{one} copy of a session"
    return sentence(text or "where sessions live")


def _counts(places: Results) -> str:
    return ", ".join(f"{place} {len(handles):,}" for place, handles in places.items())


def _sessions(places: Results) -> list[str]:
    return sorted({handle for handles in places.values() for handle in handles})


def _matrix(axes: Axes, name: str, places: Results) -> None:
    look = style.look(name)
    every = _sessions(places)
    shown = every[:: max(1, len(every) // _SESSIONS)][:_SESSIONS]
    cells = np.array([[handle in held for handle in shown] for held in (set(handles) for handles in places.values())])
    axes.pcolormesh(cells.astype(float), cmap=ListedColormap([style.shade(style.FAINT, 0.35), look.colour]),
                    edgecolors="white", linewidth=1.6, vmin=0, vmax=1)  # fmt: skip
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(places)) + 0.5, list(places))
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_title(name, color=look.ink, weight="bold", size=12)
    axes.set_xlabel("sessions", size=9)


def _key(axes: Axes) -> None:
    """Use the free place of the grid to say how a matrix is read."""
    axes.set_axis_off()
    axes.set(xlim=(0, 10), ylim=(10, 0))
    for row, colour, text in ((3.2, style.SOFT, "held here"), (5.2, style.shade(style.FAINT, 0.35), "not held here")):
        axes.plot(1, row, "s", ms=13, color=colour)
        axes.text(1.9, row, text, va="center", size=10.5, color=style.SOFT)
