"""The registry of published sources: which file holds which data set, split and language.

It is read from `sources.yaml`, which is all there is to edit when a source changes. `catalogue` has
data sets of one's own beside them.
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
    """One file of prompts. `path` is relative to the mirror and to the cache alike.

    `repository` is where it is published; None for a file of a data set of one's own, which is
    nowhere to be fetched from.
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
        """Where the file is published, by commit, so that its content never changes."""
        assert self.repository is not None, "a file of one's own is nowhere published"
        return f"{HOST}/{self.repository.name}/{self.repository.commit}/{self.upstream}"


@dataclass(frozen=True)
class Dataset:
    """One data set: its licence, its papers and its files.

    Attributes:
        stand_in: for a language whose test file was never published, the split in its place.
        matched_in: the data set in which exact English matches give the other languages.
        invented: whether its rows are made from the words of `toyrefuse`: it has no files, and is
            here offline.
        contrast_set: the set in which its rows have partners of the other kind; None without.
        only_by_name: whether it is fetched and verified only where it is named, because its
            prompts are those of another data set.
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
        """The published languages, those by English match included, sorted."""
        if self.invented:
            return POLYREFUSE
        own = {language for file in self.files for language in file.languages}
        if self.matched_in:
            own.update(dataset(self.matched_in).languages)
        return tuple(sorted(own))

    @property
    def reference(self) -> str:
        """The language whose rows the others are paired with: English, or the first without it."""
        return "en" if "en" in self.languages else self.languages[0]

    def file(self, split: str, language: str) -> File:
        """The file that holds `split` in `language`.

        Raises:
            UnknownSplit: the data set has no such split, or not in that language.
        """
        self.require_split(split)
        for file in self.files:
            if file.split == split and language in file.languages:
                return file
        raise UnknownSplit(f"{self.name} has no split {split!r} in {language!r}: choose another.")

    def require_split(self, split: str) -> None:
        """Refuse a split that the data set does not have.

        Raises:
            UnknownSplit: naming those it has.
        """
        if split not in self.splits:
            raise UnknownSplit(
                f"{self.name} has no split {split!r}: choose from {', '.join(self.splits)}."
            )


@functools.cache
def datasets() -> dict[str, Dataset]:
    """Every published data set, those of `sources.yaml`, by name, in its order."""
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
    """The published data set of that name.

    Raises:
        UnknownDataset: there is none.
    """
    if name not in datasets():
        raise unknown(name, datasets())
    return datasets()[name]


def unknown(name: str, known: Collection[str]) -> UnknownDataset:
    """What to raise where `known` are the names of all data sets, and `name` is none of them."""
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? The data sets are" if near else "choose from"
    return UnknownDataset(f"There is no data set {name!r}: {meant} {', '.join(known)}.")


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
