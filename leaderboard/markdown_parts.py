"""Pieces of GitHub's Markdown: tables, and text that stays as it is."""

from __future__ import annotations

import re


def head(*names: str) -> tuple[str, str]:
    """The two lines above a table's rows."""
    return line(*names), line(*("---" for _ in names))


def line(*cells: str) -> str:
    """A table's row."""
    return f"| {' | '.join(cells)} |"


def code(text: str) -> tuple[str, str, str]:
    """Lines of a shell as they are, in a fence that nothing in them closes."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}sh", text, fence


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    inert = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A colon before slashes would make a link, and so would www and a dot.
    return re.sub(r"([\\`*_{}\[\]#+!|~$@]|:(?=//)|(?<=www)\.)", r"\\\1", inert)
