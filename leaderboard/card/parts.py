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
        caption: what it shows.
        columns: the heads of its columns.
        rows: each as long as `columns`; the first cell is the row's head.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
    pictures: tuple[Picture, ...] = ()
    tables: tuple[CardTable, ...] = ()
    items: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Card:
    """The safety card of a model.

    Attributes:
        model: what the study calls it.
        slug: the name of its files, without their ending.
        study: the study's name.
        sections: in order.
        results: what a hub reads: the rates of the model as it is.
    """

    model: str
    slug: str
    study: str
    sections: tuple[Section, ...]
    results: tuple[EvalResult, ...]


LONGEST_SLUG = 60
"""Characters of a slug before its checksum: with it and an ending at most 255 bytes of UTF-8, which
is what file systems take."""


def slugs(models: Sequence[str]) -> dict[str, str]:
    """Names of files for some models, no two of them equal where case does not count.

    A model whose name alone would not tell it from another has a checksum of the name behind it.
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
    """Names as an enumeration: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
