"""Text that others chose, as it is printed: it steers neither a terminal nor a CI job."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""What moves a cursor, begins a line, turns the direction of text, or that XML 1.0 cannot hold."""

_COMMAND = re.compile(r":(?=:)|#(?=#\w*\[)")
"""What CI systems read as a command: GitHub `::error::` where a line begins and `##[error]`
anywhere, Azure `##vso[...]`, TeamCity `##teamcity[...]`."""

_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]|#(?=#\\w*\\[)")
"""The same within JSON, whose lines begin with no text, and which escapes the rest."""


def clean(text: str) -> str:
    """A text as one line that can be printed, and written as XML, whatever names are in it."""
    return _CONTROL.sub("\ufffd", _COMMAND.sub(r"\g<0> ", text))


def clean_json(text: str) -> str:
    """A JSON document of the same content, with escapes in the place of what steers."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
