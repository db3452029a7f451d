"""A picture of a page or of a card, and how it becomes files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from polyrefuse_shared.pictures import json_bytes, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture of a page or of a card.

    Attributes:
        name: the name of its files, without an ending.
        title: what it shows. It is the caption and the text for readers who cannot see the picture.
        figure: the figure that a function of `page.charts` drew.
        numbers: the numbers that it shows, for its JSON file.
        svg: the figure as SVG; "" if the page only links to the files of the picture.
        files: name of a format -> the path of the file, relative to the leaderboard's folder; empty
            until the files are written.
    """

    name: str
    title: str
    figure: Figure
    numbers: Mapping[str, object]
    svg: str
    files: Mapping[str, str] = field(default_factory=dict)


def save(folder: Path, name: str, picture: Picture) -> Picture:
    """Write a picture's files into the leaderboard's folder of figures.

    Args:
        folder: the leaderboard's folder.
        name: the name of the files, without an ending.
        picture: the picture to write.

    Returns:
        The picture with the paths of its files.
    """
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    contents = {
        "SVG": picture.svg.encode(),
        "PNG": png(picture.figure),
        "JSON": json_bytes({"figure": picture.title, **picture.numbers}),
    }
    files = {format: f"{name}.{format.lower()}" for format in contents}
    for format, content in contents.items():
        (figures / files[format]).write_bytes(content)
    return replace(picture, files={format: f"figures/{file}" for format, file in files.items()})
