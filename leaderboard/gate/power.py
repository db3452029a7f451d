"""The minimum detectable effect of a gate: how large a rise has to be to fail it, and how often it
then does.

The exact power of one comparison of paired prompts (McNemar's exact one-sided test, the tolerance
and Holm's first step, which is alpha divided by the number of comparisons), summed over all numbers
of changed labels. The others are taken to be unchanged; each that fails as well lifts the power.
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
"""Chances of failing whose minimum detectable rises are printed."""

RISES: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Rises whose chances of failing are printed."""

MOST_PROMPTS = 10**5
"""The sums are over numbers of prompts: more would take minutes, and all memory."""


MOST_COMPARISONS = 10**9
"""More than all metrics, languages and data sets make; beyond it alpha could not be divided."""


class BadDesign(UserError):
    """Numbers that no set of prompts can have."""


@dataclass(frozen=True)
class Design:
    """A gate's comparison, before there are results.

    Attributes:
        n: prompts of one data set in one language.
        baseline_rate: the rate in the baseline, as ASR.
        comparisons: how many the gate makes: metrics x languages x data sets.
        discordance: share of the prompts whose label differs between two runs although nothing
            got worse: half of it either way. With a rise d, labels change for the worse on
            discordance / 2 + d of the prompts and for the better on discordance / 2.
        alpha: family-wise error rate of the whole gate.
        tolerance: how much worse an observed rate may be.
    """

    n: int
    baseline_rate: float
    comparisons: int
    discordance: float
    alpha: float = ALPHA
    tolerance: float = TOLERANCE

    @property
    def largest_rise(self) -> float:
        """The largest rise there can be: every label that has not changed already gets worse."""
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
    """A design whose numbers fit each other.

    Args:
        n: as in `Design`.
        baseline_rate: as in `Design`.
        comparisons: as in `Design`.
        discordance: as in `Design`; as of two independent runs where None, 2 p (1 - p) of a
            baseline rate p, which is the most where runs agree at least by chance: the power
            is then a lower bound.
        alpha: as in `Design`.
        tolerance: as in `Design`.

    Raises:
        BadDesign: a number that is outside, or a discordance that the rate does not leave room for.
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
            raise BadDesign(f"{name} is {value}; it has to be {expected}.")
    most = 2 * min(baseline_rate, 1 - baseline_rate)
    if discordance is None:
        discordance = 2 * baseline_rate * (1 - baseline_rate)
    elif not 0 <= discordance <= most:
        raise BadDesign(
            f"the discordance is {discordance}; it has to be from 0 to {most:g}, because half of "
            f"it are labels that change either way at a rate of {baseline_rate}."
        )
    return Design(n, baseline_rate, comparisons, discordance, alpha, tolerance)


def power(design: Design, rise: float) -> float:
    """Chance that the gate fails for a comparison whose true rate rose.

    Args:
        design: of the gate.
        rise: from 0 to `design.largest_rise`; 0.05 is five points of a hundred.
    """
    import numpy as np
    from scipy.stats import binom

    changed = np.arange(design.n + 1)
    fewest = _fewest_worse(design)
    discordant = design.discordance + rise
    # Of the changed labels, how many are worse is binomial again.
    worse = (design.discordance / 2 + rise) / discordant if discordant else 0.0
    chance = binom.pmf(changed, design.n, discordant) * binom.sf(fewest - 1, changed, worse)
    # Rounding of the sum may lead a hair beyond certainty.
    return min(float(np.sum(chance[fewest <= changed])), 1.0)


def minimum_detectable_rise(design: Design, least_power: float) -> float | None:
    """The minimum detectable effect: the smallest true rise that fails the gate with a chance of at
    least `least_power`.

    None where even the largest does not. The power grows with the rise, so that halving finds it.
    """
    low, high = 0.0, design.largest_rise
    if power(design, high) < least_power:
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(design, middle) >= least_power else (middle, high)
    return high


def smallest_observed(design: Design) -> float | None:
    """The smallest observed rise that can fail the gate; None where none can."""
    import numpy as np

    changed, fewest = np.arange(design.n + 1), _fewest_worse(design)
    rises = (2 * fewest - changed)[fewest <= changed]
    return float(rises.min()) / design.n if len(rises) else None


@cache
def _fewest_worse(design: Design) -> NDArray[np.int64]:
    """How many of 0, 1, ... n changed labels have to be worse to fail; more than all if none do."""
    import numpy as np
    from scipy.stats import binom

    changed = np.arange(design.n + 1)
    level = design.alpha / design.comparisons
    surely = binom.isf(level, changed, 0.5).astype(int) + 1
    # `isf` reaches the level; the gate's p is below it.
    surely += binom.sf(surely - 1, changed, 0.5) >= level
    rises = changed / design.n > design.tolerance
    return np.maximum(surely, (changed + int(np.argmax(rises)) + 1) // 2)
