"""JSON that others wrote, checked entry by entry: what is wrong is one sentence with its place."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from sys import intern
from typing import Any, TypeGuard

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import load_json

AGAIN = "run lm_eval again or remove it."
"""What to do about a file that is damaged."""


class BadResults(UserError):
    """A results or samples file, or a task in it, that cannot be used."""


def parse(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object.

    Args:
        where: its file, for messages, and its place there.

    Raises:
        BadResults: it is none.
    """
    try:
        document = load_json(text)
    except ValueError:
        raise BadResults(f"{where} is not JSON, or was cut off; {AGAIN}") from None
    if not isinstance(document, dict):
        raise BadResults(f"{where} is {reprlib.repr(document)}, not an object; {AGAIN}")
    return document


def part(document: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """An object inside one.

    Raises:
        BadResults: it is missing, or something else.
    """
    if name not in document:
        raise BadResults(f"{where} has no {name}, which lm-eval 0.4 writes; {AGAIN}")
    value = document[name]
    if not isinstance(value, dict):
        raise BadResults(f"{where}: {name} is {reprlib.repr(value)}, not an object; {AGAIN}")
    return value


def text(value: Any, name: str, where: str) -> str:
    """A name, the same object for the same name: hundreds of thousands of cells share few.

    Raises:
        BadResults: it is none.
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadResults(f"{where}: {name} is {reprlib.repr(value)}, not a name; {AGAIN}")
    return intern(value)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is one, and neither NaN nor infinite nor too large for a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def sentences(warnings: Any, opening: str = "") -> tuple[str, ...]:
    """The warnings in a document's list as whole sentences of one line, each once.

    Args:
        warnings: what is no list holds none, and what is no text in one is no warning.
        opening: stands before each.
    """
    whole = (
        f"{opening}{printable(' '.join(text.split())).rstrip('.')}."
        for text in (warnings if isinstance(warnings, list) else ())
        if isinstance(text, str) and text.strip()
    )
    return tuple(dict.fromkeys(whole))


def printable(name: Path | str) -> str:
    """A path or a name as text that can be printed and written, whatever bytes it has."""
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else ascii(text)
