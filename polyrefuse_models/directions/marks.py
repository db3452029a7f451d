"""The marks that all figures of a direction share: lines of languages, tokens and guides."""

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
"""The style of a line at the value that means no effect, such as an AUC of 0.5."""

OWN_LAYER: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": ":"}
"""The style of a line at the layer that the direction was chosen from."""

LINES: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "linestyle": style}
    for style in ("-", "--", ":", "-.")
    for colour in (*PALETTE.values(), INK)
)
"""The styles of lines that readers can distinguish: each colour in four styles."""

KNOWN = tuple(dict.fromkeys((*POLYREFUSE, *MULTIJAIL)))
"""The languages that have the same line in every figure, whatever other languages are in it."""


def language_lines(languages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the colour and the style of each language's line.

    The languages of the published datasets always have the same line. Other languages get the
    remaining lines, in their order.
    """
    known = dict(zip(KNOWN, LINES, strict=False))
    others = [language for language in languages if language not in known]
    left = LINES[len(known) :] or LINES
    known |= {language: left[place % len(left)] for place, language in enumerate(others)}
    return {language: known[language] for language in languages}


def readable(token: str) -> str:
    """Return a token of a vocabulary as readable text, with `␣` for a space and escapes.

    Byte-level vocabularies write each byte as a special letter (`Ċ` for a newline). SentencePiece
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
    """Return the text of a token whose letters stand for bytes. Other tokens stay as they are."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + place): byte for place, byte in enumerate(others)}
    try:
        return bytes(byte_of[letter] for letter in token).decode()
    except (KeyError, UnicodeDecodeError):
        return token


def control_line(direction: Mapping[str, Any]) -> str:
    """Return the last line of a title, with its line break, if the direction is a control; else "".

    Args:
        direction: the description of the direction, as `effects.described` returns it.
    """
    if "control" not in direction:
        return ""
    return (
        f"\ncontrol: a {direction['control']} direction (seed {direction['control_seed']}) in "
        "place of the refusal direction"
    )


def gaps(values: Iterable[float | None]) -> list[float]:
    """Return the heights of a line, with NaN for None. matplotlib leaves a gap at NaN."""
    return [math.nan if value is None else value for value in values]


def beside(middle: float, n: int, width: float = 0.2) -> Float[np.ndarray, "n"]:
    """Return places for n points around the middle, within `width`, spread so that few overlap."""
    golden = (5**0.5 - 1) / 2
    return middle + width * ((np.arange(n) * golden) % 1 - 0.5)
