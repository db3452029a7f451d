"""Link results into a second folder, so that labels can be kept apart from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyrefuse_shared.drafts import draft, make_folder
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import date_of, is_samples_file
from polyrefuse_shared.writing import cannot_write
from polyrefuse_tasks.saved_results.folders import find_results


class SamePlace(UserError):
    """Two files would be linked at the same place."""


class InEachOther(UserError):
    """The folder for links contains the results or lies inside them."""


def link_results(paths: Sequence[Path], output: Path) -> bool:
    """Link each results file and its samples into another folder, or copy them if links fail.

    The files keep their place relative to their path. Existing links stay.

    Args:
        paths: results files, or folders, whose subfolders are read as well.
        output: the folder for the links.

    Returns:
        Whether the paths have a results file.

    Raises:
        InEachOther: the folder contains one of the paths, or lies inside it.
        SamePlace: another file is already at the place of a link.
        CannotWrite: the folder cannot be written.
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
            f"One of {output} and the results {path} contains the other; name a separate folder."
        )


def link(file: Path, place: Path) -> None:
    """Link a file to a place, or copy it.

    Raises:
        SamePlace: another file is already there.
        CannotWrite: the place cannot be written.
    """
    try:
        make_folder(place.parent)
        # Linked before anything is looked at, because a link never replaces the file of another
        # process.
        with suppress(OSError):
            os.link(file.resolve(), place)
            return
        if place.exists():
            if not (place.samefile(file) or place.read_bytes() == file.read_bytes()):
                raise SamePlace(
                    f"{place} already exists and differs from {file}; name an empty folder, or "
                    "results without two files at the same place."
                )
            return
        with draft(place.parent, Path.touch) as copy:
            shutil.copyfile(file, copy)
            os.replace(copy, place)
    except OSError as error:
        raise cannot_write(place, error) from None
