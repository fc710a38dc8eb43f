"""`python -m lab check RUN`: check a saved history, or only its saved witnesses, again."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from lab.consistency.checks import RULES, check
from lab.consistency.history import FILE_NAME, HistoryError, read_history
from lab.consistency.tally import NOT_APPLICABLE, worst
from lab.consistency.witnesses import operations_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from loadtests.recorder import Operation

__all__ = ["STATUSES", "recheck", "recheck_witness"]

RESULTS = "results.json"

STATUSES = {"ok": 0, "violated": 1, "unknown": 2}
"""Exit status of each verdict."""


def recheck(run_folder: Path, console: Console, *, witnesses_only: bool = False) -> int:
    """Check a run again and print verdicts and witnesses; of a lecture, each of its runs that watched carts.

    Args:
        run_folder: a run's folder, or a lecture's.
        console: where to print.
        witnesses_only: check only the witnesses saved in `results.json`, each alone.

    Returns:
        Exit status of the worst verdict over the arms: 0 ok, 1 violated, 2 unknown.

    Raises:
        HistoryError: the folder has no whole history, or no results.
    """
    parts = _parts(run_folder)
    if parts is None:
        verdicts = _recheck_run(run_folder, console, witnesses_only=witnesses_only)
    else:
        verdicts = _recheck_parts(run_folder, parts, console, witnesses_only=witnesses_only)
    verdict = worst(verdicts)
    console.print(f"\nworst of all: {verdict}", highlight=False)
    return STATUSES[verdict]


def _recheck_run(run_folder: Path, console: Console, *, witnesses_only: bool) -> list[str]:
    return _recheck_witnesses(run_folder, console) if witnesses_only else _recheck_history(run_folder, console)


def _parts(folder: Path) -> dict[str, str | None] | None:
    """Return a lecture's experiments, each with the name of its run's folder where it has one; None for a run."""
    results = _results(folder) if (folder / RESULTS).exists() else {}
    lecture = results.get("lecture")
    if not isinstance(lecture, dict):
        return None
    return {part["experiment"]: part["run"] for part in lecture["parts"]}


def _recheck_parts(folder: Path, parts: dict[str, str | None], console: Console, *, witnesses_only: bool) -> list[str]:
    """Check a lecture's runs one by one; say of those without a history why there is nothing to check.

    Raises:
        HistoryError: no run has a history.
    """
    verdicts, left_out = [], []
    for experiment, run in parts.items():
        if run is None:
            left_out.append(f"{experiment}: not carried out yet")
        elif not (folder / run / FILE_NAME).exists():
            left_out.append(f"{experiment}: keeps no history: what its shoppers were shown is not checked")
        else:
            console.print(f"\n=== {experiment} ({run})", style="bold", highlight=False, markup=False)
            verdicts += _recheck_run(folder / run, console, witnesses_only=witnesses_only)
    for line in left_out:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not verdicts and not witnesses_only:
        raise HistoryError(f"{folder}: none of this lecture's runs has a history to check.")
    return verdicts


def _recheck_history(run_folder: Path, console: Console) -> list[str]:
    by_arm: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    _expect_history(run_folder)
    for op in read_history(run_folder / FILE_NAME):
        by_arm[op.scenario, op.arm].append(op)
    verdicts = []
    for scenario, arm in sorted(by_arm):
        result = check(by_arm[scenario, arm], scenario)
        verdicts.append(result["verdict"])
        _print_arm(console, scenario, arm, result)
    return verdicts


def _expect_history(run_folder: Path) -> None:
    """See that a run is of a kind that has a history.

    Raises:
        HistoryError: it is complete, and has none.
    """
    if (run_folder / FILE_NAME).exists() or not (run_folder / RESULTS).exists():
        return
    results = _results(run_folder)
    if results.get("complete"):
        raise HistoryError(
            f"{run_folder}: a {results.get('experiment')} run keeps no history: it does not check what shoppers "
            "were shown; compare, failover and hotspot do. `make report RUN=…` draws again what it measured."
        )


def _print_arm(console: Console, scenario: str, arm: str, result: dict[str, Any]) -> None:
    console.print(
        f"\n{arm} · {scenario} · {result['operations']:,} requests: {result['verdict']}",
        style="bold",
        highlight=False,
        markup=False,
    )
    for name in RULES:
        if result[name]["verdict"] != NOT_APPLICABLE:
            console.print(f"  {name:<20} {_describe(result[name])}", highlight=False, markup=False, soft_wrap=True)
    for witness in result["witnesses"]:
        console.print(f"\n{witness['text']}", highlight=False, markup=False, soft_wrap=True)


def _describe(found: dict[str, Any]) -> str:
    """Put one check's record into a line: verdict, counts, and how sure the rate is."""
    verdict, violations, opportunities = found["verdict"], found["violations"], found["opportunities"]
    line = f"{verdict:<9} {violations:>6,} of {opportunities:,} opportunities"
    if found.get("cross_server") is not None:
        line += f" ({found['cross_server_violations']:,} of {found['cross_server']:,} across servers)"
    rate = found["rate"]
    if not violations and opportunities:
        line += f"; rate < {rate['high']:.2g} (3/n, n = {found['shoppers']} shoppers)"
    elif opportunities:
        line += f"; rate {rate['estimate']:.3g}, 95 % interval {rate['low']:.3g} to {rate['high']:.3g} by shopper"
    return f"{line}; {found['why']}" if "why" in found else line


def _results(run_folder: Path) -> dict[str, Any]:
    """Read a run's results.

    Raises:
        HistoryError: they are missing, or none.
    """
    path = run_folder / RESULTS
    try:
        found = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read ({error.strerror}).") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HistoryError(f"{path}: not a results file ({error}).") from None
    return found if isinstance(found, dict) else {}


def _recheck_witnesses(run_folder: Path, console: Console) -> list[str]:
    verdicts = []
    for where, witness in _saved(_results(run_folder), ""):
        again = recheck_witness(witness)
        verdicts.append(again)
        console.print(f"\n{where}: {again}\n{witness['text']}", highlight=False, markup=False, soft_wrap=True)
    if not verdicts:
        console.print("no witness is saved in this run: nothing was violated, or nothing was checked.")
    return verdicts


def _saved(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every saved witness of a results file, with the place where it stands."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key == "witnesses" and isinstance(inner, list):
            yield from ((f"{where} {witness['check']}".strip(), witness) for witness in inner)
        else:
            yield from _saved(inner, f"{where} {key}".strip())


def recheck_witness(witness: dict[str, Any]) -> str:
    """Check a saved witness alone.

    Returns:
        The verdict of the check that it is a witness of: `violated`, unless something is wrong with it.

    Raises:
        HistoryError: it is not a saved witness.
    """
    operations = operations_of(witness)
    name = witness["check"]
    found = check(operations, operations[0].scenario, minimum={name: 1, "cross_server": 0})
    return str(found[name]["verdict"])
