"""Results in a second folder, by links, so that labels can be kept apart from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import date_of, is_samples_file
from polyrefuse_shared.writing import cannot_write
from polyrefuse_tasks.saved_results.folders import find_results


class SamePlace(UserError):
    """Two files that would be linked at one place."""


class InEachOther(UserError):
    """A folder for links that holds the results, or lies among them."""


def link_results(paths: Sequence[Path], output: Path) -> bool:
    """Link each results file and its samples into another folder; copy where links are impossible.

    Each lies below `output` as it lies below its path. What is linked already stays.

    Args:
        paths: results files, or folders of which every subfolder is read.
        output: where to.

    Returns:
        Whether there was a results file.

    Raises:
        InEachOther: the folder holds one of the paths, or lies in it.
        SamePlace: another file is where one has to go.
        CannotWrite: the disk refuses.
    """
    for path in paths:
        _require_apart(path, output)
    linked = False
    for path in paths:
        for file in find_results([path], []):
            linked = True
            folder = file.path.parent
            below = folder.relative_to(path) if path.is_dir() else Path()
            samples = (
                name
                for name in file.beside
                if is_samples_file(name) and date_of(name) == file.date_id
            )
            for name in (file.path.name, *sorted(samples)):
                link(folder / name, output / below / name)
    return linked


def _require_apart(path: Path, output: Path) -> None:
    # Links among the results would be results themselves, and linked again by the next call.
    there, to = Path(os.path.realpath(path)), Path(os.path.realpath(output))
    if path.is_dir() and (there in to.parents or to in there.parents):
        raise InEachOther(
            f"{output} and the results {path} are in each other; name a folder apart."
        )


def link(file: Path, place: Path) -> None:
    """Link a file to a place, or copy it.

    Raises:
        SamePlace: another file is there.
        CannotWrite: the disk refuses.
    """
    try:
        if place.exists():
            if not (place.samefile(file) or place.read_bytes() == file.read_bytes()):
                raise SamePlace(
                    f"{place} is another file than {file}; name an empty folder, or results of "
                    "which no two lie at the same place."
                )
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(file.resolve(), place)
            return
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.copyfile(file, draft)
        os.replace(draft, place)
    except OSError as error:
        raise cannot_write(place, error) from None
