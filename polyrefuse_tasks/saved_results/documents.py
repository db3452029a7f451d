"""Check JSON that other programs wrote, entry by entry; an error is one sentence with its place."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from sys import intern
from typing import Any, TypeGuard

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import load_json

AGAIN = "run lm_eval again or remove it."
"""The end of a message on a damaged file: what to do about it."""


class BadResults(UserError):
    """A results or samples file, or a task in it, cannot be used."""


def parse(text: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: the JSON.
        where: its file and its place there, for messages.

    Raises:
        BadResults: the text is not a JSON object.
    """
    try:
        document = load_json(text)
    except ValueError:
        raise BadResults(f"{where} is not JSON, or was cut off; {AGAIN}") from None
    if not isinstance(document, dict):
        raise BadResults(f"{where} is {reprlib.repr(document)}, not an object; {AGAIN}")
    return document


def part(document: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return an object inside another.

    Raises:
        BadResults: it is missing or is not an object.
    """
    if name not in document:
        raise BadResults(f"{where} has no {name}, which lm-eval 0.4 writes; {AGAIN}")
    value = document[name]
    if not isinstance(value, dict):
        raise BadResults(f"{where}: {name} is {reprlib.repr(value)}, not an object; {AGAIN}")
    return value


def text(value: Any, name: str, where: str) -> str:
    """Return a name, interned because hundreds of thousands of cells share few names.

    Raises:
        BadResults: the value is not a name.
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadResults(f"{where}: {name} is {reprlib.repr(value)}, not a name; {AGAIN}")
    return intern(value)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether the value is a number that is not NaN, not infinite and fits into a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def sentences(warnings: Any, opening: str = "") -> tuple[str, ...]:
    """Return the warnings of a document as whole sentences on one line, each once.

    Args:
        warnings: the list of warnings; anything that is not a list or not text is ignored.
        opening: the text that precedes each warning.
    """
    whole = (
        f"{opening}{printable(' '.join(text.split())).rstrip('.')}."
        for text in (warnings if isinstance(warnings, list) else ())
        if isinstance(text, str) and text.strip()
    )
    return tuple(dict.fromkeys(whole))


def printable(name: Path | str) -> str:
    """Return a path or a name as text that can be printed and written, whatever its bytes are."""
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else ascii(text)
