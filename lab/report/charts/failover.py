"""What a failure did: sessions lost, request by request over time, how long it lasted, how long shoppers waited."""

from __future__ import annotations

from functools import partial
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Patch

from lab.report import style
from lab.report.charts.chart import Caption, Draw, NothingToDraw
from lab.report.failover import FAULTS, IN_CONTAINERS, ordered, stories
from lab.report.words import NONE, listed, number, percent, seconds_of, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.report.results import Run

Stories = dict[str, dict[str, dict[str, Any]]]
"""Fault to arm to its story."""

_KINDS = {
    "ok": "right",
    "slow": "right after 1 s or more",
    "wrong": "wrong cart",
    "origin": "failed: PostgreSQL's catalogue was down",
    "failed": "failed",
}
_MOST_NAMED = 3
_NARROW = 6
"""So many panels side by side leave their titles little room."""
_PANEL_TITLES = {
    "kill-server": "server killed",
    "stop-server": "server stopped",
    "cut-server": "server cut off",
    "rolling-restart": "all restarted",
    "kill-redis": "Redis killed",
    "kill-postgresql": "PostgreSQL killed",
    "fill-redis": "Redis full",
}
_CONTROL = "isolated"
"""Shows wrong carts with a fault and without one."""
_CHANCE = 0.05
"""Less likely than this is no chance."""
_CAUSES = ("server", "store", "origin", "error")
_WINDOWS = ("before", "during", "after")


def _all(run: Run) -> Stories:
    """Return every story of a run by fault and arm, without faults that were not struck.

    Raises:
        NothingToDraw: there is none.
    """
    found = {fault: stories(run.results, fault) for fault in IN_CONTAINERS}
    found = {fault: told for fault, told in found.items() if told}
    if not found:
        raise NothingToDraw("No fault was struck.")
    return found


def _panels(figure: Figure, told: Stories, arms: list[str]) -> dict[str, Axes]:
    """Make a panel per fault, side by side, with a row per arm."""
    panels = figure.subplots(1, len(told), sharey=True, squeeze=False)[0]
    for axes, fault in zip(panels, told, strict=True):
        narrow = len(told) >= _NARROW
        words = _PANEL_TITLES[fault].replace(" ", "\n", 1) if narrow else _PANEL_TITLES[fault]
        axes.set_title(words, size=9.5 if narrow else 10.5, weight="bold")
        axes.grid(axis="x")
    style.rows(panels[0], arms, arms)
    panels[0].tick_params(axis="y", labelsize=10.5)
    for axes in panels[1:]:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return dict(zip(told, panels, strict=True))


# --- sessions --------------------------------------------------------------------------------------------------------


def draw_sessions(run: Run, figure: Figure) -> Caption:
    """Draw the share of the live sessions that each fault cost each strategy, against one in N."""
    told = {
        fault: {arm: story["sessions"] for arm, story in found.items() if (story.get("sessions") or {}).get("alive")}
        for fault, found in _all(run).items()
    }
    told = {fault: found for fault, found in told.items() if found}
    if not told:
        raise NothingToDraw("No session was alive when a fault was struck.")
    arms = [arm for arm in ordered(run.results) if any(arm in found for found in told.values())]
    for fault, axes in _panels(figure, told, arms).items():
        _shares(axes, arms, told[fault])
    servers = run.get("run", "servers")
    return Caption(
        sessions_title(told, servers),
        "Dots at the left edge lost nothing. Where servers were struck, the dashed line is their share of all servers: "
        "what is lost where nobody else knows a session.",
        f"{servers} servers; sessions that were alive when the fault was struck, and what became of them",
        "Dots: share of the live sessions that were gone in the end; lines: 95 % intervals (Wilson). Without the "
        "control, whose sessions come and go without any fault.",
        ("strategy", *(_PANEL_TITLES[fault] for fault in told)),
        tuple((arm, *(_lost(found.get(arm)) for found in told.values())) for arm in arms),
    )


