"""Reads what `polyrefuse direction transfer` wrote: one language's direction ablated in another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.reading.documents import sentences
from polyrefuse_leaderboard.reading.folders import shown_path
from polyrefuse_leaderboard.reading.model_names import Names, hide_paths, shown

FILE = "transfer.json"
SCHEMA = 1


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


def read_transfers(
    paths: Sequence[Path], names: Names | None = None
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
            report = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror}).")
            continue
        except (ValueError, RecursionError):
            problems.append(f"{name} is not JSON; remove it, or write it again.")
            continue
        try:
            transfers.append(_transfer(report, name, names or {}))
        except (LookupError, TypeError, ValueError) as error:
            problems.append(
                f"{name} is no transfer report of schema {SCHEMA} ({error}); write it again with "
                "polyrefuse direction transfer."
            )
    return transfers, problems


def is_report(path: Path) -> bool:
    """Whether a path holds a transfer report and no results of lm-eval."""
    if path.name == FILE:
        return True
    return (path / FILE).is_file() and not any(path.rglob("results_*.json"))


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The files, and what each is called in messages."""
    files = {
        file.resolve(): (file, shown_path(file, path))
        for path in paths
        for file in (sorted(path.rglob(FILE)) if path.is_dir() else [path])
        if file.name == FILE
    }
    yield from files.values()


def _transfer(report: dict[str, Any], name: str, names: Names) -> Transfer:
    if report["schema"] != SCHEMA:
        raise ValueError(f"schema {report['schema']!r}")
    sources, targets = (tuple(map(str, report[name])) for name in ("sources", "targets"))
    cells = {(cell["source"], cell["target"]): cell["asr"] for cell in report["cells"]}
    untouched = {cell["target"]: cell for cell in report["baseline"]}
    given = str(report["model"])
    known = {given: shown(given, names)}
    return Transfer(
        given=given,
        model=known[given],
        dataset=str(report["dataset"]),
        judge=str(report["judge"]),
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
        position=int(report["cosine_at"]["position"]),
        layer=int(report["cosine_at"]["layer"]),
        path=name,
        warnings=tuple(
            hide_paths(sentence, known)
            for source in sources
            for sentence in sentences(
                report["directions"][source].get("warnings"), f"The direction from {source}: "
            )
        ),
    )


def _refusals(cell: dict[str, Any]) -> tuple[int, int]:
    """How many answers are labelled as refusals, and out of how many."""
    n, *others = (cell[name] for name in ("n", "hits", "undecided", "degenerate"))
    if (
        not all(type(count) is int and count >= 0 for count in (n, *others))
        or sum(others) > n
        or not n
    ):
        raise ValueError(f"{others!r} are no counts out of {n!r}")
    return n - sum(others), n


def _number(value: Any, least: float) -> float:
    # A cosine of 1 may be 1 + 1e-16.
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    if not least - 1e-6 <= value <= 1 + 1e-6:
        raise ValueError(f"{value!r} is not from {least} to 1")
    return min(max(float(value), least), 1.0)
