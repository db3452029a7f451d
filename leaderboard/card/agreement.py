"""Show how far the judges of the same answers agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from polyrefuse_leaderboard.card.parts import CardTable, Section

from polyrefuse_tasks.judges.kappa import Kappa
from polyrefuse_tasks.judges_compared import Compared, NothingToCompare, compare_judges
from polyrefuse_tasks.saved_results.documents import BadResults

TITLE = "Agreement of the judges"


def section(results: Sequence[Path], names: Mapping[str, str]) -> tuple[Section, list[str]]:
    """Compare every two judges that measure the same, on the answers of one model.

    Args:
        results: the folders with its answers.
        names: date of a results file -> the study's name for its condition.

    Returns:
        The section, and a sentence for each folder with a file that cannot be used.
    """
    compared: list[Compared] = []
    problems = []
    for folder in results:
        try:
            compared += compare_judges([folder])
        except NothingToCompare:
            continue
        except BadResults as error:
            problems.append(f"{TITLE}: {error}")
    columns = (
        *("condition", "prompts", "on", "judges", "n", "agreement (%)"),
        *("Cohen's kappa", "undecided by one or both"),
    )
    rows = tuple(_row(one, names.get(one.date, one.condition or "-")) for one in compared)
    text = (
        "Cohen's kappa is the agreement of two judges in excess of chance, on the n answers that "
        "both of them decided. Its 95% interval is that of Fleiss, Cohen and Everitt (1969).",
    )
    tables = (CardTable("Agreement of the judges, all languages together", columns, rows),)
    return Section(TITLE, text, tables=tables if rows else ()), problems


def _row(one: Compared, condition: str) -> tuple[str, ...]:
    share = one.pooled.agreement
    return (
        condition,
        one.tasks,
        one.on,
        f"{one.first} and {one.second}",
        str(one.pooled.n),
        "-" if share is None else f"{100 * share:.1f}",
        _kappa(one.pooled),
        str(one.undecided),
    )


def _kappa(kappa: Kappa) -> str:
    if kappa.kappa is None:
        return "-"
    if kappa.low is None or kappa.high is None:
        return f"{kappa.kappa:.2f}"
    return f"{kappa.kappa:.2f} ({kappa.low:.2f} to {kappa.high:.2f})"
