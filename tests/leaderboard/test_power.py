"""The closed-form power against enumeration by hand, and against gates that are simulated.

A simulated gate is numpy and scipy, over all repetitions at once; `compare` is held to it, decision
by decision, on the repetitions where it fails something and on some others.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from polyrefuse_leaderboard.gate.baseline import Score
from polyrefuse_leaderboard.gate.comparison import compare
from polyrefuse_leaderboard.gate.power import (
    BadDesign,
    design,
    minimum_detectable_rise,
    power,
    smallest_observed,
)
from polyrefuse_leaderboard.gate.thresholds import BadThreshold
from scipy.stats import binom, binomtest

LANGUAGES = ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh"]
PLACES = list(product(("asr", "false_refusal_rate"), LANGUAGES))

ALPHA, TOLERANCE = 0.05, 0.02
"""As docs/how-to/ci-gate.md has the defaults."""

Kinds = NDArray[np.int64]
"""How many prompts of a comparison became better, became worse, are counted in both runs and in
neither: [..., comparison, 4]."""


def draw(
    generator: np.random.Generator,
    n: int,
    rate: float,
    discordance: float,
    rise: float,
    shape: tuple[int, ...],
) -> Kinds:
    better, worse = discordance / 2, discordance / 2 + rise
    shares = [better, worse, rate - better, 1 - rate - worse]
    return generator.multinomial(n, shares, size=shape)


def fails(kinds: Kinds, tolerance: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each comparison fails, with Holm's correction over the last axis and without."""
    better, worse, n = kinds[..., 0], kinds[..., 1], kinds.sum(axis=-1)
    p = binom.sf(worse - 1, better + worse, 0.5)
    p[worse == 0] = 1.0
    above = (worse - better) / n > tolerance
    steps = p.shape[-1] - np.arange(p.shape[-1])
    order = np.argsort(p, axis=-1, kind="stable")
    # Holm steps up from the smallest p, and stops at the first that is not below its level.
    rejected = np.logical_and.accumulate(np.take_along_axis(p, order, -1) < ALPHA / steps, axis=-1)
    corrected = np.zeros_like(rejected)
    np.put_along_axis(corrected, order, rejected, -1)
    return corrected & above, (p < ALPHA) & above


def scores(kinds: Kinds) -> tuple[list[Score], list[Score]]:
    """The gate's input, before and now, of one repetition."""
    sides: tuple[list[Score], list[Score]] = ([], [])
    for (metric, language), counts in zip(PLACES, kinds, strict=True):
        for side, counted in zip(sides, ((1, 0, 1, 0), (0, 1, 1, 0)), strict=True):
            labels = np.repeat(counted, counts).tolist()
            side.append(
                Score(
                    dataset="invented",
                    language=language,
                    metric=metric,
                    judge="native",
                    generation="greedy",
                    data_sha256={},
                    n=len(labels),
                    hits=sum(labels),
                    labels={str(place): label for place, label in enumerate(labels)},
                    beside={},
                )
            )
    return sides


def assert_the_gate_decides_so(
    kinds: Kinds, failing: NDArray[np.bool_], repetitions: NDArray[np.int64], tolerance: float
) -> None:
    for repetition in repetitions:
        comparisons = compare(*scores(kinds[repetition]), tolerance=tolerance)
        decided = [bool(comparison.failures) for comparison in comparisons]
        assert decided == failing[repetition].tolist()


def some(failing: NDArray[np.bool_], of_each: int) -> NDArray[np.int64]:
    """Repetitions in which something fails, and as many in which nothing does."""
    any_fails = failing.any(axis=-1)
    return np.concatenate(
        [np.flatnonzero(any_fails)[:of_each], np.flatnonzero(~any_fails)[:of_each]]
    )


FALSE_ALARMS = [(0.02, TOLERANCE), (0.3, TOLERANCE), (0.3, 0.0)]


def false_alarms(rate: float, tolerance: float, repetitions: int) -> Kinds:
    """28 comparisons of 150 prompts of which nothing got worse."""
    generator = np.random.default_rng(20250)
    return draw(generator, 150, rate, 2 * rate * (1 - rate), 0.0, (repetitions, len(PLACES)))


