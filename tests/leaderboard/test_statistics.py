"""Intervals and tests against published tables, exact fractions and other ways to compute them."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from polyrefuse_leaderboard.statistics import (
    fisher_worse,
    holm,
    mcnemar_worse,
    newcombe_paired,
    newcombe_unpaired,
    wilson_clustered,
)
from scipy.stats import binomtest

FOUR_DECIMALS = 5.01e-5
"""How far a right number may be from one that is printed with four decimals."""


class TestWilsonClustered:
    def test_prompts_that_fare_alike_have_wilson_s_interval(self) -> None:
        for hits, n in ((40, 120), (15, 30), (500, 572)):
            share = hits / n
            variance = share * (1 - share) / (n - 1)
            alike = binomtest(hits, n).proportion_ci(method="wilson")
            assert wilson_clustered(share, variance, n) == pytest.approx(alike)

    def test_nothing_seen_has_wilson_s_of_so_many_prompts(self) -> None:
        for hits in (0, 572):
            seen = binomtest(hits, 572).proportion_ci(method="wilson")
            assert wilson_clustered(hits / 572, 0.0, 572) == pytest.approx(seen, abs=1e-15)
        assert wilson_clustered(0.0, 0.0, 572)[0] == 0.0
        assert wilson_clustered(1.0, 0.0, 572)[1] == 1.0

    def test_by_hand(self) -> None:
        """60 of 600 prompts' worth, in twice as many half: each solves Wilson's equation."""
        mean, n, variance = 0.1, 600, 0.5 * 0.1 * 0.9 / 600
        effective = n * (0.09 * n + 1) / (0.045 * n + 1)
        assert effective == pytest.approx(1178.57, abs=0.01)
        z = 1.959963984540054
        for end in wilson_clustered(mean, variance, n):
            assert (mean - end) ** 2 == pytest.approx(z * z * end * (1 - end) / effective)

    def test_one_hit_is_not_told_from_few_expected(self) -> None:
        """The exact one-sided end of one hit in n is 1 - .95^(1/n)."""
        low, _ = wilson_clustered(1 / 572, 1 / 572 * 571 / 572 / 571, 572)
        assert low == pytest.approx(1 - 0.95 ** (1 / 572))
        _, high = wilson_clustered(571 / 572, 1 / 572 * 571 / 572 / 571, 572)
        assert high == pytest.approx(0.95 ** (1 / 572))

    def test_prompts_that_all_fare_alike_between_0_and_1_have_a_width(self) -> None:
        low, high = wilson_clustered(0.5, 0.0, 100)
        assert 0.4 < low < 0.5 < high < 0.6

    def test_confidence_arrays_and_floats(self) -> None:
        wide = wilson_clustered(0.2, 0.001, 100, 0.99)
        found = wilson_clustered(0.2, 0.001, 100)
        assert wide[0] < found[0] < 0.2 < found[1] < wide[1]
        low, high = wilson_clustered(np.array([0.2, 0.0]), np.array([0.001, 0.0]), 100)
        assert (low[0], high[0]) == pytest.approx(found)
        assert low[1] == 0.0
        assert isinstance(found[0], float)


class TestNewcombePaired:
    @pytest.mark.parametrize(
        ("cells", "low", "high"),
        [
            # Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table III, method 10.
            ((36, 12, 2, 0), 0.0569, 0.3404),
            ((20, 12, 2, 16), 0.0562, 0.3292),
            ((18, 12, 2, 18), 0.0562, 0.3290),
            ((36, 14, 0, 0), 0.1528, 0.4167),
            ((35, 14, 0, 1), 0.1461, 0.4175),
            ((18, 14, 0, 18), 0.1441, 0.3963),
            ((2, 97, 1, 0), 0.8721, 0.9854),
            ((0, 29, 1, 0), 0.6666, 0.9882),
            ((2, 98, 0, 0), 0.9178, 0.9945),
            ((1, 98, 0, 1), 0.9171, 0.9916),
            ((0, 30, 0, 0), 0.8395, 1.0000),
            ((54, 0, 0, 0), -0.0664, 0.0664),
            ((53, 0, 0, 1), -0.0729, 0.0729),
            ((30, 0, 0, 24), -0.0358, 0.0358),
            ((29, 0, 0, 25), -0.0354, 0.0354),
            ((28, 0, 0, 26), -0.0352, 0.0352),
            ((27, 0, 0, 27), -0.0351, 0.0351),
            # Its one other row, whose low end the table has as .8736: phi is negative there, so
            # that methods 8 and 10 are one, and for method 8 it has the .8737 that follows.
            ((1, 97, 1, 1), 0.8737, 0.9850),
            # Cavo 2012, as in the tests of the R package contingencytables.
            ((59, 6, 16, 80), -0.1186, -0.0046),
            # Tang 2010, as in the tests of the R package ratesci.
            ((8, 3, 1, 2), -0.1574, 0.4136),
        ],
    )
    def test_published(self, cells: tuple[int, int, int, int], low: float, high: float) -> None:
        a, b, c, d = cells
        found = newcombe_paired(*cells)
        assert found[0] == pytest.approx((b - c) / (a + b + c + d))
        assert found[1:] == pytest.approx((low, high), abs=FOUR_DECIMALS)

    @pytest.mark.parametrize(
        ("cells", "low", "high"),
        [
            # Fagerland 2014 and Chang 2024, as in the tests of the R package ratesci.
            ((1, 1, 7, 12), -0.507, -0.026),
            ((7, 25, 2, 68), 0.133, 0.318),
        ],
    )
    def test_three_decimals(
        self, cells: tuple[int, int, int, int], low: float, high: float
    ) -> None:
        assert newcombe_paired(*cells)[1:] == pytest.approx((low, high), abs=5.01e-4)

    def test_closed_form(self) -> None:
        """Wilson's ends as roots of their quadratic, phi as a correlation of the pairs."""
        z = 1.959963984540054

        def ends(share: float, n: int) -> tuple[float, float]:
            roots = np.roots([1 + z * z / n, -(2 * share + z * z / n), share * share])
            return min(roots.real), max(roots.real)

        for a, b, c, d in product((0, 1, 4, 30), (0, 2, 9), (0, 3), (0, 5, 400)):
            n = a + b + c + d
            if not n:
                continue
            first = np.repeat([1, 1, 0, 0], [a, b, c, d])
            second = np.repeat([1, 0, 1, 0], [a, b, c, d])
            phi = 0.0
            if first.std() and second.std():
                phi = float(np.corrcoef(first, second)[0, 1])
                if phi > 0:
                    phi = max(phi - 0.5 / (n * first.std() * second.std()), 0.0)
            p, q = first.mean(), second.mean()
            (p_low, p_high), (q_low, q_high) = ends(p, n), ends(q, n)
            below = (p - p_low) ** 2 + (q_high - q) ** 2 - 2 * phi * (p - p_low) * (q_high - q)
            above = (p_high - p) ** 2 + (q - q_low) ** 2 - 2 * phi * (p_high - p) * (q - q_low)
            expected = p - q - math.sqrt(max(below, 0)), p - q + math.sqrt(max(above, 0))
            assert newcombe_paired(a, b, c, d)[1:] == pytest.approx(expected, abs=1e-7)


