"""What goes over the wires for a request, link by link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter

from lab.report import style
from lab.report.charts import bars
from lab.report.charts.chart import Caption, NothingToDraw, load_subtitle
from lab.report.words import listed, number, sentence, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lab.report.results import Run

LINKS = {
    "server_server": "between servers",
    "server_store": "to session store",
    "server_origin": "to catalogue",
    "balancer_server": "balancer, server",
    "client_balancer": "shopper, balancer",
}
"""The links, those that carry sessions first: they begin at zero, so that they can be compared by eye."""

_OF_SESSIONS = ("server_server", "server_store")


def draw(run: Run, figure: Figure) -> Caption:
    """Draw one bar of bytes per request per strategy, split by link."""
    found = {name: run.get("strategies", name, "traffic", "bytes_per_request") or {} for name in run.strategies}
    found = {name: own for name, own in found.items() if any(value is not None for value in own.values())}
    if not found:
        raise NothingToDraw("Traffic was not measured on this platform.")
    links = {link: words for link, words in LINKS.items() if any(own.get(link) for own in found.values())}
    totals = {name: sum(value or 0.0 for value in own.values()) for name, own in found.items()}
    axes = figure.subplots()
    bars.stack(axes, found, links, size, totals)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    axes.set_xlabel("bytes per request, both directions")
    style.rows(axes, list(found), list(found))
    unknown = [words for link, words in LINKS.items() if any(own.get(link, 0) is None for own in found.values())]
    return Caption(
        title({name: {link: own.get(link) for link in _OF_SESSIONS} for name, own in found.items()}),
        "The darkest parts, at the left, are the price of keeping sessions; the rest carries pages and is much alike.",
        load_subtitle(run),
        "Payload bytes of all requests, catalogue requests included, divided by requests; headers of TCP and IP not "
        f"counted.{f' Not measured here: {listed(unknown)}.' if unknown else ''}",
        (
            "strategy",
            *(f"{words} (bytes)" for words in LINKS.values()),
            "messages between servers",
            "messages to session store",
        ),
        tuple(
            (
                name,
                *(number(own.get(link), 0) for link in LINKS),
                *(_messages(run, name, link) for link in _OF_SESSIONS),
            )
            for name, own in found.items()
        ),
    )


def title(bytes_of: dict[str, dict[str, float | None]]) -> str:
    """Say how many bytes a request moves for its session: between servers, or to the store."""
    parts = []
    for link, where in (("server_server", "between servers"), ("server_store", "to its store")):
        moved = {name: own.get(link) or 0.0 for name, own in bytes_of.items()}
        busy = sorted((name for name in moved if moved[name] >= 1), key=lambda name: -moved[name])
        if busy:
            figures = listed([f"{name} {size(moved[name])}" for name in busy])
            parts.append(f"{figures} {where if len(busy) == 1 else where.replace('its store', 'their stores')}")
    if not parts:
        return "No strategy moves bytes for its sessions behind the balancer"
    return sentence(f"a request moves, for its session: {'; '.join(parts)}")


def _messages(run: Run, name: str, link: str) -> str:
    return number(run.get("strategies", name, "traffic", "messages_per_request", link))
