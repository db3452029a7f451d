"""Which files of a folder hold results, and which lie beside them, by the names lm-eval gives."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyrefuse_shared.lm_eval_internals import date_of, is_results_file, is_samples_file
from polyrefuse_tasks.saved_results.documents import printable

_WHOLE_PATH = re.compile(r"(~|[A-Za-z])?__")


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """A results file.

    Attributes:
        path: where it is.
        name: what it is called in messages, as `shown_path`.
        date_id: its date, as lm-eval writes it into names.
        beside: names of the files in its folder.
    """

    path: Path
    name: str
    date_id: str
    beside: frozenset[str]


def walk(root: Path, errors: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Each folder below one, itself first, with the names in it, those of folders too.

    Links to folders are not followed. However deep folders are, neither Python's recursion nor the
    length that a path may have ends it.

    Args:
        errors: is added what the operating system says of folders that it does not list.
    """
    waiting = [os.fspath(root)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            errors.append(error)
            continue
        yield folder, [entry.name for entry in listed]
        waiting += [entry.path for entry in listed if entry.is_dir(follow_symlinks=False)]


def shown_path(file: Path, root: Path) -> str:
    """What a file that was found in a folder is called in messages, which may be published.

    Args:
        root: what the user named: a folder that it is below, the file itself, or one beside it.

    Returns:
        From the folder's own name on where the user named it by its place on the disk, otherwise
        the path as it is.
    """
    if not root.is_absolute() and ".." not in root.parts:
        shown = file
    elif file.is_relative_to(root):
        shown = Path(root.name, file.relative_to(root))
    else:
        shown = Path(file.name)
    return printable(Path(*map(shown_folder, shown.parts)))


def shown_folder(name: str) -> str:
    """The last part of what lm-eval made of a whole path, when it named a folder after a model."""
    return name.rpartition("__")[2] if _WHOLE_PATH.match(name) else name


def find_results(paths: Sequence[Path], problems: list[str]) -> Iterator[ResultsFile]:
    """Each results file once, whatever paths lead to it; folders and names sorted.

    Args:
        paths: files, or folders of which every subfolder is looked into.
        problems: is added a sentence for each path or folder that holds nothing that can be used,
            and for each samples file without results.
    """
    seen: set[str] = set()
    for path in paths:
        # Not Path's own: they raise where a name is too long, or a folder above is locked.
        is_file = os.path.isfile(path)
        if os.path.exists(path) and not is_file and not os.path.isdir(path):
            problems.append(
                f"{shown_path(path, path)} is neither a file nor a folder; name one of them."
            )
            continue
        if not is_file and not os.path.isdir(path):
            problems.append(
                f"{shown_path(path, path)} does not exist; name a results file or a folder."
            )
            continue
        locked: list[OSError] = []
        walked = walk(path.parent if is_file else path, locked)
        empty = True
        for folder, listed in itertools.islice(walked, 1) if is_file else sorted(walked):
            beside = frozenset(listed)
            names = [path.name] if is_file else sorted(listed)
            dates = {date_of(name) for name in beside if is_results_file(name)}
            for name in names:
                if is_samples_file(name):
                    empty = False
                    if date_of(name) not in dates:
                        shown = shown_path(Path(folder, name), path)
                        problems.append(
                            f"{shown} has no results file of its date beside it; put the two into "
                            "one folder."
                        )
                elif is_results_file(name) or is_file:
                    empty = False
                    real = os.path.realpath(os.path.join(folder, name))
                    if real not in seen:
                        seen.add(real)
                        file = Path(folder, name)
                        yield ResultsFile(file, shown_path(file, path), date_of(name), beside)
        problems += [
            f"{shown_path(Path(error.filename), path)} cannot be read ({error.strerror}); allow it "
            "or move it away."
            for error in locked
        ]
        if empty and not locked:
            problems.append(
                f"{shown_path(path, path)} holds no results_*.json; name what --output_path named."
            )