def five_points(repetitions: int) -> Kinds:
    """One comparison of 572 prompts whose rate rose by five points, and 27 without any change."""
    kinds = np.zeros((repetitions, len(PLACES), 4), dtype=np.int64)
    kinds[..., 3] = 3
    generator = np.random.default_rng(572)
    kinds[:, 0] = draw(generator, 572, 0.02, 2 * 0.02 * 0.98, 0.05, (repetitions,))
    return kinds


class TestSimulated:
    @pytest.mark.parametrize(("rate", "tolerance"), FALSE_ALARMS)
    def test_false_alarms_are_at_most_alpha(self, rate: float, tolerance: float) -> None:
        kinds = false_alarms(rate, tolerance, 20_000)
        failing, uncorrected = fails(kinds, tolerance)
        interval = binomtest(int(failing.any(axis=-1).sum()), len(kinds)).proportion_ci(0.99)
        assert interval.low <= ALPHA
        # What the closed form says of 28 gates of one comparison each.
        plan = design(150, rate, 28, tolerance=tolerance)
        assert interval.low <= 1 - (1 - power(plan, 0.0)) ** 28 <= interval.high
        if rate == 0.3:
            # The same runs would alarm without Holm's correction.
            assert uncorrected.any(axis=-1).mean() > 0.45
        assert_the_gate_decides_so(kinds, failing, some(failing, 12), tolerance)

    def test_a_rise_of_five_points_is_caught_as_often_as_the_closed_form_says(self) -> None:
        expected = power(design(572, 0.02, 28), 0.05)
        kinds = five_points(20_000)
        failing, _ = fails(kinds, TOLERANCE)
        assert not failing[:, 1:].any()
        interval = binomtest(int(failing[:, 0].sum()), len(kinds)).proportion_ci(0.99)
        assert interval.low < expected < interval.high
        # Neither a gate that always fires nor one that never does would pass.
        assert 0.8 < expected < 0.95
        assert_the_gate_decides_so(kinds, failing, some(failing, 20), TOLERANCE)

    @pytest.mark.slow
    def test_the_gate_decides_so_in_every_repetition(self) -> None:
        every = np.arange(1000)
        for rate, tolerance in FALSE_ALARMS:
            kinds = false_alarms(rate, tolerance, len(every))
            assert_the_gate_decides_so(kinds, fails(kinds, tolerance)[0], every, tolerance)
        kinds = five_points(len(every))
        assert_the_gate_decides_so(kinds, fails(kinds, TOLERANCE)[0], every, TOLERANCE)


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
        rises = [minimum_detectable_rise(plan, wanted) for wanted in (0.5, 0.8, 0.99)]
        assert all(rise is not None for rise in rises)
        for wanted, rise in zip((0.5, 0.8, 0.99), rises, strict=True):
            assert rise is not None
            assert power(plan, rise) >= wanted > power(plan, rise - 2e-6)
        # 12 of 572 are the first above two points, and enough for p < .05 / 28.
        assert 0.5**12 < 0.05 / 28 < 0.5**9
        assert smallest_observed(plan) == pytest.approx(12 / 572)

    def test_sees_more_where_less_flips(self) -> None:
        quiet, noisy = (
            minimum_detectable_rise(design(572, 0.1, 28, discordance=discordance), 0.8)
            for discordance in (0.01, 0.15)
        )
        assert quiet is not None
        assert noisy is not None
        assert 0.02 < quiet < noisy

    def test_what_cannot_be_seen(self) -> None:
        plan = design(3, 0.02, 28)
        assert minimum_detectable_rise(plan, 0.5) is None
        assert smallest_observed(plan) is None
        assert power(plan, plan.largest_rise) == 0.0

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"n": 0}, "n is 0; give a number from 1 to 100000"),
            ({"n": 10**30}, "n is 1000000000000000000000000000000; give"),
            ({"baseline_rate": 1.0}, "the baseline rate is 1.0"),
            ({"baseline_rate": math.nan}, "the baseline rate is nan"),
            ({"comparisons": 0}, "the number of comparisons is 0"),
            (
                {"comparisons": 7 * 10**400},
                "the number of comparisons is 70+; give a number from 1",
            ),
            ({"discordance": 0.2}, "the discordance is 0.2; give a number from 0 to 0.04"),
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