class TestNewcombeUnpaired:
    @pytest.mark.parametrize(
        ("counts", "low", "high"),
        [
            # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10.
            ((56, 70, 48, 80), 0.0524, 0.3339),
            ((9, 10, 3, 10), 0.1705, 0.8090),
            ((6, 7, 2, 7), 0.0582, 0.8062),
            ((5, 56, 0, 29), -0.0381, 0.1926),
            ((0, 10, 0, 20), -0.1611, 0.2775),
            ((0, 10, 0, 10), -0.2775, 0.2775),
            ((10, 10, 0, 20), 0.6791, 1.0000),
            ((10, 10, 0, 10), 0.6075, 1.0000),
        ],
    )
    def test_published(self, counts: tuple[int, int, int, int], low: float, high: float) -> None:
        found = newcombe_unpaired(*counts)
        assert found[1:] == pytest.approx((low, high), abs=FOUR_DECIMALS)
        assert found[0] == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])

    def test_a_difference_of_two_points_is_two_points(self) -> None:
        assert newcombe_unpaired(32, 100, 30, 100)[0] == 0.02
        assert 32 / 100 - 30 / 100 > 0.02
        assert newcombe_paired(30, 2, 0, 68)[0] == 0.02


class TestMcnemar:
    def test_exact(self) -> None:
        counts = [(b, c) for b in (0, 1, 5, 16, 60, 400) for c in (0, 1, 6, 55, 400)]
        for b, c in counts:
            ways = sum(math.comb(b + c, k) for k in range(b, b + c + 1))
            exact = Fraction(ways, 2 ** (b + c))
            assert mcnemar_worse(b, c) == pytest.approx(float(exact), rel=1e-9, abs=0)

    def test_tiny_tails(self) -> None:
        assert mcnemar_worse(572, 0) == pytest.approx(2.0**-572, rel=1e-9, abs=0)
        assert mcnemar_worse(1000, 0) == pytest.approx(2.0**-1000, rel=1e-9, abs=0)

    def test_published(self) -> None:
        # Cavo 2012 in contingencytables: two-sided .052479, twice the one-sided one.
        assert 2 * mcnemar_worse(16, 6) == pytest.approx(0.052479, abs=5e-7)

    def test_arrays(self) -> None:
        found = mcnemar_worse(np.array([0, 3, 10]), np.array([0, 0, 0]))
        assert found.tolist() == pytest.approx([1.0, 1 / 8, 1 / 1024])
        assert mcnemar_worse(0, 9) == 1.0


