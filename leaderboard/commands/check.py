"""The command `polyrefuse leaderboard check`, and the thresholds that it shares with `power`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from polyrefuse_leaderboard.commands.build import ModelNames
from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, show
from polyrefuse_shared.printing import clean

Alpha = Annotated[
    float,
    typer.Option(
        help="Family-wise error rate: the highest probability with which the whole gate may fail "
        "although nothing got worse."
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(help="Rise of an observed rate that is tolerated: 0.02 is 2 percentage points."),
]


class Unusable(UserError):
    """Results cannot become a baseline."""


def check(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Folders or results files that lm_eval wrote."),
    ],
    baseline: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Baseline that the results are compared with (docs/how-to/ci-gate.md).",
        ),
    ],
    update: Annotated[
        bool,
        typer.Option("--update", help="Write the baseline from the results and compare nothing."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Model to compare. Needed if the results have several models."),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(help="Condition to compare. Needed if the results have several conditions."),
    ] = None,
    alpha: Alpha = ALPHA,
    tolerance: Tolerance = TOLERANCE,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the result as JUnit XML.")
    ] = None,
    github_summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="GITHUB_STEP_SUMMARY",
            help="Also append the result to this file as Markdown.",
        ),
    ] = None,
    model_names: ModelNames = None,
    as_json: Json = False,
) -> None:
    """Compare results with a baseline.

    The exit code is 1 if a rate got worse, or if results cannot be compared.
    """
    from polyrefuse_leaderboard.gate import comparison, reports
    from polyrefuse_leaderboard.gate.baseline import make_baseline, read_baseline, write_baseline
    from polyrefuse_leaderboard.reading.model_names import read_names
    from polyrefuse_leaderboard.reading.results import read

    from polyrefuse_shared.writing import append, write_whole

    names = read_names(model_names) if model_names else {}
    if update:
        reading = read(results, names=names)
        if reading.problems:
            raise Unusable(
                f"no baseline can be made from results with problems: {' '.join(reading.problems)}"
            )
        runs = comparison.choose_runs(reading, model=model, condition=condition)
        new = make_baseline(runs)
        write_baseline(new, baseline)
        for note in reading.notes:
            print(f"polyrefuse: note: {clean(note)}", file=sys.stderr)
        cells, paired = len(new.cells), sum(cell.labels is not None for cell in new.cells)
        result = {
            "baseline": str(baseline),
            "model": new.model,
            "condition": new.condition,
            "runs": new.runs,
            "cells": cells,
            "paired": paired,
        }
        show(
            as_json,
            result,
            clean(
                f"{baseline}: {cells} cells of {new.model}, {new.condition}; "
                f"{paired} with labels by prompt id"
            ),
        )
        return
    # The baseline is read first: a wrong name ends the command before many results are read.
    before = read_baseline(baseline)
    outcome = comparison.check(
        before,
        read(results, names=names),
        model=model,
        condition=condition,
        alpha=alpha,
        tolerance=tolerance,
    )
    if junit:
        write_whole(junit, reports.junit(outcome))
    if github_summary:
        append(github_summary, reports.summary(outcome))
    if as_json:
        show(as_json, reports.document(outcome), allow_nan=False)
    else:
        reports.show(outcome)
    raise typer.Exit(0 if outcome.passed else 1)
