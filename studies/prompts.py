"""The prompts that a study may ask: data sets by name, and their tasks in a language."""

from __future__ import annotations

from collections.abc import Iterable

from polyrefuse_tasks import data
from polyrefuse_tasks.configs import FAMILIES, Family, own_families


def datasets() -> dict[str, tuple[Family, ...]]:
    """By name the families of tasks that a study may ask, those of data sets of one's own too.

    A name is one of docs/reference/tasks.md without its `polyrefuse_` and language; `polyrefuse`, `toyrefuse`
    and the name of a set of one's own with both kinds are its harmful and its harmless prompts.

    Raises:
        UserError: the folder of the data cannot be used.
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


def asked(names: tuple[str, ...], languages: tuple[str, ...] | None) -> list[tuple[Family, str]]:
    """The families of some data sets, each with each language that it is asked in.

    Args:
        names: of `datasets`.
        languages: those that have any of the families; all that were published where None.
    """
    # In one order, whatever the file's.
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
