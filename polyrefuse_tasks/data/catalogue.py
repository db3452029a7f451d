"""Every data set that there is: the published ones, and those that the user added.

What is added changes what there is, so that nothing here is read before it is asked for.
"""

from __future__ import annotations

from polyrefuse_tasks.data import own_datasets, registry
from polyrefuse_tasks.data.registry import Dataset


def datasets() -> dict[str, Dataset]:
    """Every data set by name: the published ones in the registry's order, then one's own.

    Raises:
        MissingData: the mirror is no folder.
    """
    own = {one.name: one for added in own_datasets.sets() for one in added.datasets}
    # A later version may publish a name that was free when it was added.
    return registry.datasets() | {
        name: one for name, one in own.items() if name not in registry.datasets()
    }


def dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        UnknownDataset: there is none.
        MissingData: the mirror is no folder.
    """
    published = registry.datasets()
    known = published if name in published else datasets()
    if name not in known:
        raise registry.unknown(name, [*known, *_both_kinds()])
    return known[name]


def named(name: str) -> tuple[str, ...]:
    """The data sets that a name stands for: itself, or both halves of a set of one's own.

    Raises:
        UnknownDataset: there is none.
        MissingData: the mirror is no folder.
    """
    return _both_kinds().get(name) or (dataset(name).name,)


def harmful_and_harmless() -> dict[str, tuple[str, str]]:
    """Each set of one's own with rows of both kinds -> its harmful and its harmless data set.

    Raises:
        MissingData: the mirror is no folder.
    """
    return {name: (halves[0], halves[1]) for name, halves in _both_kinds().items()}


def _both_kinds() -> dict[str, tuple[str, ...]]:
    every = datasets()
    return {
        added.name: tuple(added.halves)
        for added in own_datasets.sets()
        if len(added.halves) > 1 and every.keys() >= added.halves.keys()
    }
