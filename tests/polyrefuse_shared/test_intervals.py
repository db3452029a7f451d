"""`polyrefuse_shared/intervals.py`: against published tables, scipy, and the equation it solves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from polyrefuse_shared.intervals import wilson

FOUR_DECIMALS = 5.01e-5
"""How far a right number may be from one that is printed with four decimals."""


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=FOUR_DECIMALS)


def test_scipy() -> None:
    for n, confidence in ((1, 0.95), (7, 0.5), (120, 0.9), (572, 0.999)):
        for hits in {0, 1, n // 3, n - 1, n}:
            other = binomtest(hits, n).proportion_ci(confidence, method="wilson")
            assert wilson(hits, n, confidence) == pytest.approx(other, abs=1e-12)


def test_arrays_and_edges() -> None:
    low, high = wilson(np.array([0, 2.5, 20, 0]), np.array([20, 20, 20, 0]))
    assert low[0] == 0.0
    assert high[2] == 1.0
    assert (low[3], high[3]) == (0.0, 1.0)
    # Both ends solve (share - p)^2 = z^2 p (1 - p) / n, of fractions of hits too.
    for end in (low[1], high[1]):
        z = 1.959963984540054
        assert (2.5 / 20 - end) ** 2 == pytest.approx(z * z * end * (1 - end) / 20)
    assert isinstance(wilson(1, 2)[0], float)
