"""Intervals of rates and of their differences, exact tests of "worse", and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Of every interval, unless another is asked for."""


def wilson(hits: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Any, Any]:
    """Wilson's score interval of a share, low and high (Wilson 1927; Brown et al. 2001, eq. 4).

    Args:
        hits: how many, or arrays of it; fractions where a prompt adds a mean of several answers.
        n: out of how many; where that is 0, nothing is known and the interval is 0 to 1.
        confidence: between 0 and 1.

    Returns:
        Floats for numbers, arrays for arrays.
    """
    hits, n = np.asarray(hits, dtype=float), np.asarray(n, dtype=float)
    z = _z(confidence)
    middle = (hits + z * z / 2) / (n + z * z)
    spread = z * np.sqrt(hits * (n - hits) / np.maximum(n, 1) + z * z / 4) / (n + z * z)
    # At the edges rounding leaves what is 0 or 1 exactly beside it.
    low = np.where(hits <= 0, 0.0, np.maximum(middle - spread, 0.0))
    high = np.where(hits >= n, 1.0, np.minimum(middle + spread, 1.0))
    return low[()], high[()]


def bootstrap_mean(
    values: ArrayLike, *, seed: int = 0, resamples: int = 2000, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron and Tibshirani 1993, ch. 13).

    Values that are all equal have an interval of no width: the bootstrap knows only what it saw.

    Args:
        values: as in `bootstrap_draws`.
        seed: as in `bootstrap_draws`.
        resamples: as in `bootstrap_draws`.
        confidence: between 0 and 1.

    Raises:
        ValueError: no values.
    """
    draws = bootstrap_draws(values, seed=seed, resamples=resamples)
    outside = (1 - confidence) / 2
    low, high = np.quantile(draws, [outside, 1 - outside])
    return float(low), float(high)


def bootstrap_draws(
    values: ArrayLike, *, seed: int = 0, resamples: int = 2000
) -> NDArray[np.float64]:
    """Means of resamples with replacement, each as large as the sample.

    Args:
        values: one a prompt, at least one; their order does not matter.
        seed: the same seed and values give the same means.
        resamples: how many.

    Raises:
        ValueError: no values.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    n = int(counts.sum())
    if not n:
        raise ValueError("an empty mean has no interval")
    # How often each distinct value is drawn is multinomial: far less to draw than n a resample.
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    return drawn @ distinct / n


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


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
