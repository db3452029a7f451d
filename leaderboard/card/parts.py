"""The parts of a card: sections of sentences, tables, pictures and commands.

A card is put together once and then written as HTML and as Markdown.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyrefuse_leaderboard.picture import Picture

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


@dataclass(frozen=True)
class CardTable:
    """A table of texts.

    Attributes:
        caption: the caption, which says what the table shows.
        columns: the heads of the columns.
        rows: the rows, each as long as `columns`. The first cell is the head of the row.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Command:
    """A command of the study.

    Attributes:
        job: the purpose of the job, and its state.
        typed: the command as you would type it in the study's folder.
    """

    job: str
    typed: str


@dataclass(frozen=True)
class Section:
    """A section of a card, whose parts are shown in the order of the attributes.

    Attributes:
        title: the heading.
        text: the paragraphs.
        pictures: the pictures.
        tables: the tables.
        items: the items of a list, whole sentences.
        commands: the commands that repeat the measurements.
    """

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[CardTable, ...] = ()
    items: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Card:
    """The safety card of a model.

    Attributes:
        model: the study's name for the model.
        slug: the name of the card's files, without their ending.
        study: the name of the study.
        sections: the sections, in order.
        results: the results for a hub: the rates of the model without an intervention.
    """

    model: str
    slug: str
    study: str
    sections: tuple[Section, ...]
    results: tuple[EvalResult, ...]


LONGEST_SLUG = 60
"""The most characters of a slug before its checksum. With the checksum and an ending, a file name
then has at most 255 bytes of UTF-8, which is the limit of file systems."""


def slugs(models: Sequence[str]) -> dict[str, str]:
    """Return a file name for each model; the names differ even on disks that ignore case.

    If two models would have the same file name, a checksum of the model's name is appended.
    """
    plain = {
        model: re.sub(r"[^\w.+-]+", "-", model)[:LONGEST_SLUG].lstrip(".-") or "model"
        for model in models
    }
    taken = Counter(slug.casefold() for slug in plain.values())
    return {
        model: slug
        if taken[slug.casefold()] == 1
        else f"{slug}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
        for model, slug in plain.items()
    }


def join(names: Sequence[str]) -> str:
    """Join names into a list in words: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
