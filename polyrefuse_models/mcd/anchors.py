"""Load the anchors that a soft prompt is trained on: parallel harmful and harmless prompts.

The harmful anchors of PolyRefuse are the rows of its training and validation splits that are in
neither AdvBench nor MaliciousInstruct, so that `mcd_protocol` tests none of them. If anchors are
rows of a test set nevertheless, `Anchors.overlap` names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from polyrefuse_models.directions.prompts import lacking
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data
from polyrefuse_tasks.data import Row

HELD_OUT = ("advbench", "malicious_instruct")
"""The datasets that `mcd_protocol` tests on. None of their prompts is an anchor of PolyRefuse."""

PUBLISHED: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "polyrefuse": (("harmful", "harmless"), ("train", "val")),
    "custom": (("mcd_harmful", "mcd_harmless"), ("train",)),
    "toyrefuse": (("toyrefuse_harmful", "toyrefuse_harmless"), ("train",)),
}
"""The published names that `--dataset` takes.

Each has its harmful and its harmless dataset, and the splits that anchors are taken from.
"""


class NotParallel(UserError):
    """The anchors of two languages are not translations of each other, row by row."""


@dataclass(frozen=True)
class Anchors:
    """The anchors, which are prompts in several languages.

    Attributes:
        dataset: a key of `sources`.
        languages: ISO 639-1 codes, in the order of training.
        harmful: the harmful prompts by language. At the same index, all languages have the same
            prompt.
        harmless: the harmless prompts by language, likewise.
        ids: the ids of the rows, the harmful rows first.
        sha256: the checksum of each file that was read, by its path in the data folder.
        overlap: for each test set, the ids of its rows whose English text is that of an anchor.
            None if the test set could not be read.
    """

    dataset: str
    languages: tuple[str, ...]
    harmful: dict[str, list[str]]
    harmless: dict[str, list[str]]
    ids: tuple[str, ...]
    sha256: dict[str, str]
    overlap: dict[str, list[str] | None]

    @property
    def labels(self) -> list[int]:
        """0 for each harmful row and 1 for each harmless row, in the order of `prompts`."""
        first = self.languages[0]
        return [0] * len(self.harmful[first]) + [1] * len(self.harmless[first])

    def prompts(self, language: str) -> list[str]:
        """List the harmful and then the harmless prompts of a language."""
        return self.harmful[language] + self.harmless[language]


def sources() -> dict[str, tuple[tuple[str, str], tuple[str, ...]]]:
    """Map each name that `--dataset` takes to its two datasets and their splits.

    The names include datasets that the user added. If such a dataset has no splits, all of its rows
    are anchors, and `Anchors.overlap` says so.

    Raises:
        UserError: the data folder cannot be used.
    """
    return PUBLISHED | {
        name: (kinds, _splits(kinds)) for name, kinds in data.harmful_and_harmless().items()
    }


def _splits(kinds: tuple[str, str]) -> tuple[str, ...]:
    there = {split for kind in kinds for split in data.dataset(kind).splits}
    return tuple(split for split in ("train", "val") if split in there) or ("test",)


def source_named(dataset: str) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Find the datasets of harmful and of harmless prompts that `dataset` names.

    Returns:
        The two datasets, and the splits that anchors are taken from.

    Raises:
        UserError: there is no dataset of that name, or it has prompts of only one kind.
    """
    known = sources()
    if dataset in known:
        return known[dataset]
    raise lacking(dataset, known, "a soft prompt needs both kinds")


def load_anchors(dataset: str, languages: Sequence[str]) -> Anchors:
    """Read the anchors in each language.

    Args:
        dataset: a key of `sources`.
        languages: ISO 639-1 codes.

    Raises:
        UserError: there is no such dataset or language, or its files are not available.
        NotParallel: a language has other rows than the first language.
    """
    kinds, splits = source_named(dataset)
    languages = tuple(dict.fromkeys(languages))
    rows = {
        language: [
            [row for split in splits for row in data.load(kind, language, split)] for kind in kinds
        ]
        for language in languages
    }
    first = rows[languages[0]]
    for language in languages:
        _require_parallel(kinds, languages[0], first, language, rows[language])
    chosen = {
        row.id for kind in (_unseen(first) if dataset == "polyrefuse" else first) for row in kind
    }
    harmful, harmless = (
        {
            language: [row.prompt for row in rows[language][kind] if row.id in chosen]
            for language in languages
        }
        for kind in (0, 1)
    )
    anchors = [row for kind in first for row in kind if row.id in chosen]
    return Anchors(
        dataset=dataset,
        languages=languages,
        harmful=harmful,
        harmless=harmless,
        ids=tuple(row.id for row in anchors),
        sha256={
            path: digest
            for language in languages
            for kind in kinds
            for split in splits
            for path, digest in data.checksums(kind, language, split).items()
        },
        overlap=_overlap(anchors),
    )


def normalised(text: str) -> str:
    """Reduce a text to lower-case words with single spaces between them, to compare prompts."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _text(row: Row) -> str:
    """Return the text by which a row is compared: in English, or its own if English is missing."""
    return normalised(row.prompt_en or row.prompt)


def _unseen(rows: Sequence[list[Row]]) -> list[list[Row]]:
    """Select the harmful rows outside `HELD_OUT`, and as many harmless rows from the beginning."""
    tested = {_text(row) for name in HELD_OUT for row in data.load(name)}
    harmful, harmless = ([row for row in kind if _text(row) not in tested] for kind in rows)
    return [harmful, harmless[: len(harmful)]]


def _require_parallel(
    kinds: tuple[str, str],
    first: str,
    expected: list[list[Row]],
    language: str,
    rows: list[list[Row]],
) -> None:
    """Refuse a language whose rows are not those of the first language.

    Raises:
        NotParallel: `language` lacks a row of `first`, or has another row.
    """
    for kind, there, here in zip(kinds, expected, rows, strict=True):
        if [row.id for row in there] != [row.id for row in here]:
            raise NotParallel(
                f"{kind} has {len(there)} anchors in {first} and {len(here)} in {language}, and "
                "they are not the same rows; give languages that have the same rows, or translate "
                f"the rest with `polyrefuse data translate --dataset {kind} --to {language}`."
            )


def _overlap(anchors: list[Row]) -> dict[str, list[str] | None]:
    """Find the test rows that are anchors, by dataset.

    Invented datasets are compared with each other only.
    """
    english = {_text(row) for row in anchors}
    invented = any(data.dataset(row.id.split("/")[0]).invented for row in anchors)
    overlap: dict[str, list[str] | None] = {}
    for name, source in data.datasets().items():
        if source.invented != invented or "test" not in source.splits or source.only_by_name:
            continue
        try:
            # A dataset without English is compared in the language that it has.
            rows = data.load(name, source.reference)
        except (data.MissingData, data.WrongHash, data.UnknownSplit):
            overlap[name] = None
            continue
        overlap[name] = [row.id for row in rows if _text(row) in english]
    return overlap
