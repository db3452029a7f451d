"""The prompts that a direction is extracted from and selected on."""

from __future__ import annotations

import random
from dataclasses import dataclass

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data

DATASETS: dict[str, tuple[str, str]] = {
    "polyrefuse": ("harmful", "harmless"),
    "toyrefuse": ("toyrefuse_harmful", "toyrefuse_harmless"),
}
"""What `dataset=` names -> its data sets of harmful and of harmless prompts."""

SIZES = {"train": 128, "val": 32}
"""Prompts of each kind in a split (2406.11717, sec. 2.2); fewer where there are not as many."""


@dataclass(frozen=True)
class Prompts:
    """A seeded choice of prompts in one language.

    Attributes:
        dataset: a key of `DATASETS`.
        language: ISO 639-1 code.
        seed: of the choice.
        harmful: split ("train" and "val") -> prompts.
        harmless: the same.
        sha256: of each file that was read, by path relative to the data folder.
    """

    dataset: str
    language: str
    seed: int
    harmful: dict[str, list[str]]
    harmless: dict[str, list[str]]
    sha256: dict[str, str]

    def every(self) -> list[str]:
        """All prompts, in a fixed order."""
        return [
            prompt
            for kind in (self.harmful, self.harmless)
            for split in SIZES
            for prompt in kind[split]
        ]


def kinds_of(dataset: str) -> tuple[str, str]:
    """The data sets of harmful and of harmless prompts that `dataset` names.

    Raises:
        UserError: there is none of that name.
    """
    if dataset not in DATASETS:
        raise UserError(f"dataset={dataset} is not known; use one of {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def sample(dataset: str = "polyrefuse", language: str = "en", seed: int = 0) -> Prompts:
    """Choose training and validation prompts.

    A seed chooses the same prompts in every language, since it goes by index.

    Raises:
        UserError: no such data set or language, or its files cannot be had.
    """
    kinds = kinds_of(dataset)
    harmful, harmless = (
        {split: _choice(kind, language, split, seed) for split in SIZES} for kind in kinds
    )
    sums = {
        path: digest
        for kind in kinds
        for split in SIZES
        for path, digest in data.checksums(kind, language, split).items()
    }
    return Prompts(dataset, language, seed, harmful, harmless, sums)


def _choice(kind: str, language: str, split: str, seed: int) -> list[str]:
    rows = data.load(kind, language, split)
    return [row.prompt for row in random.Random(seed).sample(rows, min(SIZES[split], len(rows)))]
