"""The prompts that a direction is extracted from and selected on."""

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
"""What `dataset=` names among what is published -> its data sets of harmful and of harmless
prompts."""

SIZES = {"train": 128, "val": 32}
"""Prompts of each kind in a split (2406.11717, sec. 2.2); fewer where there are not as many."""


@dataclass(frozen=True)
class Prompts:
    """A seeded choice of prompts in one language.

    Attributes:
        dataset: a key of `sources`.
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


def sources() -> dict[str, tuple[str, str]]:
    """What `dataset=` names -> its data sets of harmful and of harmless prompts, one's own too.

    Raises:
        UserError: the data folder cannot be used.
    """
    return PUBLISHED | data.harmful_and_harmless()


def kinds_of(dataset: str) -> tuple[str, str]:
    """The data sets of harmful and of harmless prompts that `dataset` names.

    Raises:
        UserError: there is none of that name, or it has prompts of one kind alone.
    """
    known = sources()
    if dataset in known:
        return known[dataset]
    raise lacking(dataset, known, "a direction is between both kinds")


def lacking(dataset: str, known: Iterable[str], why: str) -> UserError:
    """That `dataset` names no harmful and harmless prompts.

    Args:
        dataset: as it was given.
        known: those that do.
        why: what needs both kinds, as a clause.
    """
    there = data.datasets().get(dataset)
    if there is not None and there.own:
        return UserError(
            f"dataset={dataset} has {'harmful' if there.harmful else 'harmless'} prompts alone, "
            f"and {why}; add it again with rows of both."
        )
    return UserError(f"dataset={dataset} is not known; use one of {', '.join(known)}.")


def splits_of(kind: str) -> dict[str, str]:
    """Which split the prompts of "train" and of "val" are in.

    Of a data set of one's own that names no splits both are in `test`, and no prompt is in both.

    Raises:
        UnknownDataset: there is none of that name.
    """
    source = data.dataset(kind)
    if source.own and not {*SIZES} & {*source.splits}:
        return dict.fromkeys(SIZES, "test")
    return {split: split for split in SIZES}


def sample(dataset: str = "polyrefuse", language: str = "en", seed: int = 0) -> Prompts:
    """Choose training and validation prompts.

    A seed chooses the same prompts in every language, since it goes by index.

    Raises:
        UserError: no such data set or language, its files cannot be had, or it has too few prompts.
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
    """Training and validation prompts out of one split: as many as `SIZES`, or in its proportion.

    Raises:
        UserError: there is no prompt for one of them.
    """
    rows = data.load(kind, language, "test")
    if len(rows) < len(SIZES):
        raise UserError(
            f"{kind} has {len(rows)} prompts in {language!r}, too few for training and validation; "
            "add more."
        )
    shuffled = random.Random(seed).sample(rows, len(rows))
    every = sum(SIZES.values())
    val = max(1, min(SIZES["val"], len(rows) * SIZES["val"] // every))
    train = min(SIZES["train"], len(rows) - val)
    warn_once(
        f"{kind} has no splits: {train + val} of its {len(rows)} test prompts are what the "
        "direction is made of, so that rates on them are not held out. A column `split` keeps "
        "them apart."
    )
    return {
        "train": [row.prompt for row in shuffled[:train]],
        "val": [row.prompt for row in shuffled[train : train + val]],
    }


def _choice(kind: str, language: str, split: str, seed: int) -> list[str]:
    rows = data.load(kind, language, split)
    return [row.prompt for row in random.Random(seed).sample(rows, min(SIZES[split], len(rows)))]
