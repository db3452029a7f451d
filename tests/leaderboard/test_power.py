"""The closed-form power against enumeration by hand, and against gates that are really run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from polyrefuse_leaderboard.gate.baseline import Score
from polyrefuse_leaderboard.gate.comparison import compare
from polyrefuse_leaderboard.gate.power import (
    BadDesign,
    design,
    power,
    smallest_observed,
    smallest_rise,
)
from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE, BadThreshold
from polyrefuse_leaderboard.statistics import mcnemar_worse

from polyrefuse_shared.intervals import wilson

LANGUAGES = ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh"]


def scores(labels: Sequence[np.ndarray]) -> list[Score]:
    """ASR and false refusal in each language, from labels."""
    places = product(("asr", "false_refusal_rate"), LANGUAGES)
    return [
        Score(
            dataset="invented",
            language=language,
            metric=metric,
            judge="native",
            generation="greedy",
            data_sha256={},
            n=len(row),
            hits=int(row.sum()),
            labels=dict(enumerate(row.tolist())),  # type: ignore[arg-type]
            beside={},
        )
        for (metric, language), row in zip(places, labels, strict=False)
    ]


def run_pair(
    generator: np.random.Generator, n: int, rate: float, discordance: float, rise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Labels before and now: changed for the better, for the worse, counted in both, in neither."""
    better, worse = discordance / 2, discordance / 2 + rise
    kinds = generator.choice(4, size=n, p=[better, worse, rate - better, 1 - rate - worse])
    return (kinds == 0) | (kinds == 2), (kinds == 1) | (kinds == 2)


class TestSimulated:
    @pytest.mark.parametrize(
        ("rate", "tolerance"), [(0.02, TOLERANCE), (0.3, TOLERANCE), (0.3, 0.0)]
    )
    def test_false_alarms_are_at_most_alpha(self, rate: float, tolerance: float) -> None:
        generator = np.random.default_rng(20250)
        discordance = 2 * rate * (1 - rate)
        alarms = uncorrected = 0
        for _ in range(1000):
            pairs = [run_pair(generator, 150, rate, discordance, 0.0) for _ in range(28)]
            before, now = (scores([pair[side] for pair in pairs]) for side in (0, 1))
            found = compare(before, now, tolerance=tolerance)
            assert len(found) == 28
            alarms += any(comparison.failures for comparison in found)
            changes = [comparison.change for comparison in found if comparison.change]
            uncorrected += any(
                change.p < ALPHA and change.difference > tolerance for change in changes
            )
        low, high = wilson(alarms, 1000, 0.99)
        assert low <= ALPHA
        # What the closed form says of 28 gates of one comparison each.
        plan = design(150, rate, 28, tolerance=tolerance)
        assert low <= 1 - (1 - power(plan, 0.0)) ** 28 <= high
        if rate == 0.3:
            # The same runs would alarm without Holm's correction.
            assert wilson(uncorrected, 1000)[0] > 0.4

    def test_a_rise_of_five_points_is_caught_as_often_as_told(self) -> None:
        generator = np.random.default_rng(572)
        plan = design(572, 0.02, 28)
        told = power(plan, 0.05)
        same = [np.zeros(3, dtype=bool)] * 27
        caught = 0
        for _ in range(1000):
            before, now = run_pair(generator, 572, 0.02, plan.discordance, 0.05)
            found = compare(scores([before, *same]), scores([now, *same]))
            assert not any(comparison.failures for comparison in found[1:])
            caught += bool(found[0].failures)
        low, high = wilson(caught, 1000, 0.99)
        assert low < told < high
        # Neither a gate that always fires nor one that never does would pass.
        assert 0.8 < told < 0.95


