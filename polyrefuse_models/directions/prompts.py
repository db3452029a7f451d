"""Choose the prompts that a direction is extracted from, and those that it is selected on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.log import warn_once
from polyrefuse_tasks import data

PUBLISHED: dict[str, tuple[str, str]] = {
    "polyrefuse": ("harmful", "harmless"),
    "toyrefuse": ("toyrefuse_harmful", "toyrefuse_harmless"),
}
"""The published names that `dataset=` takes, each with its harmful and its harmless dataset."""

SIZES = {"train": 128, "val": 32}
"""The largest number of prompts of each kind in a split (2406.11717, sec. 2.2)."""


@dataclass(frozen=True)
class Prompts:
    """A seeded choice of prompts in one language.

    Attributes:
        dataset: a key of `sources`.
        language: the ISO 639-1 code of the prompts.
        seed: the seed of the choice.
        harmful: the harmful prompts by split, "train" and "val".
        harmless: the harmless prompts by split.
        sha256: the checksum of each file that was read, by its path in the data folder.
    """

    dataset: str
    language: str
    seed: int
    harmful: dict[str, list[str]]
    harmless: dict[str, list[str]]
    sha256: dict[str, str]

    def every(self) -> list[str]:
        """List all prompts in a fixed order."""
        return [
            prompt
            for kind in (self.harmful, self.harmless)
            for split in SIZES
            for prompt in kind[split]
        ]


def sources() -> dict[str, tuple[str, str]]:
    """Map each name that `dataset=` takes to its harmful and its harmless dataset.

    The names include datasets that the user added.

    Raises:
        UserError: the data folder cannot be used.
    """
    return PUBLISHED | data.harmful_and_harmless()


def kinds_of(dataset: str) -> tuple[str, str]:
    """Find the datasets of harmful and of harmless prompts that `dataset` names.

    Raises:
        UserError: there is no dataset of that name, or it has prompts of only one kind.
    """
    known = sources()
    if dataset in known:
        return known[dataset]
    raise lacking(dataset, known, "a direction needs both kinds")


def lacking(dataset: str, known: Iterable[str], why: str) -> UserError:
    """Make the error for a `dataset` that is unknown or has prompts of only one kind.

    Args:
        dataset: the name that was given.
        known: the names that could be given.
        why: a clause that says what needs both kinds.
    """
    there = data.datasets().get(dataset)
    if there is not None and there.own:
        return UserError(
            f"dataset={dataset} has only {'harmful' if there.harmful else 'harmless'} prompts, "
            f"and {why}; add the dataset again with rows of both kinds."
        )
    return UserError(f"dataset={dataset} is not known; use one of {', '.join(known)}.")


def splits_of(kind: str) -> dict[str, str]:
    """Find the splits of a dataset from which the prompts for "train" and for "val" are taken.

    In a user's dataset without splits, both are taken from `test`, and no prompt is used twice.

    Raises:
        UnknownDataset: there is no dataset of that name.
    """
    source = data.dataset(kind)
    if source.own and not {*SIZES} & {*source.splits}:
        return dict.fromkeys(SIZES, "test")
    return {split: split for split in SIZES}


def sample(dataset: str = "polyrefuse", language: str = "en", seed: int = 0) -> Prompts:
    """Choose training and validation prompts.

    A seed chooses the same prompts in every language, since it chooses by index.

    Raises:
        UserError: there is no such dataset or language, its files are not available, or it has too
            few prompts.
    """
    kinds = kinds_of(dataset)
    harmful, harmless = (_choices(kind, language, seed) for kind in kinds)
    sums = {
        path: digest
        for kind in kinds
        for split in splits_of(kind).values()
        for path, digest in data.checksums(kind, language, split).items()
    }
    return Prompts(dataset, language, seed, harmful, harmless, sums)


def _choices(kind: str, language: str, seed: int) -> dict[str, list[str]]:
    splits = splits_of(kind)
    if {*splits.values()} == {"test"}:
        return _divided(kind, language, seed)
    return {split: _choice(kind, language, split, seed) for split in splits}


def _divided(kind: str, language: str, seed: int) -> dict[str, list[str]]:
    """Divide one split into training and validation prompts, in the proportion of `SIZES`.

    Raises:
        UserError: there are too few prompts for both.
    """
    rows = data.load(kind, language, "test")
    if len(rows) < len(SIZES):
        raise UserError(
            f"{kind} has {len(rows)} prompts in {language!r}, too few for training and validation; "
            "add more prompts."
        )
    shuffled = random.Random(seed).sample(rows, len(rows))
    every = sum(SIZES.values())
    val = max(1, min(SIZES["val"], len(rows) * SIZES["val"] // every))
    train = min(SIZES["train"], len(rows) - val)
    warn_once(
        f"{kind} has no splits, so the direction is made from {train + val} of its {len(rows)} "
        "test prompts, and rates on these are not held out. Add a column `split` to keep training "
        "and test prompts apart."
    )
    return {
        "train": [row.prompt for row in shuffled[:train]],
        "val": [row.prompt for row in shuffled[train : train + val]],
    }


def _choice(kind: str, language: str, split: str, seed: int) -> list[str]:
    rows = data.load(kind, language, split)
    return [row.prompt for row in random.Random(seed).sample(rows, min(SIZES[split], len(rows)))]
