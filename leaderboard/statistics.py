"""Compute intervals of rates and differences, exact tests of "worse", and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyrefuse_shared.intervals import CONFIDENCE, wilson


def wilson_clustered(
    mean: ArrayLike, variance: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[Any, Any]:
    """Wilson's interval of a mean over prompts whose own rates are shares, on their effective n.

    A prompt's own rate is its mean over several answers: of languages or samples. The design
    effect is the variance of the mean over that of prompts which are hit in every answer or in
    none, m (1 - m) / n, at most 1, and the effective number of prompts is n over it (Kish 1965,
    sec. 8.2; Dean and Pagano, Survey Methods: Insights from the Field, 2015, for Wilson's interval
    on it). Few hits say little of the variance, and none say nothing: one more prompt that is
    hit in all answers or in none is added to both variances, so that the effective number is n
    where all prompts fare alike and falls to what the variance says as hits are seen. An end
    near 0 or 1 is no further in than the exact one-sided one, because Wilson's own covers 84%
    where a sixth of a hit is expected (Brown, Cai and DasGupta, Statist. Sci. 16 (2001) 101-133,
    sec. 4.1.1, who use the Poisson's).

    Coverage is simulated in tests/leaderboard/test_coverage.py.

    Args:
        mean: of the prompts' rates, from 0 to 1, or an array of it.
        variance: of the mean, as estimated from how the prompts' rates differ.
        n: how many prompts; of prompts that weigh differently (sum of weights)^2 over the sum of
            their squares.
        confidence: between 0 and 1.

    Returns:
        Low and high: floats for numbers, arrays for arrays.
    """
    from scipy.special import betaincinv

    mean, variance, n = (np.asarray(given, dtype=float) for given in (mean, variance, n))
    # Both in prompts hit everywhere: n^2 times a variance of the mean.
    alike = mean * (1 - mean) * n
    effective = n / np.minimum((variance * n * n + 1) / (alike + 1), 1.0)
    hits, misses = mean * effective, (1 - mean) * effective
    low, high = wilson(hits, effective, confidence)
    # The beta function has no zeroth hit; `where` takes the other side there.
    some, all_but = np.maximum(hits, 1e-9), np.maximum(misses, 1e-9)
    exact_low = betaincinv(some, misses + 1, 1 - confidence)
    exact_high = 1 - betaincinv(all_but, hits + 1, 1 - confidence)
    low = np.where(hits <= 0, 0.0, np.minimum(low, exact_low))
    high = np.where(misses <= 0, 1.0, np.maximum(high, exact_high))
    return low[()], high[()]


def newcombe_paired(
    a: int, b: int, c: int, d: int, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Difference of two paired shares, with its score interval of continuity-corrected phi.

    Method 10 of Newcombe, Improved confidence intervals for the difference between binomial
    proportions based on paired data, Statistics in Medicine 17 (1998) 2635-2650.

    Args:
        a: pairs that count in both.
        b: in the first alone.
        c: in the second alone.
        d: in neither; together at least one pair.
        confidence: between 0 and 1.

    Returns:
        First share minus second, its low and its high end.
    """
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    excess = float(a * d - b * c)
    if excess > 0:
        excess = max(excess - (a + b + c + d) / 2, 0.0)
    phi = excess / math.sqrt(margins) if margins else 0.0
    n = a + b + c + d
    return _newcombe(a + b, n, a + c, n, phi, confidence)


def newcombe_unpaired(
    hits: int, n: int, hits_before: int, n_before: int, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Difference of two independent shares, with its score interval.

    Method 10 of Newcombe, Interval estimation for the difference between independent proportions,
    Statistics in Medicine 17 (1998) 873-890: the paired one with phi 0.

    Returns:
        First share minus second, its low and its high end.
    """
    return _newcombe(hits, n, hits_before, n_before, 0.0, confidence)


def mcnemar_worse(b: ArrayLike, c: ArrayLike) -> Any:
    """Exact one-sided p-value of McNemar's test: so many, or more, changes for the worse.

    Given b + c changes, b is binomial with a half where worse is as likely as better.

    Args:
        b: pairs that changed for the worse, or an array of it.
        c: pairs that changed for the better.

    Returns:
        A float for numbers, an array for arrays; 1 where nothing changed.
    """
    from scipy.stats import binom

    b, c = np.asarray(b), np.asarray(c)
    # The binomial of no trials: at least none of them is certain.
    return np.where(b > 0, binom.sf(b - 1, b + c, 0.5), 1.0)[()]


def fisher_worse(hits: int, n: int, hits_before: int, n_before: int) -> float:
    """One-sided p-value of Fisher's exact test: the first share is no larger than the second."""
    from scipy.stats import fisher_exact

    table = [[hits, n - hits], [hits_before, n_before - hits_before]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P-values adjusted for their number (Holm, Scand. J. Statist. 6 (1979) 65-70), in their order.

    One below alpha rejects its hypothesis; the chance of any false rejection is at most alpha.
    """
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given, kind="stable")
    stepped = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def _newcombe(
    hits: int, n: int, hits_before: int, n_before: int, phi: float, confidence: float
) -> tuple[float, float, float]:
    share, before = hits / n, hits_before / n_before
    low, high = wilson(hits, n, confidence)
    low_before, high_before = wilson(hits_before, n_before, confidence)
    # One division, so that a difference of exactly the tolerance is not above it by rounding.
    difference = (hits * n_before - hits_before * n) / (n * n_before)
    return (
        difference,
        difference - _combined(share - low, high_before - before, phi),
        difference + _combined(high - share, before - low_before, phi),
    )


def _combined(one: float, other: float, phi: float) -> float:
    """Spread of a difference, from those of its two shares and their correlation."""
    return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))
