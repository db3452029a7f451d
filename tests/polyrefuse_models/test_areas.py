"""Areas under ROC curves against every pair counted, and curves against every threshold tried."""

from __future__ import annotations

import numpy as np
import pytest

from polyrefuse_models.directions.areas import area, roc


@pytest.mark.parametrize("seed", range(20))
def test_an_area_is_the_share_of_pairs_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    m, n = random.integers(1, 30, 2)
    # Few values, so that many are tied within and between the samples.
    above, below = (random.integers(0, 1 + seed % 7, size).astype(float) for size in (m, n))
    pairs = [(a > b) + 0.5 * (a == b) for a in above for b in below]
    found = area(above, below)
    assert found.auc == pytest.approx(np.mean(pairs), abs=1e-12)
    assert found.low <= found.auc <= found.high


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_turns_where_thresholds_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    above, below = random.integers(2, 9, 20).astype(float), random.integers(0, 7, 30).astype(float)
    points = roc(above, below)
    tried = {((below > limit).mean(), (above > limit).mean()) for limit in np.arange(-1, 10) + 0.5}
    assert points[0] == (0, 0) and points[-1] == (1, 1)
    assert {(round(x, 9), round(y, 9)) for x, y in points} <= {
        (round(float(x), 9), round(float(y), 9)) for x, y in tried
    }
    x, y = np.array(points).T
    trapezoids = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()
    assert trapezoids == pytest.approx(area(above, below).auc)
