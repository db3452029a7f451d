"""Compute ROC curves and the areas under them, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polyrefuse_shared.intervals import auc_interval

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Area:
    """The probability that a value of one sample exceeds a value of another. A tie counts as half.

    Attributes:
        auc: the probability; 0.5 is chance.
        low, high: Newcombe's 95% interval.
    """

    auc: float
    low: float
    high: float


def area(above: Float[np.ndarray, "m"], below: Float[np.ndarray, "n"]) -> Area:
    """Compute the area under the ROC curve of two samples, by ranks (Mann and Whitney 1947).

    Args:
        above: the values that should be larger, at least one.
        below: the other values, at least one.
    """
    from scipy.stats import rankdata

    m, n = len(above), len(below)
    ranks = rankdata(np.concatenate([above, below]))
    auc = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    return Area(auc, *auc_interval(auc, m, n))


def roc(above: Float[np.ndarray, "m"], below: Float[np.ndarray, "n"]) -> list[tuple[float, float]]:
    """Compute the ROC curve of two samples, from (0, 0) to (1, 1).

    A value above the threshold raises an alarm.

    Args:
        above: values that should raise an alarm, at least one.
        below: values that should not, at least one.

    Returns:
        A point for each threshold at which the curve turns, as a pair of shares from 0 to 1: how
        much of `below` raises an alarm, and how much of `above`.
    """
    from sklearn.metrics import roc_curve

    labels = np.repeat([True, False], [len(above), len(below)])
    false, true, _ = roc_curve(labels, np.concatenate([above, below]))
    return [(float(x), float(y)) for x, y in zip(false, true, strict=True)]
