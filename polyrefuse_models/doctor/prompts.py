"""Check whether the published prompts are on this machine, unchanged."""

from __future__ import annotations

import shlex
from pathlib import Path

from polyrefuse_models.doctor.finding import Finding, State


def prompts() -> Finding:
    """Check that the mirror or the cache has the files of all datasets, unchanged."""
    from polyrefuse_tasks.data import cache, registry
    from polyrefuse_tasks.data.errors import MissingData, WrongHash

    name = "data"
    try:
        places = " and ".join(str(folder) for folder in cache.places().values())
    except MissingData as error:
        return Finding(name, State.MISSING, str(error), "unset POLYREFUSE_DATA_DIR")
    files = {
        file.path: file
        for dataset in registry.datasets().values()
        if not dataset.only_by_name
        for file in dataset.files
    }
    absent, wrong = [], []
    for file in files.values():
        found = cache.find(file)
        if found is None:
            absent.append(file)
            continue
        try:
            cache.check(file, found[1])
        except (WrongHash, MissingData):
            wrong.append((file, found[1]))
    if not absent and not wrong:
        return Finding(name, State.OK, f"all {len(files)} files of prompts are in {places}")
    said = [f"{len(absent)} of {len(files)} files of prompts are not in {places}"] if absent else []
    said += [f"files that were changed: {len(wrong)}, the first is {wrong[0][1]}"] if wrong else []
    return Finding(name, State.MISSING, "; ".join(said), _fetch([path for _, path in wrong]))


def _fetch(wrong: list[Path]) -> str:
    """Return the command that fetches every file, after removing what prevents it."""
    from polyrefuse_tasks.data import cache

    unset = [part for variable in cache.forbidding() for part in ("-u", variable)]
    fetch = ["polyrefuse", "data", "fetch"]
    command = shlex.join(["env", *unset, *fetch] if unset else fetch)
    if wrong:
        return f"{shlex.join(['rm', *map(str, wrong)])} && {command}"
    return command
