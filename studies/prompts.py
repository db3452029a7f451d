"""The prompts that a study may ask: data sets by name, and their tasks in a language."""

from __future__ import annotations

from collections.abc import Iterable

from polyrefuse_tasks import data
from polyrefuse_tasks.configs import FAMILIES, Family


def _named() -> dict[str, tuple[Family, ...]]:
    own: dict[str, tuple[Family, ...]] = {
        family.task("").rstrip("_").removeprefix("polyrefuse_"): (family,) for family in FAMILIES
    }
    both: dict[str, tuple[Family, ...]] = {
        "polyrefuse": (*own["harmful"], *own["harmless"]),
        "toyrefuse": (*own["toyrefuse_harmful"], *own["toyrefuse_harmless"]),
    }
    return both | own


DATASETS: dict[str, tuple[Family, ...]] = _named()
"""By name the families of tasks: a name of docs/tasks.md without its `polyrefuse_` and language;
`polyrefuse` and `toyrefuse` are the harmful and the harmless prompts of both."""


def spoken(families: Iterable[Family]) -> tuple[str, ...]:
    """The languages of some families, those of translations of one's own included.

    Raises:
        UserError: the folder of the data cannot be used.
    """
    return tuple(
        dict.fromkeys(
            language
            for family in families
            for language in (*family.languages, *data.languages(family.name))
        )
    )


def asked(datasets: tuple[str, ...], languages: tuple[str, ...] | None) -> list[tuple[Family, str]]:
    """The families of some data sets, each with each language that it is asked in.

    Args:
        datasets: names of `DATASETS`.
        languages: those that have any of the families; all that were published where None.
    """
    # In one order, whatever the file's.
    named = [name for name in DATASETS if name in datasets]
    families = dict.fromkeys(family for name in named for family in DATASETS[name])
    return [
        (family, language)
        for family in families
        for language in (family.languages if languages is None else spoken([family]))
        if languages is None or language in languages
    ]


def checksums(
    names: Iterable[str], languages: Iterable[str], split: str | None = None
) -> dict[str, str]:
    """The sha256 of each file of prompts that is read, by path relative to the data folder.

    Args:
        names: of data sets of `polyrefuse data`.
        languages: of the prompts.
        split: of them; all where None.

    Raises:
        UserError: a translation of one's own is not there, or cannot be read.
    """
    wanted = list(dict.fromkeys(languages))
    return {
        path: digest
        for name in names
        for language in wanted
        for path, digest in data.checksums(name, language, split).items()
    }
