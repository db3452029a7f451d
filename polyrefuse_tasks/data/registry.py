"""The registry of published sources: which file holds which dataset, split and language.

It is read from `sources.yaml`, the only file to edit when a source changes. `catalogue` adds the
user's own datasets.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_tasks.data import toyrefuse
from polyrefuse_tasks.data.errors import UnknownDataset, UnknownSplit
from polyrefuse_tasks.languages import POLYREFUSE

SOURCES = Path(__file__).with_name("sources.yaml")
HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Repository:
    """A GitHub repository at a pinned commit."""

    name: str
    commit: str
    licence: str


@dataclass(frozen=True)
class File:
    """One file of prompts.

    Attributes:
        path: its path relative to the mirror, and relative to the cache.
        dataset: the name of its dataset.
        split: the split of its rows.
        languages: the languages of its rows.
        repository: the repository that publishes it; None for a file of the user's own dataset,
            which cannot be fetched.
        upstream: its path in the repository.
        sha256: its published checksum.
    """

    path: str
    dataset: str
    split: str
    languages: tuple[str, ...]
    repository: Repository | None
    upstream: str
    sha256: str

    @property
    def url(self) -> str:
        """The address of the published file at the pinned commit."""
        assert self.repository is not None, "a file of the user's own dataset is not published"
        return f"{HOST}/{self.repository.name}/{self.repository.commit}/{self.upstream}"


@dataclass(frozen=True)
class Dataset:
    """One dataset: its licence, its papers and its files.

    Attributes:
        stand_in: language -> the split that replaces a test file that was never published.
        matched_in: the dataset whose rows give the other languages, by exact English match.
        invented: whether its rows are made from the words of `toyrefuse`. It then has no files and
            needs no download.
        contrast_set: the contrast set in which its rows have partners of the other kind, or None.
        only_by_name: whether it is fetched and verified only by name, because its prompts are
            those of another dataset.
        own: whether the user added it.
    """

    name: str
    about: str
    harmful: bool
    licence: str
    citation: str
    files: tuple[File, ...]
    stand_in: dict[str, str]
    matched_in: str | None
    invented: bool = False
    contrast_set: str | None = None
    only_by_name: bool = False
    own: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The published splits, in the registry's order."""
        if self.invented:
            return toyrefuse.SPLITS
        return tuple(dict.fromkeys(file.split for file in self.files))

    @property
    def languages(self) -> tuple[str, ...]:
        """The published languages, sorted, including those found by English match."""
        if self.invented:
            return POLYREFUSE
        own = {language for file in self.files for language in file.languages}
        if self.matched_in:
            own.update(dataset(self.matched_in).languages)
        return tuple(sorted(own))

    @property
    def reference(self) -> str:
        """The language with which the others are paired: English, or else the first language."""
        return "en" if "en" in self.languages else self.languages[0]

    def file(self, split: str, language: str) -> File:
        """Return the file that holds `split` in `language`.

        Raises:
            UnknownSplit: the dataset has no such split, or not in that language.
        """
        self.require_split(split)
        for file in self.files:
            if file.split == split and language in file.languages:
                return file
        raise UnknownSplit(f"{self.name} has no split {split!r} in {language!r}: choose another.")

    def require_split(self, split: str) -> None:
        """Refuse a split that the dataset does not have.

        Raises:
            UnknownSplit: the message names the splits that it has.
        """
        if split not in self.splits:
            raise UnknownSplit(
                f"{self.name} has no split {split!r}: choose from {', '.join(self.splits)}."
            )


@functools.cache
def datasets() -> dict[str, Dataset]:
    """Return the published datasets by name, in the order of `sources.yaml`."""
    import yaml

    sources = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    repositories = {
        name: Repository(name, fields["commit"], fields["licence"])
        for name, fields in sources["repositories"].items()
    }
    return {
        name: Dataset(
            name=name,
            about=fields["about"],
            harmful=fields["harmful"],
            licence=fields["licence"],
            citation=fields["citation"],
            files=tuple(
                file for entry in fields["files"] for file in _files(name, entry, repositories)
            ),
            stand_in=fields.get("stand_in", {}),
            matched_in=fields.get("matched_in"),
            invented=fields.get("invented", False),
            contrast_set=fields.get("contrast_set"),
            only_by_name=fields.get("only_by_name", False),
        )
        for name, fields in sources["datasets"].items()
    }


def dataset(name: str) -> Dataset:
    """Return the published dataset with this name.

    Raises:
        UnknownDataset: no published dataset has this name.
    """
    if name not in datasets():
        raise unknown(name, datasets())
    return datasets()[name]


def unknown(name: str, known: Collection[str]) -> UnknownDataset:
    """Return the error for a name that is not among the known names of datasets."""
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? The datasets are" if near else "choose from"
    return UnknownDataset(f"There is no dataset {name!r}: {meant} {', '.join(known)}.")


def _files(name: str, entry: dict[str, Any], repositories: dict[str, Repository]) -> list[File]:
    sums = entry["sha256"]
    if isinstance(sums, str):
        holds = {tuple(entry["multilingual"]): sums}
    else:
        holds = {(language,): sha256 for language, sha256 in sums.items()}
    return [
        File(
            path=entry["path"].replace("{lang}", spoken[0]),
            dataset=name,
            split=entry["split"],
            languages=spoken,
            repository=repositories[entry["repository"]],
            upstream=entry["upstream"].replace("{lang}", spoken[0]),
            sha256=sha256,
        )
        for spoken, sha256 in holds.items()
    ]
