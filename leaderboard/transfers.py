"""Read what `polyrefuse direction transfer` wrote: one language's direction ablated in another."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.reading.model_names import NO_NAMES, Names, hide_paths, names_in, shown
from polyrefuse_leaderboard.reading.results import MOST_PROMPTS

from polyrefuse_shared.lm_eval_internals import is_results_file
from polyrefuse_shared.printing import clean
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.saved_results.documents import sentences
from polyrefuse_tasks.saved_results.folders import shown_path, walk

FILE = "transfer.json"
SCHEMAS = (1, 2)

AT_MOST = 2**26
"""Bytes of a report, at most."""

MOST_LANGUAGES = 64
"""Languages on a side of a matrix, at most: a picture of more could not be read."""

LONGEST_LANGUAGE = 40
"""Characters of a language's code, at most."""


@dataclass(frozen=True)
class Transfer:
    """Attack success by the language of the direction and the language of the prompts.

    Attributes:
        given: the model's name on the hub, or the path of its folder; not to be published.
        model: what it is called, as `model_names.shown`.
        dataset: whose harmful prompts.
        judge: who labelled the answers.
        sources: languages that a direction was extracted from.
        targets: languages that were answered in.
        baseline: ASR of each target, nothing ablated.
        refusals: of each target, nothing ablated, and out of how many prompts.
        asr: [source][target].
        cosine: [source][source], between the directions at one position and layer.
        position: of those directions, as in `-1`.
        layer: theirs.
        path: the file.
        warnings: what speaks against the directions, whole sentences.
        explained: share of the directions that one vector explains; None in reports of schema 1.
    """

    given: str
    model: str
    dataset: str
    judge: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    baseline: tuple[float, ...]
    refusals: tuple[tuple[int, int], ...]
    asr: tuple[tuple[float, ...], ...]
    cosine: tuple[tuple[float, ...], ...]
    position: int
    layer: int
    path: str
    warnings: tuple[str, ...] = ()
    explained: float | None = None


def read_transfers(
    paths: Sequence[Path], names: Names = NO_NAMES
) -> tuple[list[Transfer], list[str]]:
    """Every `transfer.json` in or below the paths.

    Args:
        names: what models are called, as `model_names.read_names` returns it.

    Returns:
        What they hold, and one sentence for each that could not be used.
    """
    transfers, problems = [], []
    for path, name in _files(paths):
        try:
            report = parse_json(read_bytes(path, AT_MOST))
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror}).")
            continue
        except ValueError as error:
            problems.append(f"{name} is not JSON ({error}); remove it, or write it again.")
            continue
        try:
            transfers.append(_transfer(report, name, names_in(names, path)))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            said = f"it has no {error}" if isinstance(error, KeyError) else error
            problems.append(
                f"{name} is no transfer report of schema {SCHEMAS[-1]} ({said}); write it again "
                "with polyrefuse direction transfer."
            )
    return transfers, list(map(clean, problems))


def is_report(path: Path) -> bool:
    """Whether a path holds a transfer report and no results of lm-eval."""
    if path.name == FILE:
        return True
    return os.path.isfile(path / FILE) and not any(
        is_results_file(name) for _, names in walk(path, []) for name in names
    )


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The files, and what each is called in messages."""
    files = {
        os.path.realpath(file): (file, shown_path(file, path))
        for path in paths
        for file in (_below(path) if os.path.isdir(path) else [path])
        if file.name == FILE
    }
    yield from files.values()


def _below(folder: Path) -> list[Path]:
    return sorted(Path(place, FILE) for place, names in walk(folder, []) if FILE in names)


def _transfer(report: Any, name: str, names: Names) -> Transfer:
    if report["schema"] not in SCHEMAS:
        raise ValueError(f"schema {reprlib.repr(report['schema'])}")
    sources, targets = (_languages(report[key], key) for key in ("sources", "targets"))
    cells = {(cell["source"], cell["target"]): cell["asr"] for cell in report["cells"]}
    untouched = {cell["target"]: cell for cell in report["baseline"]}
    given = _name(report["model"], "model")
    known = {given: shown(given, names)}
    return Transfer(
        given=given,
        model=known[given],
        dataset=_name(report["dataset"], "dataset"),
        judge=_name(report["judge"], "judge"),
        sources=sources,
        targets=targets,
        baseline=tuple(_number(untouched[target]["asr"], 0) for target in targets),
        refusals=tuple(_refusals(untouched[target]) for target in targets),
        asr=tuple(
            tuple(_number(cells[source, target], 0) for target in targets) for source in sources
        ),
        cosine=tuple(
            tuple(_number(report["cosine"][row][column], -1) for column in range(len(sources)))
            for row in range(len(sources))
        ),
        position=_whole(report["cosine_at"]["position"]),
        layer=_whole(report["cosine_at"]["layer"]),
        explained=_number(report["explained_by_one"], 0) if report["schema"] > 1 else None,
        path=name,
        warnings=tuple(
            hide_paths(sentence, known)
            for source in sources
            for sentence in sentences(
                report["directions"][source].get("warnings"), f"The direction from {source}: "
            )
        ),
    )


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{key} is {reprlib.repr(value)}, not a name")
    return value


def _languages(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{key} is {reprlib.repr(values)}, not a list of languages")
    if len(values) > MOST_LANGUAGES:
        raise ValueError(f"{len(values)} {key}, of which a picture shows {MOST_LANGUAGES} at most")
    for value in values:
        if len(_name(value, key)) > LONGEST_LANGUAGE:
            raise ValueError(f"{key} has {reprlib.repr(value)}, which is no language's code")
        if values.count(value) > 1:
            raise ValueError(f"{key} has {reprlib.repr(value)} twice")
    return tuple(values)


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) > 10**6:
        raise ValueError(f"{reprlib.repr(value)} is no place of a direction")
    return value


def _refusals(cell: dict[str, Any]) -> tuple[int, int]:
    """How many answers are labelled as refusals, and out of how many."""
    n, *others = (cell[name] for name in ("n", "hits", "undecided", "degenerate"))
    if (
        not all(type(count) is int and count >= 0 for count in (n, *others))
        or n > MOST_PROMPTS
        or sum(others) > n
        or not n
    ):
        raise ValueError(f"{reprlib.repr(others)} are no counts out of {reprlib.repr(n)}")
    return n - sum(others), n


def _number(value: Any, least: float) -> float:
    # A cosine of 1 may be 1 + 1e-16.
    if type(value) not in (int, float):
        raise ValueError(f"{reprlib.repr(value)} is not a number")
    # Of NaN and infinities, too.
    if not least - 1e-6 <= value <= 1 + 1e-6:
        raise ValueError(f"{reprlib.repr(value)} is not from {least} to 1")
    return min(max(float(value), least), 1.0)
