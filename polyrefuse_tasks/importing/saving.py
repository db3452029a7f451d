"""Write published answers as results, samples and labels for the leaderboard and the judges."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from polyrefuse_shared.drafts import locked
from polyrefuse_shared.lm_eval_internals import UNJUDGED, metric_key, samples_file
from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import write_whole
from polyrefuse_tasks.importing.answers import UNDECIDED, BadAnswers, PublishedRun
from polyrefuse_tasks.language_identification import response_language
from polyrefuse_tasks.metrics import TASK_VERSION
from polyrefuse_tasks.saved_results.documents import BadResults, part
from polyrefuse_tasks.saved_results.folders import find_results
from polyrefuse_tasks.saved_results.judged import Judged, Judging, encode, judged_file
from polyrefuse_tasks.saved_results.tasks import read_results


def save(runs: Iterable[PublishedRun], format: str, output: Path) -> list[Path]:
    """Write a results file for each model, condition and time, with its samples and labels.

    Args:
        runs: the runs that were read.
        format: the format in which the answers were read.
        output: the folder, which gets a folder for each model.

    Returns:
        The results files. Each is written last, so that none lacks its samples.

    Raises:
        BadAnswers: two files hold answers of the same model, condition, dataset and language, or
            the output already holds the answers of one of the files. In these cases nothing is
            written.
        Busy: another process judges the answers of that folder, or imports into it.
        CannotWrite: the folder cannot be written.
    """
    groups: dict[tuple[str, ...], list[PublishedRun]] = defaultdict(list)
    for run in runs:
        intervention = json.dumps(run.intervention, sort_keys=True)
        groups[run.model, run.condition, intervention, run.made].append(run)
    for group in groups.values():
        _require_new(group, format, _folder(output, group[0].model))
    now = datetime.now()
    written: list[Path] = []
    with ExitStack() as locks:
        for folder in dict.fromkeys(_folder(output, model) for model, *_ in groups):
            locks.enter_context(locked(folder, patience=0))
        # Another process may have imported them after the first look, which made no folder.
        for group in groups.values():
            _require_new(group, format, _folder(output, group[0].model))
        for (model, *_, made), group in groups.items():
            folder = _folder(output, model)
            when = _when(made, now)
            # Many runs share a published date, and some of them may have been imported before.
            while os.path.lexists(_results_file(folder, when)):
                when += timedelta(microseconds=1)
            written.append(_save(group, format, folder, when))
    return written


def _results_file(folder: Path, when: datetime) -> Path:
    return folder / f"results_{_date(when)}.json"


def _date(when: datetime) -> str:
    return when.isoformat().replace(":", "-")


def _folder(output: Path, model: str) -> Path:
    """Return the folder of a model's results, which has the name that lm-eval gives it."""
    return output / re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model)


def _require_new(group: Sequence[PublishedRun], format: str, folder: Path) -> None:
    """Refuse answers that are given twice or that already exist.

    Raises:
        BadAnswers: they are given twice or already exist.
    """
    first, count = Counter(run.task for run in group).most_common(1)[0]
    if count > 1:
        raise BadAnswers(
            f"{count} of the files hold answers of {group[0].model} under {group[0].condition} to "
            f"{first}, the same dataset in the same language: leave out all but one, or import "
            "each into a separate folder."
        )
    if not os.path.isdir(folder):
        return
    for file in find_results([folder], []):
        # The leaderboard cannot show the answers of a file that cannot be read, so importing them
        # again does not show them twice.
        with suppress(BadResults):
            config = part(read_results(file), "config", file.name)
            for run in group:
                if _holds(config, run, format):
                    raise BadAnswers(
                        f"{file.path} already holds the answers of {run.file['name']}: leave out "
                        "that file, or name another folder with --output."
                    )


