"""Find the tasks of saved runs whose answers lm-eval logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_shared.lm_eval_internals import UNJUDGED, metric_key, samples_file
from polyrefuse_shared.reading import read_bytes
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, parse, part, text
from polyrefuse_tasks.saved_results.folders import ResultsFile

AT_MOST = 2**26
"""The largest size of a results file, in bytes: brackets alone take 25 times as much memory."""


@dataclass(frozen=True, slots=True)
class SavedTask:
    """One task of a run whose answers were saved.

    Attributes:
        name: the name of the task.
        dataset: the name of its dataset, such as `harmful`.
        language: the ISO 639-1 code of its prompts.
        judge: the judge that labelled the answers during the run; None without one
            (`--predict_only`).
        sampled: whether prompts have several answers.
        samples: the file of its answers.
        shown: the name of that file in messages.
        date: the date of the run, as in the name of the file.
    """

    name: str
    dataset: str
    language: str
    judge: str | None
    sampled: bool
    samples: Path
    shown: str
    date: str


def is_ours(config: Any) -> bool:
    """Return whether a configuration is that of a task of this package."""
    arguments = config.get("dataset_kwargs") if isinstance(config, dict) else None
    return isinstance(arguments, dict) and {"family", "lang"} <= arguments.keys()


def is_unjudged(outcome: Mapping[str, Any]) -> bool:
    """Return whether a task's results come from a run with --predict_only."""
    return metric_key(UNJUDGED) in outcome


def saved_tasks(file: ResultsFile, document: Mapping[str, Any]) -> Iterator[SavedTask]:
    """Yield the tasks of a results file that have samples beside it, by name.

    Args:
        file: the results file.
        document: its content, as `read_results` returns it.

    Raises:
        BadResults: the file cannot be used.
    """
    configs = part(document, "configs", file.name)
    for name in sorted(configs):
        where = f"{file.name}, {name}"
        logged = samples_file(name, file.date_id)
        if not is_ours(configs[name]) or logged not in file.beside:
            continue
        config: Mapping[str, Any] = configs[name]
        dataset = text(config["dataset_kwargs"]["family"], "family", where)
        language = text(config["dataset_kwargs"]["lang"], "lang", where)
        metadata = config.get("metadata")
        outcome = part(part(document, "results", file.name), name, f"{file.name}, results")
        judge = metadata.get("judge") if isinstance(metadata, dict) else None
        repeats = config.get("repeats")
        yield SavedTask(
            name=name,
            dataset=dataset,
            language=language,
            judge=judge if isinstance(judge, str) and not is_unjudged(outcome) else None,
            sampled=isinstance(repeats, int) and repeats > 1,
            samples=file.path.with_name(logged),
            shown=str(Path(file.name).with_name(logged)),
            date=file.date_id,
        )


def tasks_without_samples(file: ResultsFile, document: Mapping[str, Any]) -> list[str]:
    """List the tasks that `saved_tasks` leaves out because no samples are beside the results.

    Raises:
        BadResults: the file cannot be used.
    """
    configs = part(document, "configs", file.name)
    return sorted(
        name
        for name, config in configs.items()
        if is_ours(config) and samples_file(name, file.date_id) not in file.beside
    )


def read_results(file: ResultsFile) -> dict[str, Any]:
    """Read the content of a results file.

    Raises:
        BadResults: the file cannot be read or is not a JSON object.
    """
    try:
        return parse(read_bytes(file.path, AT_MOST), file.name)
    except OSError as error:
        raise BadResults(f"{file.name} cannot be read ({error.strerror}); {AGAIN}") from None
