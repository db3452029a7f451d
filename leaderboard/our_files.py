"""Which files in a leaderboard's folder are the leaderboard's, and which are somebody else's."""

from __future__ import annotations

import re
from pathlib import Path

MARK = "leaderboard.json"
"""The file by which a folder is known as a leaderboard's."""

SAMPLES = "samples.jsonl"

_NAMES = re.compile(
    r"leaderboard\.(json|csv|md|tex)|index\.html|page-\d+\.html|samples\.jsonl"
    r"|figures/(page-\d+-)?(scatter|bars|transfer|cosine)-\d+\.svg"
)
"""Names of the files that `site` writes, relative to the folder."""

_TEXT = rb'"(?:[^"\\]|\\.)*"'
_OPENINGS = {
    MARK: re.compile(rb'\{"schema": '),
    SAMPLES: re.compile(rb'\{"model": ' + _TEXT + rb', "condition": ' + _TEXT + rb', "dataset": '),
    ".html": re.compile(rb"<!doctype html>.{,400}Content-Security-Policy", re.DOTALL),
    # matplotlib names itself as the creator of its pictures; `pictures.svg` takes that out.
    ".svg": re.compile(rb"(?!.*<dc:creator>)<\?xml .{,1000}<dc:format>image/svg", re.DOTALL),
}
"""How files begin whose names another program might give, by name or ending."""


def names_of_ours(folder: Path) -> list[str]:
    """What in a folder has a name that `site` gives, relative to it."""
    paths = (path.relative_to(folder) for path in (*folder.iterdir(), *folder.glob("figures/*")))
    return [path.as_posix() for path in paths if _NAMES.fullmatch(path.as_posix())]


def is_ours(path: Path) -> bool:
    """Whether what has such a name was written by `site`; a link never was."""
    if path.is_symlink() or not path.is_file():
        return False
    opening = _OPENINGS.get(path.name) or _OPENINGS.get(path.suffix)
    if opening is None:
        return True
    try:
        with open(path, "rb") as file:
            return bool(opening.match(file.read(4096)))
    except OSError:
        return False