def _shares(axes: Axes, arms: list[str], found: Mapping[str, dict[str, Any]]) -> None:
    for arm, sessions in found.items():
        row, look, share = arms.index(arm), style.look(arm), sessions["share"]
        axes.plot([100 * share["low"], 100 * share["high"]], [row, row], color=look.colour, lw=2.2)
        axes.plot(100 * share["estimate"], row, look.marker, color=look.colour, ms=8, clip_on=False, zorder=3)
        if sessions["lost"]:
            axes.annotate(
                percent(share["estimate"]),
                (100 * share["estimate"], row),
                (0, 9),
                textcoords="offset points",
                ha="center",
                size=9.5,
                color=look.ink,
                path_effects=style.HALO,
            )
    expected = next((one["expected_share"] for one in found.values() if one["expected_share"]), None)
    if expected:
        axes.axvline(100 * expected, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.set_xlim(-2, 118)  # or "100" would stand beside the next panel's "0"
    axes.set_xticks([0, 50, 100])
    axes.set_xlabel("sessions lost (%)", size=9.5)


def _lost(sessions: dict[str, Any] | None) -> str:
    if sessions is None:
        return NONE
    share = sessions["share"]
    return (
        f"{sessions['lost']:,} of {sessions['alive']:,} "
        f"({percent(share['estimate'])}, {percent(share['low'])} to {percent(share['high'])})"
    )


def sessions_title(told: Mapping[str, Mapping[str, dict[str, Any]]], servers: int | None) -> str:
    """Say which strategies lost sessions by which fault, and which lost none by any."""
    lost = {
        arm: {fault: found[arm]["lost"] / found[arm]["alive"] for fault, found in told.items() if arm in found}
        for arm in dict.fromkeys(arm for found in told.values() for arm in found)
    }
    losers = [arm for arm, shares in lost.items() if any(shares.values())]
    if not losers:
        return "No fault cost any strategy a session"
    parts = [_worst(arm, lost[arm], servers if arm == losers[0] else None) for arm in losers[:_MOST_NAMED]]
    spared = [arm for arm in lost if arm not in losers]
    return sentence(f"{'; '.join(parts)}{f'; {listed(spared)} lost none' if spared else ''}")


def _worst(arm: str, shares: Mapping[str, float], servers: int | None) -> str:
    """Say what an arm lost at most: by a restart of all servers, and by anything else; beside it, one in so many."""
    restart = shares.get("rolling-restart", 0.0)
    other = max((share for fault, share in shares.items() if fault != "rolling-restart"), default=0.0)
    fair = f" (1 in {servers} is {percent(1 / servers)})" if servers else ""
    if not other:
        return f"{arm} lost {percent(restart)} of its sessions in a rolling restart"
    return f"{arm} lost up to {percent(other)} of its sessions{fair}" + (
        f", {percent(restart)} in a rolling restart" if restart else ""
    )


# --- over time -------------------------------------------------------------------------------------------------------


def draw_timeline(fault: str, run: Run, figure: Figure) -> Caption:
    """Draw the requests of each arm in columns over time: right, slow, wrong and failed, with the fault shaded."""
    found = stories(run.results, fault)
    if not found:
        why = run.get("faults", fault, "left_out")
        raise NothingToDraw(f"This fault was not struck{f': {why}' if why else ''}.")
    panels = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (arm, story) in zip(panels, found.items(), strict=True):
        _columns(axes, arm, story)
    panels[-1].set_xlabel("seconds since the fault was struck; each request stands where it was due", size=9.5)
    _legend(panels[0])
    facts = run.get("faults", fault)
    bucket = next(iter(found.values()))["timeline"]["bucket_ms"]
    together = "all at once" if (facts.get("together") or 1) > 1 else "one after another"
    return Caption(
        timeline_title(facts["title"], found),
        "Grey shade: from the stroke to the repair. Red: requests that failed; hatched red, for want of the catalogue, "
        "whatever keeps the sessions. Yellow: carts that lacked something confirmed.",
        f"{run.get('run', 'servers')} servers under each strategy, {run.get('run', 'rate_rps')} requests/s, {together}",
        f"Columns of {bucket} ms, requests stacked. A wrong cart is an answer without an error that lacks something "
        "confirmed before. Products and searches need PostgreSQL alone; views the session alone; adds, visits and "
        "checkouts both.",
        (
            "strategy",
            "requests",
            "failed",
            *(f"by {cause}" for cause in _CAUSES),
            "wrong carts before",
            "after",
            "until (s)",
        ),
        tuple((arm, *_timeline_row(story)) for arm, story in found.items()),
    )


def _columns(axes: Axes, arm: str, story: dict[str, Any]) -> None:
    line, look = story["timeline"], style.look(arm)
    width = line["bucket_ms"] / 1000
    left = (line["from_ms"] + line["bucket_ms"] * np.arange(len(line["ok"]))) / 1000
    colours = {"ok": look.colour, "slow": style.shade(look.colour, 0.4), "wrong": _WRONG}
    colours |= {"origin": style.shade(style.BAD, 0.4), "failed": style.BAD}
    bottom = np.zeros(len(left))
    axes.axvspan(0, story["lasted_seconds"], color=style.GRID, lw=0, zorder=0)
    for kind, colour in colours.items():
        height = np.array(line[kind])
        hatch = "////" if kind in {"slow", "origin"} else None
        some = height > 0
        look_of: dict[str, Any] = {"color": colour, "lw": 0, "hatch": hatch, "ec": "white"}
        axes.bar(left[some], height[some], width * 0.92, bottom=bottom[some], align="edge", **look_of)
        bottom += height
    axes.set_xlim(left[0], left[-1] + width)
    axes.locator_params(axis="y", nbins=2, integer=True)
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_ylabel(
        arm.replace(" sync", "\nsync"), rotation=0, ha="right", va="center", color=look.ink, weight="bold", size=10
    )


_WRONG = "#E3B505"


def _legend(axes: Axes) -> None:
    keys = [
        Patch(fc=style.SOFT, label=_KINDS["ok"]),
        Patch(fc=style.shade(style.SOFT, 0.4), ec="white", hatch="////", label=_KINDS["slow"]),
        Patch(fc=_WRONG, label=_KINDS["wrong"]),
        Patch(fc=style.BAD, label=_KINDS["failed"]),
        Patch(fc=style.shade(style.BAD, 0.4), ec="white", hatch="////", label=_KINDS["origin"]),
        Patch(fc=style.GRID, label="the fault"),
    ]
    axes.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0, 1.02), ncols=6, frameon=False, fontsize=8.8,
        columnspacing=1.1, handlelength=1.2, borderaxespad=0.1,
    )  # fmt: skip


