"""Compute intervals of rates and differences, exact one-sided tests, and Holm's correction."""

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
    """Return Wilson's interval of a mean of prompt rates, on the effective number of prompts.

    The rate of a prompt is a mean over several answers: those in several languages, or several
    samples. If every prompt is a hit in all of its answers or in none, the variance of the mean m
    is m (1 - m) / n. The design effect is the variance of the mean divided by this one, at most 1,
    and the effective number of prompts is n divided by the design effect (Kish 1965, sec. 8.2; for
    Wilson's interval on that number see Dean and Pagano, Survey Methods: Insights from the Field,
    2015).

    Few hits say little about the variance, and no hits say nothing. One more prompt that is a hit
    in all answers or in none is therefore added to both variances. The effective number is then n
    while the prompts show no difference, and approaches the one that the variance gives with the
    number of hits. An end near 0 or 1 is no further in than the exact one-sided end, because
    Wilson's interval covers only 84% where a sixth of a hit is expected (Brown, Cai and DasGupta,
    Statist. Sci. 16 (2001) 101-133, sec. 4.1.1, who use the end of the Poisson distribution).

    tests/leaderboard/test_coverage.py simulates the coverage.

    Args:
        mean: the mean of the prompts' rates, from 0 to 1, or an array of means.
        variance: the variance of the mean, as estimated from the differences between prompts.
        n: the number of prompts. For prompts with different weights it is the square of the sum of
            the weights, divided by the sum of their squares.
        confidence: the confidence level, between 0 and 1.

    Returns:
        The lower and the upper end, as floats for numbers and as arrays for arrays.
    """
    from scipy.special import betaincinv

    mean, variance, n = (np.asarray(given, dtype=float) for given in (mean, variance, n))
    # Both variances are multiplied by n^2, so that one prompt that is a hit everywhere adds 1.
    alike = mean * (1 - mean) * n
    effective = n / np.minimum((variance * n * n + 1) / (alike + 1), 1.0)
    hits, misses = mean * effective, (1 - mean) * effective
    low, high = wilson(hits, effective, confidence)
    # The beta function is not defined for 0 hits. `where` does not use its value there.
    some, all_but = np.maximum(hits, 1e-9), np.maximum(misses, 1e-9)
    exact_low = betaincinv(some, misses + 1, 1 - confidence)
    exact_high = 1 - betaincinv(all_but, hits + 1, 1 - confidence)
    low = np.where(hits <= 0, 0.0, np.minimum(low, exact_low))
    high = np.where(misses <= 0, 1.0, np.maximum(high, exact_high))
    return low[()], high[()]


def newcombe_paired(
    a: int, b: int, c: int, d: int, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Return the difference of two paired shares with its score interval.

    The interval is that of method 10, with a continuity-corrected phi, of Newcombe, Improved
    confidence intervals for the difference between binomial proportions based on paired data,
    Statistics in Medicine 17 (1998) 2635-2650.

    Args:
        a: the number of pairs that are hits in both.
        b: the number of pairs that are hits only in the first.
        c: the number of pairs that are hits only in the second.
        d: the number of pairs that are hits in neither. There must be at least one pair in all.
        confidence: the confidence level, between 0 and 1.

    Returns:
        The first share minus the second, and the lower and the upper end of its interval.
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
    """Return the difference of two independent shares with its score interval.

    The interval is that of method 10 of Newcombe, Interval estimation for the difference between
    independent proportions, Statistics in Medicine 17 (1998) 873-890. It equals the paired interval
    with phi 0.

    Args:
        hits: the hits of the first share, out of n.
        n: the number of trials of the first share.
        hits_before: the hits of the second share, out of n_before.
        n_before: the number of trials of the second share.
        confidence: the confidence level, between 0 and 1.

    Returns:
        The first share minus the second, and the lower and the upper end of its interval.
    """
    return _newcombe(hits, n, hits_before, n_before, 0.0, confidence)


def mcnemar_worse(b: ArrayLike, c: ArrayLike) -> Any:
    """Return the exact one-sided p-value of McNemar's test for a change for the worse.

    It is the probability of at least b changes for the worse. If changes for the worse and for the
    better are equally likely, b has the binomial distribution with b + c trials and probability
    1/2.

    Args:
        b: the number of pairs that changed for the worse, or an array of such numbers.
        c: the number of pairs that changed for the better, or an array.

    Returns:
        A float for numbers, an array for arrays; 1 if nothing changed.
    """
    from scipy.stats import binom

    b, c = np.asarray(b), np.asarray(c)
    # For b = 0 the probability of at least b changes is 1, even if there are no changes at all.
    return np.where(b > 0, binom.sf(b - 1, b + c, 0.5), 1.0)[()]


def fisher_worse(hits: int, n: int, hits_before: int, n_before: int) -> float:
    """Return the one-sided p-value of Fisher's exact test.

    The null hypothesis is that the first share is no larger than the second.

    Args:
        hits: the hits of the first share, out of n.
        n: the number of trials of the first share.
        hits_before: the hits of the second share, out of n_before.
        n_before: the number of trials of the second share.
    """
    from scipy.stats import fisher_exact

    table = [[hits, n - hits], [hits_before, n_before - hits_before]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjust p-values for their number (Holm, Scand. J. Statist. 6 (1979) 65-70).

    If every hypothesis with an adjusted p-value below alpha is rejected, the probability of any
    false rejection is at most alpha.

    Returns:
        The adjusted p-values, in the order of `p_values`.
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
    # There is only one division, so that rounding does not put a difference that equals the
    # tolerance above it.
    difference = (hits * n_before - hits_before * n) / (n * n_before)
    return (
        difference,
        difference - _combined(share - low, high_before - before, phi),
        difference + _combined(high - share, before - low_before, phi),
    )


def _combined(one: float, other: float, phi: float) -> float:
    """Return the spread of a difference from the spreads and the correlation of its two shares."""
    return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))
