"""Which colour stands for what: one table for every figure, for the leaderboard and for the cards.

The hues are Okabe and Ito's (2008), which colour-blind readers can tell apart. What two colours
tell apart is told apart by a marker, a line style or a label as well.
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
"""Okabe and Ito's hues, without their yellow, which is hard to see on white, and their black, which
cannot be seen on a dark page: `INK` takes its place."""

INK, PAPER = "#1b1c1d", "#fefefe"
"""Colour of lines and text, and of the background; a dark page exchanges both."""

DARK_INK, DARK_PAPER = "#e9eaec", "#16181b"
"""What `INK` and `PAPER` become on a dark page."""

GREY = "#808080"
"""What has no hue of its own: random controls, and answers without a verdict."""

HARMFUL, HARMLESS = PALETTE["vermilion"], PALETTE["blue"]
"""Prompts by what they ask."""

REFUSED, COMPLIED = PALETTE["bluish green"], PALETTE["orange"]
JAILBROKEN, NO_VERDICT = PALETTE["reddish purple"], GREY
"""Prompts by what became of them; degenerate and undecided answers have no verdict."""


class Style(NamedTuple):
    """How a condition is drawn.

    Attributes:
        colour: as `#rrggbb`.
        marker: matplotlib's name of it.
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
"""Condition -> its style. Kinds of ablation share a hue, and so do all random controls; their
markers differ."""

OTHER_CONDITION = Style(INK, "*")
"""A condition that the table does not have, such as a combination of several interventions."""


def of_condition(name: str) -> Style:
    """The style of a condition."""
    return CONDITIONS.get(name, OTHER_CONDITION)


STEPS = 32
"""Colours of a heat map."""


def heat_colours() -> list[tuple[str, str]]:
    """Colours of a heat map from its lowest value to its highest, each with the colour of its text.

    cividis (Nunez, Anderton and Renslow 2018) is made for colour-blind readers: its lightness
    rises all along. The text is black or white, whichever has the higher contrast.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = (to_hex(colormaps["cividis"](step / (STEPS - 1))) for step in range(STEPS))
    return [(colour, text_on(colour)) for colour in colours]


def luminance(colour: str) -> float:
    """Relative luminance of a `#rrggbb` colour, 0 to 1 (WCAG 2.2)."""
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def text_on(colour: str) -> str:
    """Black or white, whichever is easier to read on a `#rrggbb` colour."""
    # Where the contrasts with black, (L + .05) / .05, and with white, 1.05 / (L + .05), are equal.
    return "#000000" if luminance(colour) > (1.05 * 0.05) ** 0.5 - 0.05 else "#ffffff"
