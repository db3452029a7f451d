"""Distinguish the files that a leaderboard wrote into its folder from other files there."""

from __future__ import annotations

import re
from pathlib import Path

from polyrefuse_shared.pictures import SOFTWARE

MARK = "leaderboard.json"
"""The file that marks a folder as that of a leaderboard."""

SAMPLES = "samples.jsonl"

CARDS = "cards"
"""The folder of the safety cards."""

CARD_MARK = "# Written by lm-eval-polyrefuse."
"""A comment in the YAML block of a card in Markdown."""

FOLDERS = (CARDS, "figures")
"""Folders in a leaderboard's folder."""

_NAMES = re.compile(
    r"leaderboard\.(json|csv|md|tex)|index\.html|page-\d+\.html|samples\.jsonl"
    r"|figures/((page|card)-\d+-)?(scatter|bars|transfer|cosine|rates)-\d+\.(svg|png|json)"
    r"|cards/[\w.+-]+\.(html|md)"
)
"""Names of the files that `site` writes, relative to the folder."""

_TEXT = rb'"(?:[^"\\]|\\.)*"'
_OPENINGS = {
    MARK: re.compile(rb'\{"schema": '),
    SAMPLES: re.compile(rb'\{"model": ' + _TEXT + rb', "condition": ' + _TEXT + rb', "dataset": '),
    CARDS: re.compile(rb"---\n" + CARD_MARK.encode() + rb"\n"),
    ".html": re.compile(rb"<!doctype html>.{,400}Content-Security-Policy", re.DOTALL),
    ".json": re.compile(rb'\{\n "figure": '),
    ".png": re.compile(rb"\x89PNG.{,200}Software\x00" + SOFTWARE.encode(), re.DOTALL),
    # matplotlib names itself as the creator of an SVG picture, and `pictures.svg` takes that out.
    ".svg": re.compile(rb"(?!.*<dc:creator>)<\?xml .{,1000}<dc:format>image/svg", re.DOTALL),
}
"""Name, folder or ending -> the beginning of such a file of ours, because another program might
give a file the same name."""


def names_of_ours(folder: Path) -> list[str]:
    """Return the entries of a folder with names that `site` gives, relative to the folder."""
    paths = (*folder.iterdir(), *(path for name in FOLDERS for path in folder.glob(f"{name}/*")))
    names = (path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if _NAMES.fullmatch(name)]


def is_ours(path: Path) -> bool:
    """Return whether `site` wrote a file with one of these names. It never writes a link."""
    if path.is_symlink() or not path.is_file():
        return False
    opening = _OPENINGS.get(path.name) or _OPENINGS.get(path.suffix)
    if path.suffix == ".md":
        opening = _OPENINGS.get(path.parent.name)
    if opening is None:
        return True
    try:
        with open(path, "rb") as file:
            return bool(opening.match(file.read(4096)))
    except OSError:
        return False
