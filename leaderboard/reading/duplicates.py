"""Choose which of several runs with the same cell keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from polyrefuse_shared.printing import counted

if TYPE_CHECKING:
    from polyrefuse_leaderboard.reading.runs import Cell, Run


def newest(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keep each cell in one run only: the newest one, unless it has fewer prompts.

    Returns:
        The runs without the cells that another run repeats, and a note for each run that lost
        cells.
    """
    ordered = sorted(
        runs,
        key=lambda run: (
            run.model,
            run.revision,
            run.condition,
            run.intervention,
            run.date,
            run.file,
        ),
    )
    # The best cell of each key so far, as the index of its run and its index in that run.
    best: dict[tuple[str, ...], tuple[int, int]] = {}
    beaten: list[tuple[int, tuple[str, ...]]] = []
    for place, run in enumerate(ordered):
        for number, cell in enumerate(run.cells):
            key = _key(run, cell)
            rival, at = best.get(key, (None, 0))
            # Among runs of the same model and condition, later ones in `ordered` are newer.
            if rival is not None and cell.n < ordered[rival].cells[at].n:
                beaten.append((place, key))
                continue
            if rival is not None:
                beaten.append((rival, key))
            best[key] = place, number
    kept = set(best.values())
    remaining = [
        replace(
            run, cells=tuple(c for number, c in enumerate(run.cells) if (place, number) in kept)
        )
        for place, run in enumerate(ordered)
    ]
    lost = Counter((loser, best[key][0]) for loser, key in beaten)
    notes = [
        f"{counted(count, 'task')} of {ordered[loser].file} left out: "
        f"{ordered[winner].file} {_reason(ordered, loser, winner)}."
        for (loser, winner), count in lost.items()
    ]
    return [run for run in remaining if run.cells or run.capability], notes


def _reason(ordered: Sequence[Run], loser: int, winner: int) -> str:
    if loser == winner:
        return "has another task of the same dataset, language and settings"
    if ordered[loser].date == ordered[winner].date:
        return "has the same date and at least as many prompts"
    newer = ordered[winner].date > ordered[loser].date
    return "is newer and has at least as many prompts" if newer else "is older but has more prompts"


def _key(run: Run, cell: Cell) -> tuple[str, ...]:
    """Return a key that is equal for two cells if one repeats the other."""
    return (
        run.model,
        run.revision,
        run.condition,
        run.intervention,
        cell.generation,
        cell.dataset,
        cell.language,
        cell.judge,
    )
