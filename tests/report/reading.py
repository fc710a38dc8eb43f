"""What a reader has of a made-up run: its charts, written and drawn once, and what the terminal shows."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from lab.report import charts, results, style, terminal


class MadeUp:
    """Made-up runs of an experiment by variant, each written, read and drawn once.

    Args:
        experiment: its name.
        write: writes a run into a folder of its own, given a variant's options; returns the folder.
        variants: name to options.
        new_folder: makes a folder.
    """

    def __init__(self, experiment, write, variants, new_folder):
        self.variants = variants
        self._experiment = experiment
        self._write = write
        self._new_folder = new_folder
        self._runs = {}
        self._charts = {}

    def __call__(self, variant):
        """Return the run."""
        if variant not in self._runs:
            folder = self._new_folder(self._experiment) / f"{self._experiment}-20260101T000000Z"
            self._runs[variant] = results.load(self._write(folder, **self.variants[variant]))
        return self._runs[variant]

    def chart(self, variant, name):
        """Return a chart's figure and caption; None and the reason where it was left out."""
        key = variant, name
        if key not in self._charts:
            self._charts[key] = composed(self(variant), name)
        return self._charts[key]

    def caption(self, variant, name):
        """Return the words around a chart; None where it was left out."""
        figure, caption = self.chart(variant, name)
        return caption if figure else None

    def captions(self, variant):
        """Return those of every chart."""
        return {name: self.caption(variant, name) for name in charts.CHARTS[self._experiment]}

    def figures(self, variant):
        """Return every chart that was not left out, drawn, by name."""
        found = {name: self.chart(variant, name)[0] for name in charts.CHARTS[self._experiment]}
        with as_saved():
            for figure in filter(None, found.values()):
                FigureCanvasAgg(figure).draw()
        return {name: figure for name, figure in found.items() if figure}


def as_saved():
    """Give matplotlib the settings with which charts are saved."""
    return mpl.rc_context({**mpl.rcParamsDefault, **style.SETTINGS})


def composed(run, name):
    """Return a chart of a run, with its caption; None and the reason where it is left out."""
    with as_saved():
        try:
            return charts.compose(run, name)
        except charts.NothingToDraw as reason:
            return None, str(reason)


def assert_inside(figure, name):
    """Every text, and all axes with theirs, lie within the figure, which has been drawn."""
    for box in [text.get_window_extent() for text in figure.texts] + [axes.get_tightbbox() for axes in figure.axes]:
        assert min(box.x0, box.y0) > -2, (name, box)
        assert box.x1 < figure.bbox.width + 2, (name, box)
        assert box.y1 < figure.bbox.height + 2, (name, box)


def shown(run, width=160, **options):
    """Return what the terminal prints into a file."""
    console = Console(file=io.StringIO(), width=width, color_system=None, **options)
    terminal.show(run.results, console)
    return console.file.getvalue()
