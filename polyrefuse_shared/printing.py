"""Printing text from others without letting it steer a terminal or a CI job."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Characters that move a cursor, begin a line or turn the direction of text, and those that XML 1.0
cannot hold."""

_COMMAND = re.compile(r":(?=:)|#(?=#\w*\[)")
"""What CI systems read as a command: `::error::` at the beginning of a line and `##[error]`
anywhere (GitHub), `##vso[...]` (Azure) and `##teamcity[...]` (TeamCity)."""

_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]|#(?=#\\w*\\[)")
"""The same within JSON, whose lines never begin with such text and which escapes the rest."""


def counted(n: int, noun: str) -> str:
    """Return a count with its noun, in the singular for 1."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def clean(text: str) -> str:
    """Return a text as one line that is safe to print and to write as XML."""
    return _CONTROL.sub("\ufffd", _COMMAND.sub(r"\g<0> ", text))


def clean_json(text: str) -> str:
    """Return the same JSON document with escapes for what steers a terminal or a CI job."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