def _timeline_row(story: dict[str, Any]) -> tuple[str, ...]:
    failures, answers = story["failures"], story["answers"]
    after = {key: answers["during"][key] + answers["after"][key] for key in ("wrong", "views")}
    return (
        f"{failures['requests']:,}",
        f"{failures['failed']:,}",
        *(f"{failures['by_cause'][cause]:,}" for cause in _CAUSES),
        f"{answers['before']['wrong']:,} of {answers['before']['views']:,}",
        f"{after['wrong']:,} of {after['views']:,}",
        number(answers["last_seconds"], 1),
    )


def _share(story: dict[str, Any]) -> float:
    """Return the share of the requests that failed for another reason than the catalogue."""
    failures = story["failures"]
    failed = failures["failed"] - failures["by_cause"]["origin"]
    return float(failed / failures["requests"]) if failures["requests"] else 0.0


def _began(answers: Mapping[str, Mapping[str, int]]) -> bool:
    """Say whether wrong carts began with the fault, rather than fell there by chance (a hypergeometric test)."""
    before, later = answers["before"], [answers[window] for window in ("during", "after")]
    wrong, views = (sum(one[key] for one in later) for key in ("wrong", "views"))
    return not before["wrong"] and comb(views, wrong) < _CHANCE * comb(views + before["views"], wrong)


def timeline_title(what: str, found: Mapping[str, dict[str, Any]]) -> str:
    """Say under which strategies requests failed, and under which wrong carts began with the fault."""
    shares = {arm: _share(story) for arm, story in found.items()}
    hit = sorted((arm for arm, share in shares.items() if share), key=lambda arm: -shares[arm])
    wrong = [arm for arm, story in found.items() if arm != _CONTROL and _began(story["answers"])]
    origin = [arm for arm, story in found.items() if story["failures"]["by_cause"]["origin"]]
    besides = " besides those for the catalogue" if origin else ""
    elsewhere = ", none elsewhere" if len(found) > 1 else ""
    if not hit:
        text = f"no request failed under any strategy{besides}"
    elif len(hit) == 1:
        text = f"{percent(shares[hit[0]])} of the requests failed under {hit[0]}{elsewhere}{besides}"
    else:
        least = min(shares, key=lambda arm: shares[arm])
        low = percent(shares[least]) if shares[least] else "none"
        text = f"{percent(shares[hit[0]])} of the requests failed under {hit[0]}, {low} under {least}{besides}"
    if wrong:
        text += f"; {listed(wrong[:_MOST_NAMED])} began to show wrong carts"
    return sentence(f"{what}: {text}")


