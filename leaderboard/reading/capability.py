"""Read what lm-eval measured with other tasks: a value, and what each document adds to it."""

from __future__ import annotations

import difflib
import hashlib
import json
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import samples_file
from polyrefuse_shared.reading import regular_file
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, is_number, parse, printable
from polyrefuse_tasks.saved_results.folders import ResultsFile
from polyrefuse_tasks.saved_results.samples import AT_MOST, LONGEST_LINE

NO_FILTER = "none"
"""lm-eval's name of the filter that changes nothing."""

ROUNDING = 1e-6
"""The largest difference that rounding makes between a value and the mean of its documents."""

MOST_DOCUMENTS = 10**9

MOST_REASONS = 3
"""Sentences on what could not be read, in a message."""


class BadCapability(UserError):
    """A task of `--capability` that cannot be shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task or group of lm-eval whose value is shown.

    Attributes:
        task: its name.
        metric: as results name it, `acc` or `exact_match,strict-match`; the task's first where
            None.
    """

    task: str
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task or group measured in a run.

    Attributes:
        task: its name.
        metric: as `Wanted.metric`, without the filter where it is `NO_FILTER`.
        value: in the task's own unit.
        stderr: its standard error, as lm-eval has it; None where it has none.
        n: how many documents.
        higher_is_better: whether more is better; None where lm-eval does not say.
        settings: checksum of what has to be the same for values to be compared: version of the
            task, examples, how many documents.
        documents: what each adds, by its checksum, where the samples are there and their mean is
            the value; else None.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool | None
    settings: str
    documents: Mapping[str, float] | None


def parse_wanted(given: str) -> list[Wanted]:
    """The tasks of `--capability`: names with commas, each with `:METRIC` or `:METRIC:FILTER`.

    Raises:
        BadCapability: one is no such name.
    """
    wanted = []
    for entry in filter(None, map(str.strip, given.split(","))):
        task, *metric = map(str.strip, entry.split(":"))
        if not task or len(metric) > 2 or not all(metric):
            raise BadCapability(
                f"--capability {entry!a} is not a task; give names such as mmlu, or "
                "gsm8k:exact_match:strict-match for another metric than the task's first."
            )
        wanted.append(Wanted(task, _plain(",".join(metric)) or None))
    if not wanted:
        raise BadCapability(f"--capability {given!a} names no task; give names such as mmlu,gsm8k.")
    return list(dict.fromkeys(wanted))


def require_found(
    wanted: Sequence[Wanted],
    there: Mapping[str, Collection[str]],
    found: Sequence[Outcome],
    problems: Sequence[str],
) -> None:
    """Refuse a task that no results have.

    Args:
        wanted: by `--capability`.
        there: task -> its metrics, of all results.
        found: what was read.
        problems: why something could not be, in whole sentences.

    Raises:
        BadCapability: naming what there is.
    """
    for one in wanted:
        if any(of.task == one.task and one.metric in (None, of.metric) for of in found):
            continue
        metrics = there.get(one.task)
        if metrics and one.metric in (None, *metrics):
            raise BadCapability(
                f"--capability {one.task}: no results have a value of it that can be used. "
                f"{' '.join(problems[:MOST_REASONS])}"
            )
        if metrics:
            named = ", ".join(sorted(metric.replace(",", ":") for metric in metrics))
            raise BadCapability(
                f"--capability {one.task}: the results have no usable metric "
                f"{(one.metric or '').replace(',', ':')!r} of it; they have {named}."
            )
        if metrics is not None:
            raise BadCapability(
                f"--capability {one.task}: the results have no value of it, as of a group that "
                "averages nothing; name its tasks."
            )
        near = difflib.get_close_matches(one.task, there, n=1)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise BadCapability(f"--capability {one.task}: no results have such a task or group{meant}")


def tasks_of(document: Mapping[str, Any]) -> set[str]:
    """Names of all tasks and groups that a results file has values of."""
    parts = document.get("results"), document.get("groups")
    return {name for part in parts if isinstance(part, dict) for name in part}


def read_outcomes(
    file: ResultsFile, document: Mapping[str, Any], wanted: Sequence[Wanted]
) -> Iterator[Outcome]:
    """What the wanted tasks measured in a run; nothing of those that it did not ask.

    Raises:
        BadResults: a value, or a file of samples, cannot be used.
    """
    for one in wanted:
        found = _entry(document, one.task)
        if found is not None:
            outcome = _outcome(file, document, one, found)
            if outcome is not None:
                yield outcome


def metrics_of(document: Mapping[str, Any], task: str) -> list[str]:
    """The metrics that a task has values of, in lm-eval's order."""
    entry = _entry(document, task) or {}
    return [
        _plain(key) for key in entry if "," in key and not key.split(",")[0].endswith("_stderr")
    ]


