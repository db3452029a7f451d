"""All datasets: the published ones and those that the user added.

The user may add datasets at any time, so nothing here is read before it is needed.
"""

from __future__ import annotations

from polyrefuse_tasks.data import own_datasets, registry
from polyrefuse_tasks.data.registry import Dataset


def datasets() -> dict[str, Dataset]:
    """Return all datasets by name: the published ones in their order, then the user's own.

    Raises:
        MissingData: the mirror is not a folder.
    """
    own = {one.name: one for added in own_datasets.sets() for one in added.datasets}
    # A later version may publish a name that was free when it was added.
    return registry.datasets() | {
        name: one for name, one in own.items() if name not in registry.datasets()
    }


def dataset(name: str) -> Dataset:
    """Return the dataset with this name.

    Raises:
        UnknownDataset: no dataset has this name.
        MissingData: the mirror is not a folder.
    """
    published = registry.datasets()
    known = published if name in published else datasets()
    if name not in known:
        raise registry.unknown(name, [*known, *_both_kinds()])
    return known[name]


def named(name: str) -> tuple[str, ...]:
    """Return the datasets that a name stands for: one, or both halves of a user's dataset.

    Raises:
        UnknownDataset: no dataset has this name.
        MissingData: the mirror is not a folder.
    """
    return _both_kinds().get(name) or (dataset(name).name,)


def harmful_and_harmless() -> dict[str, tuple[str, str]]:
    """Map each of the user's datasets with both kinds of rows to its harmful and harmless half.

    Raises:
        MissingData: the mirror is not a folder.
    """
    return {name: (halves[0], halves[1]) for name, halves in _both_kinds().items()}


def _both_kinds() -> dict[str, tuple[str, ...]]:
    every = datasets()
    return {
        added.name: tuple(added.halves)
        for added in own_datasets.sets()
        if len(added.halves) > 1 and every.keys() >= added.halves.keys()
    }
