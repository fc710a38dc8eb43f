"""One broken cart, request by request: who answered, and what the shopper was shown."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lab.report import style
from lab.report.charts.chart import Caption, NothingToDraw
from lab.report.results import Run, arms
from lab.report.words import NONE, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Request = dict[str, Any]
STORIES = {
    "read_your_writes": "a shopper puts something into the cart and does not find it there",
    "monotonic_reads": "a shopper's cart goes back in time",
    "stale_reads": "a shopper is shown an outdated cart",
    "lost_writes": "an item that was confirmed is lost for good",
    "divergence": "two servers disagree about the same cart",
}
"""What each kind of witness tells, the best story first."""

_OF_ONE_SHOPPER = ("read_your_writes", "monotonic_reads", "stale_reads")
_EMPTIES = ("checkout", "logout")
"""After these an item is not missing: it has been bought, or left behind."""

_MOST_REQUESTS = 5
_MOST_CHIPS = 4
_CENTRED: Any = {"ha": "center", "va": "center"}
_VERBS = {
    "add": "puts {} into the cart",
    "bump": "raises {}",
    "view": "looks at the cart",
    "final_view": "looks again, later",
    "login": "logs in",
    "logout": "logs out",
    "checkout": "checks out",
    "visit": "leaves a page",
}


def draw(run: Run, figure: Figure) -> Caption:
    """Draw a witness as boxes in the lanes of the servers that answered, from left to right in time."""
    arm, witness = choose(run)
    requests = witness["operations"][:_MOST_REQUESTS]
    lanes = sorted({request.get("server") or "no answer" for request in requests})
    names = _names(requests)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-0.62, len(requests) - 0.4), ylim=(len(lanes) - 0.35, -0.75))
    _draw_lanes(axes, lanes, len(requests))
    places = [(column, lanes.index(request.get("server") or "no answer")) for column, request in enumerate(requests)]
    for before, after in itertools.pairwise(places):
        if before != after:
            _arrow(axes, before, after)
    for place, request in zip(places, requests, strict=True):
        _box(axes, place, request, names, witness.get("token"))
        when = f"+{_ms(request, requests[0]['t0_ns']):,.1f} ms"
        axes.text(place[0], -0.6, when, ha="center", size=10.5, color=style.SOFT)
    return Caption(
        title(arm, witness),
        "Follow the arrows: the same shopper, one request after the other. The dashed item is confirmed, and missing.",
        f"{arm}; shopper {requests[0]['shopper']}; times since the first of these requests was sent",
        "The smallest example that this run has of the broken rule. Items are renamed A, B, C in the order in which "
        "they appear; dashed red: confirmed before, not shown.",
        ("time (ms)", "server", "request", "status", "cart shown"),
        tuple(_row(request, names, requests[0]["t0_ns"]) for request in requests),
    )


def choose(run: Run) -> tuple[str, dict[str, Any]]:
    """Return the arm and the witness that tell the story best: of the first guarantee first.

    Raises:
        NothingToDraw: nothing was broken.
    """
    found = [
        (arm, witness)
        for arm, record in arms(run.results).items()
        for witness in (record.get("consistency") or {}).get("witnesses") or []
        if witness["check"] in STORIES and witness.get("operations")
    ]
    if not found:
        raise NothingToDraw("No cart was seen broken in this run.")
    return min(found, key=lambda item: list(STORIES).index(item[1]["check"]))


def title(arm: str, witness: dict[str, Any]) -> str:
    """Say what happened, in one sentence."""
    servers = {request.get("server") for request in witness["operations"]}
    switched = ", from one server to the next" if len(servers) > 1 and witness["check"] in _OF_ONE_SHOPPER else ""
    return sentence(f"{arm}: {STORIES[witness['check']]}{switched}")


def _names(requests: list[Request]) -> dict[str, str]:
    tokens: list[str] = []
    for request in requests:
        tokens += [token for token in [*(request.get("cart") or []), request.get("token")] if token]
    return {token: _letter(index) for index, token in enumerate(dict.fromkeys(tokens))}


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"A{index}"  # noqa: PLR2004 - letters of the alphabet


def _verb(request: Request, names: dict[str, str]) -> str:
    item = names.get(request.get("token") or request.get("line") or "", "an item")
    return str(_VERBS.get(request["f"], request["f"])).format(item)


def _row(request: Request, names: dict[str, str], start_ns: int) -> tuple[str, ...]:
    cart = request.get("cart")
    shown = NONE if cart is None else ", ".join(f"{names[token]} ({token})" for token in cart) or "empty"
    status = str(request.get("status") or request["outcome"])
    return (f"{_ms(request, start_ns):,.1f}", request.get("server") or NONE, _verb(request, names), status, shown)


def _ms(request: Request, start_ns: int) -> float:
    return float(request["t0_ns"] - start_ns) / 1e6


def _draw_lanes(axes: Axes, lanes: list[str], requests: int) -> None:
    for row, lane in enumerate(lanes):
        axes.plot([-0.42, requests - 0.5], [row, row], color=style.GRID, lw=10, solid_capstyle="round", zorder=0)
        axes.text(-0.6, row - 0.36, lane, size=12, weight="bold", color=style.SOFT, va="center")


def _arrow(axes: Axes, before: tuple[int, int], after: tuple[int, int]) -> None:
    start, end = (before[0] + 0.38, before[1]), (after[0] - 0.38, after[1])
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=16, color=style.SOFT, lw=1.4))


def _box(axes: Axes, place: tuple[int, int], request: Request, names: dict[str, str], token: str | None) -> None:
    x, y = place
    cart = request.get("cart")
    missing = token is not None and cart is not None and token not in cart and request["f"] not in _EMPTIES
    edge = style.BAD if missing else style.SOFT
    frame = FancyBboxPatch((x - 0.36, y - 0.3), 0.72, 0.6, boxstyle="round,pad=0.02", fc="white", ec=edge, lw=1.8)
    axes.add_patch(frame)
    axes.text(x, y - 0.2, _verb(request, names), size=10.5, weight="bold", **_CENTRED)
    if cart is None:
        axes.text(x, y + 0.1, f"status {request.get('status')}", size=9.5, color=style.SOFT, **_CENTRED)
        return
    chips = [(names[one], True) for one in cart[-_MOST_CHIPS:]] + ([(names[token], False)] if missing and token else [])
    axes.text(x, y - 0.04, "cart shown:" if cart else "cart shown: empty", size=9, color=style.SOFT, **_CENTRED)
    for index, (letter, there) in enumerate(chips):
        _chip(axes, x + (index - (len(chips) - 1) / 2) * 0.14, y + 0.17, letter, there=there)


def _chip(axes: Axes, x: float, y: float, letter: str, *, there: bool) -> None:
    box: Any = {"boxstyle": "round,pad=0.3", "fc": style.GRID, "ec": "none"}
    if not there:
        box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": style.BAD, "ls": (0, (3, 2))}
    axes.text(x, y, letter, size=11, bbox=box, color=style.INK if there else style.BAD, **_CENTRED)
