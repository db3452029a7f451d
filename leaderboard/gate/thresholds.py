"""The thresholds of a gate: the level of its tests, and the rise that it lets pass."""

from __future__ import annotations

from polyrefuse_shared.errors import UserError

ALPHA = 0.05
"""Family-wise error rate: the chance that a gate with nothing worse in truth fails for "got worse",
at most."""

TOLERANCE = 0.02
"""How much worse an observed rate may be, however sure it is."""


class BadThreshold(UserError):
    """An alpha or a tolerance that is no share."""


def require(alpha: float, tolerance: float) -> None:
    """Refuse thresholds that no gate can have.

    Args:
        alpha: between 0 and 1.
        tolerance: from 0 to less than 1; 0.02 is two points of a hundred.

    Raises:
        BadThreshold: one is outside.
    """
    if not 0 < alpha < 1:
        raise BadThreshold(f"alpha is {alpha}; take one between 0 and 1, as {ALPHA}.")
    if not 0 <= tolerance < 1:
        raise BadThreshold(
            f"the tolerance is {tolerance}; take one from 0 to less than 1, as {TOLERANCE}."
        )
