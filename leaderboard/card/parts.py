"""What a card is made of: sections of sentences, tables, pictures and commands.

A card is put together once, and then written as HTML and as Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


@dataclass(frozen=True)
class CardTable:
    """A table of texts.

    Attributes:
        caption: what it shows.
        columns: the heads of its columns.
        rows: each as long as `columns`; the first cell is the row's head.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CardPicture:
    """A picture.

    Attributes:
        title: what it shows, for its caption and for those who cannot see it.
        svg: as a function of `page.charts` drew it.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class Command:
    """A command of the study.

    Attributes:
        job: what it was for, and what became of it.
        typed: as a shell reads it, in the study's folder.
    """

    job: str
    typed: str


@dataclass(frozen=True)
class Section:
    """A section of a card, whose parts are shown in the order of the attributes.

    Attributes:
        title: its heading.
        text: its paragraphs.
        pictures: all of them.
        tables: all of them.
        items: a list of whole sentences.
        commands: to repeat what was measured.
    """

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[CardPicture, ...] = ()
    tables: tuple[CardTable, ...] = ()
    items: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Card:
    """The safety card of a model.

    Attributes:
        model: what the study calls it.
        study: the study's name.
        sections: in order.
        results: what a hub reads: the rates of the model as it is.
    """

    model: str
    study: str
    sections: tuple[Section, ...]
    results: tuple[EvalResult, ...]

    @property
    def slug(self) -> str:
        """The name of its files, without their ending."""
        return re.sub(r"[^\w.+-]+", "-", self.model)


def join(names: Sequence[str]) -> str:
    """Names as an enumeration: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