def _holds(config: Mapping[str, Any], run: PublishedRun, format: str) -> bool:
    """Return whether the config of a results file says that it was made from that run."""
    imported = config.get("imported")
    if not isinstance(imported, dict) or imported.get("format") != format:
        return False
    files = imported.get("files")
    files = [one for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    wanted = {"model_name": run.model, "condition": run.condition, **run.intervention}
    # The same file under another name is the same file.
    source = {name: value for name, value in _source(run).items() if name != "name"}
    return config.items() >= wanted.items() and any(one.items() >= source.items() for one in files)


def _source(run: PublishedRun) -> dict[str, Any]:
    """Return what the results record about the file of a run and its interpretation."""
    return {**run.file, "task": run.task, "harmful": run.harmful, "made": run.made}


def _save(group: Sequence[PublishedRun], format: str, folder: Path, when: datetime) -> Path:
    date = _date(when)
    tasks = {run.task: run for run in group}
    for task, run in tasks.items():
        samples = "".join(_sample(run, place) for place in range(len(run.answers)))
        write_whole(folder / samples_file(task, date), _encoded(samples))
        for judge in run.measures:
            labels = _labels(run, task, judge, format)
            if labels:
                write_whole(folder / judged_file(judge, task, date), labels)
    results = {
        "results": {
            task: {"alias": task, "sample_len": len(run.answers), metric_key(UNJUDGED): 999}
            for task, run in tasks.items()
        },
        "configs": {task: _config(task, run, format) for task, run in tasks.items()},
        "config": {
            "model": "imported",
            "model_args": {},
            "model_name": group[0].model,
            "condition": group[0].condition,
            "imported": {"format": format, "files": [_source(run) for run in group]},
            "versions": versions(),
            **group[0].intervention,
        },
        "n-samples": {
            task: {"original": len(run.answers), "effective": len(run.answers)}
            for task, run in tasks.items()
        },
        "date": when.timestamp(),
        "model_name": group[0].model,
        "model_source": "imported",
    }
    path = _results_file(folder, when)
    write_whole(path, _encoded(json.dumps(results, indent=2, ensure_ascii=False) + "\n"))
    return path


def _config(task: str, run: PublishedRun, format: str) -> dict[str, Any]:
    return {
        "task": task,
        "dataset_kwargs": {"family": run.dataset, "lang": run.language},
        "output_type": "generate_until",
        # The files do not say how the answers were generated.
        "generation_kwargs": {"published": format},
        "repeats": 1,
        "metadata": {"version": TASK_VERSION, "judge": "native"},
    }


def _encoded(text: str) -> bytes:
    # A model may write half of a surrogate pair, which UTF-8 cannot encode.
    return text.encode("utf-8", "replace")


def _sample(run: PublishedRun, place: int) -> str:
    answer = run.answers[place]
    doc = {
        "id": run.ids[place],
        "prompt": answer.prompt,
        "language": run.language,
        "harmful": run.harmful,
    }
    if answer.prompt_english is not None:
        doc["prompt_en"] = answer.prompt_english
    if answer.response_english is not None:
        doc["response_translated"] = answer.response_english
    line = {"doc_id": place, "doc": doc, "filtered_resps": [answer.response]}
    return json.dumps(line, ensure_ascii=False) + "\n"


def _labels(run: PublishedRun, task: str, judge: str, format: str) -> bytes:
    judging = Judging(
        judge=judge,
        task=task,
        measures=run.measures[judge],
        revision=f"published ({format})",
        languages=None,
        settings={},
        versions=versions(),
    )
    if not any(judge in answer.judgements for answer in run.answers):
        return b""
    lines: list[bytes] = []
    for id_, answer in zip(run.ids, run.answers, strict=True):
        judged = Judged(
            id_,
            0,
            answer.judgements.get(judge, UNDECIDED),
            response_language(answer.response, run.language),
        )
        lines.append(encode(judged, judging.revision, None if lines else judging))
    return b"".join(lines)


def _when(made: str, otherwise: datetime) -> datetime:
    try:
        moment = datetime.strptime(made, "%Y%m%d-%H%M%S")
        moment.timestamp()  # Some years have no timestamp.
    except (ValueError, OverflowError):
        return otherwise
    # The dates of lm-eval have microseconds, which Python leaves out if they are 0.
    return moment.replace(microsecond=1)
