"""Planes of principal components, in which distances mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

MARGIN = 0.05
"""The room on each side of the points, as a share of their largest extent."""


def square_limits(
    points: Float[np.ndarray, "n 2"],
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Compute limits of equal length for both axes, so that all points are inside.

    In a square panel, a distance is then as long in one direction as in the other.

    Args:
        points: coordinates in the units of the axes, at least one point.

    Returns:
        The limits of the horizontal and of the vertical axis.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + MARGIN) * (float((high - low).max()) or 1.0)
    (x, y) = ((low + high) / 2).tolist()
    return (x - half, x + half), (y - half, y + half)
