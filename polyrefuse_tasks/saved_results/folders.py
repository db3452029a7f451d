"""Find results files and the files beside them by the names that lm-eval gives them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyrefuse_shared.drafts import is_draft
from polyrefuse_shared.lm_eval_internals import date_of, is_results_file, is_samples_file
from polyrefuse_tasks.saved_results.documents import printable

_WHOLE_PATH = re.compile(r"(~|[A-Za-z])?__")


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """A results file.

    Attributes:
        path: the path of the file.
        name: its name in messages; see `shown_path`.
        date_id: its date, as lm-eval writes it into names.
        beside: the names of the files in its folder.
    """

    path: Path
    name: str
    date_id: str
    beside: frozenset[str]


def walk(root: Path, errors: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and all folders below it, each with the names of its files and folders.

    Links to folders are not followed, and drafts are left out, because their files are not results
    yet. The depth of folders is limited neither by Python's recursion nor by the longest path.

    Args:
        root: the folder.
        errors: a list to which the errors of folders that cannot be listed are added.
    """
    waiting = [os.fspath(root)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            # The folder of a lock or of another process may go after it was listed.
            if not isinstance(error, FileNotFoundError) or folder == os.fspath(root):
                errors.append(error)
            continue
        yield folder, [entry.name for entry in listed]
        waiting += [
            entry.path
            for entry in listed
            if entry.is_dir(follow_symlinks=False) and not is_draft(entry.name)
        ]


def shown_path(file: Path, root: Path) -> str:
    """Return the path of a file as messages show it, because messages may be published.

    Args:
        file: the file.
        root: the path that the user named: a folder above the file, the file, or one beside it.

    Returns:
        The path from the named folder downwards if the user gave an absolute path, otherwise the
        path as it is.
    """
    if not root.is_absolute() and ".." not in root.parts:
        shown = file
    elif file.is_relative_to(root):
        shown = Path(root.name, file.relative_to(root))
    else:
        shown = Path(file.name)
    return printable(Path(*map(shown_folder, shown.parts)))


def shown_folder(name: str) -> str:
    """Return the last part of a path that lm-eval used as the name of a model's folder."""
    return name.rpartition("__")[2] if _WHOLE_PATH.match(name) else name


def find_results(paths: Sequence[Path], problems: list[str]) -> Iterator[ResultsFile]:
    """Yield each results file once, whatever paths lead to it, sorted by folder and name.

    Args:
        paths: files, or folders, whose subfolders are read as well.
        problems: a list to which a sentence is added for each path that has nothing to use, and for
            each samples file without results.
    """
    seen: set[str] = set()
    for path in paths:
        # The methods of Path would raise if a name is too long or a folder above is locked.
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
                            f"{shown} has no results file of the same date beside it; put the two "
                            "into one folder."
                        )
                elif is_results_file(name) or is_file:
                    empty = False
                    real = os.path.realpath(os.path.join(folder, name))
                    if real not in seen:
                        seen.add(real)
                        file = Path(folder, name)
                        yield ResultsFile(file, shown_path(file, path), date_of(name), beside)
        problems += [
            f"{shown_path(Path(error.filename), path)} cannot be read ({error.strerror}); correct "
            "its permissions or move it away."
            for error in locked
        ]
        if empty and not locked:
            problems.append(
                f"{shown_path(path, path)} holds no results_*.json; name the folder that "
                "--output_path of lm_eval named."
            )
