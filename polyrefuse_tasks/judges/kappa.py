"""Cohen's kappa of two raters, with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from math import sqrt

Z = 1.959963984540054
"""The normal quantile of a 95% interval."""


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement of two raters in excess of chance.

    Attributes:
        n: how many were rated by both.
        agreement: share on which they agree.
        kappa: None where both gave one and the same rating alone, so that there is no chance to
            exceed.
        low: lower end of its 95% interval; None with it.
        high: upper end.
    """

    n: int
    agreement: float
    kappa: float | None
    low: float | None
    high: float | None


def cohens_kappa(pairs: Counter[tuple[Hashable, Hashable]]) -> Kappa:
    """Cohen's kappa, with the large-sample interval of Fleiss, Cohen and Everitt (1969).

    Args:
        pairs: how many have each pair of ratings, at least one.
    """
    n = pairs.total()
    ratings = {rating for pair in pairs for rating in pair}
    first = {one: sum(c for (a, _), c in pairs.items() if a == one) / n for one in ratings}
    second = {one: sum(c for (_, b), c in pairs.items() if b == one) / n for one in ratings}
    agreed = sum(pairs[one, one] for one in ratings) / n
    chance = sum(first[one] * second[one] for one in ratings)
    if chance >= 1:
        return Kappa(n, agreed, None, None, None)
    kappa = (agreed - chance) / (1 - chance)
    rest = 1 - kappa
    spread = sum(
        pairs[one, one] / n * (1 - (first[one] + second[one]) * rest) ** 2 for one in ratings
    )
    spread += rest**2 * sum(
        count / n * (second[a] + first[b]) ** 2 for (a, b), count in pairs.items() if a != b
    )
    spread -= (kappa - chance * rest) ** 2
    half = Z * sqrt(max(spread, 0) / n) / (1 - chance)
    return Kappa(n, agreed, kappa, max(-1.0, kappa - half), min(1.0, kappa + half))
