"""Write pieces of Markdown for GitHub: tables, code, and escaped text."""

from __future__ import annotations

import re


def head(*names: str) -> tuple[str, str]:
    """Return the two lines above the rows of a table."""
    return line(*names), line(*("---" for _ in names))


def line(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def code(text: str) -> tuple[str, str, str]:
    """Return shell lines in a fence that nothing in them closes."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}sh", text, fence


def escaped(text: str) -> str:
    """Escape text so that Markdown shows it unchanged, on one line."""
    inert = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A colon before slashes would make a link, and so would www and a dot.
    return re.sub(r"([\\`*_{}\[\]#+!|~$@]|:(?=//)|(?<=www)\.)", r"\\\1", inert)
