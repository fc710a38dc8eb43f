"""What a session occupies: its content, and what the places that hold it spend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.words import number, sentence, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Results, Run

_ALIKE = 1.15


def draw(run: Run, figure: Figure) -> Caption:
    """Draw, per strategy, physical bytes per session as a pale bar and the content of all copies as a dark one."""
    found = {name: dict(run.get("strategies", name, "storage") or {}) for name in run.strategies}
    found = {name: own for name, own in found.items() if own.get("logical_bytes_per_session") is not None}
    if not found:
        raise NothingToDraw("Storage was not measured.")
    for own in found.values():
        own["physical_bytes_per_session"] = _measured(own.get("physical_bytes_per_session"))
    axes = figure.subplots()
    longest = max(max(_content(own), own.get("physical_bytes_per_session") or 0) for own in found.values())
    for row, (name, own) in enumerate(found.items()):
        _bar(axes, row, name, own, longest)
    style.rows(axes, list(found), list(found))
    axes.set_xlim(0, longest * 1.34)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    axes.set_xlabel("bytes per session, all copies together")
    axes.grid(axis="x")
    return Caption(
        title({name: own.get("physical_bytes_per_session") for name, own in found.items()}),
        "The dark bar is what the session says, once per copy; the pale bar is what keeping it really takes, with the "
        "keeper's own bookkeeping.",
        "Sessions made through the balancer, as in life",
        "Pale: growth of what the holders occupy per session (memory of server processes, Redis's keys as it says "
        "itself, the table with its indexes in PostgreSQL). Dark: field names and values, counted alike everywhere, "
        "times copies.",
        ("strategy", "copies", "content of one copy", "content of all copies", "occupied"),
        tuple(
            (
                name,
                number(own.get("copies_per_session")),
                size(_content(own) / (own.get("copies_per_session") or 1)),
                size(_content(own)),
                size(own.get("physical_bytes_per_session")),
            )
            for name, own in found.items()
        ),
    )


def title(physical: dict[str, float | None]) -> str:
    """Say which strategy spends most on a session and which least."""
    known = {name: value for name, value in physical.items() if value is not None and value > 0}
    if not known:
        return "What a session occupies was not measured here; its content was"
    most, least = max(known, key=lambda name: known[name] or 0), min(known, key=lambda name: known[name] or 0)
    if most == least:
        return sentence(f"a session occupies {size(known[most])} under {most}")
    times = (known[most] or 0) / (known[least] or 1)
    if times < _ALIKE:
        return f"A session occupies about {size(known[most])} under every strategy"
    return sentence(
        f"{most} spends {size(known[most])} on a session, {times:.1f} times as much as {least} ({size(known[least])})"
    )


def _measured(slope: float | None) -> float | None:
    """Leave out growth that is none: too few sessions for what the holder allocates at once."""
    return slope if slope is not None and slope > 0 else None


def _content(own: Results) -> float:
    """Return the content of all copies of a session in bytes."""
    return float(own["logical_bytes_per_session"])


def _bar(axes: Axes, row: int, name: str, own: Results, longest: float) -> None:
    look, content, physical = style.look(name), _content(own), own.get("physical_bytes_per_session")
    if physical is not None:
        axes.barh(row, physical, 0.6, color=style.shade(look.colour, 0.35))
    axes.barh(row, content, 0.22, color=look.colour)
    text = f"{size(content)} of content" + (", what it occupies: not measurable here" if physical is None else "")
    label = text if physical is None else f"{size(physical)} for {text}"
    axes.text(max(content, physical or 0) + 0.012 * longest, row, label, va="center", size=10)
