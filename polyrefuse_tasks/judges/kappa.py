"""Cohen's kappa of two raters, with its 95% interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

Z = 1.959963984540054
"""The normal quantile of a 95% interval."""


@dataclass(frozen=True, slots=True)
class Kappa:
    """The agreement of two raters in excess of chance.

    Attributes:
        n: the number of items that both rated.
        agreement: the share of items on which they agree; None without items.
        kappa: Cohen's kappa; None without items, and if both always gave one and the same rating,
            because they would then always agree by chance alone.
        low: the lower end of the 95% interval of kappa. None without kappa, and if the estimated
            variance is zero: a rater who always gives the same rating, or raters who never differ,
            do not show that kappa is certain.
        high: the upper end of that interval; None if `low` is None.
    """

    n: int
    agreement: float | None
    kappa: float | None
    low: float | None
    high: float | None


def cohens_kappa(pairs: Counter[tuple[Hashable, Hashable]]) -> Kappa:
    """Compute Cohen's kappa with the large-sample interval of Fleiss, Cohen and Everitt (1969).

    Args:
        pairs: the number of items with each pair of ratings.
    """
    n = pairs.total()
    if not n:
        return Kappa(0, None, None, None, None)
    # Fractions avoid rounding, which would give a kappa of -0 and a small interval instead of none.
    shares = {pair: Fraction(count, n) for pair, count in pairs.items()}
    ratings = {rating for pair in shares for rating in pair}
    first = {one: sum(share for (a, _), share in shares.items() if a == one) for one in ratings}
    second = {one: sum(share for (_, b), share in shares.items() if b == one) for one in ratings}
    both = {one: shares.get((one, one), Fraction(0)) for one in ratings}
    agreed = sum(both.values(), Fraction(0))
    chance = sum((first[one] * second[one] for one in ratings), Fraction(0))
    if chance == 1:
        return Kappa(n, float(agreed), None, None, None)
    kappa = (agreed - chance) / (1 - chance)
    rest = 1 - kappa
    spread = sum(both[one] * (1 - (first[one] + second[one]) * rest) ** 2 for one in ratings)
    spread += rest**2 * sum(
        share * (second[a] + first[b]) ** 2 for (a, b), share in shares.items() if a != b
    )
    spread -= (kappa - chance * rest) ** 2
    if not spread:
        return Kappa(n, float(agreed), float(kappa), None, None)
    half = Z * sqrt(spread / n) / float(1 - chance)
    low, high = max(-1.0, float(kappa) - half), min(1.0, float(kappa) + half)
    return Kappa(n, float(agreed), float(kappa), low, high)
