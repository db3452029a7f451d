"""The prompts that a study may ask: data sets by name, and their tasks in a language."""

from __future__ import annotations

from polyrefuse_tasks.configs import FAMILIES, Family
from polyrefuse_tasks.languages import POLYREFUSE

LANGUAGES = POLYREFUSE


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


def tasks(datasets: tuple[str, ...], languages: tuple[str, ...] | None) -> list[str]:
    """The tasks of lm-eval for some data sets in some languages, or in all that each has."""
    families = dict.fromkeys(family for name in datasets for family in DATASETS[name])
    return [
        family.task(language)
        for family in families
        for language in family.languages
        if languages is None or language in languages
    ]
