"""The thresholds of a gate: the level of its tests, and the rise that it tolerates."""

from __future__ import annotations

from polyrefuse_shared.errors import UserError

ALPHA = 0.05
"""The family-wise error rate: the highest probability that a gate fails for "got worse" although
nothing did."""

TOLERANCE = 0.02
"""The rise of an observed rate that is tolerated, however certain the rise is."""


class BadThreshold(UserError):
    """An alpha or a tolerance is out of range."""


def require(alpha: float, tolerance: float) -> None:
    """Refuse thresholds that are out of range.

    Args:
        alpha: between 0 and 1.
        tolerance: from 0 to less than 1; 0.02 is 2 percentage points.

    Raises:
        BadThreshold: one is out of range.
    """
    if not 0 < alpha < 1:
        raise BadThreshold(f"alpha is {alpha}; give a number between 0 and 1, such as {ALPHA}.")
    if not 0 <= tolerance < 1:
        raise BadThreshold(
            f"the tolerance is {tolerance}; give one from 0 to less than 1, such as {TOLERANCE}."
        )