def _entry(document: Mapping[str, Any], task: str) -> Mapping[str, Any] | None:
    for part in (document.get("groups"), document.get("results")):
        entry = part.get(task) if isinstance(part, dict) else None
        # The heading of a group without a value of its own is among the results, too.
        if isinstance(entry, dict) and any("," in key for key in entry):
            return entry
    return None


def _plain(key: str) -> str:
    return key.removesuffix(f",{NO_FILTER}")


def _outcome(
    file: ResultsFile, document: Mapping[str, Any], wanted: Wanted, entry: Mapping[str, Any]
) -> Outcome | None:
    """The value of a task; None where it lacks the wanted metric."""
    there = metrics_of(document, wanted.task)
    metric = wanted.metric or next(iter(there), None)
    if metric not in there or metric is None:
        return None
    name, _, chosen = metric.partition(",")
    key = f"{name},{chosen or NO_FILTER}"
    where = f"{file.name}, {printable(wanted.task)}"
    if not is_number(entry[key]):
        raise BadResults(f"{where}: {metric} is {reprlib.repr(entry[key])}, not a number; {AGAIN}")
    stderr = entry.get(f"{name}_stderr,{chosen or NO_FILTER}")
    subtasks = _leaves(document, wanted.task)
    n = _count(document, subtasks, where)
    better = document.get("higher_is_better")
    of_task = better.get(wanted.task) if isinstance(better, dict) else None
    higher = of_task.get(name) if isinstance(of_task, dict) else None
    documents = _documents(file, subtasks, name, chosen or NO_FILTER)
    value = float(entry[key])
    if documents is not None and (
        len(documents) != n or abs(fmean(documents.values()) - value) > ROUNDING
    ):
        # A perplexity, or a group that counts its tasks the same, is no mean of documents.
        documents = None
    return Outcome(
        task=wanted.task,
        metric=metric,
        value=value,
        stderr=float(stderr) if is_number(stderr) and stderr >= 0 else None,
        n=n,
        higher_is_better=higher if isinstance(higher, bool) else None,
        settings=_settings(document, subtasks, n),
        documents=documents,
    )


def _leaves(document: Mapping[str, Any], task: str) -> list[str]:
    """The tasks of a group, and of its groups; of a task itself."""
    below = document.get("group_subtasks")
    below = below if isinstance(below, dict) else {}
    leaves, todo, seen = [], [task], set()
    while todo:
        name = todo.pop(0)
        children = below.get(name)
        if name in seen:
            continue
        seen.add(name)
        if isinstance(children, list) and children:
            todo += [child for child in children if isinstance(child, str)]
        else:
            leaves.append(name)
    return sorted(leaves)


def _count(document: Mapping[str, Any], subtasks: Sequence[str], where: str) -> int:
    counts = document.get("n-samples")
    counts = counts if isinstance(counts, dict) else {}
    entries = [counts.get(name) for name in subtasks]
    every: list[Any] = [
        entry.get("effective") if isinstance(entry, dict) else None for entry in entries
    ]
    if not every or not all(type(n) is int and 0 < n <= MOST_DOCUMENTS for n in every):
        raise BadResults(f"{where}: n-samples does not say how many documents were asked; {AGAIN}")
    return sum(every)


def _settings(document: Mapping[str, Any], subtasks: Sequence[str], n: int) -> str:
    parts = {
        name: {task: part.get(task) for task in subtasks}
        for name in ("versions", "n-shot", "n-samples")
        if isinstance(part := document.get(name), dict)
    }
    text = json.dumps([parts, n], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _documents(
    file: ResultsFile, subtasks: Sequence[str], metric: str, chosen: str
) -> dict[str, float] | None:
    """What each document adds, by task and document; None where any samples are missing."""
    values: dict[str, float] = {}
    for task in subtasks:
        name = samples_file(task, file.date_id)
        if name not in file.beside:
            return None
        shown = str(Path(file.name).with_name(name))
        for sample in _lines(file.path.with_name(name), shown):
            if sample.get("filter", NO_FILTER) != chosen:
                continue
            value = sample.get(metric)
            value = float(value) if isinstance(value, bool) else value
            if not is_number(value):
                return None
            values[f"{task} {sample.get('doc_id')} {sample.get('doc_hash')}"] = float(value)
    return values or None


def _lines(path: Path, shown: str) -> Iterator[dict[str, Any]]:
    try:
        with regular_file(path, AT_MOST) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                if line.strip():
                    yield parse(line, f"{shown}, line {number}")
    except OSError as error:
        raise BadResults(f"{shown} cannot be read ({error.strerror}).") from None
