"""Make the scores that a gate compares from runs, write them to a baseline and read it."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_leaderboard.reading.model_names import shown

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_shared.writing import write_whole
from polyrefuse_tasks.metrics import BESIDE, held
from polyrefuse_tasks.saved_results.documents import printable

if TYPE_CHECKING:
    from polyrefuse_leaderboard.reading.runs import Cell, Run

SCHEMA = 1
"""The schema of a baseline; a new field is a new version."""

HELD: tuple[str, ...] = tuple(dict.fromkeys((*held(sampled=False), *held(sampled=True))))
"""The metrics that a gate compares. Each counts prompts, and a higher rate is worse."""


class BadBaseline(UserError):
    """A baseline cannot be read or used."""


@dataclass(frozen=True)
class Score:
    """One metric of one dataset in one language by one judge, by prompt if there are samples.

    Attributes:
        dataset: the family of tasks.
        language: the ISO 639-1 code of the prompts.
        metric: one of `HELD`.
        judge: the judge that labelled the answers.
        generation: the checksum of the generation settings.
        data_sha256: path of each file of prompts -> its checksum; empty if the results have none.
        n: the number of prompts, at least 1.
        hits: the number of prompts that the metric counts.
        labels: prompt id -> whether the metric counts it; None without samples.
        beside: name from `metrics.BESIDE` -> its rate.
        judge_revision: the revision of the judge; "" if it is not known.
    """

    dataset: str
    language: str
    metric: str
    judge: str
    generation: str
    data_sha256: dict[str, str]
    n: int
    hits: int
    labels: dict[str, int] | None
    beside: dict[str, float]
    judge_revision: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """The dataset, the language and the metric."""
        return self.dataset, self.language, self.metric


@dataclass(frozen=True)
class Baseline:
    """The scores that results are compared with.

    Attributes:
        model: the name of the model.
        condition: the condition of the model.
        runs: the runs that the scores come from.
        versions: software -> its version.
        cells: the scores, at least one.
    """

    model: str
    condition: str
    runs: tuple[str, ...]
    versions: dict[str, str]
    cells: tuple[Score, ...]


def scores(runs: Sequence[Run]) -> tuple[Score, ...]:
    """Return the scores of one model in one condition, sorted.

    Raises:
        BadBaseline: a rate without samples is not a whole number of prompts.
    """
    every = (_score(cell, metric) for run in runs for cell in run.cells for metric in _gated(cell))
    return tuple(sorted(every, key=lambda score: (*score.place, score.judge, score.generation)))


def make_baseline(runs: Sequence[Run]) -> Baseline:
    """Make a baseline from the runs of one model in one condition.

    Raises:
        BadBaseline: the runs have no metric that a gate compares, or as in `scores`.
    """
    cells = scores(runs)
    if not cells:
        raise BadBaseline(
            f"{', '.join(run.run for run in runs)} has none of {', '.join(HELD)}; "
            "make a baseline from results of this package's tasks."
        )
    return Baseline(
        model=runs[0].model,
        condition=runs[0].condition,
        runs=tuple(run.run for run in runs),
        versions={name: number for run in runs for name, number in _versions(run).items()},
        cells=cells,
    )


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline whole or not at all, and replace an older one.

    Raises:
        CannotWrite: the file cannot be written.
    """
    head = {"schema": SCHEMA} | {
        field.name: getattr(baseline, field.name)
        for field in fields(baseline)
        if field.name != "cells"
    }
    # Each cell is one line, so that a diff in version control shows which cells changed.
    cells = ",\n".join(json.dumps(_known(cell)) for cell in baseline.cells)
    opening = json.dumps(head).removesuffix("}")
    write_whole(path, f'{opening}, "cells": [\n{cells}\n]}}\n')


AT_MOST = 2**28
"""The most bytes of a baseline: a million prompts in ten cells need fewer."""

MOST_PROMPTS = 10**9
"""The most prompts of a cell. With much larger numbers the statistics would overflow."""


def read_baseline(path: Path) -> Baseline:
    """Read a baseline that `write_baseline` wrote.

    Raises:
        BadBaseline: there is no such file, it has another schema, or it is not what
            `write_baseline` writes; the sentence names the file and the cell.
    """
    try:
        document = parse_json(read_bytes(path, AT_MOST))
    except OSError as error:
        raise BadBaseline(
            f"{path} cannot be read ({error.strerror}); write a baseline with --update."
        ) from None
    except ValueError as error:
        raise _bad(path, f"is not JSON ({error})") from None
    if not isinstance(document, dict) or "schema" not in document:
        raise _bad(path, "is not a baseline")
    if document["schema"] != SCHEMA:
        raise _bad(path, f"has schema {reprlib.repr(document['schema'])}, not {SCHEMA}")
    _check(document, _BASELINE, str(path))
    if not document["cells"]:
        raise _bad(path, "has no cells, so nothing could fail")
    cells = tuple(
        _read_cell(cell, f"{path}, cell {number}")
        for number, cell in enumerate(document["cells"], 1)
    )
    keys = [(*cell.place, cell.judge, cell.generation) for cell in cells]
    if len(set(keys)) < len(keys):
        raise _bad(path, "has a cell twice")
    return Baseline(
        # Earlier versions kept the whole path.
        model=shown(document["model"], {}),
        condition=document["condition"],
        runs=tuple(document["runs"]),
        versions=document["versions"],
        cells=cells,
    )


