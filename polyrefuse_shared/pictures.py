"""Pictures without a window system: matplotlib figures, as PNG, and the colours in them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE: dict[str, str] = {
    "black": "#000000",
    "orange": "#e69f00",
    "sky blue": "#56b4e9",
    "bluish green": "#009e73",
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "reddish purple": "#cc79a7",
}
"""Okabe and Ito's colours, which colour-blind readers can tell apart (without their yellow, which
is hard to see on white)."""


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
