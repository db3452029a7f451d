"""How often the 95% interval of a mean over languages holds the rate that the prompts are of.

Two models of prompts that several languages share. Of "beta" every prompt has a rate of its own,
which its languages follow independently; of "mixture" a language follows the prompt's one label
with a chance, and its own otherwise, so that most hits of a rare kind are in one language and a
few in all. `correlation` is that between two languages' labels of a prompt.
"""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from polyrefuse_leaderboard.statistics import wilson_clustered
from scipy.stats import norm

AT_LEAST = 0.93

RATES = (0.0003, 0.0005, 0.001, 0.002, 0.0035, 0.005, 0.007, 0.01, 0.02, 0.05, 0.2, 0.5)
CORRELATIONS = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)
PROMPTS = (50, 100, 315, 572)
LANGUAGES = (2, 5, 14)


def prompts_of(
    kind: str, rate: float, correlation: float, shape: tuple[int, int, int], seed: int
) -> NDArray[np.float64]:
    """Each prompt's share of languages that count it, [simulation, prompt].

    Args:
        shape: simulations, prompts, languages.
    """
    random = np.random.default_rng(seed)
    simulations, n, languages = shape
    if kind == "mixture":
        shared = random.random((simulations, n, 1)) < rate
        own = random.random(shape, dtype=np.float32) < rate
        follows = random.random(shape, dtype=np.float32) < np.sqrt(correlation)
        return ((follows & shared) | (~follows & own)).mean(axis=-1)
    if correlation == 0:
        return random.binomial(languages, rate, (simulations, n)) / languages
    if correlation == 1:
        return (random.random((simulations, n)) < rate).astype(float)
    spread = 1 / correlation - 1
    own_rates = random.beta(rate * spread, (1 - rate) * spread, (simulations, n))
    return random.binomial(languages, own_rates) / languages


def coverage(
    kind: str, rate: float, correlation: float, n: int, languages: int, simulations: int, seed: int
) -> float:
    shares = prompts_of(kind, rate, correlation, (simulations, n, languages), seed)
    low, high = wilson_clustered(shares.mean(axis=-1), shares.var(axis=-1, ddof=1) / n, n)
    return float(np.mean((low <= rate) & (rate <= high)))


@pytest.mark.parametrize(
    ("rate", "correlation", "n", "languages"),
    [
        # Where a percentile bootstrap held the rate in .58 to .92 of the simulations, ...
        (0.0005, 0.8, 572, 14),
        (0.002, 0.5, 572, 14),
        (0.005, 0.8, 315, 14),
        # ... where Wilson's own lower end holds it in .84, ...
        (0.0003, 1.0, 572, 5),
        # ... and where nothing is rare.
        (0.01, 0.5, 315, 14),
        (0.2, 0.3, 100, 5),
        (0.5, 0.1, 50, 14),
    ],
)
@pytest.mark.parametrize("kind", ["beta", "mixture"])
def test_the_interval_holds_the_rate(
    kind: str, rate: float, correlation: float, n: int, languages: int
) -> None:
    assert coverage(kind, rate, correlation, n, languages, 1500, seed=21) >= AT_LEAST
    # What counts the other labels is as likely to be right.
    assert coverage(kind, 1 - rate, correlation, n, languages, 1500, seed=22) >= AT_LEAST


@pytest.mark.slow
@pytest.mark.parametrize("n", PROMPTS)
@pytest.mark.parametrize("kind", ["beta", "mixture"])
def test_the_interval_holds_the_rate_over_the_grid(kind: str, n: int) -> None:
    missed = {}
    for rate, correlation, languages in product(RATES, CORRELATIONS, LANGUAGES):
        found = coverage(kind, rate, correlation, n, languages, 4000, seed=n)
        if found < AT_LEAST:
            missed[rate, correlation, languages] = found
    assert not missed


@pytest.mark.parametrize("model", ["Qwen2.5-7B", "gemma-2-9b", "Llama-3.1-8B"])
@pytest.mark.parametrize("correlation", [0.2, 0.8])
def test_lm_eval_s_standard_error_of_a_group_is_too_small(
    shared: Path, model: str, correlation: float
) -> None:
    """Of labels with the published rates, whose languages have one thing of a prompt in common.

    `correlation` is that of what is behind the labels; theirs is .04 to .47.
    """
    from lm_eval.api.metrics import unweighted_mean_stderr

    with open(shared / "oracles/published/baseline_evaluations.csv", encoding="utf-8") as file:
        rates = np.array(
            [
                float(row["wildguard_compliance"])
                for row in csv.DictReader(file)
                if model in row["model"]
            ]
        )
    random = np.random.default_rng(14)
    simulations, n = 800, 572
    shape = simulations, n, len(rates)
    shared_part = random.standard_normal((*shape[:2], 1), dtype=np.float32) * correlation**0.5
    own_part = random.standard_normal(shape, dtype=np.float32) * (1 - correlation) ** 0.5
    labels = shared_part + own_part < norm.ppf(rates).astype(np.float32)
    observed = labels.mean(axis=1)
    errors = np.sqrt(observed * (1 - observed) / (n - 1))
    theirs = np.array([unweighted_mean_stderr(list(languages)) for languages in errors])
    shares = labels.mean(axis=-1)
    means, variances = shares.mean(axis=-1), shares.var(axis=-1, ddof=1) / n
    truth = rates.mean()
    assert 1.15 < np.mean(np.sqrt(variances) / theirs) < 2.75
    assert np.mean(abs(means - truth) <= 1.96 * theirs) < 0.9
    low, high = wilson_clustered(means, variances, n)
    assert np.mean((low <= truth) & (truth <= high)) >= AT_LEAST


def test_the_interval_is_no_wider_than_it_has_to_be() -> None:
    """Independent languages of a usual rate: within a tenth of the interval of all labels."""
    shares = prompts_of("beta", 0.3, 0.0, (200, 572, 14), seed=5)
    low, high = wilson_clustered(shares.mean(axis=-1), shares.var(axis=-1, ddof=1) / 572, 572)
    whole = 2 * 1.96 * np.sqrt(0.3 * 0.7 / 572 / 14)
    assert np.mean(high - low) == pytest.approx(whole, rel=0.1)