# --- how long --------------------------------------------------------------------------------------------------------


def draw_recovery(run: Run, figure: Figure) -> Caption:
    """Draw how long requests failed after each fault, against when it was repaired."""
    told = _all(run)
    arms = [arm for arm in ordered(run.results) if any(arm in found for found in told.values())]
    longest = max(_reach(story) for found in told.values() for story in found.values())
    for fault, axes in _panels(figure, told, arms).items():
        _durations(axes, arms, told[fault], longest)
    seconds = {
        fault: {arm: story["recovery"]["seconds"] for arm, story in found.items()} for fault, found in told.items()
    }
    return Caption(
        recovery_title(seconds),
        "A bar that ends before the tick: others had taken over before the repair. One that reaches past it: requests "
        "went on failing although everything was put right.",
        "From the stroke to the end of the last request that failed, whatever the cause",
        "The tick across a row is the repair: the server or engine answers again, or room was made. An arrow: requests "
        "still failed when the load ended. A question mark: it ended too soon after the repair to see more. Where all "
        "were restarted, a bar ends with the last single failure.",
        ("strategy", *(_PANEL_TITLES[fault] for fault in told)),
        tuple((arm, *(_duration(found.get(arm)) for found in told.values())) for arm in arms),
    )


def _reach(story: Mapping[str, Any]) -> float:
    """Return how far a row reaches: to the end of the load, of what failed, or to the repair."""
    loaded = story["load_seconds"] - story["struck_seconds"]
    return float(max(loaded, story["recovery"]["seconds"] or 0.0, story["lasted_seconds"]))


def _durations(axes: Axes, arms: list[str], found: Mapping[str, dict[str, Any]], longest: float) -> None:
    for arm, story in found.items():
        row, look, seconds = arms.index(arm), style.look(arm), story["recovery"]["seconds"]
        axes.barh(row, longest if seconds is None else seconds, 0.5, color=look.colour, hatch=look.hatch, ec="white")
        axes.plot([story["lasted_seconds"]] * 2, [row - 0.34, row + 0.34], color=style.INK, lw=1.6, zorder=3)
        if seconds is None:
            axes.plot(longest, row, ">", color=look.ink, ms=9, clip_on=False)
        else:
            doubt = "" if story["recovery"]["recovered"] else " ?"
            tick = story["lasted_seconds"]
            beside = tick if 0 <= tick - seconds < 0.25 * longest else seconds  # or the tick would cut it
            text = f"{seconds_of(seconds)}{doubt if seconds else ''}"
            axes.annotate(text, (beside, row), (4, 0), textcoords="offset points", va="center", size=9,
                          color=look.ink, path_effects=style.HALO, zorder=4)  # fmt: skip
    axes.set_xlim(0, longest * 1.4)
    axes.set_xlabel("seconds", size=9.5)


def _duration(story: dict[str, Any] | None) -> str:
    if story is None:
        return NONE
    seconds = story["recovery"]["seconds"]
    text = "to the end" if seconds is None else f"{seconds_of(seconds)} s"
    return f"{text} (repair after {story['lasted_seconds']:.1f} s, {story['failures']['failed']:,} failed)"


def recovery_title(seconds: Mapping[str, Mapping[str, float | None]]) -> str:
    """Say which fault made requests fail longest, and under which strategy."""
    unending = [
        f"{arm} ({_PANEL_TITLES[fault]})" for fault, found in seconds.items() for arm, s in found.items() if s is None
    ]
    if unending:
        return sentence(f"{listed(unending[:_MOST_NAMED])}: requests still failed when the load ended")
    # One request here and there, while servers are restarted in turn, is no duration.
    lasting = {fault: found for fault, found in seconds.items() if fault != "rolling-restart"}
    parts = [text for fault, found in lasting.items() if (text := _who_failed(_PANEL_TITLES[fault], found))]
    if parts:
        return sentence("; ".join(parts[:_MOST_NAMED]))
    some = any(any(found.values()) for found in seconds.values())
    return "Requests failed only here and there" if some else "No fault made a request fail under any strategy"


