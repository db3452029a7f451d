"""The command `polyrefuse leaderboard power`: the minimum detectable effect of a gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from polyrefuse_leaderboard.commands.check import Alpha, Tolerance
from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE

from polyrefuse_shared.options import Json, show


def power(
    n: Annotated[int, typer.Option(help="Number of prompts of one dataset in one language.")],
    baseline_rate: Annotated[
        float, typer.Option(help="Rate in the baseline, from 0 to below 1: 0.02 is 2%.")
    ],
    comparisons: Annotated[
        int,
        typer.Option(
            help="Number of comparisons of the whole gate: metrics times languages times datasets."
        ),
    ],
    discordance: Annotated[
        float | None,
        typer.Option(
            help="Share of labels that differ between two runs although nothing got worse, from 0 "
            "to 1. Default: the share at which two independent runs differ."
        ),
    ] = None,
    alpha: Alpha = ALPHA,
    tolerance: Tolerance = TOLERANCE,
    as_json: Json = False,
) -> None:
    """Compute the rise that a gate can detect, before you run anything."""
    from polyrefuse_leaderboard.gate import power as effects

    plan = effects.design(
        n,
        baseline_rate,
        comparisons,
        discordance=discordance,
        alpha=alpha,
        tolerance=tolerance,
    )
    result = asdict(plan) | {
        "smallest_observed_rise": effects.smallest_observed(plan),
        "false_alarm": effects.power(plan, 0.0),
        "rises": [
            {"power": least, "rise": effects.minimum_detectable_rise(plan, least)}
            for least in effects.POWERS
        ],
        "powers": [
            {"rise": rise, "power": effects.power(plan, rise)}
            for rise in effects.RISES
            if rise <= plan.largest_rise
        ],
    }
    show(as_json, result, *_lines(result, assumed=discordance is None), allow_nan=False)


def _lines(result: dict[str, Any], *, assumed: bool) -> Iterator[str]:
    """Format the result as sentences and two tables."""
    source = " (as between independent runs)" if assumed else ""
    yield (
        f"{result['n']} prompts, baseline rate {_percent(result['baseline_rate'])}, "
        f"{result['comparisons']} comparisons at alpha {result['alpha']:g}, "
        f"tolerance {_points(result['tolerance'])}."
    )
    yield (
        f"Assumed: {_percent(result['discordance'])} of the labels differ between two runs "
        f"although nothing got worse{source}, half of them in each direction."
    )
    observed = _points(result["smallest_observed_rise"])
    yield f"Smallest observed rise that can fail: {observed}."
    chance = f"{result['false_alarm']:.2g}"
    yield f"Probability that one comparison fails although nothing got worse: {chance}."
    yield from ("", "   probability  least true rise")
    for row in result["rises"]:
        yield f"{_percent(row['power']):>14}  {_points(row['rise']):>15}"
    yield from ("", "     true rise     probability")
    for row in result["powers"]:
        yield f"{_points(row['rise']):>14}  {_percent(row['power']):>14}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(rise: float | None) -> str:
    return "none" if rise is None else f"{100 * rise:.1f} points"
