"""The prompts that a study may ask: datasets by name, and their tasks in each language."""

from __future__ import annotations

from collections.abc import Iterable

from polyrefuse_tasks import data
from polyrefuse_tasks.configs import FAMILIES, Family, own_families


def datasets() -> dict[str, tuple[Family, ...]]:
    """Return by name the families of tasks that a study may ask, with the user's own datasets.

    A name is one of docs/reference/tasks.md without `polyrefuse_` and the language. `polyrefuse`,
    `toyrefuse` and the user's own datasets with both kinds stand for harmful and harmless prompts.

    Raises:
        UserError: the data folder cannot be used.
    """
    added = {family.name: (family,) for family in own_families()}
    both = {
        name: tuple(family for half in halves for family in added.get(half, ()))
        for name, halves in data.harmful_and_harmless().items()
    }
    return _published() | added | {name: families for name, families in both.items() if families}


def _published() -> dict[str, tuple[Family, ...]]:
    own: dict[str, tuple[Family, ...]] = {
        family.task("").rstrip("_").removeprefix("polyrefuse_"): (family,) for family in FAMILIES
    }
    both: dict[str, tuple[Family, ...]] = {
        "polyrefuse": (*own["harmful"], *own["harmless"]),
        "toyrefuse": (*own["toyrefuse_harmful"], *own["toyrefuse_harmless"]),
    }
    return both | own


def spoken(families: Iterable[Family]) -> tuple[str, ...]:
    """Return the languages of families of tasks, with those of the user's own translations.

    Raises:
        UserError: the data folder cannot be used.
    """
    return tuple(
        dict.fromkeys(
            language
            for family in families
            for language in (*family.languages, *data.languages(family.name))
        )
    )


def asked(names: tuple[str, ...], languages: tuple[str, ...] | None) -> list[tuple[Family, str]]:
    """Return the families of datasets, each paired with each language in which it is asked.

    Args:
        names: names from `datasets`.
        languages: the languages; None for all in which a dataset was published.
    """
    # The order does not depend on that of the file.
    named = [families for name, families in datasets().items() if name in names]
    families = dict.fromkeys(family for group in named for family in group)
    return [
        (family, language)
        for family in families
        for language in (family.languages if languages is None else spoken([family]))
        if languages is None or language in languages
    ]


def checksums(
    names: Iterable[str], languages: Iterable[str], split: str | None = None
) -> dict[str, str]:
    """Return the SHA-256 of each file of prompts that is read, by path in the data folder.

    Args:
        names: names of datasets of `polyrefuse data`.
        languages: the languages of the prompts.
        split: the split of the prompts; None for all.

    Raises:
        UserError: one of the user's own translations does not exist or cannot be read.
    """
    wanted = list(dict.fromkeys(languages))
    return {
        path: digest
        for name in names
        for language in wanted
        for path, digest in data.checksums(name, language, split).items()
    }
