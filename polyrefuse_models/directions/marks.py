"""How one thing looks in every picture of a geometry: a kind of prompt, an outcome, a language."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_shared.pictures import PALETTE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float

HARMFUL, HARMLESS = PALETTE["vermilion"], PALETTE["blue"]
"""Colours of prompts by what they ask."""

REFUSED, COMPLIED = PALETTE["bluish green"], PALETTE["orange"]
JAILBROKEN = PALETTE["reddish purple"]
"""Colours of prompts by what became of them."""

NO_VERDICT = "0.6"
"""Grey of prompts whose answers are degenerate or undecided: they have no verdict's colour."""

STYLES = ("-", "--", ":")

LONGEST_NAME = 40
"""Characters of a model's name in a title, at most."""


def short_name(model: str) -> str:
    """A model as titles call it: a folder by its last part, a model of a hub by its name."""
    named = PurePosixPath(model).name if PurePosixPath(model).is_absolute() else model
    return named if len(named) <= LONGEST_NAME else f"{named[: LONGEST_NAME - 1]}…"


def language_line(place: int) -> dict[str, Any]:
    """Colour and style of a language's line, by its place in the document.

    As many as there are languages here: each colour in two styles.
    """
    colours = list(PALETTE.values())
    return {
        "color": colours[place % len(colours)],
        "linestyle": STYLES[place // len(colours) % len(STYLES)],
    }


def gaps(values: Iterable[float | None]) -> list[float]:
    """Heights of a line that has a gap where a value is null."""
    return [math.nan if value is None else value for value in values]


def beside(middle: float, n: int, width: float = 0.2) -> Float[np.ndarray, "n"]:
    """Where n points stand around a place of an axis, spread evenly so that few hide another."""
    golden = (5**0.5 - 1) / 2
    return middle + width * ((np.arange(n) * golden) % 1 - 0.5)
