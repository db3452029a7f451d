"""How one thing looks in every figure of a direction: a language, a token, a line without data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_shared.colours import INK, PALETTE
from polyrefuse_tasks.languages import MULTIJAIL, POLYREFUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jaxtyping import Float

GUIDE: dict[str, Any] = {"color": INK, "alpha": 0.25, "linewidth": 1, "zorder": 0}
"""A line at a value that means nothing was found, such as an AUC of 0.5."""

OWN_LAYER: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": ":"}
"""A line at the layer that the direction was chosen from."""

LINES: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "linestyle": style}
    for style in ("-", "--", ":", "-.")
    for colour in (*PALETTE.values(), INK)
)
"""Lines that can be told apart: each colour in four styles."""

KNOWN = tuple(dict.fromkeys((*POLYREFUSE, *MULTIJAIL)))
"""Languages that have the same line in every figure, whichever others are there."""


def language_lines(languages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and style of each language's line: those of the data sets always have the same.

    Other languages take what is left, in their order.
    """
    known = dict(zip(KNOWN, LINES, strict=False))
    others = [language for language in languages if language not in known]
    left = LINES[len(known) :] or LINES
    known |= {language: left[place % len(left)] for place, language in enumerate(others)}
    return {language: known[language] for language in languages}


def readable(token: str) -> str:
    """A vocabulary's token as a reader knows it, with a newline as an escape and a space as `␣`.

    Byte-level vocabularies write bytes as letters of their own (`Ċ` for a newline), SentencePiece
    writes a space as `▁` and a byte as `<0x0A>`.
    """
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        token = bytes([int(token[3:5], 16)]).decode(errors="replace")
    else:
        token = _from_bytes(token.replace("▁", " "))
    return "".join(_visible(letter) for letter in token)


def _visible(letter: str) -> str:
    if letter == " ":
        return "␣"
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def _from_bytes(token: str) -> str:
    """The text of a token whose letters stand for bytes; any other token as it is."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + place): byte for place, byte in enumerate(others)}
    try:
        return bytes(byte_of[letter] for letter in token).decode()
    except (KeyError, UnicodeDecodeError):
        return token


def control_line(direction: Mapping[str, Any]) -> str:
    """The last line of a title where the direction is a control, with its line break; else empty.

    Args:
        direction: what a document says of it, as `effects.described` returns it.
    """
    if "control" not in direction:
        return ""
    return (
        f"\ncontrol: a {direction['control']} direction (seed {direction['control_seed']}) in "
        "place of the refusal direction"
    )


def gaps(values: Iterable[float | None]) -> list[float]:
    """Heights of a line that has a gap where a value is null."""
    return [math.nan if value is None else value for value in values]


def beside(middle: float, n: int, width: float = 0.2) -> Float[np.ndarray, "n"]:
    """Where n points stand around a place of an axis, spread evenly so that few hide another."""
    golden = (5**0.5 - 1) / 2
    return middle + width * ((np.arange(n) * golden) % 1 - 0.5)
