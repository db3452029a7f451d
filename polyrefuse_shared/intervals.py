"""Confidence intervals of rates (Wilson's) and of areas under ROC curves (Newcombe's)."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
"""The confidence level of every interval, unless another is given."""

HALVINGS = 50
"""The number of bisections after which an end of an interval is exact to about 1e-15."""


def wilson(hits: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Any, Any]:
    """Return Wilson's score interval of a share (Wilson 1927; Brown et al. 2001, eq. 4).

    Args:
        hits: the number of hits, or an array of them. It may be a fraction where a prompt
            contributes the mean of several answers.
        n: the number of trials. Where it is 0, nothing is known and the interval is 0 to 1.
        confidence: the confidence level, between 0 and 1.

    Returns:
        The lower and the upper end: floats for numbers, arrays for arrays.
    """
    hits, n = np.asarray(hits, dtype=float), np.asarray(n, dtype=float)
    z = z_value(confidence)
    middle = (hits + z * z / 2) / (n + z * z)
    spread = z * np.sqrt(hits * (n - hits) / np.maximum(n, 1) + z * z / 4) / (n + z * z)
    # At the edges the exact ends are 0 and 1, and rounding errors would miss them.
    low = np.where(hits <= 0, 0.0, np.maximum(middle - spread, 0.0))
    high = np.where(hits >= n, 1.0, np.minimum(middle + spread, 1.0))
    return low[()], high[()]


def auc_interval(
    auc: float, positives: int, negatives: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return Newcombe's interval of an area under a ROC curve (AUC): its lower and upper end.

    The ends are the areas t with (auc - t)^2 = z^2 V(t), as for Wilson's interval of a share. V is
    Hanley and McNeil's variance (Radiology 143, 1982), in which the mean of the two sample sizes
    less one replaces each of them: method 5 of Newcombe, Statistics in Medicine 25 (2006) 559-573.
    Unlike Wald's interval it stays between 0 and 1, and it does not shrink to a point where the two
    samples do not overlap.

    Args:
        auc: the Mann-Whitney estimate, between 0 and 1.
        positives: the size of the first sample, at least 1.
        negatives: the size of the second sample, at least 1.
        confidence: the confidence level, between 0 and 1.
    """
    z = z_value(confidence)

    def beyond(area: float) -> float:
        return abs(auc - area) - z * _deviation_of_auc(area, positives, negatives)

    return _end(beyond, 0.0, auc), _end(beyond, 1.0, auc)


def _deviation_of_auc(area: float, positives: int, negatives: int) -> float:
    others = (positives + negatives) / 2 - 1
    spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return (area * (1 - area) * spread / (positives * negatives)) ** 0.5


def _end(beyond: Callable[[float], float], outside: float, inside: float) -> float:
    """Find by bisection the end of an interval that holds `inside` and not `outside`."""
    if outside == inside:
        return outside
    for _ in range(HALVINGS):
        middle = (outside + inside) / 2
        if beyond(middle) > 0:
            outside = middle
        else:
            inside = middle
    return (outside + inside) / 2


def z_value(confidence: float = CONFIDENCE) -> float:
    """Return how many standard errors a normal interval reaches to each side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
