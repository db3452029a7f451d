"""Pictures without a window system: figures of matplotlib's, as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(size: tuple[float, float]) -> Figure:
    """An empty figure, in inches."""
    # Without pyplot: no window system is looked for, and no figure outlives its function.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def png(drawn: Figure) -> bytes:
    """The figure's picture."""
    picture = io.BytesIO()
    drawn.savefig(picture, format="png", dpi=150)
    return picture.getvalue()
