"""Monitor prompts: raise an alarm if a prompt's state lies far along the direction.

The state is that at the last token of a prompt, before the answer. The threshold is calibrated on
harmless prompts of one language at a chosen rate of false alarms, and is then applied to the
prompts of every language. If the harmful prompts of a language raise fewer alarms, they lie less
far along the direction. This is how the paper explains cross-lingual jailbreaks (2505.17306,
sec. 5).

The harmless prompts that the threshold was calibrated on are evaluated in no language, because the
state of a translation lies near the state of the original.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.areas import area, roc
from polyrefuse_shared.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from jaxtyping import Bool, Float

LEAST_RATE = 1e-4
"""The lowest rate of false alarms; a lower one would need more prompts than the datasets have."""


def calibration_rows(rows: Sequence[str], seed: int) -> frozenset[str]:
    """Choose a random half of the rows to calibrate on.

    Args:
        rows: the ids of the harmless rows in the language of the calibration.
        seed: the seed of the choice.
    """
    return frozenset(random.Random(seed).sample(sorted(rows), (len(rows) + 1) // 2))


def threshold(harmless: Float[np.ndarray, "prompt"], false_alarms: float) -> float | None:
    """Compute the threshold above which a projection raises an alarm.

    It is the ceil((n + 1)(1 - a))-th smallest of n projections. On average over choices of the n
    prompts, a share of at most a of further prompts of the same kind lies above it (split conformal
    prediction, 2107.07511, sec. 1).

    Args:
        harmless: projections of harmless prompts.
        false_alarms: the rate a, between 0 and 1.

    Returns:
        The threshold, in the units of the projections; None for fewer than 1 / a - 1 prompts, for
        which no finite threshold keeps the rate.
    """
    place = math.ceil((len(harmless) + 1) * (1 - false_alarms) - 1e-9)
    if place > len(harmless):
        return None
    return float(np.sort(harmless)[max(place, 1) - 1])


def least_prompts(false_alarms: float) -> int:
    """Compute how many harmless prompts a threshold needs at a rate of false alarms."""
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def monitor(
    projections: Mapping[str, Float[np.ndarray, "prompt"]],
    harmful: Mapping[str, Bool[np.ndarray, "prompt"]],
    rows: Mapping[str, Sequence[str]],
    *,
    calibrated_in: str,
    false_alarms: float,
    seed: int,
) -> dict[str, Any]:
    """Calibrate the threshold in one language and evaluate it in all languages.

    Args:
        projections: the projections of each language's prompts at the last token.
        harmful: whether each of these prompts is harmful, by language.
        rows: the ids of their rows, by language. Translations of one prompt share an id.
        calibrated_in: the language of the calibration, a key of `projections`.
        false_alarms: the share of harmless prompts that may raise an alarm, between 0 and 1.
        seed: the seed of the choice of prompts to calibrate on.

    Returns:
        The settings, `calibration_prompts` (the number of harmless prompts), `threshold` (null if
        these are too few), and `languages`. Each language has `false_alarms` and `detected`, the
        rates of harmless and of harmful prompts that raise an alarm (null without a threshold or
        without prompts), and, for the same prompts, the `auc` with its interval and the points of
        the `roc` (null without harmless prompts).
    """
    here = zip(rows[calibrated_in], harmful[calibrated_in], strict=True)
    chosen = calibration_rows([row for row, is_harmful in here if not is_harmful], seed)
    calibrating = np.array([row in chosen for row in rows[calibrated_in]])
    limit = threshold(projections[calibrated_in][calibrating], false_alarms)
    return {
        "calibrated_in": calibrated_in,
        "false_alarms": false_alarms,
        "seed": seed,
        "calibration_prompts": int(calibrating.sum()),
        "threshold": limit,
        "languages": {
            language: _evaluated(x, harmful[language], rows[language], chosen, limit)
            for language, x in projections.items()
        },
    }


def alarms(projections: Float[np.ndarray, "prompt"], limit: float | None) -> dict[str, Any] | None:
    """Count the prompts that raise an alarm, and give their share Wilson's 95% interval.

    Returns:
        The number of alarms, n, the rate and the ends of its interval; None without prompts, or
        without a threshold.
    """
    n = len(projections)
    if limit is None or not n:
        return None
    hits = int((projections > limit).sum())
    low, high = (float(end) for end in wilson(hits, n))
    return {"hits": hits, "n": n, "rate": hits / n, "low": low, "high": high}


def _evaluated(
    projections: Float[np.ndarray, "prompt"],
    harmful: Bool[np.ndarray, "prompt"],
    rows: Sequence[str],
    calibrated_on: Collection[str],
    limit: float | None,
) -> dict[str, Any]:
    unseen = np.array([row not in calibrated_on for row in rows])
    up, down = projections[harmful], projections[~harmful & unseen]
    whole = area(up, down) if len(down) else None
    return {
        "false_alarms": alarms(down, limit),
        "detected": alarms(up, limit),
        "auc": whole and whole.auc,
        "auc_low": whole and whole.low,
        "auc_high": whole and whole.high,
        "roc": whole and [list(point) for point in roc(up, down)],
    }