def _who_failed(what: str, found: Mapping[str, float | None]) -> str | None:
    """Say under which strategies a fault made requests fail, and for how long; None where under none."""
    failed = {arm: s for arm, s in found.items() if s}
    if not failed:
        return None
    low, high = min(failed.values()), max(failed.values())
    ends = list(dict.fromkeys((seconds_of(low), seconds_of(high))))
    reach = f"{' to '.join(ends)} s".replace("<", "less than ", 1)
    spared = [arm for arm in found if arm not in failed]
    who = listed(list(failed))
    if not spared and len(failed) > 1:
        who = "every strategy"
    elif spared and len(failed) > 2 * len(spared):
        who = f"all but {listed(spared)}"
    return f"{what}: failures for {reach} under {who}"


def draw_waiting(run: Run, figure: Figure) -> Caption:
    """Draw the 95th percentile of what shoppers waited before, during and after each fault."""
    told = {
        fault: {arm: story["waits_ms"] for arm, story in found.items() if _p95(story["waits_ms"])}
        for fault, found in _all(run).items()
    }
    told = {fault: found for fault, found in told.items() if found}
    if not told:
        raise NothingToDraw("Too few requests for a 95th percentile.")
    arms = [arm for arm in ordered(run.results) if any(arm in found for found in told.values())]
    every = [value for found in told.values() for waits in found.values() for value in _p95(waits).values()]
    for fault, axes in _panels(figure, told, arms).items():
        _dots(axes, arms, told[fault], (min(every) / 1.6, max(every) * 1.6))
    return Caption(
        waiting_title(told),
        "A line that stretches to the right: shoppers waited while the fault lasted. Refused requests are quick, so a "
        "fault can look fast here and still fail them all.",
        "95th percentile of the wait; hollow: before the fault, large: while it lasted, small: afterwards",
        "From when a request was due to its answer; failed requests count. Logarithmic. Points, without intervals; "
        "none where fewer than 20 requests were due.",
        ("strategy", *(f"{_PANEL_TITLES[fault]}: {window} (ms)" for fault in told for window in _WINDOWS)),
        tuple(
            (arm, *(number(_p95(found.get(arm, {})).get(w), 0) for found in told.values() for w in _WINDOWS))
            for arm in arms
        ),
    )  # fmt: skip


_MARKS = {"before": (7, "white"), "during": (9, style.SOFT), "after": (5, style.SOFT)}


def _p95(waits: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    return {window: waits[window]["p95"] for window in waits if waits[window]["p95"] is not None}


def _dots(axes: Axes, arms: list[str], found: Mapping[str, Any], limits: tuple[float, float]) -> None:
    for arm, waits in found.items():
        row, look, known = arms.index(arm), style.look(arm), _p95(waits)
        axes.plot(list(known.values()), [row] * len(known), color=style.shade(look.colour, 0.5), lw=2, zorder=1)
        for window, value in known.items():
            size, fill = _MARKS[window]
            face = "white" if fill == "white" else look.colour
            axes.plot(value, row, "o", ms=size, mfc=face, mec=look.colour, mew=1.6, zorder=2 + (window == "before"))
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_xlabel("ms", size=9.5)
    axes.set_xticks([tick for tick in (1, 10, 100, 1000, 10_000) if limits[0] <= tick <= limits[1]])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()


def waiting_title(told: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which fault made shoppers wait longest, and under which strategy."""
    waits = {
        (fault, arm): own
        for fault, found in told.items()
        for arm, every in found.items()
        if "during" in (own := _p95(every))
    }
    if not waits:
        return "Too few requests were due during a fault to speak of waiting"
    fault, arm = max(waits, key=lambda key: waits[key]["during"])
    usual = waits[fault, arm].get("before")
    before = "" if usual is None else f", {_short(usual)} before"
    text = f"{_PANEL_TITLES[fault]}: one request in twenty waited {_short(waits[fault, arm]['during'])} or longer"
    return sentence(f"{text} under {arm}{before}")


def _short(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"  # noqa: PLR2004 - seconds


def _charts(faults: tuple[str, ...]) -> dict[str, Draw]:
    return {
        "sessions-lost": draw_sessions,
        **{f"timeline-{fault}": partial(draw_timeline, fault) for fault in faults},
        "recovery": draw_recovery,
        "waiting": draw_waiting,
    }


CHARTS = _charts(FAULTS)
"""Of a failover run, in the order of the page."""

CHARTS_IN_CONTAINERS = _charts(IN_CONTAINERS)
"""Of one in containers."""