def _known(score: Score) -> dict[str, Any]:
    return {name: value for name, value in asdict(score).items() if value != ""}


def _versions(run: Run) -> dict[str, str]:
    """Return the software versions that lm-eval and our models wrote."""
    versions = {
        name: run.settings[f"{name}_version"]
        for name in ("lm_eval", "transformers")
        if f"{name}_version" in run.settings
    }
    own = run.settings.get("versions")
    versions |= own if isinstance(own, Mapping) else {}
    # A lone surrogate, which JSON may hold and UTF-8 cannot, is written as its escape.
    return {printable(name): printable(str(version)) for name, version in versions.items()}


def _gated(cell: Cell) -> list[str]:
    return [metric for metric in held(cell.sampled) if metric in cell.rates]


def _score(cell: Cell, metric: str) -> Score:
    labels = _labels(cell, metric)
    hits = cell.rates[metric] * cell.n
    if labels is None and abs(hits - round(hits)) > 0.01:
        raise BadBaseline(
            f"{metric} of {cell.dataset} in {cell.language} is {cell.rates[metric]} of {cell.n} "
            "prompts, which is not a whole number of prompts; run it with --log_samples."
        )
    return Score(
        dataset=cell.dataset,
        language=cell.language,
        metric=metric,
        judge=cell.judge,
        generation=cell.generation,
        data_sha256=dict(cell.data_sha256),
        n=cell.n,
        hits=round(hits) if labels is None else sum(labels.values()),
        labels=labels,
        beside={name: cell.rates[name] for name in BESIDE if name in cell.rates},
        judge_revision=cell.judge_revision,
    )


def _labels(cell: Cell, metric: str) -> dict[str, int] | None:
    if cell.responses is None or metric not in cell.responses[0].values:
        return None
    return {response.id: int(response.values[metric]) for response in cell.responses}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_PROMPTS


def _is_labels(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(_is_count(label) and label < 2 for label in value.values())
    )


def _is_rates(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and isinstance(rate, (int, float)) and 0 <= rate <= 1
        for name, rate in value.items()
    )


_Form = Mapping[str, tuple[Callable[[Any], bool], str]]

_BASELINE: _Form = {
    "model": (_is_text, "a printable string"),
    "condition": (_is_text, "a printable string"),
    "runs": (_is_texts, "a list of strings"),
    "versions": (_is_object, "an object"),
    "cells": (lambda value: isinstance(value, list), "a list"),
}
"""Entry of a baseline -> the check of its value, and what the value should be."""

_CELL: _Form = {
    "dataset": (_is_text, "a printable string"),
    "language": (_is_text, "a printable string"),
    "metric": (lambda value: value in HELD, f"one of {', '.join(HELD)}"),
    "judge": (_is_text, "a printable string"),
    "generation": (_is_text, "a printable string"),
    "data_sha256": (_is_object, "an object"),
    "n": (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
    "hits": (_is_count, "a whole number"),
    "labels": (_is_labels, "null or an object of prompt ids with 0 or 1"),
    "beside": (_is_rates, "an object of rates between 0 and 1"),
    "judge_revision": (_is_text, "a printable string"),
}
"""Entry of a cell of a baseline -> the check of its value, and what the value should be."""


def _check(entries: dict[str, Any], form: _Form, where: str) -> None:
    for name, (fits, expected) in form.items():
        if name not in entries:
            raise _bad(where, f"has no {name}")
        if not fits(entries[name]):
            raise _bad(where, f"has {reprlib.repr(entries[name])} as {name}, not {expected}")


def _read_cell(cell: Any, where: str) -> Score:
    if not isinstance(cell, dict):
        raise _bad(where, f"is {reprlib.repr(cell)}, not an object")
    # A file leaves out the judge's revision if it is not known.
    cell = {"judge_revision": ""} | cell
    _check(cell, _CELL, where)
    labels = cell["labels"]
    counted = (len(labels), sum(labels.values())) if labels is not None else None
    if cell["hits"] > cell["n"] or counted not in (None, (cell["n"], cell["hits"])):
        raise _bad(where, "has counts that contradict each other")
    return Score(**{field.name: cell[field.name] for field in fields(Score)})


def _bad(where: Path | str, what: str) -> BadBaseline:
    return BadBaseline(f"{where} {what}; write a new baseline with --update.")
