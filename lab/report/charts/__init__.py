"""The charts of a report, in the order of the page. A new one is a module with `draw` and one line here."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib as mpl
import msgspec
from matplotlib.figure import Figure

from lab.report import crew, style
from lab.report.charts import (
    cache,
    consistency,
    contention,
    cpu,
    failover,
    hotspot,
    load,
    noise,
    ratios,
    redis_speed,
    saturation,
    scale,
    servers,
    storage,
    tail,
    traffic,
    two_tabs,
    visibility,
    where,
    witness,
)
from lab.report.charts.chart import Caption, Draw, NothingToDraw

if TYPE_CHECKING:
    from pathlib import Path

    from lab.report.results import Run

COMPARE: dict[str, Draw] = {
    "latency-ratios": ratios.draw,
    "latency-tail": tail.draw,
    "cpu": cpu.draw,
    "where-sessions-live": where.draw,
    "storage": storage.draw,
    "traffic": traffic.draw,
    "consistency": consistency.draw,
    "witness": witness.draw,
    "visibility": visibility.draw,
    "two-tabs": two_tabs.draw,
    "requests-per-server": servers.draw,
    "noise": noise.draw,
}

CHARTS: dict[str, dict[str, Draw]] = {
    "compare": COMPARE,
    "contention": contention.CHARTS,
    "failover": failover.CHARTS,
    "hotspot": hotspot.CHARTS,
    "redis-speed": redis_speed.CHARTS,
    "cache": cache.CHARTS,
    "saturation": saturation.CHARTS,
    "scale": scale.CHARTS,
    "load": load.CHARTS,
}
"""Experiment to its charts by name, in the order of the page."""


def charts_of(run: Run) -> dict[str, Draw]:
    """Return the charts that belong to a run's experiment."""
    if run.get("faults", "cut-server"):
        return failover.CHARTS_IN_CONTAINERS
    return CHARTS.get(run.results["experiment"], {})


class Drawn(msgspec.Struct, frozen=True):
    """A chart that was drawn, or why not.

    Attributes:
        name: of the chart and its files.
        caption: the words around it; None if it was left out.
        svg: the picture; empty if it was left out.
        missing: why it was left out, or None.
    """

    name: str
    caption: Caption | None
    svg: bytes
    missing: str | None = None


FOLDER = "charts"
"""In a run's folder: where its charts lie."""

CAPTIONS = "captions.json"
"""Beside the charts: the words around each, for a page that shows them without drawing them again."""


def draw_all(run: Run) -> list[Drawn]:
    """Draw every chart into `<run>/charts/` as SVG and as 1920 by 1080 PNG, from the run's files, on several CPUs."""
    folder = run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    names = list(charts_of(run))
    with crew.hired(run.folder, names) as helpers:
        mine = [draw_one(run, names[number], folder) for number in helpers.turns()]
        theirs = [_with_picture(msgspec.json.decode(line, type=Drawn), folder) for line in helpers.told()]
    known = {chart.name: chart for chart in (*mine, *theirs)}
    drawn = [known[name] if name in known else draw_one(run, name, folder) for name in names]
    words = [msgspec.structs.replace(chart, svg=b"") for chart in drawn]
    (folder / CAPTIONS).write_bytes(msgspec.json.format(msgspec.json.encode(words), indent=1))
    return drawn


def drawn_before(run: Run) -> list[Drawn]:
    """Return a run's charts as `draw_all` left them; draw them where it has not been done, or not wholly."""
    folder = run.folder / FOLDER
    try:
        words = msgspec.json.decode((folder / CAPTIONS).read_bytes(), type=list[Drawn])
        return [_with_picture(chart, folder) for chart in words]
    except (OSError, msgspec.DecodeError):
        return draw_all(run)


def _with_picture(chart: Drawn, folder: Path) -> Drawn:
    """Return a chart whose words alone are known with the picture that lies in the folder."""
    svg = (folder / f"{chart.name}.svg").read_bytes() if chart.caption else b""
    return msgspec.structs.replace(chart, svg=svg)


def draw_one(run: Run, name: str, folder: Path) -> Drawn:
    """Draw one chart; what an earlier drawing left is replaced, or removed where there is nothing to draw now."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style.SETTINGS)
        try:
            figure, caption = compose(run, name)
        except NothingToDraw as reason:
            for old in (folder / f"{name}.svg", folder / f"{name}.png"):
                old.unlink(missing_ok=True)
            return Drawn(name, None, b"", str(reason))
        return Drawn(name, caption, _save(figure, caption.title, folder / name))


def compose(run: Run, name: str) -> tuple[Figure, Caption]:
    """Draw one chart with the words around it, unsaved.

    Raises:
        NothingToDraw: the run has no data for it.
    """
    figure = Figure(layout="constrained")
    caption = charts_of(run)[name](run, figure)
    style.dress(figure, caption.title, caption.subtitle, caption.note)
    return figure, caption


def _save(figure: Figure, title: str, path: Path) -> bytes:
    """Save a figure as PNG and as SVG without a date, and return the SVG."""
    figure.draw_without_rendering()
    figure.set_layout_engine()  # the layout stands: neither format need find it again
    for axes in figure.axes:  # the solver's last digits differ from call to call; the same data gives the same bytes
        left, bottom, width, height = (round(value, 9) for value in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
    figure.savefig(path.with_suffix(".png"), dpi=style.PNG_DPI, metadata={"Title": title})
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Title": title})
    path.with_suffix(".svg").write_bytes(svg.getvalue())
    return svg.getvalue()
