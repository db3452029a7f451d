"""Read the values of other lm-eval tasks, and what each document adds to a value."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from polyrefuse_leaderboard.reading import identity

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import samples_file
from polyrefuse_shared.reading import regular_file
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, is_number, parse, printable
from polyrefuse_tasks.saved_results.folders import ResultsFile
from polyrefuse_tasks.saved_results.samples import AT_MOST, LONGEST_LINE

NO_FILTER = "none"
"""lm-eval's name for the filter that changes nothing."""

ROUNDING = 1e-6
"""The largest difference that rounding makes between a value and the mean of its documents."""

MOST_DOCUMENTS = 10**9

MOST_REASONS = 3
"""The most sentences in a message about what could not be read."""


class BadCapability(UserError):
    """A task of `--capability` cannot be shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task or group of lm-eval whose value is shown.

    Attributes:
        task: the name of the task or group.
        metric: the name of the metric in the results, for example `acc` or
            `exact_match,strict-match`; None for the first metric of the task.
    """

    task: str
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The value of a task or group in a run.

    Attributes:
        task: the name of the task or group.
        metric: the name of the metric, as in `Wanted.metric`, without the filter if it is
            `NO_FILTER`.
        value: the value, in the unit of the task.
        stderr: the standard error that lm-eval computed; None if there is none.
        n: the number of documents.
        higher_is_better: whether a higher value is better; None if lm-eval does not say it.
        settings: a checksum of the settings that must be equal if values are compared: the version
            of the task, the few-shot examples, whether --apply_chat_template was given, the
            `identity.generation` of the answers if there are any, and the number of documents.
        documents: what each document adds, by its checksum, if there are samples and their mean is
            the value; otherwise None.
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
    """Parse the tasks of `--capability`.

    The names are separated by commas. Each may be followed by `:METRIC` or `:METRIC:FILTER`.

    Raises:
        BadCapability: an entry is not of this form, or there is none.
    """
    wanted = []
    for entry in filter(None, map(str.strip, given.split(","))):
        task, *metric = map(str.strip, entry.split(":"))
        if not task or len(metric) > 2 or not all(metric):
            raise BadCapability(
                f"--capability {entry!a} is not a task; give names such as mmlu, or "
                "gsm8k:exact_match:strict-match for a metric other than the task's first."
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
        wanted: the tasks of `--capability`.
        there: task -> its metrics in all results.
        found: the values that were read.
        problems: sentences that say why something could not be read.

    Raises:
        BadCapability: a task has no value that can be used. The message says which tasks or metrics
            there are.
    """
    for one in wanted:
        if any(of.task == one.task and one.metric in (None, of.metric) for of in found):
            continue
        metrics = there.get(one.task)
        if metrics and one.metric in (None, *metrics):
            raise BadCapability(
                f"--capability {one.task}: no results have a usable value of this task. "
                f"{' '.join(problems[:MOST_REASONS])}"
            )
        if metrics:
            named = ", ".join(sorted(metric.replace(",", ":") for metric in metrics))
            raise BadCapability(
                f"--capability {one.task}: the results have no usable metric "
                f"{(one.metric or '').replace(',', ':')!r} of this task; they have {named}."
            )
        if metrics is not None:
            raise BadCapability(
                f"--capability {one.task}: the results have no value of this task, for example "
                "because it is a group that averages nothing; name its tasks."
            )
        near = difflib.get_close_matches(one.task, there, n=1)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise BadCapability(f"--capability {one.task}: no results have such a task or group{meant}")


def tasks_of(document: Mapping[str, Any]) -> set[str]:
    """Return the names of all tasks and groups that have values in a results file."""
    parts = document.get("results"), document.get("groups")
    return {name for part in parts if isinstance(part, dict) for name in part}


def read_outcomes(
    file: ResultsFile,
    document: Mapping[str, Any],
    arguments: Mapping[str, Any],
    wanted: Sequence[Wanted],
) -> Iterator[Outcome]:
    """Yield the values of the wanted tasks in a run. Tasks that the run does not have are skipped.

    Args:
        file: the results file.
        document: its contents.
        arguments: its `identity.arguments_of`.
        wanted: the tasks.

    Raises:
        BadResults: a value, or a samples file, cannot be used.
    """
    for one in wanted:
        found = _entry(document, one.task)
        if found is not None:
            outcome = _outcome(file, document, arguments, one, found)
            if outcome is not None:
                yield outcome


def metrics_of(document: Mapping[str, Any], task: str) -> list[str]:
    """Return the metrics for which a task has values, in lm-eval's order."""
    entry = _entry(document, task) or {}
    return [
        _plain(key) for key in entry if "," in key and not key.split(",")[0].endswith("_stderr")
    ]


def _entry(document: Mapping[str, Any], task: str) -> Mapping[str, Any] | None:
    for part in (document.get("groups"), document.get("results")):
        entry = part.get(task) if isinstance(part, dict) else None
        # The results also contain the heading of a group that has no value of its own.
        if isinstance(entry, dict) and any("," in key for key in entry):
            return entry
    return None


def _plain(key: str) -> str:
    return key.removesuffix(f",{NO_FILTER}")


def _outcome(
    file: ResultsFile,
    document: Mapping[str, Any],
    arguments: Mapping[str, Any],
    wanted: Wanted,
    entry: Mapping[str, Any],
) -> Outcome | None:
    """Return the value of a task; None if it lacks the wanted metric."""
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
        # A perplexity is not a mean over documents, and neither is the value of a group that
        # weights its tasks equally.
        documents = None
    return Outcome(
        task=wanted.task,
        metric=metric,
        value=value,
        stderr=float(stderr) if is_number(stderr) and stderr >= 0 else None,
        n=n,
        higher_is_better=higher if isinstance(higher, bool) else None,
        settings=_settings(document, arguments, subtasks, n, where),
        documents=documents,
    )


def _leaves(document: Mapping[str, Any], task: str) -> list[str]:
    """Return the tasks of a group and of the groups in it; for a task, the task itself."""
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
        raise BadResults(f"{where}: n-samples does not say how many documents were used; {AGAIN}")
    return sum(every)


def _settings(
    document: Mapping[str, Any],
    arguments: Mapping[str, Any],
    subtasks: Sequence[str],
    n: int,
    where: str,
) -> str:
    parts = {
        name: {task: part.get(task) for task in subtasks}
        for name in ("versions", "n-shot", "n-samples")
        if isinstance(part := document.get(name), dict)
    }
    generation = {
        task: identity.generation(document, config, arguments, where)
        for task in subtasks
        if isinstance(config := document["configs"].get(task), dict)
        and isinstance(config.get("generation_kwargs"), dict)
    }
    chat = document.get("chat_template") is not None
    return identity.checksum([parts, generation, chat, n])


def _documents(
    file: ResultsFile, subtasks: Sequence[str], metric: str, chosen: str
) -> dict[str, float] | None:
    """Return what each document adds, by task and document; None if samples are missing."""
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
