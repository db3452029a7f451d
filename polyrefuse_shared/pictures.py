"""Pictures without a window system: matplotlib's figures, their colours, and how they are saved."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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

INK, PAPER = "#1b1c1d", "#fefefe"
"""Colour of lines and text, and colour of the ground, of an SVG picture."""

SVG_STYLE: dict[Any, Any] = {
    # Text stays text, for screen readers and for a page's own font.
    "svg.fonttype": "none",
    # The same picture has the same bytes.
    "svg.hashsalt": "polyrefuse",
    # A dollar in a name begins no formula.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
}
"""Settings of matplotlib for SVG pictures."""


TITLE_LETTERS = 12.5
"""Letters of a title in an inch: a few fewer than go into one on average."""


def figure(size: tuple[float, float]) -> Figure:
    """An empty figure, in inches."""
    # Without pyplot: no window system is looked for, and no figure outlives its function.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def title(drawn: Figure, text: str) -> None:
    """Put a title over a figure, in as many lines as its width takes."""
    drawn.suptitle(lines(text, drawn.get_figwidth()), fontsize="medium")


def lines(text: str, inches: float) -> str:
    """Break a title's lines where they are too long for a width.

    Matplotlib's own wrapping takes dollars for formulas, even with `plain_text`.
    """
    return "\n".join(
        textwrap.fill(line, int(inches * TITLE_LETTERS), break_on_hyphens=False)
        for line in text.splitlines()
    )


def png(drawn: Figure) -> bytes:
    """The figure's picture."""
    picture = io.BytesIO()
    drawn.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


@contextmanager
def plain_text() -> Iterator[None]:
    """Draw and save with text as it is: a dollar in a name, a folder's or a token's, begins no
    formula. Not for logarithmic axes, whose own tick labels are formulas.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


@contextmanager
def svg_style() -> Iterator[None]:
    """Draw and save with `SVG_STYLE`, whatever the user's own settings of matplotlib are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SVG_STYLE)
        yield


def svg(drawn: Figure) -> str:
    """The figure as SVG, the same text for the same figure; within `svg_style`."""
    picture = io.StringIO()
    with warnings.catch_warnings():
        # The text is drawn by whoever shows the picture, with fonts of their own.
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        drawn.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue()
