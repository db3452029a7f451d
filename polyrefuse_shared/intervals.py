"""Wilson's interval, which every rate carries."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

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


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