class TestFisher:
    def test_exact(self) -> None:
        for hits, n, before, n_before in (
            (3, 4, 1, 4),
            (0, 5, 0, 5),
            (12, 120, 3, 100),
            (3, 100, 12, 120),
            (572, 572, 0, 572),
        ):
            drawn = range(hits, min(n, hits + before) + 1)
            ways = sum(math.comb(n, k) * math.comb(n_before, hits + before - k) for k in drawn)
            exact = Fraction(ways, math.comb(n + n_before, hits + before))
            assert fisher_worse(hits, n, before, n_before) == pytest.approx(
                float(exact), rel=1e-9, abs=0
            )

    def test_the_lady_who_tastes_tea(self) -> None:
        # Fisher 1935: all four cups right 1 of 70, three of four 17 of 70.
        assert fisher_worse(4, 4, 0, 4) == pytest.approx(1 / 70)
        assert fisher_worse(3, 4, 1, 4) == pytest.approx(17 / 70)


class TestHolm:
    def test_worked_by_hand(self) -> None:
        # .005 x 4, .01 x 3, .03 x 2; then .04 x 1 is below what came before it.
        assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
        assert holm([0.02]).tolist() == [0.02]
        assert holm([]).tolist() == []

    def test_rejects_what_stepping_down_rejects(self) -> None:
        generator = np.random.default_rng(11)
        rejected = 0
        for _ in range(200):
            p_values = generator.beta(0.3, 3, size=6).tolist()
            stepped = set()
            for step, place in enumerate(np.argsort(p_values)):
                if p_values[place] >= 0.05 / (6 - step):
                    break
                stepped.add(int(place))
            assert set(np.flatnonzero(holm(p_values) < 0.05).tolist()) == stepped
            rejected += len(stepped)
        assert 0 < rejected < 1200
