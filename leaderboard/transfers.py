"""Read the reports of `polyrefuse direction transfer`.

A report has the attack success rates in some languages with the direction of each source language
ablated.
"""

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
"""The most bytes of a report."""

MOST_LANGUAGES = 64
"""The most languages on a side of a matrix. A picture of more would be illegible."""

LONGEST_LANGUAGE = 40
"""The most characters of a language's code."""


@dataclass(frozen=True)
class Transfer:
    """The attack success rates of a report, by source language and target language.

    Attributes:
        given: the model's name on the hub, or the path of its folder, which must not be published.
        model: the name that is shown, as `model_names.shown` returns it.
        dataset: the dataset of the harmful prompts.
        judge: the judge that labelled the answers.
        sources: the source languages, which the directions were extracted from.
        targets: the target languages, which the prompts are in.
        baseline: the ASR of the untouched model in each target, from 0 to 1.
        refusals: the number of refusals of the untouched model in each target, and the number of
            prompts.
        asr: the ASR from 0 to 1, indexed as [source][target].
        cosine: the cosines between the directions at one position and layer, indexed as
            [source][source].
        position: the token position of the directions in `cosine`, for example -1.
        layer: the layer of the directions in `cosine`.
        path: the path of the file, as it is shown.
        warnings: warnings about the directions, whole sentences.
        explained: the share of the directions that one vector explains; None in reports of schema
            1.
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
    """Read every `transfer.json` in or below the paths.

    Args:
        paths: files or folders.
        names: the names of models, as `model_names.read_names` returns them.

    Returns:
        The reports, and a sentence for each file that cannot be used.
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
                f"{name} is not a transfer report of schema {SCHEMAS[-1]} ({said}); write it again "
                "with polyrefuse direction transfer."
            )
    return transfers, list(map(clean, problems))


def is_report(path: Path) -> bool:
    """Return whether a path has a transfer report and no results of lm-eval."""
    if path.name == FILE:
        return True
    return os.path.isfile(path / FILE) and not any(
        is_results_file(name) for _, names in walk(path, []) for name in names
    )


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each file with its name in messages."""
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
        raise ValueError(f"{len(values)} {key}, and a picture shows at most {MOST_LANGUAGES}")
    for value in values:
        if len(_name(value, key)) > LONGEST_LANGUAGE:
            raise ValueError(
                f"{key} has {reprlib.repr(value)}, which is not the code of a language"
            )
        if values.count(value) > 1:
            raise ValueError(f"{key} has {reprlib.repr(value)} twice")
    return tuple(values)


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) > 10**6:
        raise ValueError(f"{reprlib.repr(value)} is not the position or layer of a direction")
    return value


def _refusals(cell: dict[str, Any]) -> tuple[int, int]:
    """Return the number of answers that are labelled as refusals, and the number of all answers."""
    n, *others = (cell[name] for name in ("n", "hits", "undecided", "degenerate"))
    if (
        not all(type(count) is int and count >= 0 for count in (n, *others))
        or n > MOST_PROMPTS
        or sum(others) > n
        or not n
    ):
        raise ValueError(f"{reprlib.repr(others)} are not counts out of {reprlib.repr(n)}")
    return n - sum(others), n


def _number(value: Any, least: float) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{reprlib.repr(value)} is not a number")
    # A cosine of 1 may be 1 + 1e-16. NaN and infinities fail this check.
    if not least - 1e-6 <= value <= 1 + 1e-6:
        raise ValueError(f"{reprlib.repr(value)} is not from {least} to 1")
    return min(max(float(value), least), 1.0)
