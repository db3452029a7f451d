"""Compute the minimum detectable effect of a gate: the rise that it detects, and how often.

This is the exact power of one comparison of paired prompts (McNemar's exact one-sided test, the
tolerance and Holm's first step, which is alpha divided by the number of comparisons), summed over
all numbers of changed labels. The other comparisons are taken to be unchanged; each of them that
fails as well raises the power.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE, require

from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWERS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.99)
"""The powers whose minimum detectable rises are printed."""

RISES: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""The rises whose powers are printed."""

MOST_PROMPTS = 10**5
"""The most prompts of a design. The sums run over numbers of prompts, and more would take minutes
and all memory."""

MOST_COMPARISONS = 10**9
"""The most comparisons of a design. All metrics, languages and datasets together make fewer, and
dividing alpha by a much larger number would underflow."""


class BadDesign(UserError):
    """The numbers of a design do not fit each other."""


@dataclass(frozen=True)
class Design:
    """One comparison of a gate, before there are results.

    Attributes:
        n: the number of prompts of one dataset in one language.
        baseline_rate: the rate in the baseline, for example the ASR.
        comparisons: the number of comparisons of the gate: metrics x languages x datasets.
        discordance: the share of prompts whose label differs between two runs although nothing got
            worse, half of it in each direction. With a rise d, labels change for the worse on
            discordance / 2 + d of the prompts and for the better on discordance / 2.
        alpha: the family-wise error rate of the whole gate.
        tolerance: the rise of an observed rate that is tolerated.
    """

    n: int
    baseline_rate: float
    comparisons: int
    discordance: float
    alpha: float = ALPHA
    tolerance: float = TOLERANCE

    @property
    def largest_rise(self) -> float:
        """The largest possible rise: every label that has not changed already gets worse."""
        return 1 - self.baseline_rate - self.discordance / 2


def design(
    n: int,
    baseline_rate: float,
    comparisons: int,
    *,
    discordance: float | None = None,
    alpha: float = ALPHA,
    tolerance: float = TOLERANCE,
) -> Design:
    """Make a design, and check that its numbers fit each other.

    Args:
        n: as in `Design`.
        baseline_rate: as in `Design`.
        comparisons: as in `Design`.
        discordance: as in `Design`. None stands for two independent runs, which gives 2 p (1 - p)
            at a baseline rate p. Runs that agree no less than by chance cannot differ more often,
            so the power is a lower bound.
        alpha: as in `Design`.
        tolerance: as in `Design`.

    Raises:
        BadDesign: a number is out of range, or the rate leaves no room for the discordance.
        BadThreshold: as in `thresholds.require`.
    """
    require(alpha, tolerance)
    for name, value, fits, expected in (
        ("n", n, 1 <= n <= MOST_PROMPTS, f"from 1 to {MOST_PROMPTS}"),
        ("the baseline rate", baseline_rate, 0 <= baseline_rate < 1, "from 0 to less than 1"),
        (
            "the number of comparisons",
            comparisons,
            1 <= comparisons <= MOST_COMPARISONS,
            f"from 1 to {MOST_COMPARISONS}",
        ),
    ):
        if not fits:
            raise BadDesign(f"{name} is {value}; give a number {expected}.")
    most = 2 * min(baseline_rate, 1 - baseline_rate)
    if discordance is None:
        discordance = 2 * baseline_rate * (1 - baseline_rate)
    elif not 0 <= discordance <= most:
        raise BadDesign(
            f"the discordance is {discordance}; give a number from 0 to {most:g}, because half of "
            f"these labels change in each direction at a rate of {baseline_rate}."
        )
    return Design(n, baseline_rate, comparisons, discordance, alpha, tolerance)


def power(design: Design, rise: float) -> float:
    """Return the probability that the gate fails for a comparison whose true rate rose.

    Args:
        design: the design of the gate.
        rise: the rise, from 0 to `design.largest_rise`; 0.05 is 5 percentage points.
    """
    import numpy as np
    from scipy.stats import binom

    changed = np.arange(design.n + 1)
    fewest = _fewest_worse(design)
    discordant = design.discordance + rise
    # The number of changed labels that are worse is binomial again.
    worse = (design.discordance / 2 + rise) / discordant if discordant else 0.0
    chance = binom.pmf(changed, design.n, discordant) * binom.sf(fewest - 1, changed, worse)
    # Rounding may make the sum slightly larger than 1.
    return min(float(np.sum(chance[fewest <= changed])), 1.0)


def minimum_detectable_rise(design: Design, least_power: float) -> float | None:
    """Return the minimum detectable effect: the smallest true rise with at least this power.

    It is None if even the largest rise has less power. The power grows with the rise, so bisection
    finds it.
    """
    low, high = 0.0, design.largest_rise
    if power(design, high) < least_power:
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(design, middle) >= least_power else (middle, high)
    return high


def smallest_observed(design: Design) -> float | None:
    """Return the smallest observed rise that can fail the gate, or None if none can."""
    import numpy as np

    changed, fewest = np.arange(design.n + 1), _fewest_worse(design)
    rises = (2 * fewest - changed)[fewest <= changed]
    return float(rises.min()) / design.n if len(rises) else None


@cache
def _fewest_worse(design: Design) -> NDArray[np.int64]:
    """Return how many of 0, ..., n changed labels must be worse to fail; too many if none can."""
    import numpy as np
    from scipy.stats import binom

    changed = np.arange(design.n + 1)
    level = design.alpha / design.comparisons
    surely = binom.isf(level, changed, 0.5).astype(int) + 1
    # `isf` reaches the level, and the p-value of the gate must be below it.
    surely += binom.sf(surely - 1, changed, 0.5) >= level
    rises = changed / design.n > design.tolerance
    return np.maximum(surely, (changed + int(np.argmax(rises)) + 1) // 2)
