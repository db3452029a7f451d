"""The monitor's threshold and rates, against counts by hand and what calibration promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polyrefuse_models.directions.monitor import least_prompts, monitor, threshold


@pytest.mark.parametrize("false_alarms", [0.05, 0.1, 0.3])
def test_the_rate_of_false_alarms_is_kept_on_average(false_alarms: float) -> None:
    """Over choices of 40 prompts the share above is at most the rate, and little below it."""
    random = np.random.default_rng(0)
    shares = []
    for _ in range(3000):
        limit = threshold(random.exponential(size=40), false_alarms)
        assert limit is not None
        shares.append(np.exp(-limit))  # of all harmless prompts, above it
    assert false_alarms - 1 / 41 - 0.004 <= np.mean(shares) <= false_alarms + 0.004


def test_the_threshold_is_one_of_the_projections() -> None:
    nineteen = np.arange(19, 0, -1.0)
    assert threshold(nineteen, 0.05) == 19
    assert threshold(nineteen, 0.1) == 18
    assert threshold(nineteen, 0.5) == 10
    assert threshold(nineteen, 0.999) == 1
    assert threshold(nineteen[:18], 0.05) is None
    assert threshold(np.array([]), 0.5) is None


@pytest.mark.parametrize("false_alarms", [0.01, 0.05, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_how_many_prompts_a_threshold_takes(false_alarms: float) -> None:
    n = least_prompts(false_alarms)
    assert threshold(np.zeros(max(n, 1)), false_alarms) == 0
    assert n == 0 or threshold(np.zeros(n - 1), false_alarms) is None


def invented(n: int = 40) -> dict[str, Any]:
    """English, and a language whose prompts all lie 2 lower."""
    random = np.random.default_rng(1)
    english = np.concatenate([random.normal(3, size=n), random.normal(size=n)])
    harmful = np.repeat([True, False], n)
    rows = [f"harmful/{i}" for i in range(n)] + [f"harmless/{i}" for i in range(n)]
    return {
        "projections": {"en": english, "yo": english - 2},
        "harmful": {"en": harmful, "yo": harmful},
        "rows": {"en": rows, "yo": rows},
    }


def test_rates_are_counts_of_what_was_not_calibrated_on() -> None:
    given = invented()
    found = monitor(**given, calibrated_in="en", false_alarms=0.1, seed=3)
    assert found["calibration_prompts"] == 20
    english = given["projections"]["en"]
    limit = found["threshold"]
    harmful, harmless = english[:40], english[40:]
    # Of the 20 harmless prompts in English that it was calibrated on, one lies above it.
    assert limit in harmless
    told = found["languages"]["en"]
    assert told["false_alarms"]["n"] == 20
    assert told["false_alarms"]["hits"] == (harmless > limit).sum() - 1
    assert told["detected"]["hits"] == (harmful > limit).sum()
    assert told["detected"]["n"] == 40
    # The same rows are left out in the other language, which is 2 lower and so misses more.
    other = found["languages"]["yo"]
    assert other["detected"]["hits"] == (harmful - 2 > limit).sum() < told["detected"]["hits"]
    assert other["false_alarms"]["n"] == 20
    # What is 2 lower is told apart as well.
    assert other["auc"] == pytest.approx(told["auc"])
    assert other["roc"] == told["roc"]


def test_the_other_language_s_threshold() -> None:
    given = invented()
    here = monitor(**given, calibrated_in="en", false_alarms=0.1, seed=3)
    there = monitor(**given, calibrated_in="yo", false_alarms=0.1, seed=3)
    assert there["threshold"] == pytest.approx(here["threshold"] - 2)
    assert there["languages"]["yo"] == here["languages"]["en"]


def test_a_seed_chooses_the_prompts_to_calibrate_on() -> None:
    limits = {
        monitor(**invented(), calibrated_in="en", false_alarms=0.2, seed=seed)["threshold"]
        for seed in (0, 0, 1, 2, 3)
    }
    assert 1 < len(limits) <= 4


def test_too_few_prompts_give_no_threshold_and_a_curve() -> None:
    found = monitor(**invented(4), calibrated_in="en", false_alarms=0.05, seed=0)
    assert found["threshold"] is None
    for told in found["languages"].values():
        assert told["false_alarms"] is None and told["detected"] is None
        assert told["roc"][-1] == [1, 1] and 0 <= told["auc_low"] <= told["auc"]


def test_a_single_harmless_prompt_is_calibrated_on_and_leaves_none() -> None:
    found = monitor(**invented(1), calibrated_in="en", false_alarms=0.5, seed=0)
    told = found["languages"]["yo"]
    assert (told["auc"], told["roc"], told["false_alarms"]) == (None, None, None)
    assert told["detected"]["n"] == 1