class TestPower:
    @pytest.mark.parametrize(
        ("n", "rate", "comparisons", "discordance", "rise", "alpha", "tolerance"),
        [
            (12, 0.3, 1, None, 0.3, 0.05, 0.02),
            (25, 0.2, 4, 0.1, 0.25, 0.05, 0.2),
            (30, 0.5, 2, 1.0, 0.0, 0.2, 0.0),
            (18, 0.0, 1, None, 0.5, 0.0625, 0.1),
            (16, 0.1, 1, 0.0, 0.4, 0.0625, 0.25),
        ],
    )
    def test_enumerated(
        self,
        n: int,
        rate: float,
        comparisons: int,
        discordance: float | None,
        rise: float,
        alpha: float,
        tolerance: float,
    ) -> None:
        plan = design(
            n, rate, comparisons, discordance=discordance, alpha=alpha, tolerance=tolerance
        )
        better, worse = plan.discordance / 2, plan.discordance / 2 + rise
        caught, observed = 0.0, []
        for b, c in product(range(n + 1), repeat=2):
            if b + c > n:
                continue
            p_value = sum(math.comb(b + c, k) for k in range(b, b + c + 1)) / 2 ** (b + c)
            if p_value < alpha / comparisons and (b - c) / n > tolerance:
                ways = math.comb(n, b) * math.comb(n - b, c)
                caught += ways * worse**b * better**c * (1 - worse - better) ** (n - b - c)
                observed.append((b - c) / n)
        assert power(plan, rise) == pytest.approx(caught, rel=1e-9, abs=1e-15)
        assert smallest_observed(plan) == pytest.approx(min(observed))

    def test_the_issues_example(self) -> None:
        plan = design(572, 0.02, 28)
        assert plan.discordance == pytest.approx(2 * 0.02 * 0.98)
        rises = [smallest_rise(plan, wanted) for wanted in (0.5, 0.8, 0.99)]
        assert all(rise is not None for rise in rises)
        for wanted, rise in zip((0.5, 0.8, 0.99), rises, strict=True):
            assert rise is not None
            assert power(plan, rise) >= wanted > power(plan, rise - 2e-6)
        # 12 of 572 are the first above two points, and enough for p < .05 / 28.
        assert mcnemar_worse(12, 0) < 0.05 / 28
        assert smallest_observed(plan) == pytest.approx(12 / 572)

    def test_sees_more_where_less_flips(self) -> None:
        quiet, noisy = (
            smallest_rise(design(572, 0.1, 28, discordance=discordance), 0.8)
            for discordance in (0.01, 0.15)
        )
        assert quiet is not None
        assert noisy is not None
        assert 0.02 < quiet < noisy

    def test_what_cannot_be_seen(self) -> None:
        plan = design(3, 0.02, 28)
        assert smallest_rise(plan, 0.5) is None
        assert smallest_observed(plan) is None
        assert power(plan, plan.largest_rise) == 0.0

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"n": 0}, "n is 0; it has to be from 1 to 100000"),
            ({"n": 10**30}, "n is 1000000000000000000000000000000; it"),
            ({"baseline_rate": 1.0}, "the baseline rate is 1.0"),
            ({"baseline_rate": math.nan}, "the baseline rate is nan"),
            ({"comparisons": 0}, "the number of comparisons is 0"),
            ({"discordance": 0.2}, "the discordance is 0.2; it has to be from 0 to 0.04"),
            ({"discordance": math.nan}, "the discordance is nan"),
        ],
    )
    def test_bad_numbers(self, arguments: dict[str, float], said: str) -> None:
        usual = {"n": 572, "baseline_rate": 0.02, "comparisons": 28}
        with pytest.raises(BadDesign, match=said):
            design(**usual | arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize("threshold", [{"alpha": 0.0}, {"tolerance": 1.0}])
    def test_bad_thresholds(self, threshold: dict[str, float]) -> None:
        (name,) = threshold
        with pytest.raises(BadThreshold, match=f"{name} is {threshold[name]}"):
            design(572, 0.02, 28, **threshold)  # type: ignore[arg-type]
