"""Which files of a folder hold results, and which lie beside them, by the names lm-eval gives."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyrefuse_leaderboard.reading.documents import printable

from polyrefuse_shared.lm_eval_internals import date_of, is_results_file, is_samples_file


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """A results file, its name for messages, its date, and the names of the files beside it."""

    path: Path
    name: str
    date_id: str
    beside: frozenset[str]


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
        if not is_file and not os.path.isdir(path):
            problems.append(f"{printable(path)} does not exist; name a results file or a folder.")
            continue
        locked: list[OSError] = []
        walked = os.walk(path.parent if is_file else path, onerror=locked.append)
        empty = True
        for folder, _, listed in itertools.islice(walked, 1) if is_file else sorted(walked):
            beside = frozenset(listed)
            names = [path.name] if is_file else sorted(listed)
            dates = {date_of(name) for name in beside if is_results_file(name)}
            for name in names:
                if is_samples_file(name):
                    empty = False
                    if date_of(name) not in dates:
                        problems.append(
                            f"{printable(Path(folder, name))} has no results file of its date "
                            "beside it; put the two into one folder."
                        )
                elif is_results_file(name) or is_file:
                    empty = False
                    real = os.path.realpath(os.path.join(folder, name))
                    if real not in seen:
                        seen.add(real)
                        file = Path(folder, name)
                        yield ResultsFile(file, printable(file), date_of(name), beside)
        problems += [
            f"{printable(error.filename)} cannot be read ({error.strerror}); allow it or move it "
            "away."
            for error in locked
        ]
        if empty and not locked:
            problems.append(
                f"{printable(path)} holds no results_*.json; name what --output_path named."
            )
