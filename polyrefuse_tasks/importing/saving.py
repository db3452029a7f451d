"""Writes published answers as results, samples and labels, which leaderboard and judges read."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from polyrefuse_shared.lm_eval_internals import UNJUDGED, metric_key, samples_file
from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import write_whole
from polyrefuse_tasks.importing.answers import BadAnswers, PublishedRun
from polyrefuse_tasks.language_identification import response_language
from polyrefuse_tasks.metrics import TASK_VERSION
from polyrefuse_tasks.saved_results.judged import Judged, Judging, encode, judged_file


def save(runs: Iterable[PublishedRun], format: str, output: Path) -> list[Path]:
    """Write a results file for each model, condition and time, with its samples and labels.

    Args:
        format: by which the answers were read.
        output: a folder; a folder of it for each model is made.

    Returns:
        The results files. Each is written last, so that none lacks its samples.

    Raises:
        BadAnswers: two files hold answers of the same model, condition, data set and language.
        CannotWrite: the disk refuses.
    """
    groups: dict[tuple[str, ...], list[PublishedRun]] = defaultdict(list)
    for run in runs:
        intervention = json.dumps(run.intervention, sort_keys=True)
        groups[run.model, run.condition, intervention, run.made].append(run)
    now = datetime.now()
    dates: set[tuple[str, str]] = set()
    written = []
    for (model, *_, made), group in groups.items():
        folder = output / re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model)
        when = _when(made, now)
        while (folder.name, date := when.isoformat().replace(":", "-")) in dates:
            when += timedelta(microseconds=1)
        dates.add((folder.name, date))
        written.append(_save(group, format, folder, date, when.timestamp()))
    return written


def _save(
    group: Sequence[PublishedRun], format: str, folder: Path, date: str, seconds: float
) -> Path:
    tasks = {f"polyrefuse_{run.dataset}_{run.language}": run for run in group}
    if len(tasks) < len(group):
        raise BadAnswers(
            f"two files hold answers of {group[0].model} under {group[0].condition} to the same "
            "data set in the same language; import them into two folders."
        )
    for task, run in tasks.items():
        samples = "".join(_sample(run, place) for place in range(len(run.answers)))
        write_whole(folder / samples_file(task, date), samples)
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
            "imported": {"format": format, "files": [run.file for run in group]},
            "versions": versions(),
            **group[0].intervention,
        },
        "n-samples": {
            task: {"original": len(run.answers), "effective": len(run.answers)}
            for task, run in tasks.items()
        },
        "date": seconds,
        "model_name": group[0].model,
        "model_source": "imported",
    }
    path = folder / f"results_{date}.json"
    write_whole(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return path


def _config(task: str, run: PublishedRun, format: str) -> dict[str, Any]:
    return {
        "task": task,
        "dataset_kwargs": {"family": run.dataset, "lang": run.language},
        "output_type": "generate_until",
        # How they were generated is not in the files.
        "generation_kwargs": {"published": format},
        "repeats": 1,
        "metadata": {"version": TASK_VERSION, "judge": "native"},
    }


def _row_id(run: PublishedRun, place: int) -> str:
    return f"{run.dataset}/test/{place:04}"


def _sample(run: PublishedRun, place: int) -> str:
    answer = run.answers[place]
    doc = {
        "id": _row_id(run, place),
        "prompt": answer.prompt,
        "language": run.language,
        "harmful": run.harmful,
    }
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
    lines: list[bytes] = []
    for place, answer in enumerate(run.answers):
        if judge in answer.judgements:
            judged = Judged(
                _row_id(run, place),
                0,
                answer.judgements[judge],
                response_language(answer.response, run.language),
            )
            lines.append(encode(judged, judging.revision, None if lines else judging))
    return b"".join(lines)


def _when(made: str, otherwise: datetime) -> datetime:
    try:
        told = datetime.strptime(made, "%Y%m%d-%H%M%S")
    except ValueError:
        return otherwise
    # The dates of lm-eval have microseconds, and where they are 0 Python leaves them out.
    return told.replace(microsecond=1)
