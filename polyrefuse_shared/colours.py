"""The colours of every figure, of the leaderboard and of the cards, and their meanings.

The hues are those of Okabe and Ito (2008), which colour-blind readers can distinguish. Whatever
differs in colour also differs in its marker, its line style or its label.
"""

from __future__ import annotations

from typing import NamedTuple

PALETTE: dict[str, str] = {
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "bluish green": "#009e73",
    "orange": "#e69f00",
    "reddish purple": "#cc79a7",
    "sky blue": "#56b4e9",
}
"""Okabe and Ito's hues without yellow and black. Yellow is hard to see on white. Black is invisible
on a dark page, and `INK` replaces it."""

INK, PAPER = "#1b1c1d", "#fefefe"
"""The colour of lines and text, and that of the background. A dark page replaces both."""

DARK_INK, DARK_PAPER = "#e9eaec", "#16181b"
"""The colours that replace `INK` and `PAPER` on a dark page."""

GREY = "#808080"
"""The colour of random controls and of answers without a verdict, which have no hue."""

HARMFUL, HARMLESS = PALETTE["vermilion"], PALETTE["blue"]
"""The colours of harmful and of harmless prompts."""

REFUSED, COMPLIED = PALETTE["bluish green"], PALETTE["orange"]
JAILBROKEN, NO_VERDICT = PALETTE["reddish purple"], GREY
"""The colours of prompts by their answers. Degenerate and undecided answers have no verdict."""


class Style(NamedTuple):
    """The colour and the marker of a condition.

    Attributes:
        colour: the colour, as `#rrggbb`.
        marker: matplotlib's name for the marker.
    """

    colour: str
    marker: str


CONDITIONS: dict[str, Style] = {
    "baseline": Style(PALETTE["blue"], "o"),
    "system-prompt": Style(PALETTE["bluish green"], "s"),
    "mcd": Style(PALETTE["sky blue"], "^"),
    "addition": Style(PALETTE["reddish purple"], "P"),
    "ablation": Style(PALETTE["vermilion"], "X"),
    "random-addition": Style(GREY, "<"),
    "random-ablation": Style(GREY, ">"),
    "ablation+mcd": Style(PALETTE["orange"], "D"),
    "affine-ablation": Style(PALETTE["vermilion"], "p"),
    "projected-ablation": Style(PALETTE["vermilion"], "h"),
    "subspace-ablation": Style(PALETTE["vermilion"], "8"),
    "random-affine-ablation": Style(GREY, "v"),
    "random-projected-ablation": Style(GREY, "d"),
    "random-subspace-ablation": Style(GREY, "H"),
}
"""Condition -> its style. All kinds of ablation share a hue, and so do all random controls. Their
markers differ."""

OTHER_CONDITION = Style(INK, "*")
"""The style of a condition that `CONDITIONS` lacks, such as some combinations of interventions."""


def of_condition(name: str) -> Style:
    """Return the style of a condition."""
    return CONDITIONS.get(name, OTHER_CONDITION)


STEPS = 32
"""The number of colours of a heat map."""


def heat_colours() -> list[tuple[str, str]]:
    """Return the colours of a heat map from the lowest to the highest value, with text colours.

    The colours are those of cividis (Nunez, Anderton and Renslow 2018), which was made for
    colour-blind readers: its lightness rises monotonically. The text is black or white, whichever
    has the higher contrast.

    Returns:
        `STEPS` pairs of the colour of a cell and the colour of its text, as `#rrggbb`.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = (to_hex(colormaps["cividis"](step / (STEPS - 1))) for step in range(STEPS))
    return [(colour, text_on(colour)) for colour in colours]


def luminance(colour: str) -> float:
    """Return the relative luminance of a `#rrggbb` colour, from 0 to 1 (WCAG 2.2)."""
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def text_on(colour: str) -> str:
    """Return black or white, whichever is easier to read on a `#rrggbb` colour."""
    # At this luminance the contrasts with black, (L + .05) / .05, and with white, 1.05 / (L + .05),
    # are equal.
    return "#000000" if luminance(colour) > (1.05 * 0.05) ** 0.5 - 0.05 else "#ffffff"
