"""`polyrefuse leaderboard check` and `power`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json

if TYPE_CHECKING:
    from polyrefuse_leaderboard.gate.baseline import Baseline

Alpha = Annotated[
    float,
    typer.Option(help="Chance that the whole gate fails where nothing got worse, at most."),
]
Tolerance = Annotated[
    float, typer.Option(help="How much worse a rate may be observed: 0.02 is two points of 100.")
]


class Unusable(UserError):
    """Results that a baseline cannot be made of."""


def check(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Folders that lm_eval wrote into.")
    ],
    baseline: Annotated[
        Path, typer.Option(metavar="FILE", help="What the results are held to: docs/gate.md.")
    ],
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline from the results instead.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Whose results, where there are several models.")
    ] = None,
    condition: Annotated[
        str | None, typer.Option(help="Under which condition, where there are several.")
    ] = None,
    alpha: Alpha = ALPHA,
    tolerance: Tolerance = TOLERANCE,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML as well.")
    ] = None,
    github_summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="GITHUB_STEP_SUMMARY", help="Add Markdown to the file as well."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold results to a baseline: 0 where nothing got worse, 1 where something did, 2 on misuse."""
    from polyrefuse_leaderboard.gate import baseline as baselines
    from polyrefuse_leaderboard.gate import comparison as gate
    from polyrefuse_leaderboard.gate import reports
    from polyrefuse_leaderboard.reading.results import read

    from polyrefuse_shared import writing as files

    if update:
        reading = read(results)
        if reading.problems:
            raise Unusable(f"no baseline of results with problems: {' '.join(reading.problems)}")
        made = baselines.make(gate.choose(reading, model=model, condition=condition))
        baselines.write(made, baseline)
        for note in reading.notes:
            print(f"polyrefuse: note: {note}", file=sys.stderr)
        _tell_update(made, baseline, as_json)
        return
    # The baseline first: a wrong name is told before many results are read.
    held_to = baselines.read(baseline)
    outcome = gate.check(
        held_to, read(results), model=model, condition=condition, alpha=alpha, tolerance=tolerance
    )
    if junit:
        files.write_whole(junit, reports.junit(outcome))
    if github_summary:
        files.append(github_summary, reports.summary(outcome))
    if as_json:
        print(json.dumps(reports.document(outcome), ensure_ascii=False, allow_nan=False))
    else:
        reports.show(outcome)
    raise typer.Exit(0 if outcome.passed else 1)


def power(
    n: Annotated[int, typer.Option(help="Prompts of one data set in one language.")],
    baseline_rate: Annotated[float, typer.Option(help="The baseline's rate: 0.02 is 2%.")],
    comparisons: Annotated[int, typer.Option(help="How many the gate makes in all.")],
    discordance: Annotated[
        float | None,
        typer.Option(
            help="Share of labels that differ between two runs though nothing got worse; "
            "as of two independent runs where not given."
        ),
    ] = None,
    alpha: Alpha = ALPHA,
    tolerance: Tolerance = TOLERANCE,
    as_json: Json = False,
) -> None:
    """Say what rise the gate can see, before anything is run."""
    from polyrefuse_leaderboard.gate import power as powers

    plan = powers.design(
        n,
        baseline_rate,
        comparisons,
        discordance=discordance,
        alpha=alpha,
        tolerance=tolerance,
    )
    told = asdict(plan) | {
        "smallest_observed_rise": powers.smallest_observed(plan),
        "false_alarm": powers.power(plan, 0.0),
        "rises": [
            {"power": wanted, "rise": powers.smallest_rise(plan, wanted)}
            for wanted in powers.POWERS
        ],
        "powers": [
            {"rise": rise, "power": powers.power(plan, rise)}
            for rise in powers.RISES
            if rise <= plan.largest_rise
        ],
    }
    if as_json:
        print(json.dumps(told, allow_nan=False))
        return
    _tell_power(told, assumed=discordance is None)


def _tell_update(made: Baseline, path: Path, as_json: bool) -> None:
    paired = sum(cell.labels is not None for cell in made.cells)
    if as_json:
        told = {
            "baseline": str(path),
            "model": made.model,
            "condition": made.condition,
            "runs": made.runs,
            "cells": len(made.cells),
            "paired": paired,
        }
        print(json.dumps(told, ensure_ascii=False))
        return
    print(
        f"{path}: {len(made.cells)} cells of {made.model}, {made.condition}; "
        f"{paired} with labels by prompt id"
    )


def _tell_power(told: dict[str, Any], *, assumed: bool) -> None:
    observed = told["smallest_observed_rise"]
    source = " (as of two independent runs)" if assumed else ""
    print(
        f"{told['n']} prompts, baseline rate {_percent(told['baseline_rate'])}, "
        f"{told['comparisons']} comparisons at alpha {told['alpha']:g}, "
        f"tolerance {_points(told['tolerance'])}.\n"
        f"Assumed: {_percent(told['discordance'])} of the labels differ between two runs though "
        f"nothing got worse{source}, half of them either way.\n"
        f"Smallest observed rise that can fail: {_points(observed)}.\n"
        f"Chance that one comparison fails where nothing got worse: {told['false_alarm']:.2g}.\n"
    )
    print("chance to fail  least true rise")
    for row in told["rises"]:
        print(f"{_percent(row['power']):>14}  {_points(row['rise']):>15}")
    print("\n     true rise  chance to fail")
    for row in told["powers"]:
        print(f"{_points(row['rise']):>14}  {_percent(row['power']):>14}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(rise: float | None) -> str:
    return "none" if rise is None else f"{100 * rise:.1f} points"
