"""The registry of sources: which file holds which data set, split and language, and where from.

It is read from `sources.yaml`, which is all there is to edit when a source changes.
"""

from __future__ import annotations

import difflib
import functools
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
    """One published file. `path` is relative to the mirror and to the cache alike."""

    path: str
    dataset: str
    split: str
    languages: tuple[str, ...]
    repository: Repository
    upstream: str
    sha256: str

    @property
    def url(self) -> str:
        """Where the file is published, by commit, so that its content never changes."""
        return f"{HOST}/{self.repository.name}/{self.repository.commit}/{self.upstream}"


@dataclass(frozen=True)
class Dataset:
    """One data set: its licence, its papers and its files.

    Attributes:
        stand_in: for a language whose test file was never published, the split in its place.
        matched_in: the data set in which exact English matches give the other languages.
        invented: whether its rows are made from the words of `toyrefuse`: it has no files, and is
            here offline.
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

    def file(self, split: str, language: str) -> File:
        """The file that holds `split` in `language`.

        Raises:
            UnknownSplit: the data set has no such split.
        """
        self.require_split(split)
        return next(
            file for file in self.files if file.split == split and language in file.languages
        )

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
    """Every data set of `sources.yaml`, by name, in its order."""
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
        )
        for name, fields in sources["datasets"].items()
    }


def dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        UnknownDataset: there is none.
    """
    if name not in datasets():
        near = difflib.get_close_matches(name, datasets(), n=1)
        meant = f"did you mean {near[0]!r}? The data sets are" if near else "choose from"
        raise UnknownDataset(f"There is no data set {name!r}: {meant} {', '.join(datasets())}.")
    return datasets()[name]


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
