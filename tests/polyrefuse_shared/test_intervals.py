"""`polyrefuse_shared/intervals.py`: against published tables, scipy, and equations it solves."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from polyrefuse_shared.intervals import auc_interval, wilson

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


def deviation(area: float, m: int, n: int) -> float:
    """Standard error of an area (Hanley and McNeil 1982, eq. 1 and 2), as Newcombe changes it.

    Of two samples of one size it is Hanley and McNeil's own.
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    others = ((m - 1) + (n - 1)) / 2
    spread = others * (q1 - area**2) + others * (q2 - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (m * n)))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 2), (12, 12), (500, 500), (3, 80), (80, 3)])
@pytest.mark.parametrize("auc", [0.0, 0.02, 0.5, 0.83, 0.999, 1.0])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_an_area_s_interval_ends_where_the_equation_says(
    auc: float, m: int, n: int, confidence: float
) -> None:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    ends = auc_interval(auc, m, n, confidence)
    assert 0 <= ends[0] <= auc <= ends[1] <= 1
    for end, outermost in zip(ends, (0.0, 1.0), strict=True):
        if auc == outermost:
            assert end == auc
            continue
        inner, outer = sorted((auc, outermost))
        others = np.linspace(inner, outer, 4001)[1:-1]
        apart = np.abs(auc - others) - z * np.array([deviation(x, m, n) for x in others])
        # The only place where the sign changes.
        assert ((apart > 0) == (np.abs(others - auc) > abs(end - auc))).all()
        assert abs(auc - end) == pytest.approx(z * deviation(end, m, n), abs=1e-7)


def test_an_area_s_interval_holds_the_area_as_often_as_it_says() -> None:
    """Two normal distributions a standard deviation apart: the area is Phi(1 / sqrt 2)."""
    random = np.random.default_rng(0)
    area = NormalDist().cdf(0.5**0.5)
    held = 0
    for _ in range(1000):
        up, down = random.normal(1, size=30), random.normal(size=50)
        low, high = auc_interval(float((up[:, None] > down).mean()), 30, 50)
        held += low <= area <= high
    assert 930 <= held <= 975


def test_an_area_s_interval_narrows() -> None:
    width = [np.diff(auc_interval(0.8, n, 2 * n))[0] for n in (5, 20, 80, 320)]
    assert all(0.4 < b / a < 0.6 for a, b in zip(width, width[1:], strict=False))
    assert auc_interval(0.9, 20, 80) == pytest.approx(auc_interval(0.9, 80, 20))
