"""The pages' templates, and what every one of them may call."""

from __future__ import annotations

import base64
import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

from lab.report import style
from lab.report.results import strategy_of
from strategies import STRATEGIES

if TYPE_CHECKING:
    from lab.report.charts import Drawn

_TONES = {
    "ok": "good",
    "holds": "good",
    "kept": "good",
    "violated": "bad",
    "does not hold": "bad",
    "broken": "bad",
    "unknown": "unsure",
    "cannot tell": "unsure",
    "not tested": "unsure",
}


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return one of the templates that lie beside this file."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.ChainableUndefined)
    environment.globals.update(
        colour=lambda name: style.look(name).colour, dot=_dot, tone=lambda word: _TONES.get(word, ""), code=_code
    )
    return environment


def save(path: Path, text: str) -> Path:
    """Write a page, whole or not at all, and return its path."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return path


def figure(chart: Drawn) -> dict[str, Any]:
    """Return what a template shows of a chart that was drawn."""
    assert chart.caption is not None  # noqa: S101 - the caller left out what was not drawn
    alt = f"Chart: {chart.caption.title}. {chart.caption.what_to_see} The numbers stand in the table below."
    return {"name": chart.name, "caption": chart.caption, "svg": base64.b64encode(chart.svg).decode(), "alt": alt}


def _code(text: str) -> Markup:
    """Show what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped here


def _dot(name: str) -> Markup:
    """Return a dot in the colour of the strategy that a name begins with; nothing for other names."""
    if strategy_of(name) not in STRATEGIES:
        return Markup()
    return Markup('<span class="dot" style="background:{}"></span>').format(style.look(name).colour)
