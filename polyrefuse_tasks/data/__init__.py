"""The prompts: where they come from, where they are kept, and their rows in every language."""

from polyrefuse_tasks.data.catalogue import (
    dataset,
    datasets,
    harmful_and_harmless,
    named,
)
from polyrefuse_tasks.data.errors import (
    BrokenData,
    MissingData,
    TranslationFailed,
    UnknownDataset,
    UnknownSplit,
    WrongHash,
)
from polyrefuse_tasks.data.registry import Dataset, File, Repository
from polyrefuse_tasks.data.rows import (
    Row,
    checksums,
    languages,
    load,
    needed,
    substituted_split,
)
from polyrefuse_tasks.languages import UnknownLanguage

__all__ = [
    "DATASETS",
    "BrokenData",
    "Dataset",
    "File",
    "MissingData",
    "Repository",
    "Row",
    "TranslationFailed",
    "UnknownDataset",
    "UnknownLanguage",
    "UnknownSplit",
    "WrongHash",
    "checksums",
    "dataset",
    "datasets",
    "harmful_and_harmless",
    "languages",
    "load",
    "named",
    "needed",
    "substituted_split",
]


def __getattr__(name: str) -> tuple[str, ...]:
    # Nothing reads what there is before it is asked for.
    if name == "DATASETS":
        return tuple(datasets())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
